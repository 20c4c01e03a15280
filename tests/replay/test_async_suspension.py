"""What suspends or ends an invocation of an async workflow, whatever its code makes of it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from datetime import timedelta

import pytest

from perdure.durable import (
    durable_execution,
)
from perdure.engine.invocation import Invocation
from perdure.engine.settings import FLUSH_AGE
from perdure.errors import (
    ControlSignal,
    InvocationError,
    StaleTokenError,
    StepError,
    SuspendExecution,
)
from perdure.model import InvocationStatus
from tests.replay.async_host import NEVER, SECOND, Bodies, error_type, execute, invoke_once, result
from tests.replay.plane import AsyncPlane, Plane, settings


@pytest.fixture
def plane():
    return Plane()


@pytest.fixture
def bodies():
    return Bodies()


async def hide_in_gather(context):
    await asyncio.gather(context.wait(SECOND), return_exceptions=True)


async def hide_in_shield(context):
    await asyncio.shield(context.wait(SECOND))


async def hide_in_group(context):
    async with asyncio.TaskGroup() as group:
        group.create_task(context.wait(SECOND))


async def hide_in_except(context):
    with contextlib.suppress(Exception):
        await context.wait(SECOND)


async def hide_in_suppress(context):
    for _ in range(3):
        with contextlib.suppress(BaseException):
            await context.wait(SECOND)


async def hide_in_wait(context):
    await asyncio.wait({context.wait(SECOND)})


async def hide_in_task(context):
    future = context.wait(SECOND)

    async def helper():
        with contextlib.suppress(BaseException):
            await future

    await asyncio.create_task(helper())


@pytest.mark.parametrize(
    "hide",
    [hide_in_gather, hide_in_shield, hide_in_group, hide_in_except, hide_in_suppress, hide_in_wait, hide_in_task],
)
def test_suspension_cannot_be_hidden(plane, bodies, hide):
    """Whatever user code wraps around a wait, the invocation suspends and nothing behind it runs before its time."""

    async def workflow(_, context):
        await hide(context)
        return await context.step(bodies("after"), name="after")

    assert invoke_once(workflow, plane).status is InvocationStatus.PENDING
    assert bodies.runs == {}
    assert "after" not in plane.statuses()
    assert result(execute(workflow, plane)) == "after"
    assert bodies.runs == {"after": 1}


def test_swallowing_for_ever(plane, bodies, monkeypatch, caplog):
    """Code that swallows every signal and goes on for ever neither keeps the invocation nor records anything."""
    buried = []
    monkeypatch.setattr("perdure.engine.loop._buried", buried)
    alive = [True]

    async def workflow(_, context):
        await context.step(bodies("before"), name="before")
        while alive:
            with contextlib.suppress(BaseException):
                await context.wait(SECOND)
            while alive:
                with contextlib.suppress(BaseException):
                    await context.step(bodies("bad"), name="bad")

    assert invoke_once(workflow, plane).status is InvocationStatus.PENDING
    assert plane.statuses() == {"before": "SUCCEEDED", None: "STARTED"}
    assert "bad" not in bodies.runs
    assert "given up" in caplog.text
    alive.clear()
    buried.clear()


def test_finally_that_calls_operations(plane, bodies):
    """A `finally` block runs its operations when the workflow gets there, not when it suspends."""

    async def workflow(_, context):
        try:
            await context.wait(SECOND)
        finally:
            await context.step(bodies("cleanup"), name="cleanup")
        return "done"

    assert invoke_once(workflow, plane).status is InvocationStatus.PENDING
    assert bodies.runs == {}
    assert result(execute(workflow, plane)) == "done"
    assert bodies.runs == {"cleanup": 1}


def test_signal_is_raised_once_then_futures_park(plane):
    """After the signal the first call raises it again; later calls give futures that are never done."""
    seen = []

    async def workflow(_, context):
        try:
            await context.wait(SECOND)
        except SuspendExecution as signal:
            seen.append(type(signal))
            with pytest.raises(SuspendExecution):
                context.wait(SECOND)
            seen.append(context.wait(SECOND).done())
            seen.append(context.promise.race([context.wait(SECOND)]).done())
            return "ignored"

    assert invoke_once(workflow, plane).status is InvocationStatus.PENDING
    assert issubclass(seen[0], ControlSignal)
    assert seen[1:] == [False, False]
    assert len(plane.operations()) == 1


def test_waiting_for_nothing(plane):
    """A workflow that waits for what no operation completes fails at once, instead of being PENDING for ever."""

    async def workflow(_, context):
        await context.step(lambda _: 1)
        await asyncio.Event().wait()

    assert error_type(execute(workflow, plane)) == "NotDurableError"


def test_spinning(plane):
    """A loop over sleep(0) fails."""

    async def workflow(_, context):
        while context:  # noqa: ASYNC110 - the point of it
            await asyncio.sleep(0)

    assert error_type(execute(workflow, plane)) == "NotDurableError"


def test_refused_primitives_fail_the_execution(plane):
    """What the loop refuses is an ordinary error of the workflow."""

    async def workflow(_, __):
        await asyncio.sleep(1)

    output = execute(workflow, plane)
    assert error_type(output) == "NotDurableError"
    assert "context.wait()" in output.error.message


def test_event_set_by_a_body(plane):
    """A body cannot wake its workflow but by its result."""

    async def workflow(_, context):
        event = asyncio.Event()

        async def body(_):
            event.set()

        waiting = asyncio.create_task(event.wait())
        await asyncio.sleep(0)
        try:
            await context.step(body, config=NEVER)
        except StepError as error:
            waiting.cancel()
            return error.error_type

    assert result(execute(workflow, plane)).endswith("NotDurableError")


def test_withdrawn_token(plane, bodies):
    """Without a further token the invocation ends as PENDING, and what was accepted is durable."""

    async def workflow(_, context):
        await context.step(bodies("a"), name="a")
        await context.step(bodies("b"), name="b")
        return "end"

    plane.withdraw = True
    assert invoke_once(workflow, plane).status is InvocationStatus.PENDING
    assert plane.statuses() == {"a": "SUCCEEDED"}
    plane.withdraw = False
    assert result(execute(workflow, plane)) == "end"
    assert bodies.runs == {"a": 1, "b": 1}


def test_lost_ownership(plane, bodies):
    """A stale token ends the invocation uncleanly, whatever the workflow makes of it."""

    async def workflow(_, context):
        with contextlib.suppress(BaseException):
            await context.step(bodies("a"), name="a")
        return "never"

    def refuse(_):
        raise StaleTokenError

    plane.before = refuse
    with pytest.raises(StaleTokenError):
        invoke_once(workflow, plane)


def test_changed_code(plane, bodies):
    """Code that asks for another operation than the recorded one fails the execution, though it catches errors."""
    names = iter(["old", "new"])

    async def workflow(_, context):
        with contextlib.suppress(Exception):
            await context.step(bodies("a"), name=next(names))
        await context.wait(SECOND)

    assert error_type(execute(workflow, plane)) == "NonDeterministicExecutionError"


def test_retryable_invocation_errors(plane):
    """An InvocationError of the workflow ends the invocation uncleanly."""

    async def workflow(_, __):
        raise InvocationError("later")

    with pytest.raises(InvocationError, match="later"):
        invoke_once(workflow, plane)


def test_strands_go_on_in_place(plane, bodies):
    """While a body runs, a wait that is over is noticed in the same invocation, by one empty checkpoint."""

    async def workflow(_, context):
        async def waiting(inner):
            await inner.wait(SECOND, name="wait")
            return await inner.step(bodies("after"), name="after")

        async def busy(inner):
            return await inner.step(long, name="busy")

        return (await context.parallel([waiting, busy])).get_results()

    async def long(_):
        await asyncio.sleep(0.01)
        plane.advance(2)
        while "after" not in plane.statuses():
            invocations[0].nudge()
            await asyncio.sleep(0.005)
        return "long"

    invocations = []
    assert result(execute(workflow, plane, begun=invocations.append)) == ["after", "long"]
    assert plane.invocations == 1
    assert plane.sent.count([]) == 1


def test_the_clock_is_asked_in_place(plane, bodies):
    """When a wait is over by the clock, the service is asked, and again later if its own clock is behind."""

    async def workflow(_, context):
        async def waiting(inner):
            await inner.wait(SECOND, name="wait")
            return await inner.step(bodies("after"), name="after")

        async def busy(inner):
            return await inner.step(long, name="busy")

        return (await context.parallel([waiting, busy])).get_results()

    async def long(_):
        while "after" not in plane.statuses():  # noqa: ASYNC110 - the plane has no event to wait for
            await asyncio.sleep(0.005)
        return "long"

    def now():
        # Ahead of the service's clock, which gets there only when it is asked for the second time.
        return plane.now + timedelta(seconds=2)

    def tick(updates):
        if not updates:
            plane.advance(0.6)

    plane.before = tick
    assert result(execute(workflow, plane, now=now)) == ["after", "long"]
    assert plane.invocations == 1
    assert plane.sent.count([]) == 2


def test_unsent_starts_are_sent_while_a_body_runs(plane):
    """The START of a long step is recorded before its end, though nobody waits for it."""

    async def long(_):
        async with asyncio.timeout(10):
            while not plane.statuses():  # noqa: ASYNC110 - the plane has no event to wait for
                await asyncio.sleep(0.01)
        return plane.statuses()["long"]

    async def workflow(_, context):
        return await context.step(long, name="long")

    assert result(execute(workflow, plane, flush_age=FLUSH_AGE)) == "STARTED"
    assert plane.sent == [["START long"], ["SUCCEED long"]]


def test_interruption_finishes_what_runs(plane, bodies):
    """An interrupted invocation records what its bodies bring, begins nothing more, and raises the reason."""

    async def body(_):
        interrupting = threading.Thread(target=invocations[0].interrupt, args=(InvocationError("drained"),))
        interrupting.start()
        interrupting.join()
        await asyncio.sleep(0.02)  # the driver hears of it meanwhile
        return 1

    async def workflow(_, context):
        try:
            await context.step(body, name="running")
        finally:
            await context.step(bodies("next"), name="next")

    invocations = []
    with pytest.raises(InvocationError, match="drained"):
        invoke_once(workflow, plane, begun=invocations.append)
    assert plane.statuses() == {"running": "SUCCEEDED"}
    assert bodies.runs == {}


def test_interruption_before_the_start(plane, bodies):
    """An invocation interrupted before it runs runs nothing."""

    async def workflow(_, context):
        await context.step(bodies("a"))

    with pytest.raises(InvocationError, match="early"):
        invoke_once(workflow, plane, begun=lambda invocation: invocation.interrupt(InvocationError("early")))
    assert bodies.runs == {}


def test_cancelled_host_task(plane, bodies):
    """Cancelling the task that awaits an invocation ends it, and its bodies."""
    cancelled = []

    async def body(_):
        try:
            await asyncio.sleep(5)
        finally:
            cancelled.append(1)

    @durable_execution
    async def workflow(_, context):
        await context.step(body)

    async def main():
        from perdure.engine.invocation import Invocation  # noqa: PLC0415
        from tests.replay.plane import AsyncPlane  # noqa: PLC0415

        task = asyncio.create_task(Invocation(workflow, plane.begin()).run_async(AsyncPlane(plane)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1
    assert cancelled == [1]


@pytest.mark.parametrize("hint", ["nudge", "interrupt"])
def test_a_hint_that_is_faster_than_the_workflow(hint):
    """What comes from outside before the first turn neither ends the workflow nor is forgotten."""

    @durable_execution
    async def workflow(event, context):
        return await context.step(lambda _: "ran")

    async def scene():
        plane = Plane()
        invocation = Invocation(workflow, plane.begin(), settings=settings(plane))
        if hint == "nudge":
            invocation.nudge()
        else:
            invocation.interrupt(LookupError("draining"))
        return await invocation.run_async(AsyncPlane(plane))

    if hint == "nudge":
        assert result(asyncio.run(scene())) == "ran"
    else:
        with pytest.raises(LookupError, match="draining"):
            asyncio.run(scene())
