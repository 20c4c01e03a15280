"""What processes tell each other."""

import asyncio

import pytest
import redis

from perdure.backends.redis import Location
from perdure.storage import Hint, HintKind, OpenAwait
from tests.servers import with_options
from tests.unit.redis.conftest import Ear, draft, held, new, opened


@pytest.fixture(params=["redis_url", "valkey_url"])
def url(request):
    """A namespace on either server, in one shard or several."""
    return request.getfixturevalue(request.param)


def test_other_processes_are_told(url):
    """What becomes due, grows or ends is told to other processes, with its shard; a beginning of listening is told."""

    async def scene():
        async with opened(url) as store, opened(url) as other:
            ear = Ear()
            other.watch(ear)
            await ear.begun(other)
            header = (await store.create(new(store), None)).header
            shard = store.shard_of(header.id)
            assert await ear.until(lambda _: True) == Hint(HintKind.DUE, header.id, "order", shard)
            holding = await held(store)
            await holding.write(opens=(OpenAwait(operation="op", secret="s"),))
            await store.deliver(f"{holding.id}/op", "s", draft(), "nonce")
            grew = Hint(HintKind.GREW, holding.id, "order", store.shard_of(holding.id))
            assert await ear.until(lambda hint: hint.id == holding.id) == grew

    asyncio.run(scene())


def test_own_hints_come_once(url):
    """What a process has done itself it is told once, without a way over the server."""

    async def scene():
        async with opened(url) as store:
            ear = Ear()
            store.watch(ear)
            await ear.begun(store)
            await asyncio.gather(*(store.create(new(store), None) for _ in range(10)))
            async with opened(url) as other:
                last = (await other.create(new(other), None)).header
            await ear.until(lambda hint: hint.id == last.id)
            assert len(ear.hints) == 11

    asyncio.run(scene())


def test_many_at_once(redis_url):
    """What frees many executions of one function rings once."""

    async def scene():
        async with opened(redis_url) as store, opened(redis_url) as other:
            async with opened(redis_url) as dying:
                first = await held(dying)
                for _ in range(9):
                    await held(dying, first.owner)
            ear = Ear()
            other.watch(ear)
            await ear.begun(other)
            assert (await store.reap(100)).count == 10
            await ear.until(lambda hint: hint.kind is HintKind.DUE)
            await asyncio.sleep(0.05)
            assert len(ear.hints) == 1

    asyncio.run(scene())


def test_listening_again(server, proxy):
    """When listening was interrupted, it begins again by itself, and tells that hints may have been lost."""

    async def scene():
        async with proxy(server) as between, opened(between.url) as store, opened(server.url) as other:
            ear = Ear()
            store.watch(ear)
            await ear.begun(store)
            between.cut()
            await ear.until(lambda hint: hint == Hint(HintKind.DUE, shard=0))
            header = (await other.create(new(other), None)).header
            await ear.until(lambda hint: hint.id == header.id)

    asyncio.run(scene())


def test_without_notifications(url):
    """Without notifications nothing is published or listened to; a process still hears itself."""

    async def scene():
        quiet = with_options(url, notify="off")
        async with opened(quiet) as store, opened(quiet) as other:
            ear, deaf = Ear(), Ear()
            store.watch(ear)
            other.watch(deaf)
            header = (await store.create(new(store), None)).header
            await ear.until(lambda hint: hint.id == header.id)
            await asyncio.sleep(0.05)
            assert deaf.hints == []

    asyncio.run(scene())


def test_listeners_are_told_that_a_process_ends(redis_url):
    """A process that closes with executions in its hands tells that their owner is gone."""

    async def scene():
        async with opened(redis_url) as other:
            ear = Ear()
            other.watch(ear)
            await ear.begun(other)
            async with opened(redis_url) as store:
                await held(store)
            assert (await ear.until(lambda hint: hint.kind is HintKind.DIED)).shard == 0

    asyncio.run(scene())


def test_hints_are_not_allowed(server):
    """A user who may not use channels has no hints and all the rest."""
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command("ACL SETUSER mute on >pw ~* resetchannels +@all")

    async def scene():
        async with opened(server.url, username="mute", password="pw") as store:
            store.watch(lambda _: None)
            holding = await held(store)
            await holding.write()
            await asyncio.sleep(0.05)

    assert Location.parse(server.url).path
    asyncio.run(scene())
