"""What a workflow costs in its process, counted: store calls, wake-ups of loops, tasks, waits of threads."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections import Counter
from contextlib import suppress
from math import inf

import pytest

from perdure.adapters import shift
from perdure.adapters.worker import Worker
from perdure.client import Client
from perdure.durable import Duration, durable_execution
from perdure.engine.replay import Records
from perdure.engine.scope import Scope
from perdure.model import OperationType
from perdure.portal import host_portal, store_portal
from perdure.service import target, upkeep
from perdure.service.ending import Endings
from perdure.service.ownership import Ownership
from perdure.storage import End
from perdure.testing.memory import MemoryStore
from tests.e2e.processes import wait_until

WORKFLOWS = 20
pytestmark = pytest.mark.usefixtures("unhurried")


@durable_execution
def three_steps(_, context):
    """Three steps, one after the other."""
    return [context.step(lambda _, n=n: n, name=f"step-{n}") for n in range(3)]


@durable_execution
async def three_async_steps(_, context):
    """The same in the other colour."""

    async def body(_):
        return 1

    return [await context.step(body, name=f"step-{n}") for n in range(3)]


@durable_execution
def fan_out(branches, context):
    """Two checkpoints in each branch."""
    return len(context.map(list(range(branches)), lambda inner, item, *_: inner.step(lambda _: item)).get_results())


@durable_execution
def asleep(_, context):
    """Suspended in a branch and beside it."""
    return context.parallel([lambda inner: inner.wait(Duration.from_hours(1)), lambda inner: inner.step(lambda _: 1)])


@durable_execution
async def asleep_async(_, context):
    """The same in the other colour."""

    async def sleeper(inner):
        await inner.wait(Duration.from_hours(1))

    async def worker(inner):
        await inner.step(step)

    async def step(_):
        return 1

    return await context.parallel([sleeper, worker])


@durable_execution
async def one_is_cancelled(_, context):
    """A task of the workflow's own loses to another one."""

    nap = context.wait(Duration.from_hours(1))

    async def sleep():
        await nap

    async def body(_):
        return 1

    loser = asyncio.create_task(sleep())
    won = await context.step(body)
    loser.cancel()
    with suppress(asyncio.CancelledError):
        await loser
    return won


def _ended(handle):
    handle.result(timeout=10)


def _asleep(handle):
    wait_until(lambda: _waits(handle), "it sleeps")


def _waits(handle):
    return any(operation.operation_type is OperationType.WAIT for operation in handle.operations())


class CountedStore(MemoryStore):
    """Counts its verbs, but for those that an idle worker uses too."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    async def create(self, *args, **options):
        self.calls["create"] += 1
        return await super().create(*args, **options)

    async def commit(self, batch):
        self.calls["commit"] += len(batch)
        return await super().commit(batch)

    async def entries(self, *args):
        self.calls["entries"] += 1
        return await super().entries(*args)

    async def describe(self, id):
        self.calls["describe"] += 1
        return await super().describe(id)

    async def functions(self, name):
        self.calls["functions"] += 1
        return await super().functions(name)


class AwaitedStore(CountedStore):
    """Ends no execution before somebody waits for that; on a busy machine some would have ended by then."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.waits = threading.Semaphore(0)
        join = Endings._join

        def joined(*args):
            join(*args)
            self.waits.release()

        monkeypatch.setattr(Endings, "_join", joined)

    async def commit(self, batch):
        for commit in batch:
            while isinstance(commit.then, End) and not self.waits.acquire(blocking=False):  # noqa: ASYNC110 - other threads
                await asyncio.sleep(0.001)
        return await super().commit(batch)


@pytest.fixture
def counted(monkeypatch):
    """Wake-ups and tasks of the process's two loops."""
    found = Counter()

    def count(portal, what, method):
        original = getattr(portal.loop, method)

        def counting(*args, **options):
            found[what] += 1
            return original(*args, **options)

        monkeypatch.setattr(portal.loop, method, counting)

    for portal, name in ((store_portal(), "store"), (host_portal(), "host")):
        count(portal, f"wake-ups of the {name}", "call_soon_threadsafe")
        count(portal, f"tasks of the {name}", "create_task")
    return found


