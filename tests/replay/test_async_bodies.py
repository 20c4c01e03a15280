"""Where the bodies of async workflows run, what they see, and what becomes of their errors."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from perdure.durable import (
    StepConfig,
    StepSemantics,
    durable_step,
)
from tests.replay.async_host import NEVER, SECOND, Bodies, error_type, execute, invoke_once, result
from tests.replay.plane import Plane


@pytest.fixture
def plane():
    return Plane()


@pytest.fixture
def bodies():
    return Bodies()


def test_plain_bodies_run_in_threads(plane):
    """`def` bodies run in a thread, also side by side; an awaitable they return is awaited on the host's loop."""
    barrier = threading.Barrier(2, timeout=5)
    threads = []

    def body(_):
        threads.append(threading.current_thread().name)
        barrier.wait()
        return "def"

    async def answer():
        await asyncio.sleep(0)
        return threading.current_thread().name

    class Callable:
        async def __call__(self, _):
            return threading.current_thread().name

    async def workflow(_, context):
        values = await asyncio.gather(context.step(body), context.step(body))
        return [*values, await context.step(lambda _: answer()), await context.step(Callable())]

    name = threading.current_thread().name
    assert result(execute(workflow, plane)) == ["def", "def", name, name]
    assert set(threads) == {"perdure-body"}


def test_named_steps_keep_their_colour(plane):
    """A coroutine function made a step by `durable_step` runs on the host's loop, without a thread."""

    @durable_step
    async def asynchronous(_, value):
        return [value, threading.current_thread().name]

    @durable_step
    def plain(_, value):
        return [value, threading.current_thread().name]

    async def workflow(_, context):
        return [await context.step(asynchronous(1)), await context.step(plain(2))]

    here = threading.current_thread().name
    assert result(execute(workflow, plane)) == [[1, here], [2, "perdure-body"]]
    assert list(plane.statuses()) == ["asynchronous", "plain"]


def test_plain_body_that_fails(plane):
    """What a thread raises is the step's failure, whether at once or on await."""

    def plain(_):
        raise ValueError("thread")

    def awaitable(_):
        async def fail():
            raise ValueError("loop")

        return fail()

    async def workflow(_, context):
        errors = await asyncio.gather(
            context.step(plain, config=NEVER), context.step(awaitable, config=NEVER), return_exceptions=True
        )
        return [error.message for error in errors]

    assert result(execute(workflow, plane)) == ["thread", "loop"]


def test_async_generator_is_no_result(plane):
    """A generator given as a body is not a value that can be recorded."""

    async def body(_):
        yield 1

    async def workflow(_, context):
        await context.step(body, config=NEVER)

    assert error_type(execute(workflow, plane)) == "SerDesError"


def test_body_raises_cancelled_error(plane):
    """CancelledError that nobody asked for is a failure of the body like any other."""

    async def body(_):
        raise asyncio.CancelledError

    def plain(_):
        raise asyncio.CancelledError

    async def workflow(_, context):
        errors = await asyncio.gather(
            context.step(body, config=NEVER), context.step(plain, config=NEVER), return_exceptions=True
        )
        return [[type(error).__name__, "CancelledError" in error.message] for error in errors]

    assert result(execute(workflow, plane)) == [["StepError", True], ["StepError", True]]


def test_body_cancelled_by_the_host(plane):
    """A body that the host cancels leaves its step STARTED and ends the invocation uncleanly."""

    async def body(_):
        asyncio.current_task().cancel()
        await asyncio.sleep(1)

    async def workflow(_, context):
        try:
            await context.step(body, name="s")
        finally:
            await context.step(body, name="never")

    with pytest.raises(asyncio.CancelledError):
        invoke_once(workflow, plane)
    assert plane.statuses() == {}


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["child", "branch", "helper", "body", "def body"])
def test_interrupts_end_the_invocation_uncleanly(plane, interrupt, where):
    """KeyboardInterrupt and SystemExit never fail the execution; `finally` blocks then call nothing."""
    after = []

    async def stop(*_):
        raise interrupt

    def stop_thread(_):
        raise interrupt

    async def workflow(_, context):
        try:
            match where:
                case "child":
                    await context.run_in_child_context(stop, name="child")
                case "branch":
                    await context.parallel([stop, stop], name="batch")
                case "helper":
                    await asyncio.create_task(stop())
                case "body":
                    await context.step(stop, name="step")
                case "def body":
                    await context.step(stop_thread, name="step")
        except BaseException:
            await context.step(lambda _: after.append(1), name="after")
            raise

    with pytest.raises(interrupt):
        invoke_once(workflow, plane)
    assert after == []
    assert "after" not in plane.statuses()
    assert all(operation.status.value == "STARTED" for operation in plane.operations())


def test_context_variables(plane):
    """Bodies and children see the variables of their caller and keep their own changes, live and on replay."""
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    async def body(_):
        before = variable.get()
        variable.set("body")
        return before

    def plain(_):
        before = variable.get()
        variable.set("plain")
        return before

    async def child(context):
        before = variable.get()
        variable.set("child")
        return [before, await context.step(body)]

    async def workflow(_, context):
        variable.set("workflow")
        values = [await context.step(body), await context.step(plain), await context.run_in_child_context(child)]
        values += (await context.parallel([child, child])).get_results()
        config = StepConfig(step_semantics=StepSemantics.AT_MOST_ONCE_PER_RETRY)
        values.append(await context.step(body, config=config))
        seen.append(variable.get())
        await context.wait(SECOND)
        seen.append(variable.get())
        return values

    expected = ["workflow", "workflow", ["workflow", "child"], ["workflow", "child"], ["workflow", "child"], "workflow"]
    assert result(execute(workflow, plane)) == expected
    assert seen == ["workflow"] * 3
