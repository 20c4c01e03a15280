"""A worker between its start and its stop: replies lost, hints lost, leases lost, errors that nobody foresaw."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter

import pytest

from perdure.adapters import shift
from perdure.adapters.worker import Worker
from perdure.client import Client
from perdure.durable import Duration, durable_execution
from perdure.errors import StoreError, StoreUnavailableError
from perdure.service import upkeep
from perdure.service.crash_policy import CrashPolicy
from perdure.storage import Answer, Claimed, Hint, HintKind, Swept
from perdure.testing.memory import MemoryStore
from tests.e2e.processes import wait_until

runs: Counter[str] = Counter()
gate = threading.Event()
counting = threading.Lock()
"""Bodies count in several threads at once."""


@pytest.fixture(autouse=True)
def _fresh():
    runs.clear()
    gate.clear()
    yield
    gate.set()


@durable_execution
def held(event, context):
    def body(_):
        with counting:
            runs["held"] += 1
        assert gate.wait(20)
        return runs["held"]

    first = context.step(body)
    context.step(lambda _: runs.update(["behind"]))
    return first


@durable_execution
def quick(event, context):
    def body(_):
        with counting:
            runs["quick"] += 1
            runs["at once"] = max(runs["at once"], runs["quick"] - runs["quick over"])
        time.sleep(0.002)
        with counting:
            runs["quick over"] += 1

    context.step(body)


@durable_execution
def sleeps(event, context):
    context.wait(Duration.from_seconds(1))
    return "awake"


@durable_execution
def called(event, context):
    callback = context.create_callback(name="told")
    runs[callback.callback_id] = 1
    return callback.result()


@durable_execution
def parent(event, context):
    return context.invoke("sleeps", {})


class Deaf(MemoryStore):
    """Rings for nobody: hints are lost, all of them."""

    def watch(self, listener):
        return lambda: None


def test_without_any_hint_everything_goes_on_within_the_poll(monkeypatch):
    """Starts, timers, callbacks, children and results are found by looking."""
    monkeypatch.setattr(shift, "LONGEST_SLEEP", 0.2)
    store = Deaf()
    with Worker(store, [sleeps, called, parent]), Client(store) as client:
        client._desk.connection.service.local = None
        handles = [client.start(function) for function in (sleeps, called, parent)]
        wait_until(lambda: bool(runs), "the callback is made")
        client.send_callback_success(next(iter(runs)), "told")
        assert [handle.result(timeout=10) for handle in handles] == ["awake", "told", "awake"]


def test_an_idle_worker_hardly_asks():
    """Nothing is due, nothing rings: a claim every few seconds, not one after the other."""
    asked = Counter()

    class Counting(MemoryStore):
        async def claim(self, *args):
            asked["claim"] += 1
            return await super().claim(*args)

    store = Counting()
    with Worker(store, [sleeps]), Client(store) as client:
        assert client.start(sleeps).result(timeout=5) == "awake"
        time.sleep(0.3)
    assert 0 < asked["claim"] < 10


class Losing(MemoryStore):
    """Does what it is told, and loses the answer of one verb, some times."""

    def __init__(self, verb, times, error):
        super().__init__()
        self.verb, self.times, self.error = verb, times, error

    def lose(self, verb, answer):
        if verb == self.verb and self.times and not (isinstance(answer, Claimed) and not answer.headers):
            self.times -= 1
            raise type(self.error)(*self.error.args)
        return answer

    async def create(self, new, claim):
        return self.lose("create", await super().create(new, claim))

    async def claim(self, *args):
        return self.lose("claim", await super().claim(*args))

    async def commit(self, batch):
        return self.lose("commit", await super().commit(batch))

    async def register(self, owner, functions, lease):
        return self.lose("register", await super().register(owner, functions, lease))

    async def reap(self, limit, shard=0):
        return self.lose("reap", await super().reap(limit, shard))

    async def renew(self, owner, shard=0):
        return self.lose("renew", await super().renew(owner, shard))

    async def entries(self, id, after, max_bytes):
        return self.lose("entries", await super().entries(id, after, max_bytes))


AWAY, BROKEN = StoreUnavailableError("gone for a while"), StoreError("broken")


@pytest.mark.parametrize("error", [AWAY, BROKEN], ids=["away", "broken"])
@pytest.mark.parametrize("verb", ["claim", "commit", "renew", "entries"])
def test_a_lost_answer_costs_time_and_nothing_else(verb, error):
    """What the store did meanwhile is found out: the execution ends, and no slot and no ownership is lost."""
    store = Losing(verb, 2, error)
    with Worker(store, [quick], concurrency=2, lease=0.6), Client(store) as client:
        client._desk.connection.service.local = None
        handles = [client.start(quick) for _ in range(4)]
        for handle in handles:
            assert handle.result(timeout=15) is None
        wait_until(lambda: not store.times, "answers were lost")
    assert not any(record.header.owner for record in store._shelf.records.values())


@pytest.mark.parametrize("verb", ["register", "reap"])
def test_a_worker_that_begins_while_the_store_is_away_for_a_moment_begins(verb):
    """An answer that is lost while it registers or frees what the dead held is asked for again."""
    store = Losing(verb, 2, AWAY)
    with Worker(store, [quick]), Client(store) as client:
        assert client.start(quick).result(timeout=5) is None
    assert not store.times


def test_a_start_whose_answer_is_lost_runs_all_the_same(monkeypatch):
    """The store made it and gave it to this worker: it is run, or released and claimed."""
    with Worker(store := Losing("create", 1, AWAY), [quick]), Client(store) as client:
        assert client.start(quick).result(timeout=5) is None
    monkeypatch.setattr(shift, "RENEWALS", 150)
    with Worker(store := Losing("create", 1, BROKEN), [quick]), Client(store) as client:
        with pytest.raises(StoreError, match="broken"):
            client.start(quick, name="mine")
        assert client.handle("mine").result(timeout=5) is None
    assert runs["quick"] == 2


async def passed(event):
    while not event.is_set():  # noqa: ASYNC110 - it is set by another thread
        await asyncio.sleep(0.001)


class Gated(MemoryStore):
    """Holds back answers of claims that took something, until the test says so."""

    def __init__(self):
        super().__init__()
        self.taken = threading.Event()
        self.go_on = threading.Event()
        self.renewals = 0

    async def claim(self, *args):
        answer = await super().claim(*args)
        if isinstance(answer, Claimed) and answer.headers:
            self.taken.set()
            await passed(self.go_on)
        return answer

    async def renew(self, owner, shard=0):
        self.renewals += 1
        return await super().renew(owner, shard)


@pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")
def test_what_a_claim_on_its_way_has_taken_is_not_released_by_a_renewal(monkeypatch):
    """Its owner would be two, with the same token and numbers; the one would take the other's writes for its own."""
    monkeypatch.setattr(shift, "RENEWALS", 300)
    store = Gated()
    with Client(store) as client:
        handle = client.start(quick)
        with Worker(store, [quick]):
            assert store.taken.wait(5)
            before = store.renewals
            wait_until(lambda: store.renewals > before + 2, "the lease was renewed meanwhile")
            assert handle.describe().owner is not None
            store.go_on.set()
            assert handle.result(timeout=5) is None
    rows = store._shelf.records[handle.id].rows
    assert (runs["quick"], len(rows)) == (1, 3)


@pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")
def test_a_worker_that_stops_while_a_claim_is_on_its_way_keeps_nothing():
    """What the claim has taken is handed on at once, not when the lease is over; no crash is counted."""
    store = Gated()
    with Client(store) as client:
        handle = client.start(quick)
        worker = Worker(store, [quick])
        worker.start()
        assert store.taken.wait(5)
        stopping = threading.Thread(target=worker.stop)
        stopping.start()
        wait_until(lambda: worker._shift._draining, "it is stopping")
        store.go_on.set()
        stopping.join()
        description = handle.describe()
        assert (description.owner, description.crashes, runs["quick"]) == (None, 0, 0)
        with Worker(store, [quick]):
            assert handle.result(timeout=5) is None


def test_a_renewal_asked_for_before_a_claim_abandons_nothing_that_came_after():
    """Its answer does not know what was claimed since."""

    class Late(MemoryStore):
        asked, answers = threading.Event(), threading.Event()

        async def renew(self, owner, shard=0):
            answer = await super().renew(owner, shard)
            self.asked.set()
            await passed(self.answers)
            return answer

    store = Late()
    with Worker(store, [held]), Client(store) as client:
        assert store.asked.wait(5)
        handle = client.start(held)
        wait_until(lambda: runs["held"] == 1, "it runs")
        store.answers.set()
        time.sleep(0.05)
        gate.set()
        assert handle.result(timeout=5) == 1
        ends = [event for event in handle.history() if event.event_type == "InvocationCompleted"]
        assert len(ends) == 1


