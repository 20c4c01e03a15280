"""Verbs within a transaction that the caller has begun on a connection of its own, and will end."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import attrs

from perdure.backends.sqlite import awaiting, journaling
from perdure.backends.sqlite.fault import translate
from perdure.backends.sqlite.guarded import GuardedConnection
from perdure.backends.sqlite.transaction import Transaction
from perdure.errors import TransactionMisuseError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perdure.backends.sqlite.leasing import Leasing
    from perdure.backends.sqlite.location import Location
    from perdure.storage import Answer, Created, Draft, Exists, New, Outdated

Result = TypeVar("Result")


@attrs.frozen
class SqliteWithin:
    """As `perdure.transaction.Within`; from its first verb on, the caller's transaction has the file's write lock."""

    is_blocking: ClassVar[bool] = True
    _connection: sqlite3.Connection
    _location: Location
    _clock: Callable[[], int]
    _leasing: Leasing

    @classmethod
    def of(cls, connection: Any, location: Location, clock: Callable[[], int], leasing: Leasing) -> Self:
        """
        See whether a connection is one of this file.

        Raises:
            ValidationError: It is no `sqlite3.Connection`.
            TransactionMisuseError: It is one of another file.
        """
        if not isinstance(connection, sqlite3.Connection):
            raise ValidationError(f"connection= takes a sqlite3.Connection on a SQLite store, not {connection!r}")
        with _trusted(connection):
            file = next(path for _, name, path in _plain(connection, "PRAGMA database_list") if name == "main")
        if not file or not location.file.samefile(file):
            raise TransactionMisuseError(
                f"connection= is connected to {file or ':memory:'!r}, and executions are kept in "
                f"{str(location.path)!r}; one transaction spans one file only"
            )
        return cls(connection, location, clock, leasing)

    async def create(self, new: New) -> Created | Exists | Outdated | Answer:
        """Begin an execution, if the caller commits."""
        return self._do(lambda work: journaling.create(work, self._leasing, new, None))

    async def deliver(self, await_id: str, secret: str, draft: Draft, nonce: str) -> Answer:
        """Complete an await, if the caller commits."""
        return self._do(lambda work: awaiting.deliver(work, await_id, secret, draft, nonce))

    def _do(self, verb: Callable[[Transaction], Result]) -> Result:
        connection = self._connection
        try:
            with _trusted(connection), _own_rows(connection):
                _ensure_transaction(connection)
                connection.execute("SAVEPOINT perdure")
                try:
                    answer = verb(Transaction(connection, self._clock()))
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK TO perdure")
                        connection.execute("RELEASE perdure")
                    raise
                connection.execute("RELEASE perdure")
                return answer
        except sqlite3.Error as error:
            raise translate(error, self._location.path) from error


def _ensure_transaction(connection: sqlite3.Connection) -> None:
    """As Python's module does before a statement that writes."""
    if connection.in_transaction:
        return
    if connection.isolation_level is None:
        raise TransactionMisuseError(
            "connection= is in no transaction, so that there is none to take part in; execute BEGIN IMMEDIATE first, "
            "or leave connection= out"
        )
    connection.execute(f"BEGIN {connection.isolation_level}")


def _plain(connection: sqlite3.Connection, sql: str) -> list[Any]:
    with _own_rows(connection):
        return connection.execute(sql).fetchall()


@contextmanager
def _own_rows(connection: sqlite3.Connection) -> Iterator[None]:
    """While rows are tuples and texts are texts, whatever the caller has made of them."""
    factories = connection.row_factory, connection.text_factory
    connection.row_factory, connection.text_factory = None, str
    try:
        yield
    finally:
        connection.row_factory, connection.text_factory = factories


def _trusted(connection: sqlite3.Connection) -> Any:
    return connection.trusted() if isinstance(connection, GuardedConnection) else nullcontext()
