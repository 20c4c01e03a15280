"""What a worker does without being asked: nothing while nothing is due, and what is due in time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from perdure.adapters import shift
from perdure.adapters.worker import Worker
from perdure.backends.sqlite import SqliteStore
from perdure.client import Client
from perdure.config import CallbackConfig
from perdure.durable import Duration, durable_execution
from perdure.errors import ExecutionFailedError
from perdure.journal.entry import Started
from perdure.portal import store_portal
from perdure.service import upkeep
from perdure.service.carrier import Carrier, new_execution
from perdure.storage import MICROSECONDS, Hint, HintKind
from perdure.testing.memory import MemoryStore
from tests.e2e.processes import wait_until

PUNCTUAL = 10.0
"""Seconds; a bound for a machine that does other things too. What is looked for by polling would be a minute late."""
PATIENCE = 30.0

VERBS = ("claim", "renew", "expire", "reap", "unsettled", "purge", "register", "functions", "create", "entries")


class Counting(MemoryStore):
    """Counts what it is asked."""

    def __init__(self, shards=1):
        super().__init__()
        self.asked = Counter()
        self.shards = shards

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name in (*VERBS, "commit", "leases", "describe", "list", "find", "settle", "deliver", "signal", "heartbeat"):
            self.asked[name] += 1
        return found


@pytest.fixture(autouse=True)
def late_fallback(monkeypatch):
    """What is not noticed by itself is noticed too late."""
    monkeypatch.setattr(upkeep, "FALLBACK", 60.0)
    monkeypatch.setattr(shift, "LONGEST_SLEEP", 60.0)


@pytest.fixture
def store(request, tmp_path):
    return SqliteStore(tmp_path / "store.db") if request.param == "sqlite" else MemoryStore()


both_stores = pytest.mark.parametrize("store", ["memory", "sqlite"], indirect=True)


@durable_execution
def sleeps_long(event, context):
    context.wait(Duration.from_hours(1))


@durable_execution
def waits(event, context):
    config = CallbackConfig(
        timeout=Duration.from_seconds(event.get("timeout", 0)),
        heartbeat_timeout=Duration.from_seconds(event.get("heartbeat", 0)),
    )
    return context.create_callback(config=config).result()


@durable_execution
def calls_one_that_stays(event, context):
    return context.invoke("stays", {})


@durable_execution(execution_timeout=Duration.from_seconds(1))
def stays(event, context):
    context.wait(Duration.from_hours(1))


def test_an_idle_worker_asks_nothing_but_now_and_then(monkeypatch):
    """With a thousand sleeping executions: a renewal per third of the lease, and one look at each thing per pause."""
    monkeypatch.setattr(upkeep, "FALLBACK", 1.0)
    monkeypatch.setattr(shift, "LONGEST_SLEEP", 1.0)
    store = Counting()
    with Worker(store, [sleeps_long], lease=3.0), Client(store) as client:
        for _ in range(1000):
            client.start(sleeps_long)
        records = store._shelf.records
        wait_until(lambda: all(record.header.wake for record in records.values()), "all sleep", 30)
        # By the clock of the loop: what stands still is not busy.
        store_portal().call(asyncio.sleep(0.2))
        store.asked.clear()
        began = time.monotonic()
        time.sleep(3.0)
        asked = dict(store.asked)
        span = time.monotonic() - began
    # Pauses are of 0.8 to 1.2 s, so that there are two to four in that time.
    assert asked.keys() <= {"claim", "renew", "expire", "reap", "unsettled"}
    assert max(asked.values()) <= span / 0.8 + 1, asked


def end_of(handle, event):
    """When what had to happen a second after `event` did happen, in seconds after it was due."""
    events = handle.history()
    (began,) = [each.event_timestamp for each in events if each.event_type == event]
    over = next(each for each in events if each.event_type.endswith("TimedOut"))
    return (over.event_timestamp - began).total_seconds() - 1


@both_stores
@pytest.mark.parametrize("event", [{"timeout": 1}, {"heartbeat": 1}], ids=["timeout", "heartbeat"])
def test_awaits_time_out_in_time(store, event):
    """A callback of this process is over when its time is, not when somebody looks the next time."""
    with Worker(store, [waits]), Client(store) as client:
        handle = client.start(waits, event)
        with pytest.raises(ExecutionFailedError, match="timed out"):
            handle.result(timeout=PATIENCE)
        assert 0 <= end_of(handle, "CallbackStarted") < PUNCTUAL


@both_stores
def test_executions_time_out_in_time_and_their_parents_learn_of_it_at_once(store):
    """The one whose time is over is ended by whoever looks first, who also tells the parent."""
    with Worker(store, [calls_one_that_stays, stays]), Client(store) as client:
        handle = client.start(calls_one_that_stays)
        with pytest.raises(ExecutionFailedError):
            handle.result(timeout=PATIENCE)
        (child,) = client.list("stays").items
        late = (child.ended - child.started).total_seconds() - 1
        assert 0 <= late < PUNCTUAL
        assert (handle.describe().ended - child.ended).total_seconds() < PUNCTUAL


def test_effects_that_were_not_carried_out_are_when_their_grace_is_over(monkeypatch):
    """Whose carrier stumbled is not left to the next look that happens to come."""
    monkeypatch.setattr(upkeep, "FALLBACK", 60.0)
    stumbles = [RuntimeError("who could have known")]
    carry_out = Carrier._carry_out

    async def stumble(self, header, effect):
        if stumbles:
            raise stumbles.pop()
        await carry_out(self, header, effect)

    monkeypatch.setattr(Carrier, "_carry_out", stumble)
    store = MemoryStore()
    with Worker(store, [calls_one_that_stays, stays]), Client(store) as client:
        began = time.monotonic()
        client.start(calls_one_that_stays)
        wait_until(lambda: client.list("stays").items, "the child is started", PATIENCE)
        assert time.monotonic() - began < 2 + PUNCTUAL


def test_what_others_write_is_looked_at_soon(monkeypatch):
    """A hint without an id says that somebody did something; a deadline may be among it."""
    monkeypatch.setattr(upkeep, "FALLBACK", 60.0)
    store = Counting()
    with Worker(store, [sleeps_long]):
        wait_until(lambda: store.asked["expire"] == 1, "it has looked once")
        store._bell.ring([Hint(HintKind.DUE)])
        wait_until(lambda: store.asked["expire"] == 2, "it looks again", PUNCTUAL)

        async def ring_often():
            for _ in range(20):
                store._bell.ring([Hint(HintKind.DUE)])

        store_portal().call(ring_often())
        wait_until(lambda: store.asked["expire"] == 3, "hints that come together are one rumour", PUNCTUAL)
        time.sleep(0.3)
        assert store.asked["expire"] == 3


@durable_execution(execution_timeout=Duration.from_seconds(1))
def times_out(event, context):
    context.wait(Duration.from_hours(1))


def test_what_a_limit_leaves_over_is_done_at_once(monkeypatch):
    """Many deadlines at one time: one round follows the other without a pause."""
    monkeypatch.setattr(upkeep, "LIMIT", 2)
    monkeypatch.setattr(upkeep, "FALLBACK", 60.0)
    store = Counting()
    with Worker(store, [times_out], concurrency=4), Client(store) as client:
        handles = [client.start(times_out) for _ in range(21)]
        wait_until(lambda: all(client.describe(handle.id).ended for handle in handles), "all have ended", PATIENCE)
        ends = [handle.describe().ended for handle in handles]
        deadlines = [handle.describe().started.timestamp() + 1 for handle in handles]
        assert max(end.timestamp() - due for end, due in zip(ends, deadlines, strict=True)) < PUNCTUAL


def test_a_deadline_of_an_execution_that_others_started_is_known_by_its_claim(monkeypatch):
    """Who runs it sees to it, whoever began it."""
    monkeypatch.setattr(upkeep, "FALLBACK", 60.0)
    store = MemoryStore()
    started = Started(
        name="x", function="times_out", version="$LATEST", input="{}", execution_timeout=1, retention_days=1
    )
    with Worker(store, [times_out]), Client(store) as client:
        store_portal().call(store.create(new_execution("x", started, MICROSECONDS, MICROSECONDS), None))
        wait_until(lambda: client.describe("x").ended, "it has ended", PATIENCE)
        described = client.describe("x")
        assert (described.ended - described.started).total_seconds() - 1 < PUNCTUAL


def test_a_clock_that_is_behind_is_not_asked_without_end(monkeypatch):
    """Where the store's clock stands still, the instant that it names is asked for with growing pauses."""
    monkeypatch.setattr(upkeep, "FALLBACK", 60.0)
    now = time.time_ns() // 1000
    store = Counting()
    store._clock = lambda: now
    with Worker(store, [waits]), Client(store) as client:
        client.start(waits, {"timeout": 1})
        wait_until(lambda: store.asked["expire"] > 1, "it has asked when the time was over", PATIENCE)
        began = time.monotonic()
        time.sleep(1.0)
        span = time.monotonic() - began
    # Doubled from 2 ms up to 250 ms, so that there are a dozen in the first second.
    assert store.asked["expire"] < 16 + 4 * span