@pytest.mark.parametrize("workflow", [three_steps, three_async_steps], ids=["def", "async def"])
def test_three_steps_beside_their_worker(workflow, counted, monkeypatch):
    """
    One verb begins the execution, one records each step, one ends it; nothing is read by whoever waits for the end.

    The store's loop is woken for the start, the wait, each step, the end and the hint of it, and runs a task for the
    start, the wait, the execution, and each transmission of commits.
    """
    # Who can run what is asked again after a while, and whether something is due.
    monkeypatch.setattr(target, "TRUSTED_FOR", inf)
    monkeypatch.setattr(shift, "LONGEST_SLEEP", 3600.0)
    monkeypatch.setattr(upkeep, "FALLBACK", 3600.0)
    store = AwaitedStore(monkeypatch)
    with Worker(store, [workflow]), Client(store) as client:
        client.start(workflow).result(timeout=10)
        store.calls.clear()
        counted.clear()
        for _ in range(WORKFLOWS):
            client.start(workflow).result(timeout=10)
        assert store.calls == {"create": WORKFLOWS, "commit": 4 * WORKFLOWS}
        # A worker that looks for work meanwhile adds a few.
        assert counted["wake-ups of the store"] <= 7 * WORKFLOWS + 5
        assert counted["tasks of the store"] <= 7 * WORKFLOWS + 10
        # Begun there, and told of three answers; a task for the invocation and for each body.
        expected = WORKFLOWS if workflow is three_async_steps else 0
        assert counted["wake-ups of the host"] <= 4 * expected
        assert counted["tasks of the host"] <= 4 * expected


@pytest.mark.parametrize(
    ("workflow", "waited_for"),
    [
        (three_steps, _ended),
        (three_async_steps, _ended),
        (one_is_cancelled, _ended),
        (asleep, _asleep),
        (asleep_async, _asleep),
    ],
    ids=["def", "async def", "cancelled in async def", "suspended def", "suspended async def"],
)
def test_an_invocation_that_is_over_leaves_no_garbage(workflow, waited_for):
    """Its fold, records and scopes go at once, without the collector: nothing in it refers back to what holds it."""

    def left():
        return sum(isinstance(each, Ownership | Scope | Records) for each in gc.get_objects())

    with Worker(MemoryStore(), [workflow]) as worker, Client(worker._connection.store) as client:
        waited_for(client.start(workflow))
        gc.collect()
        gc.disable()
        try:
            before = left()
            for _ in range(WORKFLOWS):
                waited_for(client.start(workflow))
            deadline = time.monotonic() + 10
            while left() > before and time.monotonic() < deadline:
                time.sleep(0.01)
            assert left() <= before
        finally:
            gc.enable()


def test_threads_that_wait_for_an_answer_sleep_until_it_comes(monkeypatch):
    """Only the coordinator of a batch is woken by every change, not each branch by each answer."""
    branches = 40
    waits = Counter()
    wait = threading.Condition.wait

    def waiting(condition, timeout=None):
        waits[threading.current_thread().name, id(condition)] += 1
        return wait(condition, timeout)

    monkeypatch.setattr(threading.Condition, "wait", waiting)
    store = CountedStore()
    with Worker(store, [fan_out]), Client(store) as client:
        assert client.start(fan_out, branches).result(timeout=20) == branches
    of_branches = Counter(condition for name, condition in waits.elements() if name.startswith("perdure-branch"))
    # Once for a thread that it starts; again and again for its pool alone, after its work and rarely in between.
    (pool,) = [count for count in of_branches.values() if count > 1]
    assert pool <= 2 * branches
    # A request takes with it what has gathered while the one before was under way.
    assert store.calls["commit"] <= 2 * branches + 3


class ClaimsStore(CountedStore):
    """Notes how many executions each claim took; none takes any while slots become free one by one."""

    def __init__(self):
        super().__init__()
        self.taken = []
        self.are_freed = lambda: True

    async def claim(self, *args, **options):
        while not self.are_freed():  # noqa: ASYNC110 - threads free them
            await asyncio.sleep(0.001)
        answer = await super().claim(*args, **options)
        if answer.headers:
            self.taken.append(len(answer.headers))
        return answer


def test_what_waits_for_slots_is_claimed_at_once_and_not_read():
    """All slots that are free go into one claim; what this process has started itself it knows."""
    gate = threading.Event()

    @durable_execution(name="held")
    def held(_, context):
        return gate.wait(10)

    store = ClaimsStore()
    with Worker(store, [held, three_steps], concurrency=8), Client(store) as client:
        holders = [client.start(held, None) for _ in range(8)]
        waiting = [client.start(three_steps, None) for _ in range(8)]
        store.calls.clear()
        store.are_freed = lambda: store.calls["commit"] >= len(holders)
        gate.set()
        wait_until(lambda: store.calls["commit"] == len(holders) + 4 * len(waiting), "all have ended")
        assert sum(store.taken) == 8
        assert len(store.taken) <= 4
        assert store.calls["entries"] == 0
