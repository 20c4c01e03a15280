"""What errors of the database mean to the callers of a store."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from perdure.errors import StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

_DATA_ERRORS = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    UnicodeError,
)

_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_PROTOCOL,
    }
)


class UnstorableError(StoreError):
    """The arguments of a verb cannot be kept; nothing of it was written."""


def inherited(path: Path) -> StoreError:
    """What a child is told that uses the store of the process it was forked from."""
    return StoreError(
        f"the SQLite store {str(path)!r} was opened before this process was forked; open another one here"
    )


def primary_code(error: sqlite3.Error) -> int | None:
    """SQLite's result code without its extension, or None for errors of the Python module itself."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def is_busy(error: sqlite3.Error) -> bool:
    """Whether somebody else holds a lock."""
    return primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_data_error(error: BaseException) -> bool:
    """Whether the arguments of a verb are to blame, and other verbs may go on."""
    return isinstance(error, _DATA_ERRORS) or (
        isinstance(error, sqlite3.Error) and primary_code(error) == sqlite3.SQLITE_TOOBIG
    )


def translate(error: Exception, path: Path) -> Exception:
    """The store error for what the database, or binding arguments to it, raised; anything else as it is."""
    if is_data_error(error):
        translation: StoreError = UnstorableError(f"SQLite store {str(path)!r} cannot keep this data: {error}")
    elif isinstance(error, sqlite3.Error):
        translation = _translate_failure(error, path)
    else:
        return error
    translation.__cause__ = error
    return translation


def _translate_failure(error: sqlite3.Error, path: Path) -> StoreError:
    code = primary_code(error)
    if is_busy(error):
        return StoreUnavailableError(
            f"SQLite store {str(path)!r} is locked by somebody else for too long ({error}); "
            "end what holds it, or raise the option busy_timeout"
        )
    if code == sqlite3.SQLITE_FULL:
        return StoreUnavailableError(
            f"SQLite store {str(path)!r} has no room: {error}; free disk space, and what waits goes on"
        )
    if code in _PASSING:
        return StoreUnavailableError(f"SQLite store {str(path)!r} failed: {error}; look at the disk it is on")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreError(f"SQLite store {str(path)!r} is damaged: {error}; restore it from a copy")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return StoreError(f"SQLite store {str(path)!r} can no longer be written: {error}; correct its permissions")
    return StoreError(f"SQLite store {str(path)!r} failed: {error}")
