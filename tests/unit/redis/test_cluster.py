"""A store over a cluster of three masters."""

import asyncio
import itertools
import random
from typing import ClassVar

import pytest
import redis
from redis.crc import key_slot

from perdure.adapters.ephemeral import RedisServer, ValkeyServer
from perdure.backends.redis import Location, RedisStore, wire
from perdure.errors import BackendUrlError, StoreError, StoreUnavailableError
from perdure.service.patience import patiently
from perdure.storage import Answer, Committed, Created, Hint, HintKind, OpenAwait, Query, Suspend
from perdure.testing.conformance import Subject, TestLeases, TestScripts, machine, twin
from tests.redis_clock import CLOCK, Clock
from tests.redis_cluster import Cluster
from tests.servers import with_options
from tests.spread import ShardedMemory, Spread
from tests.unit.redis.conftest import Ear, draft, held, new, opened

SHARDS = 4
KIT = (TestLeases, TestScripts)


@pytest.fixture(scope="module", params=[RedisServer, ValkeyServer])
def cluster(request):
    """Three masters."""
    with Cluster(request.param) as cluster:
        yield cluster


@pytest.fixture
def url(cluster):
    """A namespace of the test's own."""
    return cluster.url


@pytest.fixture
def new_subject(cluster, request, monkeypatch):
    """In one shard for the rules one by one, in several for the state machine."""
    clocks = []
    is_single = request.cls in KIT
    shards = 1 if is_single else SHARDS

    def make():
        place = Location.parse(with_options(cluster.url, shards=shards))
        clocks.append(Clock(place))
        store = RedisStore(place, clock=CLOCK)
        if is_single:
            return Subject(open=lambda: RedisStore(place, clock=CLOCK), advance=clocks[-1].advance)
        monkeypatch.setattr(
            twin, "MemoryStore", lambda clock: Spread(ShardedMemory(clock, SHARDS, store.shard_of), SHARDS)
        )
        return Subject(open=lambda: Spread(store, SHARDS), advance=clocks[-1].advance)

    yield make
    for clock in clocks:
        clock.close()