@pytest.mark.parametrize("concurrency", [1, 2, 3])
def test_claims_and_local_starts_share_the_slots(concurrency):
    """However executions come to this worker, no more than `concurrency` run at once."""

    class Slow(MemoryStore):
        async def claim(self, *args):
            await asyncio.sleep(0.003)
            answer = await super().claim(*args)
            await asyncio.sleep(0.003)
            return answer

    store = Slow()
    with Worker(store, [quick], concurrency=concurrency), Client(store) as client:
        results = [threading.Thread(target=lambda: client.start(quick).result(timeout=20)) for _ in range(60)]
        for thread in results:
            thread.start()
        for thread in results:
            thread.join()
    assert runs["quick"] == 60
    assert runs["at once"] <= concurrency


def test_a_lease_that_was_lost_is_replaced(caplog, monkeypatch):
    """Others may own what ran: it is abandoned; the worker goes on under a new name."""

    class Reaping(MemoryStore):
        reaped = ()

        async def renew(self, owner, shard=0):
            return Answer.LEASE_LOST if owner in self.reaped else await super().renew(owner, shard)

        async def claim(self, owner, *args):
            return Answer.LEASE_LOST if owner in self.reaped else await super().claim(owner, *args)

        def reap_all(self):
            self.reaped = tuple(self._leases)
            for lease in self._leases.values():
                lease.until = 0
            self._bell.ring([Hint(HintKind.DIED)])

    monkeypatch.setattr(shift, "RENEWALS", 150)
    store = Reaping()
    with Worker(store, [held, quick]), Client(store) as client:
        handle = client.start(held)
        wait_until(lambda: runs["held"] == 1, "it runs")
        store.reap_all()
        wait_until(lambda: runs["held"] == 2, "it runs again, under the next owner")
        gate.set()
        assert handle.result(timeout=5) is not None
        assert client.start(quick).result(timeout=5) is None
        assert [e.event_type for e in handle.history()].count("StepSucceeded") == 2
    assert "the lease was lost" in caplog.text


def test_a_lost_lease_is_replaced_once(caplog, monkeypatch):
    """Claims and renewals find it lost at the same time, and registering takes a while: one new life, not many."""

    class Slow(MemoryStore):
        async def register(self, *args):
            runs["registered"] += 1
            await asyncio.sleep(0.25)
            return await super().register(*args)

        async def claim(self, *args):
            await asyncio.sleep(0)
            return await super().claim(*args)

    monkeypatch.setattr(shift, "RENEWALS", 300)
    store = Slow()
    with Worker(store, [quick]), Client(store) as client:
        with store._lock:
            for lease in store._leases.values():
                lease.reaped = True
        store._bell.ring([Hint(HintKind.DUE)])
        wait_until(lambda: runs["registered"] > 1, "it is registered again")
        assert client.start(quick).result(timeout=5) is None
        time.sleep(0.3)
    assert runs["registered"] == 2
    assert caplog.text.count("the lease was lost") == 1


def test_runs_are_abandoned_when_the_lease_ends_unrenewed(monkeypatch, caplog):
    """A worker that cannot reach the store must not begin another body once others may have."""
    monkeypatch.setattr(shift, "AFTER_ERROR", 0.05)

    @durable_execution
    def two(event, context):
        context.step(lambda _: runs.update(["first"]) or gate.wait(20))
        context.step(lambda _: runs.update(["second"]))

    class Unreachable(MemoryStore):
        away = False

        async def renew(self, owner, shard=0):
            if self.away:
                raise StoreUnavailableError("gone for a while")
            return await super().renew(owner, shard)

        async def claim(self, *args):
            if self.away:
                raise StoreUnavailableError("gone for a while")
            return await super().claim(*args)

        async def reap(self, limit, shard=0):
            return Swept(0, None)

    store = Unreachable()
    with caplog.at_level(logging.INFO), Worker(store, [two], lease=0.3), Client(store) as client:
        handle = client.start(two)
        wait_until(lambda: runs["first"] == 1, "the first body runs")
        store.away = True
        wait_until(lambda: "the lease was lost" in caplog.text, "the worker knows")
        gate.set()
        wait_until(lambda: handle.describe().owner is None or runs["second"], "it is handed on", 5)
        assert not runs["second"]
        store.away = False


