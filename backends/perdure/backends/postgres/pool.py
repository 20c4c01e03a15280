"""Connections that statements are sent over."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from contextlib import suppress
from socket import SHUT_RDWR, socket
from typing import TYPE_CHECKING, Any, Self

import attrs
import psycopg
from psycopg.pq import Format, TransactionStatus

from perdure.backends.postgres import parameter
from perdure.backends.postgres.fault import LostError, translate_connecting, translated
from perdure.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.backends.postgres.location import Location
    from perdure.backends.postgres.record import Rows

ANSWER = 70.0
"""Seconds after which a connection that gives no answer is dead: the server ends a statement before."""
PATIENCE = 1.0
"""Seconds that closing waits for a connection that is being made."""
IDLE = 60.0
"""Seconds after which a connection that nobody needs is closed, but for one."""


async def connect(location: Location, *, is_pooled: bool) -> psycopg.AsyncConnection[Any]:
    """
    A connection without transactions of its own.

    Args:
        location: Where to.
        is_pooled: Whether a pooler sits between, which has neither settings nor prepared statements of a session.

    Raises:
        StoreError: It cannot be made.
    """
    arguments: dict[str, Any] = location.connection(sets_session=not is_pooled)
    connecting = asyncio.ensure_future(
        psycopg.AsyncConnection.connect(**arguments, autocommit=True, prepare_threshold=None if is_pooled else 0)
    )
    try:
        connection = await asyncio.shield(connecting)
    except psycopg.Error as error:
        raise translate_connecting(error, location.place) from error
    except asyncio.CancelledError:
        # Half a connection would stay at the server until it is collected here.
        await asyncio.wait({connecting}, timeout=PATIENCE)
        connecting.cancel()
        if connecting.done() and not connecting.cancelled() and connecting.exception() is None:
            connecting.result().pgconn.finish()
        raise
    parameter.adapt(connection.adapters)
    return connection


@attrs.define(eq=False)
class _Link:
    connection: psycopg.AsyncConnection[Any]
    cursor: psycopg.AsyncRawCursor[Any]
    used: float = 0.0

    @classmethod
    def over(cls, connection: psycopg.AsyncConnection[Any]) -> Self:
        """A link over a new connection."""
        cursor = psycopg.AsyncRawCursor(connection)
        cursor.format = Format.BINARY
        return cls(connection, cursor)

    @property
    def is_clean(self) -> bool:
        """Whether another statement may be sent over it."""
        return self.connection.pgconn.transaction_status == TransactionStatus.IDLE

    def close(self) -> None:
        """Let go of it at once, whatever it is doing."""
        self.connection.pgconn.finish()

    def break_off(self) -> None:
        """Make it end as if the server had ended it: whoever waits for an answer learns of it."""
        with suppress(OSError, psycopg.Error), socket(fileno=os.dup(self.connection.fileno())) as end:
            end.shutdown(SHUT_RDWR)


class Pool:
    """
    At most so many connections, made when they are needed; the one used last is used next.

    A connection that breaks takes all idle ones with it, as the server most likely has gone; the statement is sent
    again once over a new one, which every verb allows.

    Attributes:
        round_trips: Statements sent. That a new connection prepares each once is not counted.
    """

    def __init__(self, location: Location, *, is_pooled: bool) -> None:
        self.location = location
        self.is_pooled = is_pooled
        self.round_trips = 0
        self._idle: deque[_Link] = deque()
        self._busy: set[_Link] = set()
        self._turns = asyncio.Semaphore(location.pool_size)
        self._closed = False

    def adopt(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Use a connection that was made elsewhere."""
        self._idle.append(_Link.over(connection))

    def close(self) -> None:
        """Close all connections; statements under way fail."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
        for link in self._busy:
            link.break_off()

    async def run(self, sql: str, arguments: Sequence[Any]) -> Rows:
        """
        The rows that a statement answers.

        Raises:
            StoreError: As `fault` says.
        """
        async with self._turns:
            try:
                return await self._run(await self._link(), sql, arguments)
            except LostError:
                while self._idle:
                    self._idle.pop().close()
            return await self._run(await self._link(), sql, arguments)

    async def _link(self) -> _Link:
        if self._closed:
            raise StoreError(f"the PostgreSQL store {self.location.place!r} is closed; open it again")
        while self._idle:
            link = self._idle.pop()
            if link.is_clean:
                return link
            link.close()
        connection = await connect(self.location, is_pooled=self.is_pooled)
        if self._closed:
            connection.pgconn.finish()
            raise StoreError(f"the PostgreSQL store {self.location.place!r} was closed; open it again")
        return _Link.over(connection)

    async def _run(self, link: _Link, sql: str, arguments: Sequence[Any]) -> Rows:
        self.round_trips += 1
        self._busy.add(link)
        # Not a timeout of the task: the driver would ask the server to cancel, and wait for that.
        alarm = asyncio.get_running_loop().call_later(ANSWER, link.break_off)
        try:
            with translated(self.location.place):
                await link.cursor.execute(sql, arguments)
                return await link.cursor.fetchall() if link.cursor.description else []
        finally:
            alarm.cancel()
            self._busy.discard(link)
            self._release(link)

    def _release(self, link: _Link) -> None:
        if self._closed or not link.is_clean:
            link.close()
            return
        link.used = time.monotonic()
        self._idle.append(link)
        while len(self._idle) > 1 and self._idle[0].used < link.used - IDLE:
            self._idle.popleft().close()
