"""A replica is promoted behind the master's back: what is lost, what is not, and who owns what."""

import asyncio
import secrets

import pytest
import redis

from perdure.adapters.ephemeral import RedisServer, ValkeyServer
from perdure.backends.redis import Location, RedisStore
from perdure.backends.redis.keyspace import layout_key
from perdure.errors import StoreUnavailableError
from perdure.storage import Answer, Committed, End, FunctionVersion, OpenAwait, Status
from perdure.storage import Created as Made
from tests.redis_clock import CLOCK
from tests.servers import with_options
from tests.unit.redis.conftest import PATIENCE, Holding, Proxy, draft, held, new, opened, parted
from tests.unit.redis.replicas import Pair

ORDER = [FunctionVersion("order", "1")]
SECRET = "s3cret"


@pytest.fixture
def pair(request):
    """A master and its replica."""
    with Pair(getattr(request, "param", RedisServer)) as pair:
        yield pair


ON_BOTH = pytest.mark.parametrize("pair", [RedisServer, ValkeyServer], indirect=True)


async def committed(holding, commit=None):
    (answer,) = await holding.store.commit([commit or holding.next()])
    return answer


@ON_BOTH
def test_lost_history(pair):
    """With `async`, what only the old master had is gone; whoever has seen it is fenced, and nobody else."""

    async def scene():
        async with Proxy(pair.url) as between, opened(between.url) as store:
            kept, lost, called, again, ended, armed = [await held(store) for _ in range(6)]
            await called.write(opens=(OpenAwait(operation="op", secret=SECRET),))
            due = (await store.create(new(store), None)).header
            pair.until_equal()
            pair.freeze()

            for _ in range(3):
                await lost.write()
            assert await store.deliver(f"{called.id}/op", SECRET, draft(), "one") is Answer.DELIVERED
            repeated = again.next()
            first = await committed(again, repeated)
            await ended.write(then=End(Status.SUCCEEDED))
            await armed.write(effects=True)
            await store.register("taker", [], 60_000_000)
            (taken,) = (await store.claim("taker", 1, "t0ken", ORDER, 10, 1)).headers
            assert taken.id == due.id

            pair.promote()
            between.lead_to(pair.replica_url)
            await parted(store)

            assert isinstance(await committed(kept), Committed)
            assert await committed(lost) is Answer.FENCED
            called.seen += 1
            assert await committed(called) is Answer.FENCED
            # Another delivery at that place makes another row of it.
            assert await store.deliver(f"{called.id}/op", SECRET, draft(), "two") is Answer.DELIVERED
            assert await committed(called) is Answer.FENCED
            # A late duplicate is taken anew; its owner was told another time and is fenced then.
            second = await committed(again, repeated)
            assert second.length == first.length
            assert second.at > first.at
            again.learn(repeated, first)
            assert await committed(again) is Answer.FENCED
            # An end that is lost is not one: its owner still holds it.
            assert (await store.describe(ended.id)).status is Status.RUNNING
            assert {one.id: one.length for one in await store.renew(ended.owner)} == {ended.id: 1}
            # A claim that is lost: the claimer is fenced, the execution is due again.
            assert await committed(Holding(store, taken)) is Answer.FENCED
            assert await store.claim("taker", 2, "other", ORDER, 10, 1) is Answer.LEASE_LOST
            await store.register("second", [], 60_000_000)
            (found,) = (await store.claim("second", 1, "again", ORDER, 10, 1)).headers
            assert found.id == due.id
            # What was settled of a lost history settles nothing.
            assert await store.settle(armed.id, 2, armed.tip, 0) is Answer.FENCED

    asyncio.run(scene())


def test_effects_are_carried_out_again(pair):
    """After a failover, live executions with effects carry them out once more, in all shards, under a new epoch."""

    async def scene():
        async with Proxy(pair.url) as between, opened(between.url, shards=4) as store:
            armed = [await held(store) for _ in range(12)]
            plain, over = await held(store), await held(store, parent="p/op")
            for holding in armed:
                await holding.write(effects=True)
                await store.settle(holding.id, 2, holding.tip, 0)
            await over.write(then=End(Status.FAILED))
            await store.settle(over.id, 2, over.tip, 0)
            pair.until_equal()
            pair.promote()
            between.lead_to(pair.replica_url)
            await parted(store)
            for holding in armed:
                header = await store.describe(holding.id)
                assert (header.settled, header.epoch, header.effect_last) == (0, 1, 2)
                assert header.effect_due is not None
                assert await store.settle(holding.id, 2, holding.tip, 0) is Answer.FENCED
            for other in (plain, over):
                assert (await store.describe(other.id)).epoch == 0
            handed = [header.id for shard in range(4) for header in (await store.unsettled(20, shard)).headers]
            assert sorted(handed) == sorted(holding.id for holding in armed)
            # Who comes later finds that it was done.
            async with opened(pair.replica_url) as late:
                assert (await late.describe(armed[0].id)).epoch == 1

    asyncio.run(scene())