@pytest.mark.parametrize("verb", ["claim", "renew", "expire", "reap", "unsettled", "purge"])
def test_no_error_ends_a_routine(verb, monkeypatch, caplog):
    """Whatever a store raises, foreseen or not: it is told, and the worker goes on."""
    monkeypatch.setattr(shift, "AFTER_ERROR", 0.01)
    store = MemoryStore()
    asked = Counter()
    real = getattr(store, verb)

    async def stumbling(*args):
        asked[verb] += 1
        if asked[verb] in (2, 3):
            raise ZeroDivisionError("who could have known") if asked[verb] == 2 else StoreError("broken")
        return await real(*args)

    monkeypatch.setattr(store, verb, stumbling)
    monkeypatch.setattr(shift, "PURGE_PAUSE", 0.0)
    monkeypatch.setattr(upkeep, "FALLBACK", 0.05)
    monkeypatch.setattr(shift, "LONGEST_SLEEP", 0.05)
    with caplog.at_level(logging.WARNING), Worker(store, [quick], lease=0.3), Client(store) as client:
        wait_until(lambda: asked[verb] > 4, f"{verb} is asked again")
        assert client.start(quick).result(timeout=5) is None
    assert "who could have known" in caplog.text
    assert "put off: broken" in caplog.text


def test_a_death_is_mourned_after_an_error(monkeypatch):
    """The routine that frees what the dead held outlives its own failure."""
    monkeypatch.setattr(shift, "AFTER_ERROR", 0.01)
    monkeypatch.setattr(upkeep, "FALLBACK", 60.0)
    store = MemoryStore()
    asked = Counter()
    real = store.reap

    async def reap(*args):
        asked["reap"] += 1
        if asked["reap"] == 4:
            raise ZeroDivisionError
        return await real(*args)

    with Worker(store, [quick]):
        wait_until(lambda: len(store._bell._listeners) == 1, "the worker listens")
        monkeypatch.setattr(store, "reap", reap)
        for _ in range(6):
            before = asked["reap"]
            store._bell.ring([Hint(HintKind.DIED)])
            wait_until(lambda before=before: asked["reap"] > before, "it looked")
    assert asked["reap"] >= 6


def test_a_poisoned_journal_is_left_alone_in_the_end(monkeypatch):
    """What cannot be folded is tried a few times, never for ever, and shows."""
    monkeypatch.setattr(shift, "LONGEST_SLEEP", 0.05)
    store = MemoryStore()
    worker = Worker(store, [quick])
    with Client(store) as client:
        client._desk.connection.service.crash_policy = CrashPolicy(limit=3, first_pause=0.0)
        worker.start()
        client._desk.connection.service.local = None
        real = store.entries

        async def entries(id, after, max_bytes):
            runs["read"] += 1
            raise StoreError("a journal row is no entry")

        monkeypatch.setattr(store, "entries", entries)
        handle = client.start(quick)
        wait_until(lambda: store._shelf.records[handle.id].header.quarantined, "it is quarantined", 10)
        read = runs["read"]
        monkeypatch.setattr(store, "entries", real)
        assert handle.describe().quarantined
        assert read == 3
        worker.stop()


@pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")
def test_several_shards_are_all_looked_at(monkeypatch):
    """Each is claimed from in every round, and what one shard holds is not missed by a renewal of another."""

    class Sharded(MemoryStore):
        """Two shards: the second one has nothing, and the first is only shown when asked for."""

        shards = 2

        async def claim(self, owner, number, token, functions, limit, format, shard=0):
            if shard:
                return Claimed((), self._clock(), None)
            return await super().claim(owner, number, token, functions, limit, format)

        async def renew(self, owner, shard=0):
            runs[f"renew {shard}"] += 1
            return [] if shard else await super().renew(owner)

    monkeypatch.setattr(shift, "RENEWALS", 600)
    store = Sharded()
    with Client(store) as client:
        handles = [client.start(held) for _ in range(2)]
        with Worker(store, [held]):
            wait_until(lambda: runs["held"] == 2, "both run")
            before = runs["renew 1"]
            wait_until(lambda: runs["renew 1"] > before + 2, "the lease was renewed")
            gate.set()
            assert all(handle.result(timeout=5) for handle in handles)
            for handle in handles:
                assert [e.event_type for e in handle.history()].count("InvocationCompleted") == 1


class Stuck(MemoryStore):
    """Something is due all the time, and somebody else has it locked."""

    def __init__(self):
        super().__init__()
        self.claims = []

    async def claim(self, *arguments, **options):
        self.claims.append(time.monotonic())
        answer = await super().claim(*arguments, **options)
        return Claimed(answer.headers, answer.now, answer.now - 1)


def test_what_is_due_and_locked_is_not_asked_for_all_the_time():
    """Claims that find nothing though something is due come at growing pauses."""
    store = Stuck()
    with Worker(store, [quick]):
        wait_until(lambda: len(store.claims) > 9, "it asks again and again")
    # Doubled from 2 ms on.
    assert store.claims[9] - store.claims[0] > 0.5
