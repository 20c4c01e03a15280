"""How values become payloads and come back, and what becomes of errors, the same for every operation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from perdure import serdes
from perdure.engine.commands import Raised, Returned
from perdure.errors import DurableOperationError, ExecutionError, InvocationError, SerDesError
from perdure.model import ErrorObject, OperationStatus
from perdure.serdes import SerDesContext

if TYPE_CHECKING:
    from perdure.engine.commands import Outcome
    from perdure.engine.ids import Identity
    from perdure.engine.replay import Replay
    from perdure.model import Operation
    from perdure.serdes import SerDes

T = TypeVar("T")

_LONGEST_MESSAGE = 1_000_000
"""Bytes of an error's message in UTF-8: all of an error together may have 1 MiB (protocol.md §2)."""

_OWN = frozenset({serdes.ExtendedTypeSerDes, serdes.JsonSerDes})
"""Serializers that do not know whose value it is."""

_ANYBODY = SerDesContext()


def dump(replay: Replay, identity: Identity, by: SerDes[Any] | None, value: object) -> str | None:
    """
    The payload for a value; None if the serializer wants none stored.

    Raises:
        SerDesError: The value cannot be serialized.
    """
    try:
        return serdes.write(by, value, _context(replay, identity, by), identity)
    except SerDesError as error:
        if by is not None and type(by) not in _OWN:
            raise
        raise SerDesError(f"the payload of {identity}: {error}") from error.__cause__


def load(replay: Replay, identity: Identity, by: SerDes[Any] | None, payload: str | None) -> Any:
    """The value of a payload; None if there is none."""
    if payload is None:
        return None
    return serdes.read(by, payload, _context(replay, identity, by), identity)


def _context(replay: Replay, identity: Identity, by: SerDes[Any] | None) -> SerDesContext:
    return _ANYBODY if by is None else SerDesContext(identity.operation_id, replay.arn)


def check_size(replay: Replay, identity: Identity, payload: str | None) -> None:
    """
    Refuse what the service would refuse.

    Raises:
        PayloadTooLargeError: `payload` is above the limit, in bytes of UTF-8.
    """
    limit = replay.settings.payload_limit
    if payload is not None and not (len(payload) <= limit and payload.isascii()):
        serdes.check_size(payload, f"the payload of {identity}", limit)


def read_back(
    replay: Replay, identity: Identity, by: SerDes[Any] | None, value: object, *, limited: bool = False
) -> tuple[Any, str | None]:
    """
    A value as replay reads it, and its payload.

    Raises:
        PayloadTooLargeError: It is `limited`, and the payload is above the limit; then it is not read.
    """
    copied = serdes.copy_of(by, value)
    payload = dump(replay, identity, by, copied[0] if copied else value)
    if limited:
        check_size(replay, identity, payload)
    return copied[0] if copied else load(replay, identity, by, payload), payload


def round_trip(replay: Replay, identity: Identity, by: SerDes[Any] | None, value: object) -> tuple[Outcome, str | None]:
    """
    What replay will make of a returned value, before it is recorded.

    Returns:
        `Returned` with the value as replay reads it, and its payload; or `Raised` if one of the two is not possible.
    """
    try:
        read, payload = read_back(replay, identity, by, value, limited=True)
        return Returned(read), payload
    except Exception as error:  # noqa: BLE001 - a serializer is user code
        return Raised(error), None


def recorded(
    replay: Replay,
    identity: Identity,
    by: SerDes[Any] | None,
    record: Operation,
    error_type: type[DurableOperationError],
) -> Any:
    """
    What an operation that has ended returns.

    Raises:
        DurableOperationError: It has failed; an `error_type`.
        SerDesError: Its result, or what a serializer of an earlier run said of it, stands in the way.
    """
    if record.status is OperationStatus.SUCCEEDED:
        return load(replay, identity, by, record.result)
    error = record.error
    if error is None or error == ErrorObject():
        error = ErrorObject.from_message(f"{identity} is {record.status.value}, and no error is recorded")
    raise error.to_operation_error(error_type)


def failure_of(error: Exception) -> ErrorObject:
    """The record of an error that an operation ends with; a message that no service would take is cut."""
    failure = ErrorObject.from_exception(error)
    if failure.message is None or len(failure.message) <= _LONGEST_MESSAGE // 4:  # bytes of the widest characters
        return failure
    written = failure.message.encode()
    if len(written) <= _LONGEST_MESSAGE:
        return failure
    message = f"{written[:_LONGEST_MESSAGE].decode(errors='ignore')}… ({len(written)} bytes)"
    return attrs.evolve(failure, message=message)


def error_object(error: Exception) -> ErrorObject:
    """The record of an error that left a branch: an operation error stands for the raw one it was made from."""
    if isinstance(error, DurableOperationError):
        return ErrorObject(error.message, error.error_type, error.data, error.stack_trace)
    return ErrorObject.from_exception(error)


def ends_invocation(error: Exception) -> bool:
    """Whether an error ends more than its operation, so that it is raised and not recorded."""
    return isinstance(error, ExecutionError) or (isinstance(error, InvocationError) and error.is_retryable())
