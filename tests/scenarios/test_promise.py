"""What only one colour has: combinators and asyncio in `async def` (features 13, 27)."""

from __future__ import annotations

import asyncio
import threading

import pytest

from perdure.config import Duration, StepConfig
from perdure.errors import DurableExecutionsError, NotDurableError, StepError
from perdure.retries import RetryPresets
from tests.scenarios.colour import Colour

only_async = pytest.mark.parametrize("colour", [Colour.ASYNC], ids=str)
only_def = pytest.mark.parametrize("colour", [Colour.DEF], ids=str)
ONCE = StepConfig(retry_strategy=RetryPresets.none())


def replayed(stage, workflow):
    """Run a workflow that pauses once, with another worker after the pause."""
    handle = stage.start(workflow)
    stage.suspended(handle, "pause", skipping=True).restart()
    return stage.end(handle)


@only_async
def test_gather(stage):
    """Operations start when they are called, in that order, and are awaited together."""

    async def workflow(event, context):
        values = await asyncio.gather(*(context.step(stage.body(f"s{n}", n), name=f"s{n}") for n in range(5)))
        await context.wait(Duration.from_minutes(1), name="pause")
        return values

    outcome = replayed(stage, workflow)
    assert outcome.result == [0, 1, 2, 3, 4]
    assert stage.runs == {f"s{n}": 1 for n in range(5)}


@only_async
def test_gather_with_a_failure(stage):
    """The first failure is raised; with return_exceptions all outcomes are returned."""

    async def workflow(event, context):
        good = context.step(stage.body("good", 1), name="good")
        bad = context.step(stage.body("bad", ValueError("no")), name="bad", config=ONCE)
        found = await asyncio.gather(good, bad, return_exceptions=True)
        with pytest.raises(StepError):
            await asyncio.gather(
                context.step(stage.body("good", 1)), context.step(stage.body("bad", ValueError("no")), config=ONCE)
            )
        await context.wait(Duration.from_minutes(1), name="pause")
        return [found[0], type(found[1]).__name__]

    assert replayed(stage, workflow).result == [1, "StepError"]
    assert stage.runs == {"good": 2, "bad": 2}


@only_async
def test_task_group(stage):
    """A TaskGroup takes futures of operations as tasks."""

    async def workflow(event, context):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(context.step(stage.body(f"s{n}", n), name=f"s{n}")) for n in range(3)]
        await context.wait(Duration.from_minutes(1), name="pause")
        return [task.result() for task in tasks]

    assert replayed(stage, workflow).result == [0, 1, 2]


@only_async
def test_waits_pass_together(stage):
    """Gathered waits run at the same time, and completions come in the order in which they happened, on replay too."""
    orders = []

    async def workflow(event, context):
        order = []

        async def after(seconds):
            await waits[seconds]
            order.append(seconds)

        waits = {seconds: context.wait(Duration(seconds), name=f"w{seconds}") for seconds in (30, 10, 20)}
        await asyncio.gather(*(after(seconds) for seconds in waits))
        orders.append(order)
        await context.wait(Duration.from_minutes(1), name="pause")
        return order

    assert replayed(stage, workflow).result == [10, 20, 30]
    assert orders == [[10, 20, 30]] * 2


@only_async
def test_bodies_of_gathered_steps_run_side_by_side(stage):
    """`def` bodies run in threads: each waits for the other one."""
    together = threading.Barrier(3, timeout=10)

    async def workflow(event, context):
        return await asyncio.gather(*(context.step(lambda _: together.wait() * 0) for _ in range(3)))

    assert stage.run(workflow).result == [0, 0, 0]


@only_async
def test_as_completed(stage):
    """The order of completions is that of the journal, in every invocation."""
    orders = []

    async def workflow(event, context):
        order = []
        waits = [context.wait(Duration(seconds), name=f"w{seconds}") for seconds in (40, 10, 30, 20)]

        async def numbered(number, future):
            await future
            return number

        for each in asyncio.as_completed([numbered(n, future) for n, future in enumerate(waits)]):
            number = await each
            order.append(await context.step(stage.body(f"after-{number}", number), name=f"after {number}"))
        orders.append(order)
        await context.wait(Duration.from_minutes(1), name="pause")
        return order

    assert replayed(stage, workflow).result == [1, 3, 2, 0]
    assert orders == [[1, 3, 2, 0]] * 2
    assert stage.runs == {f"after-{n}": 1 for n in range(4)}


@only_async
def test_workers_of_a_queue(stage):
    """Tasks of one workflow may share a queue and a semaphore, as long as operations are called by the workflow."""
    orders = []

    async def workflow(event, context):
        queue, slots, done = asyncio.Queue(), asyncio.Semaphore(2), []
        for n in range(6):
            queue.put_nowait((n, context.wait(Duration(1 + n % 3), name=f"w{n}")))

        async def worker():
            while not queue.empty():
                n, future = queue.get_nowait()
                async with slots:
                    await future
                    done.append(n)

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(worker())
        orders.append(done)
        await context.wait(Duration.from_minutes(1), name="pause")
        return done

    outcome = replayed(stage, workflow)
    assert sorted(outcome.result) == list(range(6))
    assert orders == [outcome.result] * 2


@only_async
def test_an_await_that_is_cancelled(stage):
    """Cancelling an await does not cancel the operation: its result can still be awaited."""

    async def workflow(event, context):
        future = context.step(stage.body("step", "kept"), name="step")
        waiter = asyncio.ensure_future(asyncio.shield(future))
        await asyncio.sleep(0)
        waiter.cancel()
        first = await asyncio.gather(waiter, return_exceptions=True)
        await context.wait(Duration.from_minutes(1), name="pause")
        return [type(first[0]).__name__, await future]

    assert replayed(stage, workflow).result == ["CancelledError", "kept"]
    assert stage.runs == {"step": 1}