class Sharded(Counting):
    """Four shards, of which each holds one of the functions; claims take a while."""

    def __init__(self):
        super().__init__(shards=4)
        self.claims = []
        self.under_way = self.at_once = 0

    async def claim(self, owner, number, token, functions, limit, format, shard=0):
        self.claims.append((shard, limit))
        self.under_way += 1
        self.at_once = max(self.at_once, self.under_way)
        await asyncio.sleep(0.02)
        self.under_way -= 1
        own = [version for version in functions if version.name == f"in_{shard}"]
        return await super().claim(owner, number, token, own, limit, format)

    def shard_of(self, id):
        return int(self._shelf.records[id].header.function.removeprefix("in_"))


def in_shard(number):
    @durable_execution(name=f"in_{number}")
    def flow(event, context):
        context.wait(Duration.from_seconds(1))

    return flow


def test_shards_are_claimed_from_side_by_side():
    """A look at all of them takes as long as one."""
    store = Sharded()
    with Worker(store, [in_shard(number) for number in range(4)]):
        wait_until(lambda: {shard for shard, _ in store.claims} == {0, 1, 2, 3}, "all were asked")
    assert store.at_once == 4


def test_a_shard_alone_is_claimed_from_when_it_is_known_where_something_is_due(monkeypatch):
    """A hint names it, and so does the id of what went to sleep here."""
    monkeypatch.setattr(shift, "LONGEST_SLEEP", 3600.0)
    store = Sharded()
    flows = [in_shard(number) for number in range(4)]
    with Worker(store, flows), Client(store) as client:
        wait_until(lambda: len(store.claims) == 4, "all were asked")
        time.sleep(0.05)
        store.claims.clear()
        store._bell.ring([Hint(HintKind.DUE, "x", "in_2", 2)])
        wait_until(lambda: store.claims, "it was asked")
        assert client.start(flows[3]).result(timeout=5) is None
        assert {shard for shard, _ in store.claims} == {2, 3}
        store.claims.clear()
        store._bell.ring([Hint(HintKind.DUE, "x", "of somebody else", 1)])
        time.sleep(0.1)
        assert store.claims == []


def test_few_slots_are_shared_by_all_shards():
    """What is due in one shard does not keep what is due in another from its turn."""
    store = Sharded()
    flows = [in_shard(number) for number in range(4)]
    with Worker(store, flows, concurrency=1), Client(store) as client:
        client._desk.connection.service.local = None
        handles = [client.start(flow) for _ in range(3) for flow in flows]
        for handle in handles:
            assert handle.result(timeout=20) is None
    assert all(limit == 1 for _, limit in store.claims)
