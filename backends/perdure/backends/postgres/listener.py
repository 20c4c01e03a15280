"""The connection that hears and sends notifications, and whose life stands for the life of its process."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import attrs
import psycopg
from psycopg.sql import SQL, Identifier

from perdure.backends.postgres.fault import translated
from perdure.backends.postgres.leasing import Lock
from perdure.backends.postgres.notice import Notice, channel_of, split
from perdure.backends.postgres.pool import connect
from perdure.backends.postgres.record import key_of
from perdure.errors import StoreError
from perdure.storage import Hint, HintKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from psycopg import Notify

    from perdure.backends.postgres.location import Location

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 5.0
"""Seconds between tries to connect again."""
RETURN = 10.0
"""Seconds in which, after this process had lost its connection, others may still be about to come back as well."""
COALESCING = 0.005
"""Seconds within which at most one notification is sent; the first one goes at once."""
MOST = 2000
"""Hints that wait to be sent; what is beyond is told without its id."""

_MISSED = (Hint(HintKind.DUE), Hint(HintKind.GREW), Hint(HintKind.ENDED))
_BOOT = "select (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint"
_LOCK = "select pg_try_advisory_lock(%(key)s)"
_UNLOCK = "select pg_advisory_unlock(%(key)s)"
_NOTIFY = "select pg_notify(%(channel)s, %(payload)s)"


class Listener:
    """
    One connection that listens. It connects again by itself whenever it is lost.

    Args:
        location: Where to.
        sender: Names this opening of the store in notifications.
        hear: Called with every notice of others.
        recover: Awaited with the owners whose locks were lost, once without lock and once with the new one, before
            and after a new connection is made.
    """

    def __init__(
        self,
        location: Location,
        sender: str,
        hear: Callable[[Notice], None],
        recover: Callable[[str, Lock | None], Awaitable[None]],
    ) -> None:
        self._location = location
        self._sender = sender
        self._hear = hear
        self._recover = recover
        self._channel = channel_of(location.schema)
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._watched: int | None = None
        self._turn = asyncio.Lock()
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._teller: asyncio.Task[None] | None = None
        self._untold: dict[Hint, None] = {}
        self._rest = self._nothing = Notice(sender)
        self._returned = -RETURN
        self._mourning: asyncio.TimerHandle | None = None
        self.owners: dict[str, int] = {}
        self._held: set[str] = set()
        self.boot: int | None = None
        self.notifications = 0

    @property
    def witness(self) -> int | None:
        """When the server was started, if free locks tell who has died; else None."""
        is_late = asyncio.get_running_loop().time() < self._returned + RETURN
        return None if is_late or self._connection is None else self.boot

    async def open(self) -> None:
        """Connect, and stay so. Raises `StoreError`."""
        await self._connect()
        self._keeper = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Disconnect; the locks go with the connection."""
        if self._mourning is not None:
            self._mourning.cancel()
        tasks = [task for task in (self._teller, self._keeper) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._disconnect()

    # ------------------------------------------------------------------------------------------------- connection

    async def _connect(self) -> None:
        connection = await connect(self._location, is_pooled=False)
        try:
            with translated(self._location.place):
                await connection.execute("set statement_timeout = 0; set idle_session_timeout = 0", prepare=False)
                cursor = await connection.execute(_BOOT)
                row = await cursor.fetchone()
                await connection.execute(SQL("listen {}").format(Identifier(self._channel)))
        except BaseException:
            connection.pgconn.finish()
            raise
        self.boot = row[0] if row else None
        self._connection = connection
        connection.add_notify_handler(self._receive)
        self._lost.clear()
        self._watch(connection)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._held.clear()
        if connection is not None:
            self._unwatch()
            connection.pgconn.finish()
        self._lost.set()

    def _watch(self, connection: psycopg.AsyncConnection[Any]) -> None:
        # Not the driver's own generator of notifications, which looks up several times a second.
        self._watched = connection.fileno()
        asyncio.get_running_loop().add_reader(self._watched, self._read)

    def _unwatch(self) -> None:
        # By its number: a broken connection tells none, and the loop would take the next file of that number for it.
        if self._watched is not None:
            asyncio.get_running_loop().remove_reader(self._watched)
            self._watched = None

    def _read(self) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            connection.pgconn.consume_input()
            while (notify := connection.pgconn.notifies()) is not None:
                self._take(notify.extra.decode())
        except psycopg.Error:
            self._disconnect()

    def _receive(self, notify: Notify) -> None:
        self._take(notify.payload)

    def _take(self, payload: str) -> None:
        try:
            notice = Notice.decode(payload)
        except ValueError:
            return
        if notice.sender != self._sender:
            self._hear(notice)

    async def _execute(self, sql: str, parameters: dict[str, Any]) -> Any:
        async with self._turn:
            connection = self._connection
            if connection is None:
                return None
            self._unwatch()
            try:
                with translated(self._location.place):
                    cursor = await connection.execute(sql, parameters)
                    row = await cursor.fetchone()
            except BaseException:
                if connection is self._connection:
                    self._disconnect()
                raise
            self._watch(connection)
            # What came in between was read with the answer.
            self._read()
            return row[0] if row else None

    async def _keep(self) -> None:
        while True:
            await self._lost.wait()
            await self._forgo()
            pause = FIRST_PAUSE
            while self._connection is None:
                try:
                    await self._connect()
                except StoreError:
                    await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads processes
                    pause = min(2 * pause, LONGEST_PAUSE)
            self._note_return()
            await self._hold_again()
            self._hear(Notice(hints=_MISSED, has_post=True, has_owners=True, has_late=True))

    def _note_return(self) -> None:
        loop = asyncio.get_running_loop()
        self._returned = loop.time()
        if self._mourning is not None:
            self._mourning.cancel()
        # Whoever died meanwhile was not freed at the first sign of it.
        self._mourning = loop.call_later(RETURN, self._hear, Notice(hints=(Hint(HintKind.DIED),)))

    async def _forgo(self) -> None:
        """While there is no connection, a free lock is no sign of death."""
        for owner in list(self.owners):
            try:
                await self._recover(owner, None)
            except StoreError:
                return

    # ------------------------------------------------------------------------------------------------------ locks

    async def hold(self, owner: str) -> Lock | None:
        """Take the lock of an owner of this process, or have it already; None where that cannot be."""
        if owner in self._held and self.boot is not None:
            return Lock(self.owners[owner], self.boot)
        key = key_of(self._location.schema, "owner", owner)
        try:
            is_held = await self._lock(key)
        except StoreError:
            return None
        if not is_held or self.boot is None:
            return None
        self.owners[owner] = key
        self._held.add(owner)
        return Lock(key, self.boot)

    async def _lock(self, key: int) -> bool:
        # Whoever looks whether it is free has it for a moment.
        for _ in range(5):
            if await self._execute(_LOCK, {"key": key}):
                return True
            await asyncio.sleep(0.005)
        return False

    async def release(self, owner: str) -> None:
        """An owner of this process is no more."""
        key = self.owners.pop(owner, None)
        if owner in self._held:
            self._held.discard(owner)
            await self._execute(_UNLOCK, {"key": key})

    async def _hold_again(self) -> None:
        for owner, key in list(self.owners.items()):
            try:
                # The server may not have noticed yet that the former connection is gone.
                while not await self._lock(key):  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(1)
                if self._connection is None or self.boot is None:
                    return
                self._held.add(owner)
                await self._recover(owner, Lock(key, self.boot))
            except StoreError:
                return

    # -------------------------------------------------------------------------------------------------- telling

    def tell(self, hints: Iterable[Hint], *, has_owners: bool = False, has_late: bool = False) -> None:
        """Have other processes told: at once if it was quiet, else together with what comes soon."""
        for hint in hints:
            self._untold[hint if len(self._untold) < MOST else Hint(hint.kind)] = None
        self._rest = attrs.evolve(
            self._rest, has_owners=self._rest.has_owners or has_owners, has_late=self._rest.has_late or has_late
        )
        if self._teller is None and (self._untold or self._rest != self._nothing):
            self._teller = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        try:
            while self._untold or self._rest != self._nothing:
                notices = split(self._sender, self._untold)
                if self._rest != self._nothing:
                    # Ahead of the hints that others act upon.
                    notices.insert(0, self._rest)
                self._untold, self._rest = {}, self._nothing
                for notice in notices:
                    self.notifications += 1
                    await self._execute(_NOTIFY, {"channel": self._channel, "payload": notice.encode()})
                await asyncio.sleep(COALESCING)
        except StoreError:
            # They are hints: who misses them looks by itself.
            return
        finally:
            self._teller = None