def test_leases_live_on(pair):
    """Nobody could renew while there was no master: whoever has a lease is given one more span."""

    async def scene():
        async with Proxy(pair.url) as between:
            place = Location.parse(between.url)
            clock = f"{layout_key(place.namespace, 0)}:clock"
            pair.on_master.set(clock, 1_000_000)
            store = RedisStore(place, clock=CLOCK)
            await store.open()
            try:
                holding = await held(store)
                await store.register(holding.owner, [], 200_000)
                pair.until_equal()
                pair.promote()
                pair.on_replica.set(clock, 1_250_000)
                between.lead_to(pair.replica_url)
                await parted(store)
                assert (await store.reap(10)).count == 0
                assert isinstance(await committed(holding), Committed)
                pair.on_replica.set(clock, 1_450_000)
                assert (await store.reap(10)).count == 1
            finally:
                await store.close()

    asyncio.run(scene())


def test_two_masters(pair):
    """
    While some are with the old master and some with the new one, no history has two owners.

    The old one's is thrown away when it is demoted; whoever worked there is fenced then.
    """

    async def scene():
        async with (
            Proxy(pair.url) as old,
            Proxy(pair.url) as new_one,
            opened(old.url) as first,
            opened(new_one.url) as second,
        ):
            await second.register("second", [], 60_000_000)
            await first.register("first", [], 1)
            made = [(await first.create(new(first), None)).header for _ in range(8)]
            (taken, *_) = (await first.claim("first", 1, "one", ORDER, 8, 1)).headers
            pair.until_equal()
            pair.freeze()
            pair.promote()
            new_one.lead_to(pair.replica_url)
            await parted(second)
            await second.reap(20)
            there = {
                header.id: Holding(second, header)
                for header in (await second.claim("second", 1, "two", ORDER, 8, 1)).headers
            }
            here = {header.id: Holding(first, await first.describe(header.id)) for header in made}
            # Both go on, each with its own master.
            for id, holding in there.items():
                assert isinstance(await committed(holding), Committed)
                if here[id].token == "one":
                    assert isinstance(await committed(here[id]), Committed)
            pair.demote()
            with pytest.raises(StoreUnavailableError, match="no master"):
                await committed(here[taken.id])
            old.lead_to(pair.replica_url)
            await parted(first)
            for id in there:
                if here[id].token == "one":
                    assert await committed(here[id]) is Answer.FENCED
                assert (await first.describe(id)).token == "two"
                assert [row.seen for row in (await first.entries(id, 0, 10**6)).rows] == [None, 1]

    asyncio.run(scene())


@ON_BOTH
def test_replicated_keeps_its_promise(pair):
    """With `replicated`, whatever was acknowledged or shown is there after the failover, at any moment of it."""

    async def scene():
        acknowledged: dict[str, list[str]] = {}

        async with Proxy(pair.url) as between, opened(between.url, durability="replicated", timeout=1.0) as store:
            holdings = [await held(store) for _ in range(8)]

            async def write(holding):
                told = acknowledged.setdefault(holding.id, [])
                commit = holding.next()
                while True:
                    try:
                        answer = await committed(holding, commit)
                    except StoreUnavailableError:
                        if is_frozen:
                            return
                        continue
                    holding.learn(commit, answer)
                    told.append(commit.draft.tag)
                    commit = holding.next()

            is_frozen = False
            writing = [asyncio.create_task(write(holding)) for holding in holdings]
            async with asyncio.timeout(PATIENCE):
                while min(map(len, acknowledged.values()), default=0) < 2:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.01)
            pair.freeze()
            is_frozen = True
            await asyncio.wait(writing)
            pair.promote()
            async with opened(pair.replica_url) as after:
                for id, told in acknowledged.items():
                    page = await after.entries(id, 1, 10**8)
                    tags = [row.tag for row in page.rows]
                    assert tags[: len(told)] == told
                    assert len(tags) <= len(told) + 1

    asyncio.run(scene())


def test_too_few_replicas(pair):
    """With too few replicas nothing is acknowledged, nor is what was written but not replicated; repeating is safe."""

    async def scene():
        async with opened(pair.url, durability="replicated", timeout=1.0) as store:
            holding = await held(store)
            pair.freeze()
            commit = holding.next()
            with pytest.raises(StoreUnavailableError, match=r"WAIT at .* answered 0 where 1 are needed"):
                await committed(holding, commit)
            # It is there. Yet neither its repetition, over another connection too, nor its sight is an acknowledgement.
            async with opened(pair.url) as careless:
                assert (await careless.describe(holding.id)).length == 2
            with pytest.raises(StoreUnavailableError):
                await committed(holding, commit)
            other = RedisStore(Location.parse(with_options(pair.url, durability="replicated", timeout=1.0)))
            with pytest.raises(StoreUnavailableError):
                await other.open()
            with pytest.raises(StoreUnavailableError):
                await store.describe(holding.id)
            pair.go_on()
            pair.until_linked(pair.on_replica)
            answer = await committed(holding, commit)
            assert answer.length == 2

    asyncio.run(scene())


