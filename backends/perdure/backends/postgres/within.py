"""Verbs within a transaction that the caller has begun on a connection of its own, and will end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar
from weakref import WeakSet

import attrs
import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from perdure.backends.postgres import awaiting, creation, parameter, schema
from perdure.backends.postgres.fault import translated
from perdure.backends.postgres.notice import Notice, channel_of
from perdure.errors import TransactionMisuseError, ValidationError
from perdure.storage import Answer, Created, Hint, HintKind

if TYPE_CHECKING:
    from perdure.backends.postgres.location import Location
    from perdure.backends.postgres.record import Call, Rows
    from perdure.backends.postgres.statement import Library
    from perdure.storage import Draft, Exists, New, Outdated

Result = TypeVar("Result")

_NOTIFY = "select pg_notify($1, $2)"

_known: WeakSet[Any] = WeakSet()
"""Connections that were found to lead to the store's own database."""


@attrs.frozen
class PostgresWithin:
    """
    As `perdure.transaction.Within`.

    A creation takes its name until the caller's transaction ends; a delivery waits in the inbox for its commit, so that
    no execution is locked meanwhile. Whoever is to act on it is told by a notification that the commit delivers.
    """

    _connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]
    _location: Location
    _library: Library
    _birth: str

    @classmethod
    def of(cls, connection: Any, location: Location, library: Library, birth: str) -> Self:
        """
        See whether a connection can take part.

        Args:
            connection: The caller's.
            location: Of the store.
            library: Its statements.
            birth: What `schema.birth` answers to the store itself.

        Raises:
            ValidationError: It is none of psycopg's.
            TransactionMisuseError: It is in no transaction, and begins none.
        """
        if not isinstance(connection, (psycopg.Connection, psycopg.AsyncConnection)):
            raise ValidationError(
                f"connection= takes a psycopg.Connection or psycopg.AsyncConnection on a PostgreSQL store, "
                f"not {connection!r}"
            )
        if connection.autocommit and connection.pgconn.transaction_status == TransactionStatus.IDLE:
            raise TransactionMisuseError(
                "connection= is in no transaction, and commits every statement by itself, so that there is nothing to "
                "take part in; use it within `with connection.transaction()`, or leave connection= out"
            )
        return cls(connection, location, library, birth)

    @property
    def is_blocking(self) -> bool:
        """Whether the connection is one for threads."""
        return isinstance(self._connection, psycopg.Connection)

    async def create(self, new: New) -> Created | Exists | Outdated | Answer:
        """Begin an execution, if the caller commits."""
        await self._check()
        while True:
            (created,) = await self._ask(creation.create(self._library, [(new, None)], waits=True))
            if created is not None:
                await self._notify(Notice(hints=(Hint(HintKind.DUE, new.id, new.function, 0),), has_late=True))
                return created
            known = await self._ask(creation.known(self._library, new))
            if known is not None:
                return known

    async def deliver(self, await_id: str, secret: str, draft: Draft, nonce: str) -> Answer:
        """Complete an await, if the caller commits."""
        await self._check()
        answer = await self._ask(awaiting.submit(self._library, await_id, secret, draft, nonce))
        if answer is Answer.DELIVERED:
            await self._notify(Notice(has_post=True))
        return answer

    async def _check(self) -> None:
        if self._connection in _known:
            return
        name = self._location.schema
        if not await self._ask(schema.known(name)) or await self._ask(schema.birth(name)) != self._birth:
            raise TransactionMisuseError(
                f"connection= leads to {self._connection.info.dbname!r} on {self._connection.info.host!r}, and "
                f"executions are kept in {self._location.place!r}; one transaction spans one database only"
            )
        _known.add(self._connection)

    async def _notify(self, notice: Notice) -> None:
        if self._location.notify:
            await self._rows(_NOTIFY, [channel_of(self._location.schema), notice.encode()])

    async def _ask(self, call: Call[Result]) -> Result:
        return call.read(await self._rows(call.sql, call.parameters))

    async def _rows(self, sql: str, parameters: Any) -> Rows:
        with translated(self._location.place):
            if isinstance(self._connection, psycopg.Connection):
                cursor: psycopg.RawCursor[Any] = psycopg.RawCursor(self._connection, row_factory=tuple_row)
                parameter.adapt(cursor.adapters)
                return cursor.execute(sql, parameters, binary=True).fetchall()
            async_cursor: psycopg.AsyncRawCursor[Any] = psycopg.AsyncRawCursor(self._connection, row_factory=tuple_row)
            parameter.adapt(async_cursor.adapters)
            return await (await async_cursor.execute(sql, parameters, binary=True)).fetchall()
