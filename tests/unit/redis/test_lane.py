"""One connection for all callers: what goes together, and what becomes of it when the connection is lost."""

import asyncio

import pytest

from perdure.errors import StoreUnavailableError
from perdure.storage import Answer, End, FunctionVersion, OpenAwait, Status, Suspend
from tests.unit.redis.conftest import Ear, draft, held, new, opened, parted

ORDER = [FunctionVersion("order", "1")]


@pytest.fixture(params=["redis_url", "valkey_url"])
def url(request):
    """A namespace on either server, in one shard or several."""
    return request.getfixturevalue(request.param)


def test_round_trips(url):
    """Every verb on one shard is one round trip, and so is a batch of commits on however many."""

    async def scene():
        async with opened(url) as store:
            holdings = [await held(store) for _ in range(32)]

            async def costs(coroutine):
                before = store.round_trips
                answer = await coroutine
                return store.round_trips - before, answer

            assert (await costs(store.create(new(store), None)))[0] == 1
            assert (await costs(store.commit([holding.next() for holding in holdings])))[0] == 1
            assert (await costs(store.register("w", [], 10**7)))[0] == 1
            assert (await costs(store.claim("w", 1, "t", ORDER, 5, 1)))[0] == 1
            assert (await costs(store.renew("w")))[0] == 1
            assert (await costs(store.describe(holdings[0].id)))[0] == 1
            assert (await costs(store.entries(holdings[0].id, 0, 1000)))[
                0
            ] <= 2  # with the connection for what is large
            assert (await costs(store.entries(holdings[0].id, 0, 1000)))[0] == 1
            assert (await costs(store.reap(10)))[0] == 1
            assert (await costs(store.unsettled(10)))[0] == 1

    asyncio.run(scene())


def test_callers_share_round_trips(url):
    """What several callers ask for in one turn of the loop goes together."""

    async def scene():
        async with opened(url) as store:
            before = store.round_trips
            await asyncio.gather(*(store.create(new(store), None) for _ in range(100)))
            assert store.round_trips - before <= 2

    asyncio.run(scene())


def test_idle(url):
    """A store that nobody asks anything sends nothing, though somebody watches."""

    async def scene():
        async with opened(url) as store:
            ear = Ear()
            store.watch(ear)
            await ear.begun(store)
            before = store.commands
            await asyncio.sleep(0.5)
            assert store.commands == before

    asyncio.run(scene())


def test_lost_replies(server, proxy):
    """A verb whose reply was lost says that it is not known; repeated, it answers as if nothing had been lost."""

    async def scene():
        async with proxy(server) as between, opened(between.url) as store:
            one, other = await held(store), await held(store)
            await other.write(opens=(OpenAwait(operation="op", secret="s3cret"),))

            async def lost_and_repeated(verb, *arguments):
                between.mute = True
                asking = asyncio.create_task(verb(*arguments))
                await between.until_asked()
                between.cut()
                with pytest.raises(StoreUnavailableError):
                    await asking
                between.mute = False
                return await verb(*arguments), await verb(*arguments)

            first, again = await lost_and_repeated(store.create, new(store), None)
            assert first.header == again.header
            for holding, then in ((one, Suspend(wake_after=0)), (other, End(Status.SUCCEEDED))):
                if holding is other:
                    answers = await lost_and_repeated(store.deliver, f"{other.id}/op", "s3cret", draft(), "n0nce")
                    assert answers == (Answer.DELIVERED, Answer.DELIVERED)
                (first,), (again,) = await lost_and_repeated(store.commit, [holding.next(then=then)])
                assert (first.length, first.at) == (again.length, again.at)
            first, again = await lost_and_repeated(store.claim, one.owner, 1, "t0ken", ORDER, 10, 1)
            assert len(first.headers) == 2
            assert {header.id for header in first.headers} == {header.id for header in again.headers}
            first, again = await lost_and_repeated(store.renew, one.owner)
            assert sorted(held.id for held in first) == sorted(held.id for held in again)
            assert (await store.describe(one.id)).length == 2
            assert (await store.describe(other.id)).length == 4

    asyncio.run(scene())


def test_silent_server(server, proxy):
    """A server that owes a reply for too long counts as gone; the next call connects anew."""

    async def scene():
        async with proxy(server) as between, opened(between.url, timeout=1.0) as store:
            between.mute = True
            with pytest.raises(StoreUnavailableError, match="no reply within 1 s"):
                await store.describe("x")
            between.mute = False
            assert await store.describe("x") is None
            assert between.connections == 2

    asyncio.run(scene())


def test_many_wait_for_one_connection(server, proxy):
    """All who call while there is no connection wait for the same one."""

    async def scene():
        async with proxy(server) as between, opened(between.url) as store:
            between.cut()
            await parted(store)
            assert await asyncio.gather(*(store.describe(str(number)) for number in range(50))) == [None] * 50
            assert between.connections == 2

    asyncio.run(scene())


def test_cancelled_caller(url):
    """Who stops waiting does not disturb the others: replies go to those who asked."""

    async def scene():
        async with opened(url) as store:
            made = [(await store.create(new(store), None)).header for _ in range(20)]
            asking = [asyncio.create_task(store.describe(header.id)) for header in made]
            await asyncio.sleep(0)
            for task in asking[::3]:
                task.cancel()
            await asyncio.wait(asking)
            for number, (task, header) in enumerate(zip(asking, made, strict=True)):
                assert task.cancelled() if number % 3 == 0 else task.result() == header

    asyncio.run(scene())


def test_large_entries_have_their_own_connection(server, proxy):
    """What is large does not hold up what is small."""

    async def scene():
        async with proxy(server) as between, opened(between.url) as store:
            holding = await held(store)
            assert between.connections == 1
            await holding.write(b"x" * 1_000_000)
            assert between.connections == 2
            page = await store.entries(holding.id, 0, 10_000_000)
            assert [len(row.body) for row in page.rows] == [7, 1_000_000]
            assert between.connections == 2

    asyncio.run(scene())


def test_closed(redis_url):
    """A closed store says that it is not open; it can be opened again."""

    async def scene():
        async with opened(redis_url) as store:
            await store.open()
            header = (await store.create(new(store), None)).header
            await store.close()
            with pytest.raises(Exception, match=r"is not open; await its open\(\) first"):
                await store.describe(header.id)
            await store.open()
            assert await store.describe(header.id) == header

    asyncio.run(scene())


def test_close_ends_leases(redis_url):
    """What a closed store's owners still held is free at once, and others are told."""

    async def scene():
        async with opened(redis_url) as other:
            async with opened(redis_url) as store:
                holding = await held(store)
                assert (await other.reap(10)).count == 0
            assert (await other.reap(10)).count == 1
            assert (await other.describe(holding.id)).owner is None

    asyncio.run(scene())
