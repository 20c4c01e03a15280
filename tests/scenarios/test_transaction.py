"""Transactional steps: what their bodies write to an application's tables, and what is recorded, are one."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import pytest

from perdure.config import CompletionConfig, Duration, ParallelConfig, StepConfig, StepSemantics
from perdure.errors import StepError, TransactionsUnsupportedError
from perdure.model import OperationStatus
from perdure.retries import RetryDecision
from perdure.testing.memory import MemoryStore
from tests.scenarios.books import BodyKind, Clerk
from tests.scenarios.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

AGAIN = StepConfig(retry_strategy=lambda _, attempt: RetryDecision(attempt < 3, Duration.from_seconds(5)))
ONCE = StepConfig(retry_strategy=lambda _error, _attempt: RetryDecision.no_retry())
AT_MOST_ONCE = StepConfig(retry_strategy=ONCE.retry_strategy, step_semantics=StepSemantics.AT_MOST_ONCE_PER_RETRY)


@pytest.fixture
def stage(colour, books) -> Iterator[Stage]:
    stage = Stage(colour, books.make_store)
    try:
        books.make_table()
        yield stage
    finally:
        stage.close()


@pytest.fixture(params=list(BodyKind), ids=str)
def clerk(stage, books, request) -> Clerk:
    return Clerk(stage, books, request.param)


def recorded(handle, *names):
    """Those of these operations that have succeeded."""
    succeeded = [each.name for each in handle.operations() if each.status is OperationStatus.SUCCEEDED]
    return [name for name in names if name in succeeded]


def test_writes_and_result_are_recorded_once(stage, books, clerk):
    """A transaction is a step to everybody else, runs once, and is replayed without its body."""

    async def workflow(event, context):
        first = await context.transaction(clerk.writes("first", 1), name="first")
        await context.wait(Duration.from_seconds(5))
        second = await context.transaction(clerk.writes("second", 2), "second")
        await context.wait(Duration.from_seconds(5))
        return [first, second]

    outcome = stage.run(workflow)
    assert outcome.result == [1, 2]
    assert books.texts() == ["first", "second"]
    assert stage.runs == {"first": 1, "second": 1}
    assert outcome.by_operation["first"] == "StepStarted; StepSucceeded #1 = 1"
    assert outcome.invocations == 3


def test_a_body_that_raises_is_rolled_back_and_tried_again(stage, books, clerk):
    """Each attempt has a transaction of its own; only what the last one wrote is there."""
    seen = []

    async def workflow(event, context):
        body = clerk.writes("x", ValueError(1), ValueError(2), "done", then=lambda step, _: seen.append(step.attempt))
        return await context.transaction(body, name="x", config=AGAIN)

    outcome = stage.run(workflow)
    assert outcome.result == "done"
    assert books.texts() == ["x"]
    assert seen == [1, 2, 3]
    assert outcome.by_operation["x"] == (
        "StepStarted; StepFailed #1 ! ValueError: 1, again in 5 s; "
        "StepStarted; StepFailed #2 ! ValueError: 2, again in 5 s; "
        'StepStarted; StepSucceeded #3 = "done"'
    )


def test_a_transaction_that_has_failed_leaves_nothing(stage, books, clerk):
    """The workflow is given a StepError, now and on replay."""

    async def workflow(event, context):
        caught = []
        for _ in range(2):
            try:
                await context.transaction(clerk.writes("x", ValueError("no")), name="x", config=ONCE)
            except StepError as error:
                caught.append(f"{error.error_type}: {error}")
            await context.wait(Duration.from_seconds(5))
        return caught

    outcome = stage.run(workflow)
    assert outcome.result == ["ValueError: no"] * 2
    assert books.texts() == []


def test_a_result_that_cannot_be_serialized(stage, books, clerk):
    """Is a failure as it is for a step, and what was written is rolled back."""

    async def workflow(event, context):
        return await context.transaction(clerk.writes("x", object()), name="x")

    outcome = stage.run(workflow)
    assert outcome.by_operation["x"].startswith("StepStarted; StepFailed #1 ! SerDesError")
    assert books.texts() == []
    assert stage.runs == {"x": 1}


def test_in_branches_and_child_contexts(stage, books, clerk):
    """Transactions of one execution may be asked for side by side, and beside ordinary steps."""

    async def branch(context, item, index, items):
        before = await context.step(lambda _: item)
        written = await context.transaction(clerk.writes(f"item {item}", item * 10))
        return [before, written, await context.step(lambda _: item + 1)]

    async def child(context):
        return await context.transaction(clerk.writes("child"))

    async def workflow(event, context):
        mapped = await context.map(range(6), branch)
        return [mapped.get_results(), await context.run_in_child_context(child)]

    outcome = stage.run(workflow)
    assert outcome.result == [[[n, n * 10, n + 1] for n in range(6)], "child"]
    assert books.texts() == ["child", *(f"item {n}" for n in range(6))]


def test_a_long_body_beside_others(stage, books, clerk):
    """While a body runs, branches beside it may do what they like; nobody waits for anybody for ever."""
    others = threading.Event()

    async def slow(context):
        return await context.transaction(clerk.writes("slow", then=lambda *_: time.sleep(0.3)))

    async def quick(context):
        before = time.monotonic()
        values = [await context.step(lambda _, n=n: n) for n in range(3)]
        others.set()
        await context.transaction(clerk.writes("quick"))
        assert time.monotonic() > before
        return values

    async def workflow(event, context):
        result = await context.parallel([slow, quick, slow, quick])
        result.throw_if_error()
        return result.get_results()

    async def other(event, context):
        return [await context.step(lambda _, n=n: n) for n in range(3)]

    functions = stage.durable(workflow), stage.durable(other)
    handles = [stage.start(function) for function in functions]
    assert [stage.end(handle).result for handle in handles] == [["slow", [0, 1, 2]] * 2, [0, 1, 2]]
    assert books.texts() == ["quick", "quick", "slow", "slow"]


def test_a_body_whose_batch_has_ended(stage, books, clerk):
    """A branch that nobody waits for any more records nothing, and so writes nothing."""
    begun, over = threading.Event(), threading.Event()

    def linger(*_):
        begun.set()
        over.wait(10)

    async def slow(context):
        return await context.transaction(clerk.writes("slow", then=linger), name="slow")

    async def quick(context):
        await context.step(lambda _: begun.wait(10) and None)
        return "quick"

    config = ParallelConfig(completion_config=CompletionConfig(min_successful=1))

    async def workflow(event, context):
        try:
            result = await context.parallel([slow, quick], config=config)
        finally:
            over.set()
        return result.get_results()

    # What the batch records must not wait for the file that the body has locked: the body is let go meanwhile.
    threading.Timer(1.0, over.set).start()
    outcome = stage.run(workflow)
    stage.halt()
    # Where the body has everything locked, it may be that it ends first, or that both ends travel together.
    assert outcome.result in (["quick"], ["slow"], ["slow", "quick"])
    assert books.texts() == recorded(outcome.handle, "slow")


def test_a_backend_without_transactions(colour):
    """Says so before anything is recorded, and the workflow can take another way."""
    stage = Stage(colour, MemoryStore)

    async def workflow(event, context):
        try:
            await context.transaction(lambda step, connection: None, name="save")
        except TransactionsUnsupportedError as error:
            return str(error)

    try:
        outcome = stage.run(workflow)
    finally:
        stage.close()
    assert "Store here" in outcome.result
    assert "postgresql://" in outcome.result
    assert "save" not in outcome.by_operation


def test_at_most_once(stage, books, clerk):
    """A transaction may be asked to run at most once; it is recorded as begun before its body."""

    async def workflow(event, context):
        return await context.transaction(clerk.writes("x"), name="x", config=AT_MOST_ONCE)

    outcome = stage.run(workflow)
    assert outcome.result == "x"
    assert books.texts() == ["x"]


def test_an_execution_that_is_stopped_while_the_body_runs(stage, books, clerk):
    """The result cannot be recorded any more, so nothing was written."""
    begun, stopped = threading.Event(), threading.Event()

    def linger(*_):
        begun.set()
        stopped.wait(10)

    async def workflow(event, context):
        return await context.transaction(clerk.writes("x", then=linger), name="x")

    handle = stage.start(workflow)
    assert begun.wait(10)
    # On a store that is locked meanwhile the stop comes after the body: whichever is first, both agree.
    stopping = threading.Thread(target=handle.stop)
    stopping.start()
    stopping.join(0.2)
    stopped.set()
    stopping.join(20)
    ended = handle.describe()
    assert ended.status.value in ("STOPPED", "SUCCEEDED")
    stage.halt()
    assert books.texts() == recorded(handle, "x")


def test_a_worker_that_stops_while_the_body_runs(stage, books, clerk):
    """Finishes the body and records it; another worker goes on behind it."""
    begun, stopping = threading.Event(), threading.Event()

    def linger(*_):
        begun.set()
        stopping.wait(10)

    async def workflow(event, context):
        await context.transaction(clerk.writes("x", then=linger), name="x")
        return await context.transaction(clerk.writes("y"), name="y")

    handle = stage.start(workflow)
    assert begun.wait(10)
    threading.Timer(0.1, stopping.set).start()
    stage.restart()
    assert stage.end(handle).result == "y"
    assert books.texts() == ["x", "y"]
    assert stage.runs == {"x": 1, "y": 1}


def test_many_at_once(stage, books, clerk):
    """Executions that all want a transaction get one after another."""

    async def workflow(event, context):
        await context.transaction(clerk.writes(f"{event} a"))
        return await context.transaction(clerk.writes(f"{event} b", event))

    function = stage.durable(workflow)
    handles = [stage.start(function, n) for n in range(20)]
    assert [stage.end(handle).result for handle in handles] == list(range(20))
    assert len(books.texts()) == 40


def test_gathered(stage, books, colour):
    """Futures of transactions can be gathered, with steps among them."""
    if colour.value != "async":
        pytest.skip("`def` workflows have no futures")
    clerk, coroutines = (Clerk(stage, books, kind) for kind in BodyKind)

    async def workflow(event, context):
        futures = []
        for n in range(10):
            futures.append(context.transaction(clerk.writes(f"a {n}")))
            futures.append(context.transaction(coroutines.writes(f"b {n}")))
            futures.append(context.step(lambda _, n=n: f"c {n}"))
        order = []
        for future in futures:
            future.add_done_callback(lambda done: order.append(done.result()))
        live = await asyncio.gather(*futures)
        await context.wait(Duration.from_seconds(1))
        recorded = await context.step(lambda _: list(order), name="order")
        assert order == recorded, "the order on replay"
        return live

    outcome = stage.run(workflow)
    assert sorted(outcome.result) == sorted(f"{letter} {n}" for letter in "abc" for n in range(10))
    assert len(books.texts()) == 20