def test_more_replicas_than_there_are(pair):
    """As many replicas as are asked for are waited for."""

    async def scene():
        store = RedisStore(Location.parse(with_options(pair.url, durability="replicated", replicas=2, timeout=1.0)))
        with pytest.raises(StoreUnavailableError, match="answered 1 where 2 are needed"):
            await store.open()

    asyncio.run(scene())


def test_recovery_that_fails(redis_url):
    """A new history is accepted only when all shards have recovered: who is interrupted leaves it to the next one."""

    async def scene():
        async with opened(redis_url, shards=2) as store:
            holdings = [await held(store) for _ in range(6)]
            for holding in holdings:
                await holding.write(effects=True)
            keys = store._keyspace
            wire = store._opened.wire
            await wire.run(call(1, "SET", keys.of(1, "replid"), "former"))
            await wire.run(call(1, "SADD", keys.of(1, "functions"), "bad"))
            await wire.run(call(1, "SET", keys.of(1, "ix:RUNNING:bad"), "no index"))
        failing = RedisStore(Location.parse(redis_url))
        with pytest.raises(Exception, match="WRONGTYPE"):
            await failing.open()
        assert failing._opening is None
        async with opened_raw(redis_url) as wire:
            assert await wire.run(call(1, "GET", keys.of(1, "replid")), is_checked=False) == b"former"
            await wire.run(call(1, "DEL", keys.of(1, "ix:RUNNING:bad")), is_checked=False)
        async with opened(redis_url) as store:
            epochs = {(await store.describe(holding.id)).epoch for holding in holdings}
            assert epochs <= {1, 2}
            assert await store._opened.wire.run(call(1, "GET", keys.of(1, "replid"))) != b"former"

    asyncio.run(scene())


def call(shard, *command):
    from perdure.backends.redis.wire import Call  # noqa: PLC0415

    return Call(shard, None, command)


def opened_raw(url):
    """The wire of a store whose recovery does not succeed."""
    from contextlib import asynccontextmanager  # noqa: PLC0415

    from perdure.backends.redis.fleet import Fleet  # noqa: PLC0415
    from perdure.backends.redis.keyspace import Keyspace  # noqa: PLC0415
    from perdure.backends.redis.lane import Counter  # noqa: PLC0415
    from perdure.backends.redis.script import Library  # noqa: PLC0415
    from perdure.backends.redis.wire import Wire  # noqa: PLC0415

    @asynccontextmanager
    async def raw():
        place = Location.parse(url)
        fleet = Fleet(place, Library(notify=True, is_cluster=False), Counter(), lambda: None)
        await fleet.open()
        try:
            yield Wire(fleet, Keyspace(place.namespace, 2), lambda *_: None, secrets.token_hex(4))
        finally:
            await fleet.close()

    return raw()


def test_create_after_a_lost_child(pair):
    """A child that is lost with its shard is made again by the effect that is carried out again."""

    async def scene():
        async with Proxy(pair.url) as between, opened(between.url, shards=4) as store:
            parent = await held(store)
            await parent.write(effects=True, opens=(OpenAwait(operation="op"),))
            pair.until_equal()
            pair.freeze()
            child = new(store, id=store.child_id(parent.id, "op"), parent=f"{parent.id}/op")
            assert isinstance(await store.create(child, None), Made)
            assert await store.settle(parent.id, 2, parent.tip, 0) is Answer.OK
            pair.promote()
            between.lead_to(pair.replica_url)
            await parted(store)
            assert await store.describe(child.id) is None
            handed = (await store.unsettled(10, store.shard_of(parent.id))).headers
            assert [header.id for header in handed] == [parent.id]
            assert isinstance(await store.create(child, None), Made)

    asyncio.run(scene())


def test_noticed_by_a_renewal():
    """A history that changes while the connection stands is noticed by the next renewal, and no lease is lost by it."""

    async def scene(server):
        async with opened(server.url) as store:
            holding = await held(store)
            await holding.write(effects=True)
            assert await store.settle(holding.id, 2, holding.tip, 0) is Answer.OK
            with redis.Redis.from_url(server.url) as admin:
                admin.execute_command("DEBUG CHANGE-REPL-ID")
            assert [one.id for one in await store.renew(holding.owner)] == [holding.id]
            assert ((await store.describe(holding.id)).epoch, store._opened.watch.recoveries) == (1, 1)
            await store.renew(holding.owner)
            assert store._opened.watch.recoveries == 1
            assert isinstance(await committed(holding), Committed)

    with RedisServer(settings={"enable-debug-command": "yes"}) as server:
        asyncio.run(scene(server))
