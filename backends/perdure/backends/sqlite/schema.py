"""Connections, and the schema behind them."""

from __future__ import annotations

import random
import sqlite3
import time
from typing import TYPE_CHECKING

from perdure.backends.sqlite.fault import is_busy, primary_code
from perdure.backends.sqlite.statement import read_migrations
from perdure.errors import BackendUrlError, SchemaVersionError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perdure.backends.sqlite.location import Location

APPLICATION_ID = 0x50524452
"""Marks a file as ours: "PRDR"."""

LONGEST_PAUSE = 0.002
"""Seconds between two tries for a lock: few, or a process that writes without a break would keep all others out."""

_UNUSABLE = frozenset(
    {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
)


def connect(location: Location, *, writes: bool) -> sqlite3.Connection:
    """
    A connection that begins and ends transactions only when told to.

    Raises:
        BackendUrlError: The file is none of ours, or cannot be used.
        SchemaVersionError: A newer version of Perdure wrote it.
    """
    location.check()
    # A writer waits in `begin`, where it can be told to stop waiting.
    timeout = 0.0 if writes else location.busy_timeout
    try:
        connection = sqlite3.connect(
            location.path, timeout=timeout, isolation_level=None, cached_statements=512, check_same_thread=False
        )
    except sqlite3.OperationalError as error:
        raise _unusable(location, error) from error
    try:
        if writes:
            persist(lambda: _prepare(connection, location), location.busy_timeout)
        else:
            connection.execute("PRAGMA query_only = ON")
        # Nothing a transaction may need lies in a temporary file, which another disk might have no room for.
        connection.execute("PRAGMA temp_store = MEMORY")
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.DatabaseError) and primary_code(error) in _UNUSABLE:
            raise _unusable(location, error) from error
        raise
    return connection


def persist(attempt: Callable[[], None], patience: float, is_closing: Callable[[], bool] = lambda: False) -> None:
    """
    Repeat what finds the database locked, for `patience` seconds.

    Raises:
        sqlite3.OperationalError: It is still locked then.
    """
    deadline = time.monotonic() + patience
    pause = LONGEST_PAUSE / 16
    while True:
        try:
            return attempt()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= deadline or is_closing():
                raise
        time.sleep(random.uniform(0, pause))  # noqa: S311 - spreads contenders, guards nothing
        pause = min(2 * pause, LONGEST_PAUSE)


def missing_migrations(location: Location) -> list[str]:
    """
    The names of the migrations that this file lacks; it is neither made nor changed.

    Raises:
        BackendUrlError: The file is none of ours, or cannot be used.
        SchemaVersionError: A newer version of Perdure wrote it.
    """
    names = list(read_migrations())
    if not location.path.exists():
        return names
    connection = connect(location, writes=False)
    try:
        _check_ownership(connection, location)
        _is_current(connection, location, len(names))
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return names[version:]
    except sqlite3.DatabaseError as error:
        raise _unusable(location, error) from error
    finally:
        connection.close()


def _prepare(connection: sqlite3.Connection, location: Location) -> None:
    # Ahead of everything that writes, so that a foreign file stays as it is.
    _check_ownership(connection, location)
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise BackendUrlError(
            f"{str(location.path)!r} is on a file system without write-ahead logging (journal mode {mode!r}); "
            "move the store to a local disk"
        )
    connection.execute(f"PRAGMA synchronous = {location.synchronous.upper()}")
    full = location.synchronous == "full"
    connection.execute(f"PRAGMA fullfsync = {int(full)}")  # macOS: an fsync that reaches the disk itself
    connection.execute("PRAGMA cache_size = -16384")
    connection.execute(f"PRAGMA journal_size_limit = {64 << 20}")
    _migrate(connection, location)


def _check_ownership(connection: sqlite3.Connection, location: Location) -> None:
    # In this order: somebody else may be making the file ours meanwhile, tables and mark in one transaction.
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID and (application or tables):
        raise BackendUrlError(
            f"{str(location.path)!r} is the SQLite database of another application; give Perdure a file of its own"
        )


def _migrate(connection: sqlite3.Connection, location: Location) -> None:
    migrations = list(read_migrations().values())
    if _is_current(connection, location, len(migrations)):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        _check_ownership(connection, location)
        if not _is_current(connection, location, len(migrations)):
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            for script in migrations[version:]:
                for statement in _split(script):
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _is_current(connection: sqlite3.Connection, location: Location, known: int) -> bool:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > known:
        raise SchemaVersionError(
            f"{str(location.path)!r} has schema version {version}, and this version of Perdure knows those up to "
            f"{known}; upgrade perdure here to the version that wrote it"
        )
    return bool(version == known)


def _split(script: str) -> Iterator[str]:
    # Connection.executescript would commit the transaction that the version is checked in.
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _unusable(location: Location, error: sqlite3.Error) -> StoreError:
    return BackendUrlError(
        f"{str(location.path)!r} cannot be used as a SQLite store: {error}; expected a writable SQLite database file "
        "or none yet"
    )
