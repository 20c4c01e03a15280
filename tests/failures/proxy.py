"""
A network between a store and its server that a test breaks: it delays, loses replies, cuts, refuses, falls silent.

It does not know what it carries, so it serves every wire protocol, and what it counts is what the wire saw.
"""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

Address = tuple[str, int] | Path

HOST = "127.0.0.1"
CHUNK = 1 << 16
QUIET = 0.02
"""Seconds without a byte after which a reply is believed to be complete."""


@attrs.define
class Traffic:
    """
    What went through a proxy.

    Attributes:
        connections: Attempts to connect, while it listened.
        round_trips: How often a server began to answer what a client had sent meanwhile.
        sent, received: Bytes to the server, and from it.
    """

    connections: int = 0
    round_trips: int = 0
    sent: int = 0
    received: int = 0

    def since(self, before: Traffic) -> Traffic:
        """The difference."""
        return Traffic(*(now - then for now, then in zip(attrs.astuple(self), attrs.astuple(before), strict=True)))


@attrs.frozen
class Weather:
    """
    What befalls what a client sends, by chance.

    Attributes:
        lose_reply: It arrives and is carried out; its answer is lost with the connection.
        lose_request: The connection ends before it arrives.
        delay: It arrives late, by up to `longest` seconds.
    """

    lose_reply: float = 0.0
    lose_request: float = 0.0
    delay: float = 0.0
    longest: float = 0.05


FAIR = Weather()


class Proxy:
    """
    Listens on a port of 127.0.0.1 and passes on to a server; a context manager with a thread of its own.

    Args:
        upstream: A host and its port, or the path of a Unix socket.
        seed: Of the chance in `weather`.

    Attributes:
        port: Where it listens.
        weather: In force for whatever is sent from now on.
        traffic: What went through.
    """

    def __init__(self, upstream: Address, seed: int = 0) -> None:
        self._upstream = upstream
        self._chance = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._links: dict[_Link, asyncio.Task[None]] = {}
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._losses = 0
        self._is_closed = False
        self.lost = 0
        self.port = 0
        self.weather = FAIR
        self.traffic = Traffic()

    def __enter__(self) -> Self:
        self._thread.start()
        self._flowing.set()
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # --------------------------------------------------------------------------------------------- what a test does

    def cut(self) -> None:
        """End all connections in the midst of whatever they carry."""
        self._call(self._cut())

    def refuse(self) -> None:
        """End all connections, and let nobody connect."""
        self._call(self._refuse())

    def accept(self) -> None:
        """Let clients connect (again), on the same port."""
        self._call(self._accept())

    def turn_away(self) -> None:
        """End all connections, and every new one at once; they are counted."""
        self._is_closed = True
        self.cut()

    def let_in(self) -> None:
        """Take connections again."""
        self._is_closed = False

    def strand(self) -> None:
        """Carry nothing more on the connections there are, and tell nobody; new ones work."""
        self._loop.call_soon_threadsafe(self._strand)

    def fall_silent(self) -> None:
        """Carry nothing, and tell nobody: connections stay as they are, new ones are taken and lead nowhere."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def speak(self) -> None:
        """Carry again, also what was sent meanwhile."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def lose_replies(self, count: int = 1) -> None:
        """Let the next requests be carried out, and their connections end instead of the answers."""
        self._losses = count

    # ------------------------------------------------------------------------------------------------ what it does

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _accept(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, HOST, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        await self._cut()

    async def _cut(self) -> None:
        tasks = list(self._links.values())
        for link in list(self._links):
            link.end()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _end(self) -> None:
        # Those that were about to connect, too.
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _strand(self) -> None:
        for link in self._links:
            link.is_stranded = True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.traffic.connections += 1
        if self._is_closed:
            _reset(writer)
            return
        try:
            if isinstance(self._upstream, tuple):
                upstream = await asyncio.open_connection(*self._upstream)
            else:
                upstream = await asyncio.open_unix_connection(self._upstream)
        except OSError:
            _reset(writer)
            return
        link = _Link(self, (reader, writer), upstream)
        task = asyncio.current_task()
        assert task is not None
        self._links[link] = task
        try:
            await link.carry()
        finally:
            del self._links[link]
            link.end()

    async def flowing(self) -> None:
        """Wait while it is silent."""
        await self._flowing.wait()

    def fate(self) -> Callable[[_Link, bytes], Coroutine[Any, Any, bool]]:
        """What becomes of the next request."""
        weather, drawn = self.weather, self._chance.random()
        if self._losses:
            self._losses -= 1
            return _Link.lose_reply
        if drawn < weather.lose_reply:
            return _Link.lose_reply
        if drawn < weather.lose_reply + weather.lose_request:
            return _Link.lose_request
        if drawn < weather.lose_reply + weather.lose_request + weather.delay:
            return _Link.send_late
        return _Link.send

    def draw(self) -> float:
        """How many seconds something is late."""
        return self._chance.uniform(0, self.weather.longest)


_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Link:
    """One client's connection and the one to the server that belongs to it."""

    def __init__(self, proxy: Proxy, client: _Stream, server: _Stream) -> None:
        self._proxy = proxy
        self._from_client, self._to_client = client
        self._from_server, self._to_server = server
        self._has_asked = False
        self._is_deaf = False
        self._ended = asyncio.Event()
        self.is_stranded = False

    async def carry(self) -> None:
        # One that is stranded ends only by being told.
        directions = {asyncio.create_task(work) for work in (self._ask(), self._answer(), self._ended.wait())}
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in directions:
                task.cancel()
            await asyncio.gather(*directions, return_exceptions=True)

    def end(self) -> None:
        self._ended.set()
        _reset(self._to_client)
        _reset(self._to_server)

    async def _ask(self) -> None:
        proxy = self._proxy
        with suppress(OSError):
            while data := await self._from_client.read(CHUNK):
                await self._flowing()
                proxy.traffic.sent += len(data)
                self._has_asked = True
                if not await proxy.fate()(self, data):
                    proxy.lost += 1
                    return

    async def _answer(self) -> None:
        traffic = self._proxy.traffic
        with suppress(OSError):
            while data := await self._from_server.read(CHUNK):
                await self._flowing()
                if self._has_asked:
                    traffic.round_trips += 1
                    self._has_asked = False
                traffic.received += len(data)
                if self._is_deaf:
                    continue
                self._to_client.write(data)
                await self._to_client.drain()
        if self._is_deaf:
            await asyncio.Event().wait()

    async def _flowing(self) -> None:
        await self._proxy.flowing()
        if self.is_stranded:
            await asyncio.Event().wait()

    # ------------------------------------------------------------------------------------------- fates of a request

    async def send(self, data: bytes) -> bool:
        self._to_server.write(data)
        await self._to_server.drain()
        return True

    async def send_late(self, data: bytes) -> bool:
        await asyncio.sleep(self._proxy.draw())
        return await self.send(data)

    async def lose_request(self, _: bytes) -> bool:
        return False

    async def lose_reply(self, data: bytes) -> bool:
        self._is_deaf = True
        await self.send(data)
        heard = -1
        while heard != self._proxy.traffic.received or self._has_asked:
            heard = self._proxy.traffic.received
            await asyncio.sleep(QUIET)
        return False


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.family != socket.AF_UNIX:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    writer.transport.abort()
