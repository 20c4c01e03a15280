"""Stores over servers of a test's own, and what stands between them."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from perdure.adapters.ephemeral import RedisServer
from perdure.backends.redis import Location, RedisStore
from perdure.storage import Claim, Commit, Draft, Hint, HintKind, New, Tip
from tests.servers import with_options

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

LEASE = 60_000_000
PATIENCE = 30.0
BODY = b"y" * 200


@pytest.fixture
def server():
    """A Redis that the test may do anything to."""
    with RedisServer(durable=False) as server:
        yield server


@asynccontextmanager
async def opened(url: str, **options: object) -> AsyncIterator[RedisStore]:
    """A store, opened and closed."""
    store = RedisStore(Location.parse(with_options(url, **options)))
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def parted(store: RedisStore) -> None:
    """Wait until a store knows that its connections are gone."""
    async with asyncio.timeout(PATIENCE):
        while any(lane.is_ready for node in store._opened.fleet.nodes for lane in (node.main, node.bulk)):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.002)


class Ear:
    """Hears hints."""

    def __init__(self):
        self.hints = []
        self._came = asyncio.Event()

    def __call__(self, hint):
        self.hints.append(hint)
        self._came.set()

    async def until(self, fits):
        """The first hint that fits, once there is one."""
        async with asyncio.timeout(PATIENCE):
            while not (found := [hint for hint in self.hints if fits(hint)]):
                self._came.clear()
                await self._came.wait()
        return found[0]

    async def begun(self, store):
        """Wait until it listens at all shards."""
        for shard in range(store.shards):
            await self.until(lambda hint, shard=shard: hint == Hint(HintKind.DUE, shard=shard))
        self.hints.clear()


def new(store: RedisStore, **changes: object) -> New:
    """An execution to create."""
    name = secrets.token_hex(8)
    defaults = {
        "id": store.new_id("order", name),
        "function": "order",
        "version": "1",
        "name": name,
        "digest": secrets.token_hex(32),
        "timeout": None,
        "retention": 86_400_000_000,
        "draft": draft(b"started"),
    }
    return New(**(defaults | changes))


def draft(body: bytes = BODY) -> Draft:
    return Draft(body, secrets.token_hex(8), 1)


class Holding:
    """An owner's view of an execution, which it writes to."""

    def __init__(self, store: RedisStore, header) -> None:
        self.store = store
        self.id, self.token, self.owner = header.id, header.token, header.owner
        self.seq, self.seen, self.tip = header.seq, header.length, header.tip

    def next(self, body: bytes | None = BODY, **options: object) -> Commit:
        """The next commit, not sent yet."""
        return Commit(
            id=self.id,
            token=self.token,
            seq=self.seq + 1,
            seen=self.seen,
            tip=self.tip,
            draft=None if body is None else draft(body),
            **options,
        )

    def learn(self, commit: Commit, answer) -> None:
        """Take note of an accepted commit."""
        self.seq = commit.seq
        if commit.draft is not None:
            self.seen, self.tip = answer.length, Tip(answer.at, commit.draft.tag)

    async def write(self, body: bytes | None = BODY, **options: object):
        """Commit, expecting it to be accepted."""
        commit = self.next(body, **options)
        (answer,) = await self.store.commit([commit])
        self.learn(commit, answer)
        return answer


async def held(store: RedisStore, owner: str | None = None, **changes: object) -> Holding:
    """A new execution, owned."""
    if owner is None:
        owner = secrets.token_hex(8)
        await store.register(owner, [], LEASE)
    answer = await store.create(new(store, **changes), Claim(owner, secrets.token_hex(16)))
    return Holding(store, answer.header)


class Proxy:
    """
    Stands between a store and a server.

    Attributes:
        place: Of the server; it may change.
        mute: Whether replies are swallowed.
    """

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.place = Location.parse(url)
        self.mute = False
        self.connections = 0
        self._asked = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._server.close()
        self.cut()
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        password = f":{self.place.password}@" if self.place.password else ""
        return f"redis://{password}127.0.0.1:{self.port}/0"

    def lead_to(self, url: str) -> None:
        """Lead to another server from now on, as an address does that is given to another machine."""
        self.place = Location.parse(url)
        self.cut()

    async def _reach(self):
        if self.place.path is not None:
            return await asyncio.open_unix_connection(self.place.path)
        return await asyncio.open_connection(*self.place.nodes[0])

    async def until_asked(self) -> None:
        """Wait until the server has been asked something more, and has had the time to do it."""
        self._asked.clear()
        await self._asked.wait()
        await asyncio.sleep(0.02)

    def cut(self) -> None:
        """Cut all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader, writer) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        self.connections += 1
        try:
            up_reader, up_writer = await self._reach()
        except OSError:
            writer.transport.abort()
            self._tasks.discard(task)
            return
        both = {writer, up_writer}
        self._writers |= both
        try:
            ways = self._pass(reader, up_writer, is_reply=False), self._pass(up_reader, writer, is_reply=True)
            await asyncio.wait([asyncio.ensure_future(way) for way in ways], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in both:
                one.transport.abort()
            self._writers -= both
            self._tasks.discard(task)

    async def _pass(self, reader, writer, *, is_reply: bool) -> None:
        while True:
            try:
                data = await reader.read(1 << 16)
            except OSError:
                return
            if not data:
                return
            if is_reply and self.mute:
                continue
            writer.write(data)
            if not is_reply:
                self._asked.set()


@pytest.fixture
def proxy():
    """Makes a proxy to a server."""
    return lambda server: Proxy(server.url)
