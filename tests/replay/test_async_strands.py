"""Awaits that are cancelled, operations that are left unfinished, and what is kept of a run."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref

import pytest

from perdure.durable import (
    CompletionConfig,
    ParallelConfig,
)
from perdure.errors import (
    ChildContextError,
    ControlSignal,
    StepError,
)
from tests.replay.async_host import NEVER, SECOND, Bodies, error_type, execute, invoke, invoke_once, result
from tests.replay.plane import Plane


@pytest.fixture
def plane():
    return Plane()


@pytest.fixture
def bodies():
    return Bodies()


def test_cancelling_an_await_leaves_the_operation(plane, bodies):
    """Cancelling an await cancels neither the operation nor another await of it."""

    async def workflow(_, context):
        future = context.step(bodies("a", after=0.01), name="a")
        task = asyncio.create_task(future)
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return [await future, await future]

    assert result(execute(workflow, plane)) == ["a", "a"]
    assert bodies.runs == {"a": 1}


def test_failed_group_leaves_its_operations(plane, bodies):
    """A task group that fails cancels its awaits; the operations go on and can be awaited."""

    async def workflow(_, context):
        slow = context.step(bodies("slow", after=0.01), name="slow")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(slow)
                group.create_task(context.step(bodies("bad", error=ValueError()), config=NEVER))
        except* StepError:
            pass
        return await slow

    assert result(execute(workflow, plane)) == "slow"


def test_queue_and_semaphore_serve_tasks(plane, bodies):
    """Queue and Semaphore serve helper tasks that await futures, in the order of the futures."""

    async def workflow(_, context):
        queue, semaphore = asyncio.Queue(), asyncio.Semaphore(1)

        async def collect(future):
            async with semaphore:
                await queue.put(await future)

        fast, slow = context.step(bodies("fast")), context.step(bodies("slow", after=0.01))
        async with asyncio.TaskGroup() as group:
            group.create_task(collect(slow))
            group.create_task(collect(fast))
        return [queue.get_nowait(), queue.get_nowait()]

    assert result(execute(workflow, plane)) == ["slow", "fast"]


def test_async_generator_of_operations(plane, bodies):
    """An async generator may call operations in its consumer's task, and is ended with the run when left early."""
    log = []

    async def workflow(_, context):
        async def values():
            try:
                for n in range(3):
                    yield await context.step(bodies(n, n))
                    await context.wait(SECOND)
            finally:
                log.append("finally")

        collected = []
        async for value in values():
            collected.append(value)
            if value == 1:
                break
        return collected

    assert result(execute(workflow, plane)) == [0, 1]
    assert bodies.runs == {0: 1, 1: 1}
    assert log == ["finally"] * plane.invocations


def test_body_cancels_itself(plane):
    """A context's body that is cancelled has failed."""

    async def child(_):
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    async def workflow(_, context):
        try:
            await context.run_in_child_context(child)
        except ChildContextError as error:
            return error.message

    assert "CancelledError" in result(execute(workflow, plane))


def test_unfinished_operations_are_dropped_with_a_warning(plane, bodies, caplog):
    """What is unfinished when its context ends is named in a warning; its body is cancelled with the invocation."""
    cancelled = []

    async def body(_):
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    async def workflow(_, context):
        context.step(body, name="forgotten")
        context.wait(SECOND, name="unheeded")
        await context.step(bodies("a"))
        return "end"

    assert result(execute(workflow, plane)) == "end"
    assert "'forgotten'" in caplog.text
    assert "'unheeded'" in caplog.text
    assert cancelled == [1]


def test_unfinished_operations_of_a_child(plane, bodies, caplog):
    """A child that ends drops what it left unfinished, and its parent goes on."""

    async def child(context):
        context.step(bodies("slow", after=0.02), name="slow")
        return await context.step(bodies("fast"), name="fast")

    async def workflow(_, context):
        value = await context.run_in_child_context(child)
        await context.step(bodies("later", after=0.04), name="later")
        return value

    assert result(execute(workflow, plane)) == "fast"
    assert "'slow'" in caplog.text
    assert plane.operation("slow").status.value == "STARTED"


