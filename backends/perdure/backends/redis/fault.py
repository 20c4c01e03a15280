"""What errors of Redis mean to the callers of a store: the only place where they are told apart."""

from __future__ import annotations

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    DataError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from perdure.errors import StoreError, StoreUnavailableError

_PASSING = {
    "NOREPLICAS": "too few replicas are connected; look at min-replicas-to-write",
    "MISCONF": "look at its disk",
    "BUSY": "a script of somebody else keeps it busy; end that with SCRIPT KILL",
    "UNBLOCKED": "it changed its role",
    "NOTREADY": "it is starting",
}
# In this order: some derive from others.
_UNAVAILABLE: dict[type[ResponseError], str] = {
    OutOfMemoryError: "is full, nothing was written; raise its maxmemory",
    ReadOnlyError: "is no master any more",
    MasterDownError: "is no master any more",
    ClusterDownError: "belongs to a cluster that is down",
    TryAgainError: "is having a slot moved",
    AskError: "has given a slot away",
    NoScriptError: "forgot its scripts again",
}
_MOVING = ("non local key", "undeclared keys were accessed during rehashing")
"""What Redis and Valkey say when a script comes upon a key that was moved."""


# Before version 8, redis-py tells these apart in its own cluster client only.
_CODES: dict[str, type[ResponseError]] = {
    "ASK": AskError,
    "CLUSTERDOWN": ClusterDownError,
    "MASTERDOWN": MasterDownError,
    "MOVED": MovedError,
    "TRYAGAIN": TryAgainError,
}


class UnstorableError(StoreError):
    """The arguments of a verb cannot be kept; nothing of it was written."""


class UnsealedError(StoreUnavailableError):
    """A write was made, and is not yet as safe as the store's durability asks for."""


def told_apart(error: ResponseError) -> ResponseError:
    """An error of the server, of the class that is meant for it."""
    code, _, rest = str(error).partition(" ")
    return _CODES[code](rest) if type(error) is ResponseError and code in _CODES else error


def is_data_error(error: BaseException) -> bool:
    """Whether the arguments of a verb are to blame."""
    return isinstance(error, DataError | UnicodeError | OverflowError | UnstorableError)


def is_elsewhere(error: BaseException) -> bool:
    """Whether the server has become one that takes no writes: connecting anew may lead to one that does."""
    return isinstance(error, ReadOnlyError | MasterDownError) or str(error).startswith("UNBLOCKED")


def is_moving(error: BaseException) -> bool:
    """Whether the slot of the keys is on its way to another node; nothing was written."""
    return isinstance(error, TryAgainError) or (
        isinstance(error, ResponseError) and any(said in str(error) for said in _MOVING)
    )


def translate(error: BaseException, place: str) -> Exception:
    """The store error for what Redis or the network raised; anything else as it is."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, RedisConnectionError) and isinstance(error.__cause__, RedisError):
        # On a socket redis-py wraps whatever the server refuses at the beginning.
        error = error.__cause__
    if is_data_error(error):
        translation: StoreError = UnstorableError(f"Redis store at {place} cannot keep this data: {error}")
    elif isinstance(error, ResponseError):
        translation = _translate_reply(error, place)
    elif isinstance(error, AuthenticationError | AuthorizationError):
        translation = StoreError(f"Redis at {place} lets nobody in: {error}; correct user and password in the URL")
    elif isinstance(error, BusyLoadingError):
        translation = StoreUnavailableError(f"Redis at {place} is loading its data")
    elif isinstance(error, RedisConnectionError | OSError | TimeoutError | RedisError | EOFError):
        translation = StoreUnavailableError(f"Redis at {place} does not answer: {_said(error)}; is the server running?")
    elif isinstance(error, Exception):
        return error
    else:
        raise error
    translation.__cause__ = error
    return translation


def _translate_reply(error: ResponseError, place: str) -> StoreError:
    text = str(error)
    code = text.partition(" ")[0]
    if code in _PASSING:
        return StoreUnavailableError(f"Redis at {place} refuses for now: {text}; {_PASSING[code]}")
    for kinds, said in _UNAVAILABLE.items():
        if isinstance(error, kinds):
            return StoreUnavailableError(f"Redis at {place} {said}: {text}")
    if is_moving(error):
        return StoreUnavailableError(f"a slot of the cluster at {place} is being moved: {text}")
    if isinstance(error, NoPermissionError):
        return StoreError(f"Redis at {place} forbids the user what the store needs: {text}; widen its ACL")
    return StoreError(f"Redis at {place} failed: {text}")


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
