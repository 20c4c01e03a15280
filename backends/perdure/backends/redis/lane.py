"""One connection on which the commands of all callers are pipelined."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs
from hiredis import pack_command
from redis.exceptions import AskError, InvalidResponse, ResponseError

from perdure.backends.redis.fault import UnsealedError, is_elsewhere, told_apart, translate
from perdure.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from redis.asyncio.connection import AbstractConnection

    from perdure.backends.redis.durability import Seal

    Command = Sequence[str | bytes | int]


@attrs.define(eq=False)
class Counter:
    """What has gone over the lanes of a store: writes to a socket that replies were awaited for, commands, bytes."""

    round_trips: int = 0
    commands: int = 0
    bytes_sent: int = 0


@attrs.define(eq=False)
class _Group:
    """Commands of one caller, and what was replied to them; errors of the server are replies."""

    size: int
    replied: asyncio.Future[list[Any]]
    replies: list[Any] = attrs.field(factory=list)

    def answer(self, error: Exception | None = None) -> None:
        # A caller that was cancelled meanwhile is done already.
        if self.replied.done():
            return
        if error is None:
            self.replied.set_result(self.replies)
        else:
            self.replied.set_exception(error)


@attrs.define(eq=False)
class _Flight:
    """The groups that were sent together; `extra`: how many replies to the seal are to come after theirs."""

    groups: list[_Group]
    extra: int
    sent: float
    _seal_replies: list[Any] = attrs.field(factory=list)
    _position: int = 0

    def take(self, reply: Any) -> bool:
        """Put the next reply where it belongs; whether it was the last one."""
        if self._position < len(self.groups):
            group = self.groups[self._position]
            group.replies.append(reply)
            if len(group.replies) == group.size:
                self._position += 1
                if not self.extra:
                    group.answer()
            return self._position == len(self.groups) and not self.extra
        self._seal_replies.append(reply)
        return len(self._seal_replies) == self.extra

    def close(self, seal: Seal, place: str) -> None:
        """Answer all, now that the seal's replies are there."""
        error = _broken(self._seal_replies, seal, place)
        for group in self.groups:
            group.answer(error)


def _broken(replies: list[Any], seal: Seal, place: str) -> Exception | None:
    for reply in replies:
        if isinstance(reply, AskError):
            return UnsealedError(f"{place} keeps other slots than before")
        if isinstance(reply, ResponseError):
            return translate(reply, place)
    if seal.holds(replies[-1]):
        return None
    said = f"{seal.wait[0]} at {place} answered {replies[-1]!r} where {seal.needed} are needed in time"
    return UnsealedError(f"{said}; look at its replicas")