def test_failures_nobody_looked_at_are_logged(plane, bodies, caplog):
    """A failed operation that nobody awaited is named when its context ends."""

    async def workflow(_, context):
        context.step(bodies("bad", error=ValueError("lost")), name="bad", config=NEVER)
        await context.step(bodies("slow", after=0.01))

    execute(workflow, plane)
    assert "'bad'" in caplog.text
    assert "lost" in caplog.text


def test_orphaned_branches_are_unwound(plane, bodies):
    """When a batch is over, what its unfinished branches hold is released and they record nothing more."""
    released = []

    async def workflow(_, context):
        lock = asyncio.Lock()

        async def slow(branch):
            async with lock:
                try:
                    await branch.step(bodies("slow", after=0.02), name="slow")
                except ControlSignal:
                    released.append("signal")
                    raise

        async def fast(branch):
            return await branch.step(bodies("fast"), name="fast")

        config = ParallelConfig(completion_config=CompletionConfig.first_successful())
        batch = await context.parallel([slow, fast], config=config)
        async with lock:
            await context.step(bodies("next", after=0.04), name="next")
        return [batch.completion_reason.value, [item.status.value for item in batch.all]]

    assert result(execute(workflow, plane)) == ["MIN_SUCCESSFUL_REACHED", ["STARTED", "SUCCEEDED"]]
    assert released == ["signal"]
    assert plane.operation("slow").status.value == "STARTED"


def test_future_of_an_ended_context(plane, bodies):
    """Awaiting an operation of a context that has ended is an error, not an endless wait."""
    leaked = []

    async def child(context):
        leaked.append(context.step(bodies("slow", after=0.02), name="slow"))

    async def workflow(_, context):
        await context.run_in_child_context(child)
        await leaked[0]

    assert error_type(execute(workflow, plane)) == "ContextMisuseError"


def test_orphans_do_not_keep_an_invocation(plane, bodies):
    """The body of an orphan does not keep a workflow from suspending."""

    async def workflow(_, context):
        async def slow(branch):
            await branch.step(bodies("slow", after=30))

        async def fast(branch):
            await branch.step(bodies("fast"))

        config = ParallelConfig(completion_config=CompletionConfig.first_successful())
        await context.parallel([slow, fast], config=config)
        await context.wait(SECOND)
        return "end"

    assert result(execute(workflow, plane)) == "end"
    assert bodies.runs == {"slow": 1, "fast": 1}


@pytest.mark.parametrize("ending", ["return", "suspend", "fail"])
def test_nothing_is_kept(bodies, caplog, ending):
    """After an invocation its loop, tasks and frames are garbage, and the collector finds nothing to complain of."""

    class Payload:
        pass

    references = []

    async def workflow(_, context):
        payload = Payload()
        references.append(weakref.ref(payload))
        event = asyncio.Event()

        async def helper(future):
            await future
            await event.wait()

        tasks = [asyncio.create_task(helper(context.step(bodies(n)))) for n in range(3)]
        await context.step(bodies("a"))
        if ending == "suspend":
            await context.wait(SECOND)
        if ending == "fail":
            raise ValueError(payload)
        return len(tasks)

    caplog.set_level(logging.CRITICAL, "perdure.engine")  # pytest keeps errors that are logged, and their frames
    for _ in range(3):
        invoke_once(workflow, Plane())
    gc.collect()
    assert [reference() for reference in references] == [None] * 3


def test_bodies_that_outlive_the_invocation_are_counted(plane):
    """A thread that cannot be cancelled is counted as an orphan; the coroutine it comes back with is not awaited."""
    go, came_back = threading.Event(), threading.Event()

    async def late():
        raise AssertionError

    def stubborn(_):
        go.wait(5)
        came_back.set()
        return late()

    async def workflow(_, context):
        context.step(stubborn, name="stubborn")
        return await context.step(lambda _: "end")

    async def main():
        assert result(await invoke(workflow, plane, begun=invocations.append)) == "end"
        assert invocations[0].orphans == 1
        go.set()
        while invocations[0].orphans:  # noqa: ASYNC110 - as a host counts them
            await asyncio.sleep(0.001)

    invocations = []
    asyncio.run(main())
    assert came_back.is_set()
    assert plane.operation("stubborn").status.value == "STARTED"
