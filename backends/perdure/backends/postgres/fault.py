"""What errors of the server and of the driver mean to the callers of a store."""

from __future__ import annotations

import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
from psycopg import errors

from perdure.errors import BackendUrlError, SchemaVersionError, StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator


class UnstorableError(StoreError):
    """The arguments of a verb cannot be kept; nothing of it was written."""


class LockedError(StoreUnavailableError):
    """Somebody else keeps an execution locked for too long."""


class LostError(StoreUnavailableError):
    """The connection is gone; whether the statement was carried out is not known."""


_DATA_CLASSES = ("22", "23", "54")
_DATA_ERRORS = (psycopg.DataError, psycopg.IntegrityError, UnicodeError, OverflowError, struct.error)
_LOST = ("08", "57P")
_PASSING = {
    "40": "it conflicted with another transaction",
    "25": "look whether the server is a standby, and name all hosts of a cluster in the URL",
    "53": "look at the server's disk, memory and max_connections",
    "57": "it was cancelled, by statement_timeout or by somebody",
    "58": "look at the server's disk and log",
}
"""First letters of the codes of errors that may not occur again, and what to do about them."""
_LOCKED = "55P03"
_NO_RIGHT = "42501"
_NO_TABLES = ("3F000", "42P01", "42703", "42883")
_NO_ACCESS = ("authentication", "pg_hba.conf", "permission denied", "not permitted", "password")
UNSETTABLE = "unsupported startup parameter"
"""What PgBouncer says of settings that come with a connection."""
_NO_PLACE = ("does not exist", "could not translate host name")


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Raise what the driver raises as the store error it means."""
    try:
        yield
    except (psycopg.Error, UnicodeError, OverflowError, struct.error) as error:
        raise translate(error, place) from error


def translate(error: Exception, place: str) -> StoreError:
    """The store error for what the driver raised, or for arguments that it cannot send."""
    code = getattr(error, "sqlstate", None) or ""
    text, store = _words(error), f"PostgreSQL store {place!r}"
    if code.startswith(_DATA_CLASSES) or isinstance(error, _DATA_ERRORS):
        return UnstorableError(f"{store} cannot keep this data: {text}")
    if code.startswith(_LOST) or (not code and isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))):
        return LostError(f"{store} does not answer: {text}")
    if code == _LOCKED:
        return LockedError(f"{store} has it locked by somebody else for too long: {text}; end what holds it")
    return _translate_failure(code, text, store)


def _translate_failure(code: str, text: str, store: str) -> StoreError:
    if code in _NO_TABLES:
        return SchemaVersionError(f"{store} lacks a table or function of Perdure: {text}; run perdure migrate")
    if code == _NO_RIGHT:
        return StoreError(f"{store} lacks a right: {text}; grant it, or have the schema's owner run perdure migrate")
    for beginning, remedy in _PASSING.items():
        if code.startswith(beginning):
            return StoreUnavailableError(f"{store} failed: {text}; {remedy}")
    return StoreError(f"{store} failed: {text}")


def translate_connecting(error: psycopg.Error, place: str) -> StoreError:
    """The store error for a connection that was not made; libpq tells the reason in words only."""
    text = _words(error)
    if UNSETTABLE in text:
        return BackendUrlError(
            f"PostgreSQL store {place!r} is behind a pooler that takes no settings of sessions: {text}; use "
            "pooler=transaction and leave options out, or let the pooler ignore them"
        )
    told = [line for line in text.split("; ") if "FATAL" in line] or [text]
    last = told[-1]
    if isinstance(error, errors.ConnectionTimeout):
        return StoreUnavailableError(f"PostgreSQL store {place!r} does not answer: {text}; is the server running?")
    if any(word in last for word in _NO_ACCESS):
        return StoreError(f"PostgreSQL store {place!r} refuses this user: {text}; correct user and password in the URL")
    if any(word in last for word in _NO_PLACE) and "No such file" not in last:
        return BackendUrlError(f"PostgreSQL store {place!r} is not there: {text}; correct the URL")
    return StoreUnavailableError(f"PostgreSQL store {place!r} cannot be reached: {text}; is the server running?")


def _words(error: Exception) -> str:
    # Several hosts and addresses make several lines.
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip()) or type(error).__name__