class TestStateMachine(machine.TestStateMachine):
    """All verbs, over shards at different servers."""

    examples: ClassVar[int] = max(1, machine.TestStateMachine.examples // 8)


def test_spread(url, cluster):
    """Shards are at all servers; what is called at the same time is one round trip to each."""

    async def scene():
        async with opened(url) as store:
            assert store.shards == 16
            keepers = {cluster.keeper(key_slot(key.encode())) for key in store._keyspace.layout_keys}
            assert len(keepers) == 3
            await store.register("w", [], 10**7)
            holdings = [await held(store, "w") for _ in range(40)]
            before = store.round_trips
            answers = await store.commit([holding.next() for holding in holdings])
            assert [answer.length for answer in answers] == [2] * 40
            assert store.round_trips - before == 3
            found = await store.list(Query(limit=100))
            assert sorted(header.id for header in found) == sorted(holding.id for holding in holdings)
            assert [(header.created, header.id) for header in found] == sorted(
                ((header.created, header.id) for header in found), reverse=True
            )

    asyncio.run(scene())


def test_shards_are_kept(url):
    """The number of shards is kept in a cluster too."""

    async def scene():
        async with opened(url, shards=5):
            pass
        async with opened(url) as store:
            assert store.shards == 5
        with pytest.raises(BackendUrlError, match="has 5 shards"):
            async with opened(url, shards=6):
                pass

    asyncio.run(scene())


def test_single_url(cluster):
    """A member of a cluster that is named as a single server says what to write."""

    async def scene():
        with pytest.raises(StoreError, match=r"part of a cluster; write redis\+cluster://"):
            async with opened(cluster.url.replace("redis+cluster", "redis").replace(",", "@", 0).split(",")[0] + "/0"):
                pass

    asyncio.run(scene())


def test_moved(url, cluster):
    """A slot that has moved is found again, within the same call."""

    async def scene():
        async with opened(url) as store:
            holding = await held(store)
            slot = slot_of(store, holding.id)
            to = (cluster.keeper(slot) + 1) % 3
            cluster.begin_move(slot, to)
            cluster.move_keys(slot, to, cluster.keys_in(slot))
            cluster.end_move(slot, to)
            assert isinstance(await holding.write(), Committed)
            assert (await store.describe(holding.id)).length == 2

    asyncio.run(scene())


def test_moving(url, cluster, monkeypatch):
    """
    While a slot is being moved, key by key, every verb is carried out once or refused for now.

    Nothing is torn, doubled, or fenced that had the right to write.
    """
    chance = random.Random(7)
    monkeypatch.setattr(wire, "ATTEMPTS", 3)
    monkeypatch.setattr(wire, "FIRST_PAUSE", 0.0005)

    async def scene():
        async with opened(url, timeout=2) as store:
            traffic = await Traffic.begin(store)
            to = (cluster.keeper(traffic.slot) + 1) % 3
            cluster.begin_move(traffic.slot, to)
            keys = cluster.keys_in(traffic.slot)
            chance.shuffle(keys)
            for key in keys:
                cluster.move_keys(traffic.slot, to, [key])
                await traffic.try_all()
            if left := cluster.keys_in(traffic.slot):
                cluster.move_keys(traffic.slot, to, left)
            cluster.end_move(traffic.slot, to)
            assert traffic.refused
            assert await traffic.try_all() == 0
            await traffic.check()

    asyncio.run(scene())


class Traffic:
    """What is done to one shard while it is being moved."""

    @classmethod
    async def begin(cls, store):
        self = cls()
        self.store, self.refused, self.pending = store, 0, None
        self.holding = await held(store)
        await self.holding.write(opens=(OpenAwait(operation="op", secret="s", timeout=10**9),))
        self.shard = store.shard_of(self.holding.id)
        self.slot = slot_of(store, self.holding.id)
        self.new = next(one for one in (new(store) for _ in itertools.count()) if store.shard_of(one.id) == self.shard)
        return self

    async def try_all(self):
        """Each verb once; how many were refused for now."""
        refused = 0
        for verb in (self._commit, self._create, self._renew, self._heartbeat, self._reap):
            try:
                await verb()
            except StoreUnavailableError:
                refused += 1
        self.refused += refused
        return refused

    async def _commit(self):
        self.pending = self.pending or self.holding.next()
        (answer,) = await self.store.commit([self.pending])
        assert isinstance(answer, Committed), answer
        self.holding.learn(self.pending, answer)
        self.pending = None

    async def _create(self):
        assert isinstance(await self.store.create(self.new, None), Created)

    async def _renew(self):
        assert [one.id for one in await self.store.renew(self.holding.owner, self.shard)] == [self.holding.id]

    async def _heartbeat(self):
        assert await self.store.heartbeat(f"{self.holding.id}/op", "s") is Answer.OK

    async def _reap(self):
        assert (await self.store.reap(10, self.shard)).count == 0

    async def check(self):
        """Every row is there once, and everything goes on."""
        page = await self.store.entries(self.holding.id, 0, 10**9)
        assert [row.index for row in page.rows] == list(range(1, self.holding.seen + 1))
        assert len({row.tag for row in page.rows}) == len(page.rows)
        assert await self.store.deliver(f"{self.holding.id}/op", "s", draft(), "n") is Answer.DELIVERED
        await self.holding.write(then=Suspend(wake_after=0))


def test_listening_over_a_move(url, cluster):
    """Hints are heard again when a slot has moved."""

    async def scene():
        async with opened(url) as store, opened(url) as other:
            ear = Ear()
            header = new(other)
            store.watch(ear)
            slot = slot_of(store, header.id)
            to = (cluster.keeper(slot) + 1) % 3
            await ear.begun(store)
            cluster.begin_move(slot, to)
            cluster.move_keys(slot, to, cluster.keys_in(slot))
            cluster.end_move(slot, to)
            # It begins again at all servers, wherever the slot was found first.
            await ear.until(lambda hint: hint == Hint(HintKind.DUE, shard=store.shard_of(header.id)))
            await other.create(header, None)
            await ear.until(lambda hint: hint.id == header.id)

    asyncio.run(scene())


def test_master_restarts(url, cluster):
    """When one master is killed and started again, the others' shards go on; all shards recover, nothing is lost."""

    async def scene():
        async with opened(url, timeout=2) as store:
            holdings = [await held(store) for _ in range(12)]
            for holding in holdings:
                await holding.write(effects=True)
            slot = slot_of(store, holdings[0].id)
            server = cluster.servers[cluster.keeper(slot)]
            await asyncio.to_thread(server.kill)
            with pytest.raises(StoreUnavailableError):
                await store.describe(holdings[0].id)
            await asyncio.to_thread(server.start)
            with redis.Redis.from_url(server.url) as admin:
                admin.config_set("requirepass", cluster.password)
            for holding in holdings:
                header = await patiently(lambda holding=holding: store.describe(holding.id))
                assert (header.length, header.epoch) == (2, 1)
                answer = await patiently(lambda holding=holding: store.commit([holding.next()]))
                assert isinstance(answer[0], Committed)

    asyncio.run(scene())


def slot_of(store, id):
    """The slot of an execution's shard."""
    return key_slot(store._keyspace.layout_keys[store.shard_of(id)].encode())
