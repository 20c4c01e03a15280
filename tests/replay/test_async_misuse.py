"""Whose context it is, and what deterministic values it gives."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from perdure.durable import (
    RetryDecision,
    StepConfig,
)
from perdure.errors import (
    ContextMisuseError,
)
from tests.replay.async_host import SECOND, Bodies, execute, result
from tests.replay.plane import Plane


@pytest.fixture
def plane():
    return Plane()


@pytest.fixture
def bodies():
    return Bodies()


def refused(call):
    try:
        call()
    except ContextMisuseError as error:
        text = str(error)
        return all(way in text for way in ("run_in_child_context", "parallel", "map"))
    return False


def test_context_in_a_foreign_task(plane):
    """A helper coroutine in a task of its own cannot call operations; one that is awaited directly can."""

    async def workflow(_, context):
        async def helper():
            return await context.step(lambda _: 1)

        async def foreign():
            return refused(lambda: context.step(lambda _: 1))

        direct = await helper()
        results = await asyncio.gather(foreign(), foreign())
        async with asyncio.TaskGroup() as group:
            task = group.create_task(foreign())
        return [direct, *results, task.result()]

    assert result(execute(workflow, plane)) == [1, True, True, True]
    assert len(plane.operations()) == 1


def test_context_in_a_thread(plane):
    """A thread cannot call operations, not even with the context variables of the workflow."""

    async def workflow(_, context):
        seen = []
        calls = [lambda: seen.append(refused(lambda: context.step(lambda _: 1)))]
        variables = contextvars.copy_context()
        calls.append(lambda: variables.run(calls[0]))
        for call in calls:
            thread = threading.Thread(target=call)
            thread.start()
            thread.join()
        return seen

    assert result(execute(workflow, plane)) == [True, True]


def test_context_inside_a_step(plane):
    """A step inside a step is refused, in either colour, and no retry strategy is asked about it."""
    asked = []

    async def workflow(_, context):
        async def asynchronous(_):
            return await context.step(lambda _: 1)

        def plain(_):
            return context.step(lambda _: 1)

        config = StepConfig(retry_strategy=lambda error, _: asked.append(error) or RetryDecision.no_retry())
        errors = await asyncio.gather(
            context.step(asynchronous, config=config), context.step(plain, config=config), return_exceptions=True
        )
        return [error.error_type.rpartition(".")[2] for error in errors]

    assert result(execute(workflow, plane)) == ["ContextMisuseError", "ContextMisuseError"]
    assert asked == []


def test_parent_context_inside_a_child(plane):
    """The context of a parent is refused in the body of a child, and the child's outside of it."""
    kept = []

    async def workflow(_, context):
        async def child(inner):
            kept.append(inner)
            return refused(lambda: context.step(lambda _: 1))

        return [await context.run_in_child_context(child), refused(lambda: kept[0].step(lambda _: 1))]

    assert result(execute(workflow, plane)) == [True, True]


def test_values_belong_to_the_context(plane):
    """uuid4() and random() are equal on replay, different per context, and refused elsewhere."""
    runs = []

    async def workflow(_, context):
        async def child(inner):
            return str(inner.uuid4())

        values = [str(context.uuid4()), str(context.uuid4()), context.random().random(), context.random().random()]
        values.append(await context.run_in_child_context(child))
        runs.append(values)
        await context.wait(SECOND)

        async def foreign():
            return refused(context.uuid4)

        return [await asyncio.create_task(foreign()), context.execution_id, context.is_replaying()]

    assert result(execute(workflow, plane)) == [True, "e-1", False]
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 5


def test_now_follows_delivery(plane):
    """now() is the end of the last operation the context was given, equal live and on replay."""
    runs = []

    async def workflow(_, context):
        log = [context.now()]
        runs.append(log)
        callback = await context.create_callback(name="cb")
        outcome = callback.result()
        await context.step(lambda _: plane.advance(3), name="s")
        log.append(context.now())
        await outcome
        log.append(context.now())
        await context.wait(SECOND)

    def pending(_):
        if plane.operation("cb").status.value == "STARTED":
            plane.advance(7)
            plane.complete("cb", "x")

    execute(workflow, plane, pending=pending)
    longest = max(runs, key=len)
    assert len(longest) == 3
    assert all(log == longest[: len(log)] for log in runs)
    assert longest == sorted(set(longest))