class Lane:
    """
    A connection that is made when it is needed, and made again when it is lost.

    Nothing waits for the reply of anything else: commands are written as they come, all of one turn of the loop
    together, and replies are handed out in their order. When the connection is lost, all who wait hear that their
    command may or may not have been carried out.

    Attributes:
        is_ready: Whether it is connected and greeted.
        seal: What every pipeline ends with, and the key for it, or None.

    Args:
        make: A new connection, not connected yet.
        greet: What to do first on each.
        lost: Told whenever a connection that was in use is given up.
        timeout: Seconds for which a reply may be owed; `connect_timeout`: for the connection and the greeting.
    """

    def __init__(
        self,
        make: Callable[[], AbstractConnection],
        greet: Callable[[Lane], Awaitable[None]],
        lost: Callable[[Lane], None],
        *,
        place: str,
        timeout: float,
        connect_timeout: float,
        counter: Counter,
    ) -> None:
        self.place = place
        self.seal: tuple[Seal, str] | None = None
        self._make, self._greet, self._lost = make, greet, lost
        self._timeout, self._connect_timeout = timeout, connect_timeout
        self._counter = counter
        self._connection: AbstractConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self.is_ready = False
        self._queue: list[_Group] = []
        self._packed: list[bytes] = []
        self._queued = asyncio.Event()
        self._flights: deque[_Flight] = deque()
        self._tasks: list[asyncio.Task[None]] = []
        self._alarm: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------------------------------------------- connecting

    async def ready(self) -> None:
        """
        Be connected and greeted.

        Raises:
            StoreError: The server cannot be reached, or is not one a store can be kept on.
        """
        while not self.is_ready:
            if self._connecting is None:
                self._connecting = asyncio.create_task(self._connect())
                self._connecting.add_done_callback(self._connected)
            await asyncio.shield(self._connecting)

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # whoever waits has it; nobody may

    async def _connect(self) -> None:
        connection = self._make()
        try:
            async with asyncio.timeout(self._connect_timeout):
                await connection.connect()  # type: ignore[no-untyped-call]
            self._begin(connection)
            async with asyncio.timeout(self._connect_timeout):
                await self._greet(self)
        except BaseException as error:
            await self._end(connection)
            self._abandon(error)
            raise translate(error, self.place) from error
        self.is_ready = True

    def _begin(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._queued.clear()
        self._tasks = [asyncio.create_task(self._carry(work, connection)) for work in (self._write, self._read)]

    async def _carry(
        self, work: Callable[[AbstractConnection], Awaitable[None]], connection: AbstractConnection
    ) -> None:
        try:
            await work(connection)
        except Exception as error:  # noqa: BLE001 - whatever it was, the connection is of no use any more
            if self._connection is connection:
                self.drop(error)

    def drop(self, error: BaseException) -> None:
        """Give the connection up: all who wait hear why, and the next command connects anew."""
        connection, was_ready = self._connection, self.is_ready
        self._abandon(error)
        if connection is not None:
            task = asyncio.create_task(self._end(connection))
            _ending.add(task)
            task.add_done_callback(_ending.discard)
        if was_ready:
            self._lost(self)

    def _abandon(self, error: BaseException) -> None:
        self._connection, self.is_ready = None, False
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            if task is not asyncio.current_task():
                task.cancel()
        waiting = [group for flight in self._flights for group in flight.groups] + self._queue
        self._flights.clear()
        self._queue, self._packed = [], []
        for group in waiting:
            group.answer(_unanswered(error, self.place))

    async def _end(self, connection: AbstractConnection) -> None:
        with suppress(Exception):
            await connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Let go of the connection."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait({self._connecting})
        connection, tasks = self._connection, self._tasks
        self._abandon(StoreUnavailableError(f"the store at {self.place} was closed"))
        if tasks:
            await asyncio.wait(tasks)
        if connection is not None:
            await self._end(connection)

    # --------------------------------------------------------------------------------------------------- exchanging

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """
        The replies to commands that are sent together, one behind the other; errors of the server among them.

        Raises:
            StoreUnavailableError: The connection was lost: whether they were carried out is not known. Or they were,
                and are not yet as safe as asked for.
        """
        if self._connection is None:
            raise _unanswered(ConnectionResetError("the connection was lost"), self.place)
        packed = [_packed(command) for command in commands]
        group = _Group(len(commands), asyncio.get_running_loop().create_future())
        self._queue.append(group)
        self._packed += packed
        self._counter.commands += len(commands)
        self._queued.set()
        return await group.replied

    async def _write(self, connection: AbstractConnection) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._queued.wait()
            self._queued.clear()
            groups, self._queue = self._queue, []
            packed, self._packed = self._packed, []
            extra: Sequence[Command] = ()
            if self.seal is not None:
                seal, key = self.seal
                extra = seal.commands(key)
                packed += [_packed(command) for command in extra]
            self._flights.append(_Flight(groups, len(extra), loop.time()))
            if self._alarm is None:
                self._alarm = loop.call_later(self._timeout, self._check_time)
            data = b"".join(packed)
            self._counter.round_trips += 1
            self._counter.bytes_sent += len(data)
            await connection.send_packed_command(data, check_health=False)

    async def _read(self, connection: AbstractConnection) -> None:
        while True:
            reply = await _reply(connection)
            if not self._flights:
                raise InvalidResponse("a reply that nobody has asked for")
            flight = self._flights[0]
            if isinstance(reply, ResponseError) and is_elsewhere(reply):
                raise reply
            if flight.take(reply):
                self._flights.popleft()
                if flight.extra and self.seal is not None:
                    flight.close(self.seal[0], self.place)

    def _check_time(self) -> None:
        self._alarm = None
        if not self._flights:
            return
        loop = asyncio.get_running_loop()
        # A seal takes as long by itself before it tells that it does not hold.
        patience = 2 * self._timeout if self.seal else self._timeout
        left = self._flights[0].sent + patience - loop.time()
        if left <= 0:
            self.drop(TimeoutError(f"no reply within {patience:g} s"))
        else:
            self._alarm = loop.call_later(left, self._check_time)


_ending: set[asyncio.Task[None]] = set()
"""Connections that are being given up; a task that nobody holds may vanish."""


def _packed(command: Command) -> bytes:
    packed: bytes = pack_command(tuple(command))  # type: ignore[arg-type] # its stub knows tuples of one type only
    return packed


async def _reply(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response(disable_decoding=True, disconnect_on_error=False)
    except ResponseError as error:
        return told_apart(error)


def _unanswered(error: BaseException, place: str) -> Exception:
    translated = translate(error if isinstance(error, Exception) else ConnectionResetError("closed"), place)
    if isinstance(translated, StoreUnavailableError):
        return translated
    return StoreUnavailableError(f"Redis at {place} does not answer: {error}; is the server running?")
