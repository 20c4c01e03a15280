"""A server that ends and begins again under load, with what its file has."""

import asyncio
from functools import partial

import pytest

from perdure.adapters.ephemeral import RedisServer, ValkeyServer
from perdure.errors import StoreUnavailableError
from perdure.service.patience import patiently
from perdure.storage import Answer, Committed, FunctionVersion
from tests.unit.redis.conftest import PATIENCE, held, new, opened

ORDER = [FunctionVersion("order", "1")]
RESTARTS = 3


@pytest.mark.parametrize("kind", [RedisServer, ValkeyServer])
def test_killed_under_load(kind):
    """The server is killed again and again: nothing acknowledged is lost, nothing is doubled, nobody is fenced."""

    async def scene():
        # Each write on disk before its answer: otherwise a busy disk may hold back what a kill then takes.
        with kind(durable=True) as server:
            async with opened(server.url, shards=4) as store:
                holdings = [await held(store) for _ in range(8)]
                written = {holding.id: [] for holding in holdings}
                is_over = False

                async def write(holding):
                    while not is_over:
                        commit = holding.next()
                        (answer,) = await patiently(partial(store.commit, [commit]))
                        assert isinstance(answer, Committed), answer
                        holding.learn(commit, answer)
                        written[holding.id].append(commit.draft.tag)

                async def all_have_written():
                    former = {id: len(tags) for id, tags in written.items()}
                    async with asyncio.timeout(PATIENCE):
                        while any(len(written[id]) == count for id, count in former.items()):  # noqa: ASYNC110 - nobody tells
                            await asyncio.sleep(0.01)

                tasks = [asyncio.create_task(write(holding)) for holding in holdings]
                for _ in range(RESTARTS):
                    await all_have_written()
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.start)
                await all_have_written()
                is_over = True
                await asyncio.gather(*tasks)
                for id, tags in written.items():
                    page = await store.entries(id, 1, 10**9)
                    assert [row.tag for row in page.rows] == tags
                assert store._opened.watch.recoveries == RESTARTS

    asyncio.run(scene())


def test_all_verbs_over_a_restart(server):
    """While the server is away every verb says that it is unavailable; afterwards it goes on as if nothing had been."""

    async def scene():
        async with opened(server.url) as store:
            holding = await held(store)
            header = (await store.create(new(store), None)).header
            server.kill()
            for verb in (
                lambda: store.describe(holding.id),
                lambda: store.commit([holding.next()]),
                lambda: store.renew(holding.owner),
                lambda: store.entries(holding.id, 0, 100),
                lambda: store.create(new(store), None),
            ):
                with pytest.raises(StoreUnavailableError):
                    await verb()
            server.start()
            assert await store.describe(header.id) == header
            assert [one.id for one in await store.renew(holding.owner)] == [holding.id]
            (found,) = (await store.claim(holding.owner, 1, "t", ORDER, 10, 1)).headers
            assert found.id == header.id
            await holding.write()

    asyncio.run(scene())


def test_closing_without_a_server(server):
    """A store closes though its server is gone."""

    async def scene():
        async with opened(server.url) as store:
            await held(store)
            store.watch(lambda _: None)
            await asyncio.sleep(0.05)
            server.kill()

    asyncio.run(scene())


def test_data_that_is_gone(server, caplog):
    """On a server that comes back empty the store begins anew: executions are unknown, leases are lost."""

    async def scene():
        async with opened(server.url, shards=2) as store:
            holding = await held(store)
            await asyncio.to_thread(server.kill)
            for file in server.directory.glob("appendonlydir/*"):
                file.unlink()
            await asyncio.to_thread(server.start)
            assert await store.describe(holding.id) is None
            assert await store.commit([holding.next()]) == [Answer.FENCED]
            assert await store.renew(holding.owner) is Answer.LEASE_LOST
            await (await held(store)).write()
        assert "came back without what it had" in caplog.text
        async with opened(server.url) as store:
            assert store.shards == 2

    asyncio.run(scene())
