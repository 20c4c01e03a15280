"""What a store costs: memory of those who sleep, and what goes over the network."""

import asyncio
import secrets

import pytest
import redis

from perdure.adapters.ephemeral import RedisServer, ValkeyServer
from perdure.storage import Claim, End, FunctionVersion, Status, Suspend
from tests.unit.redis.conftest import Holding, held, new, opened

SLEEPING = 2000


@pytest.mark.parametrize("kind", [RedisServer, ValkeyServer])
def test_memory_of_the_sleeping(kind):
    """A sleeping execution with three entries of 200 bytes takes two keys and less than two kilobytes."""

    async def scene(admin, url):
        async with opened(url) as store:
            await store.register("w", [], 10**9)
            keys, memory = admin.dbsize(), admin.info("memory")["used_memory"]
            claims = [Claim("w", secrets.token_hex(16)) for _ in range(SLEEPING)]
            made = await asyncio.gather(*(store.create(new(store), claim) for claim in claims))
            holdings = [Holding(store, answer.header) for answer in made]
            for then in ({}, {}, {"then": Suspend(wake_after=10**12)}):
                batch = [holding.next(**then) for holding in holdings]
                for holding, commit, answer in zip(holdings, batch, await store.commit(batch), strict=True):
                    holding.learn(commit, answer)
            each = (admin.info("memory")["used_memory"] - memory) / SLEEPING
            assert admin.dbsize() - keys < 2 * SLEEPING + 20
            assert 800 < each < 2000, each
            # They are asked for by nobody, and cost a claim nothing.
            before = admin.info("commandstats")["cmdstat_evalsha"]["calls"]
            answer = await store.claim("w", 1, "t", [FunctionVersion("order", "1")], 100, 1)
            assert answer.headers == ()
            assert answer.next_wake is not None
            assert admin.info("commandstats")["cmdstat_evalsha"]["calls"] == before + 1

    with kind(durable=False) as server, redis.Redis.from_url(server.url) as admin:
        asyncio.run(scene(admin, server.url))


def test_three_steps(redis_url):
    """A workflow of three steps, started where it runs, is five round trips: its start, each step, its end."""

    async def scene():
        async with opened(redis_url) as store:
            await store.register("w", [], 10**9)
            trips, commands, sent = store.round_trips, store.commands, store.bytes_sent
            holding = await held(store, "w")
            for _ in range(3):
                await holding.write()
            await holding.write(then=End(Status.SUCCEEDED))
            assert store.round_trips - trips == 5
            assert store.commands - commands == 5
            assert store.bytes_sent - sent < 3500

    asyncio.run(scene())


def test_nothing_is_left(redis_url, redis_server):
    """What is purged leaves a tombstone and nothing else."""

    async def scene():
        async with opened(redis_url) as store:
            holding = await held(store, retention=0)
            await holding.write(then=End(Status.SUCCEEDED))
            assert await store.purge(10) == 1
            with redis.Redis.from_url(redis_server.server.url) as admin:
                namespace = store.location.namespace
                keys = {key.decode().partition("}")[2] for key in admin.scan_iter(f"{{{namespace}:*", count=1000)}
                left = f"{{{namespace}:0}}:t:{holding.id}"
                assert 86_000 < admin.ttl(left) <= 86_400
            owner = f":l:{holding.owner}"
            assert keys == {"", ":replid", ":functions", ":lease", owner, f":t:{holding.id}"}

    asyncio.run(scene())
