"""How a process that is killed is noticed at once: each watches the next one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg

from perdure.backends.postgres.pool import connect
from perdure.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container, Mapping

    from perdure.backends.postgres.location import Location

MOURNING = 5.0
"""Seconds for which an owner that was found dead is not watched; by then it is reaped, or was not dead."""
PAUSE = 1.0
"""Seconds until the ring is looked at again after something failed."""
ROUND = 5.0
"""Seconds after which a wait begins anew: while it lasts, no server removes what has been deleted since."""

_WAIT = """
do $$
begin
    perform pg_catalog.pg_advisory_lock_shared({key});
exception when lock_not_available then
    null;
end
$$;
select pg_catalog.pg_try_advisory_lock_shared({key})
"""

Ring = list[tuple[str, int]]


def neighbour(ring: Ring, own: Mapping[str, int], mourned: Container[str]) -> tuple[str, int] | None:
    """Whom to watch: the owner of another process that comes next in the ring, behind the first of one's own."""
    others = sorted((owner, key) for owner, key in ring if owner not in own and owner not in mourned)
    if not own or not others:
        return None
    first = min(own)
    return next((other for other in others if other[0] > first), others[0])


class Sentinel:
    """
    Waits, over a connection of its own, for the lock of a neighbour, which is free when that process has died.

    Args:
        location: Where to.
        own: The owners of this process with the keys of their locks.
        look: Answers who is in the ring.
        mourn: Called when a neighbour seems to have died.
    """

    def __init__(
        self,
        location: Location,
        own: Mapping[str, int],
        look: Callable[[], Awaitable[Ring]],
        mourn: Callable[[], None],
    ) -> None:
        self._location = location
        self._own = own
        self._look = look
        self._mourn = mourn
        self._mourned: dict[str, float] = {}
        self._changed = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._watched: tuple[str, int] | None = None
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._reader: int | None = None
        self._answer: psycopg.pq.abc.PGresult | None = None
        self._died = asyncio.Event()

    @property
    def watched(self) -> str | None:
        """The owner that is watched."""
        return self._watched[0] if self._watched else None

    def arrange(self) -> None:
        """Owners have come or gone: look whether there is another neighbour."""
        self._changed.set()
        if self._keeper is None and self._own:
            self._keeper = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Watch nobody."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self._let_go()

    async def _keep(self) -> None:
        while True:
            died = asyncio.create_task(self._died.wait())
            changed = asyncio.create_task(self._changed.wait())
            try:
                await asyncio.wait((died, changed), return_when=asyncio.FIRST_COMPLETED)
            finally:
                died.cancel()
                changed.cancel()
            try:
                if self._died.is_set():
                    self._bury()
                self._changed.clear()
                await self._rearm()
            except StoreError:
                self._let_go()
                await asyncio.sleep(PAUSE)
                self._changed.set()

    def _bury(self) -> None:
        watched = self._watched
        self._let_go()
        if watched is not None:
            self._mourned[watched[0]] = asyncio.get_running_loop().time()
            self._mourn()

    async def _rearm(self) -> None:
        ring = await self._look()
        loop = asyncio.get_running_loop()
        recent = loop.time() - MOURNING
        present = {owner for owner, _ in ring}
        self._mourned = {owner: at for owner, at in self._mourned.items() if owner in present and at > recent}
        if self._mourned:
            loop.call_later(MOURNING, self._changed.set)
        chosen = neighbour(ring, self._own, self._mourned)
        if chosen == self._watched:
            return
        self._let_go()
        if chosen is not None:
            await self._watch(chosen)

    async def _watch(self, chosen: tuple[str, int]) -> None:
        connection = await connect(self._location, is_pooled=False)
        self._connection, self._watched = connection, chosen
        try:
            await connection.execute(
                f"set statement_timeout = 0; set lock_timeout = {int(ROUND * 1000)}; set idle_session_timeout = 0",
                prepare=False,
            )
            self._wait(connection, chosen[1])
            self._reader = connection.fileno()
            asyncio.get_running_loop().add_reader(self._reader, self._read)
        except psycopg.Error:
            self._let_go()
            self._changed.set()

    def _wait(self, connection: psycopg.AsyncConnection[Any], key: int) -> None:
        # Not through the driver's coroutines, which would look up several times a second.
        self._answer = None
        connection.pgconn.send_query(_WAIT.format(key=key).encode())
        connection.pgconn.flush()

    def _read(self) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            connection.pgconn.consume_input()
            while not connection.pgconn.is_busy():
                result = connection.pgconn.get_result()
                if result is None:
                    self._end_round(connection)
                    return
                self._answer = result
        except psycopg.Error:
            self._lose()

    def _end_round(self, connection: psycopg.AsyncConnection[Any]) -> None:
        answer, watched = self._answer, self._watched
        if answer is None or answer.status != psycopg.pq.ExecStatus.TUPLES_OK or watched is None:
            self._lose()
        elif answer.get_value(0, 0) == b"t":
            self._unwatch()
            self._died.set()
        else:
            self._wait(connection, watched[1])

    def _lose(self) -> None:
        """The server has gone, or somebody ended this session."""
        self._let_go()
        asyncio.get_running_loop().call_later(PAUSE, self._changed.set)

    def _let_go(self) -> None:
        self._died.clear()
        connection, self._connection, self._watched = self._connection, None, None
        self._unwatch()
        if connection is not None:
            connection.pgconn.finish()

    def _unwatch(self) -> None:
        # By its number: a broken connection tells none, and the loop would take the next file of that number for it.
        if self._reader is not None:
            asyncio.get_running_loop().remove_reader(self._reader)
            self._reader = None