@only_async
def test_promise_all(stage):
    """All results in order, or the first failure."""

    async def workflow(event, context):
        values = await context.promise.all(
            [context.step(stage.body("a", 1), name="a"), context.step(stage.body("b", 2), name="b")]
        )
        try:
            await context.promise.all(
                [context.step(stage.body("a", 1)), context.step(stage.body("c", ValueError("no")), config=ONCE)]
            )
        except DurableExecutionsError as error:
            failure = error.error_type
        await context.wait(Duration.from_minutes(1), name="pause")
        return [values, failure]

    assert replayed(stage, workflow).result == [[1, 2], "ValueError"]


@only_async
def test_promise_all_settled(stage):
    """Every outcome, none raised."""

    async def workflow(event, context):
        settled = await context.promise.all_settled(
            [
                context.step(stage.body("a", 1), name="a"),
                context.step(stage.body("b", ValueError("no")), name="b", config=ONCE),
            ]
        )
        await context.wait(Duration.from_minutes(1), name="pause")
        return [len(settled)]

    assert replayed(stage, workflow).result == [2]
    assert stage.runs == {"a": 1, "b": 1}


@only_async
def test_promise_race(stage):
    """The first outcome counts; on replay the same one, though others have come since."""
    seen = []

    async def workflow(event, context):
        long = context.wait(Duration(100), name="long")
        short = context.wait(Duration(5), name="short")

        async def named(future, name):
            await future
            return name

        winner = await context.promise.race([named(long, "long"), named(short, "short")])
        seen.append(winner)
        await context.wait(Duration(500), name="pause")
        return winner

    assert replayed(stage, workflow).result == "short"
    assert set(seen) == {"short"}


@only_async
def test_promise_any(stage):
    """The first success counts; failures do not, unless there is nothing else."""

    async def workflow(event, context):
        value = await context.promise.any(
            [
                context.step(stage.body("bad", ValueError("no")), name="bad", config=ONCE),
                context.step(stage.body("good", "yes"), name="good"),
            ]
        )
        try:
            await context.promise.any([context.step(stage.body("bad", ValueError("no")), config=ONCE)])
        except BaseException as error:
            if not isinstance(error, Exception):
                raise
            failure = type(error).__name__
        await context.wait(Duration.from_minutes(1), name="pause")
        return [value, bool(failure)]

    assert replayed(stage, workflow).result == ["yes", True]


@only_def
def test_promise_in_a_def_workflow(stage):
    """It is refused, and the message names what to use."""

    async def workflow(event, context):
        with pytest.raises(DurableExecutionsError, match="parallel"):
            context.promise.all([])
        return "refused"

    assert stage.run(workflow).result == "refused"


async def timed():
    async with asyncio.timeout(1):
        await asyncio.sleep(0)


NOT_DURABLE = {
    "sleep": lambda: asyncio.sleep(1),
    "to_thread": lambda: asyncio.to_thread(int),
    "connection": lambda: asyncio.open_connection("localhost", 1),
    "timeout": timed,
}


@only_async
@pytest.mark.parametrize("call", NOT_DURABLE.values(), ids=NOT_DURABLE)
def test_what_is_not_durable(stage, call):
    """What would differ on replay is refused at once."""

    async def workflow(event, context):
        with pytest.raises(NotDurableError):
            await call()
        return "refused"

    assert stage.run(workflow).result == "refused"


@only_async
def test_an_event_that_nobody_sets(stage):
    """A workflow that can never go on fails instead of waiting for ever."""

    async def workflow(event, context):
        await asyncio.Event().wait()

    outcome = stage.run(workflow)
    assert outcome.status == "FAILED"
    assert outcome.error.error_type.endswith("NotDurableError")


@only_async
def test_branches_and_gather_mix(stage):
    """Futures of any operation may be awaited together."""

    async def workflow(event, context):
        async def item(item_context, item, index, items):
            return await item_context.step(stage.body(f"item-{item}", item), name="step")

        async def child(child_context):
            await child_context.wait(Duration.from_minutes(5), name="child-wait")
            return "child"

        result, value, _ = await asyncio.gather(
            context.map([1, 2], item, name="map"),
            context.run_in_child_context(child, name="child"),
            context.wait(Duration.from_minutes(3), name="pause"),
        )
        return [result.get_results(), value]

    assert replayed(stage, workflow).result == [[1, 2], "child"]
    assert stage.runs == {"item-1": 1, "item-2": 1}


def test_a_step_inside_a_step(stage):
    """It is refused, and the message says what to do instead."""

    async def workflow(event, context):
        def body(_):
            target = getattr(context, "context", context)
            target.step(lambda _: 1, name="inner")

        try:
            await context.step(body, name="outer")
        except StepError as error:
            return [error.error_type, "run_in_child_context" in error.message]

    outcome = stage.run(workflow)
    assert outcome.result == ["perdure.errors.ContextMisuseError", True]
    assert len(outcome.handle.operations()) == 2


def test_a_context_of_another_strand(stage):
    """The parent's context inside a child's body is refused."""

    async def workflow(event, context):
        async def child(_):
            await context.step(lambda _: 1, name="wrong")

        try:
            await context.run_in_child_context(child, name="child")
        except DurableExecutionsError as error:
            return "run_in_child_context" in str(error)

    outcome = stage.run(workflow)
    assert outcome.result is True
    assert len(outcome.handle.operations()) == 2
