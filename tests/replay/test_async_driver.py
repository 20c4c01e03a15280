"""Async workflows: what suspends, what is refused, what is delivered in which order."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import json
import threading
import weakref
from datetime import timedelta

import pytest

from perdure.durable import (
    CompletionConfig,
    Duration,
    MapConfig,
    NestingType,
    ParallelConfig,
    RetryDecision,
    StepConfig,
    StepSemantics,
    WaitForConditionConfig,
    WaitForConditionDecision,
    WithRetryConfig,
    durable_execution,
    with_retry,
)
from perdure.errors import (
    CallbackExternalError,
    ChildContextError,
    ContextMisuseError,
    ControlSignal,
    InvocationError,
    NotDurableError,
    StaleTokenError,
    StepError,
    SuspendExecution,
)
from perdure.model import ErrorObject, InvocationStatus
from tests.replay.async_host import execute, invoke_once
from tests.replay.plane import Plane

SECOND = Duration.from_seconds(1)
NEVER = StepConfig(retry_strategy=lambda _error, _attempt: RetryDecision.no_retry())


def result(output):
    """The result of an execution that succeeded."""
    assert output.status is InvocationStatus.SUCCEEDED, output.error
    return json.loads(output.result)


def error_type(output):
    """The type of the error of an execution that failed."""
    assert output.status is InvocationStatus.FAILED, output
    return output.error.type.rpartition(".")[2]


class Bodies:
    """Step bodies that count their runs."""

    def __init__(self):
        self.runs = {}

    def __call__(self, key, value=None, *, after=0.0, error=None):
        async def body(_):
            self.runs[key] = self.runs.get(key, 0) + 1
            if after:
                await asyncio.sleep(after)
            if error is not None:
                raise error
            return key if value is None else value

        return body


@pytest.fixture
def plane():
    return Plane()


@pytest.fixture
def bodies():
    return Bodies()


# ---------------------------------------------------------------------------------------------------------- sequence


def test_sequence(plane, bodies):
    """Operations are recorded as they are called, bodies run once, and a wait suspends."""

    async def workflow(event, context):
        first = await context.step(bodies("first", event["n"]), name="first")
        await context.wait(SECOND, name="pause")
        second = await context.step(bodies("second", 2), name="second")
        return [first, second]

    plane = Plane('{"n": 1}')
    assert result(execute(workflow, plane)) == [1, 2]
    assert plane.sent == [["START first", "SUCCEED first"], ["START pause"], ["START second", "SUCCEED second"]]
    assert bodies.runs == {"first": 1, "second": 1}
    assert plane.invocations == 2


def test_operations_start_when_called(plane, bodies):
    """Operations run side by side from their call on, in whichever order they are awaited."""

    async def workflow(_, context):
        slow, fast = context.step(bodies("slow", after=0.02), name="slow"), context.step(bodies("fast"), name="fast")
        assert not slow.done()
        assert not fast.done()
        return [await fast, await slow, fast.done(), fast.result(), fast.exception()]

    assert result(execute(workflow, plane)) == ["fast", "slow", True, "fast", None]
    assert plane.sent[0] == ["START slow", "START fast", "SUCCEED fast"]


def test_concurrent_results_share_a_request(plane, bodies):
    """Bodies that end in the same round of the host's loop are recorded by one request."""

    async def workflow(_, context):
        return await asyncio.gather(*(context.step(bodies(n, n), name=str(n)) for n in range(20)))

    assert result(execute(workflow, plane)) == list(range(20))
    assert len(plane.requests) == 1


def test_retry_in_place_of_failure(plane, bodies):
    """A failed attempt is recorded and repeated after its delay, in another invocation."""
    attempts = []

    async def body(context):
        attempts.append((context.attempt, context.idempotency_key))
        if context.attempt < 3:
            raise ValueError("not yet")
        return context.attempt

    async def workflow(_, context):
        config = StepConfig(retry_strategy=lambda _error, _attempt: RetryDecision.retry(SECOND))
        return await context.step(body, name="s", config=config)

    assert result(execute(workflow, plane)) == 3
    assert [attempt for attempt, _ in attempts] == [1, 2, 3]
    assert len({key for _, key in attempts}) == 1
    assert plane.invocations == 3


def test_at_most_once(plane, bodies):
    """At most once: the start is durable before the body runs; an interrupted attempt is not repeated."""

    async def workflow(_, context):
        config = StepConfig(
            step_semantics=StepSemantics.AT_MOST_ONCE_PER_RETRY,
            retry_strategy=lambda _error, _attempt: RetryDecision.no_retry(),
        )
        try:
            return await context.step(bodies("once"), name="once", config=config)
        except StepError as error:
            return error.error_type

    def crash(updates):
        if [update.action.value for update in updates] == ["SUCCEED"]:
            raise StaleTokenError

    plane.before = crash
    with pytest.raises(StaleTokenError):
        invoke_once(workflow, plane)
    assert plane.sent == [["START once"]]
    plane.before = lambda _: None
    assert result(execute(workflow, plane)).endswith("StepInterruptedError")
    assert bodies.runs == {"once": 1}


def test_failures_are_raised_on_await(plane, bodies):
    """A step that fails raises where it is awaited, as often as it is, the same live and on replay."""

    async def workflow(_, context):
        future = context.step(bodies("bad", error=ValueError("broken")), name="bad", config=NEVER)
        seen = []
        for _ in range(2):
            try:
                await future
            except StepError as error:
                seen.append([error.error_type, error.message])
        await context.wait(SECOND)
        return [*seen, type(future.exception()).__name__]

    assert result(execute(workflow, plane)) == [["ValueError", "broken"], ["ValueError", "broken"], "StepError"]
    assert bodies.runs == {"bad": 1}


def test_child_contexts_nest(plane, bodies):
    """A child context has its own ids and its own task; its result is recorded once."""

    async def inner(context):
        return await asyncio.gather(context.step(bodies("a", 1), name="a"), context.step(bodies("b", 2), name="b"))

    async def outer(context):
        values = await context.run_in_child_context(inner, name="inner")
        await context.wait(SECOND)
        return sum(values)

    async def workflow(_, context):
        return await context.run_in_child_context(outer, name="outer")

    assert result(execute(workflow, plane)) == 3
    assert bodies.runs == {"a": 1, "b": 1}


def test_large_child_results_are_rebuilt(plane, bodies):
    """A result above the threshold is rebuilt from the operations of its context, whose bodies do not run again."""

    async def child(context):
        parts = [await context.step(bodies(n, "x" * 60), name=str(n)) for n in range(3)]
        return "".join(parts)

    async def workflow(_, context):
        text = await context.run_in_child_context(child, name="large")
        await context.wait(SECOND)
        return len(text)

    assert result(execute(workflow, plane, replay_children_threshold=100)) == 180
    assert bodies.runs == {0: 1, 1: 1, 2: 1}


def test_large_execution_results_are_checkpointed(plane, bodies):
    """A result too large for the output is recorded by an update of the execution."""

    async def workflow(_, context):
        return await context.step(bodies("a", "x" * 200))

    output = execute(workflow, plane, result_inline_limit=100)
    assert output.result == ""
    assert plane.sent[-1] == ["SUCCEED None"]


def test_recorded_pages_are_read(bodies):
    """An input of several pages is read to its end before the workflow runs, answers of several pages too."""

    async def workflow(_, context):
        values = await asyncio.gather(*(context.step(bodies(n, n)) for n in range(7)))
        await context.wait(SECOND)
        return values

    assert result(execute(workflow, Plane(page_size=2))) == list(range(7))
    assert set(bodies.runs.values()) == {1}


def test_callbacks(plane):
    """A callback gives its id at once and its result when the outside has sent one."""
    ids = []

    async def workflow(_, context):
        callback = await context.create_callback(name="approval")
        ids.append(callback.callback_id)
        first, again = callback.result(), callback.result()
        return [await first, await again]

    assert result(execute(workflow, plane, pending=lambda _: plane.complete("approval", "yes"))) == ["yes", "yes"]
    assert len(set(ids)) == 1


def test_wait_for_callback(plane):
    """The submitter runs once, as a step; a failure from outside is raised with its text."""
    submitted = []

    async def submit(callback_id, _):
        submitted.append(callback_id)

    async def workflow(_, context):
        try:
            await context.wait_for_callback(submit, name="approval")
        except CallbackExternalError as error:
            return error.message

    def answer(_):
        plane.complete("approval create callback id", error=ErrorObject("no"))

    assert result(execute(workflow, plane, pending=answer)) == "no"
    assert len(submitted) == 1


def test_wait_for_condition(plane):
    """A check is repeated with the last state until the strategy is content; it may have either colour."""

    async def asynchronous(state, _):
        return state + 1

    def plain(state, _):
        return state * 2

    def until(limit):
        def strategy(state, _):
            if state >= limit:
                return WaitForConditionDecision.stop_polling()
            return WaitForConditionDecision.continue_waiting(SECOND)

        return WaitForConditionConfig(wait_strategy=strategy, initial_state=1)

    async def workflow(_, context):
        return [
            await context.wait_for_condition(asynchronous, until(3)),
            await context.wait_for_condition(plain, until(8)),
        ]

    assert result(execute(workflow, plane)) == [3, 8]


def test_invoke(plane):
    """Another function is invoked, its result awaited."""

    async def workflow(_, context):
        return await context.invoke("other", {"n": 1}, name="call")

    assert result(execute(workflow, plane, pending=lambda _: plane.complete("call", "[4]"))) == [4]


@pytest.mark.parametrize("wrapped", [True, False])
def test_with_retry(plane, bodies, wrapped):
    """A block is repeated with waits between, in a child context or in the caller's own."""

    async def block(context, attempt):
        value = await context.step(bodies(attempt, attempt), name=f"attempt {attempt}")
        if value < 3:
            raise ValueError(value)
        return value

    async def workflow(_, context):
        config = WithRetryConfig(
            retry_strategy=lambda _error, _attempt: RetryDecision.retry(SECOND),
            wrap_with_run_in_child_context=wrapped,
        )
        return await with_retry(context, block, config, name="block")

    assert result(execute(workflow, plane)) == 3
    assert bodies.runs == {1: 1, 2: 1, 3: 1}
    assert "block-backoff-1" in plane.statuses()


# ------------------------------------------------------------------------------------------------- bodies elsewhere


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


# ------------------------------------------------------------------------------------------------------- suspending


async def hide_in_gather(context):
    await asyncio.gather(context.wait(SECOND), return_exceptions=True)


async def hide_in_shield(context):
    await asyncio.shield(context.wait(SECOND))


async def hide_in_group(context):
    async with asyncio.TaskGroup() as group:
        group.create_task(context.wait(SECOND))


async def hide_in_except(context):
    try:
        await context.wait(SECOND)
    except Exception:  # noqa: BLE001, S110
        pass


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
        except BaseException as signal:
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

    async def workflow(_, __):
        while True:
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


# ------------------------------------------------------------------------------------------------ whose context


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
        return None

    def pending(_):
        if plane.operation("cb").status.value == "STARTED":
            plane.advance(7)
            plane.complete("cb", "x")

    execute(workflow, plane, pending=pending)
    longest = max(runs, key=len)
    assert len(longest) == 3
    assert all(log == longest[: len(log)] for log in runs)
    assert longest == sorted(set(longest))


# -------------------------------------------------------------------------------------------------- context variables


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


# --------------------------------------------------------------------------------------------- cancelling, asyncio


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


# ------------------------------------------------------------------------------------------------------ orphans


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


# ------------------------------------------------------------------------------------------------------ batches


@pytest.mark.parametrize("nesting", list(NestingType))
@pytest.mark.parametrize("limit", [None, 1, 2])
def test_parallel_with_waits(plane, bodies, nesting, limit):
    """Branches that wait keep their slots, and each body runs once."""

    async def workflow(_, context):
        async def branch(inner, n):
            await inner.wait(SECOND)
            return await inner.step(bodies(n, n))

        config = ParallelConfig(max_concurrency=limit, nesting_type=nesting)
        batch = await context.parallel([lambda inner, n=n: branch(inner, n) for n in range(4)], config=config)
        return batch.get_results()

    assert result(execute(workflow, plane)) == [0, 1, 2, 3]
    assert bodies.runs == {0: 1, 1: 1, 2: 1, 3: 1}


def test_nested_parallel(plane, bodies):
    """Batches nest, also one branch at a time."""

    async def workflow(_, context):
        async def leaf(inner):
            await inner.wait(SECOND)
            return 1

        async def middle(inner):
            return len((await inner.parallel([leaf, leaf], config=ParallelConfig(max_concurrency=1))).get_results())

        return (await context.parallel([middle, middle], config=ParallelConfig(max_concurrency=1))).get_results()

    assert result(execute(workflow, plane)) == [2, 2]


def test_map_with_futures(plane, bodies):
    """A map's function may return any awaitable, a future of its context among them."""

    async def workflow(_, context):
        config = MapConfig(item_namer=lambda item, _: f"item {item}")
        batch = await context.map(
            "ab", lambda inner, item, index, _: inner.step(bodies(item, [item, index])), "m", config
        )
        return batch.get_results()

    assert result(execute(workflow, plane)) == [["a", 0], ["b", 1]]
    assert {"item a", "item b", "m"} <= set(plane.statuses())


def test_failing_branch(plane, bodies):
    """A failed branch is in the result, and raised only when asked for."""

    async def workflow(_, context):
        async def bad(inner):
            await inner.step(bodies("bad", error=ValueError("broken")), config=NEVER)

        async def good(inner):
            return await inner.step(bodies("good"))

        config = ParallelConfig(completion_config=CompletionConfig.all_completed())
        batch = await context.parallel([bad, good], config=config)
        return [batch.has_failure, batch.get_results(), [error.message for error in batch.get_errors()]]

    assert result(execute(workflow, plane)) == [True, ["good"], ["broken"]]


def test_large_batches_are_rebuilt(plane, bodies):
    """The result of a batch above the threshold is rebuilt from its branches, in either nesting."""

    async def workflow(_, context):
        async def branch(inner, item, _index, _items):
            return await inner.step(bodies(item, "x" * 150), name=item)

        lengths = []
        for nesting in NestingType:
            config = MapConfig(nesting_type=nesting)
            batch = await context.map([f"{nesting.value}-{n}" for n in range(3)], branch, config=config)
            await context.wait(SECOND)
            lengths += [len(value) for value in batch.get_results()]
        return lengths

    assert result(execute(workflow, plane, replay_children_threshold=100)) == [150] * 6
    assert set(bodies.runs.values()) == {1}


# ----------------------------------------------------------------------------------------------------- in place


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
        while "after" not in plane.statuses():
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
        for _ in range(100):
            if plane.statuses():
                return plane.statuses()["long"]
            await asyncio.sleep(0.01)

    async def workflow(_, context):
        return await context.step(long, name="long")

    assert result(execute(workflow, plane)) == "STARTED"
    assert plane.sent == [["START long"], ["SUCCEED long"]]


def test_interruption_finishes_what_runs(plane, bodies):
    """An interrupted invocation records what its bodies bring, begins nothing more, and raises the reason."""

    async def body(_):
        threading.Thread(target=invocations[0].interrupt, args=(InvocationError("drained"),)).start()
        await asyncio.sleep(0.02)
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


# ------------------------------------------------------------------------------------------------------ promise


def test_promise_all(plane, bodies):
    """`all` gives the results in order, or the first error."""

    async def workflow(_, context):
        both = await context.promise.all([context.step(bodies("a", after=0.01)), context.step(bodies("b"))])
        empty = await context.promise.all([])
        try:
            await context.promise.all(
                [
                    context.step(bodies("slow", error=ValueError("slow"), after=0.02), config=NEVER),
                    context.step(bodies("fast", error=ValueError("fast")), config=NEVER),
                ]
            )
        except StepError as error:
            return [both, empty, error.message]

    assert result(execute(workflow, plane)) == [["a", "b"], [], "fast"]


def test_promise_all_settled(plane, bodies):
    """`all_settled` tells how each ended and never fails."""

    async def workflow(_, context):
        outcomes = await context.promise.all_settled(
            [context.step(bodies("a")), context.step(bodies("bad", error=ValueError("x")), config=NEVER)]
        )
        await context.wait(SECOND)
        return [[each.status, each.value, getattr(each.reason, "message", None)] for each in outcomes]

    assert result(execute(workflow, plane)) == [["fulfilled", "a", None], ["rejected", None, "x"]]


def test_promise_race_is_recorded(plane, bodies):
    """The winner of a race is recorded, and wins again on replay."""
    winners = []

    async def workflow(_, context):
        slow, fast = context.step(bodies("slow", after=0.02)), context.step(bodies("fast"))
        winners.append(await context.promise.race([slow, fast]))
        await slow
        await context.wait(SECOND)
        return winners[-1]

    assert result(execute(workflow, plane)) == "fast"
    assert winners == ["fast", "fast"]
    assert plane.operation("race").result == "1"
    assert plane.operation("race").step_details.attempt == 1
    assert bodies.runs == {"slow": 1, "fast": 1}


def test_promise_race_with_an_error(plane, bodies):
    """A race may be won by a failure."""

    async def workflow(_, context):
        slow = context.step(bodies("slow", after=0.02))
        bad = context.step(bodies("bad", error=ValueError("bad")), config=NEVER)
        try:
            await context.promise.race([slow, bad], name="who")
        except StepError as error:
            return [error.message, await slow]

    assert result(execute(workflow, plane)) == ["bad", "slow"]
    assert plane.operation("who").result == "1"


def test_promise_any(plane, bodies):
    """`any` gives the first success; when all fail, all errors."""

    async def workflow(_, context):
        def bad(key):
            return context.step(bodies(key, error=ValueError(key)), config=NEVER)

        won = await context.promise.any([bad("x"), context.step(bodies("good", after=0.01))])
        try:
            await context.promise.any([bad("y"), bad("z")], name="hopeless")
        except ExceptionGroup as group:
            messages = [error.message for error in group.exceptions]
        await context.wait(SECOND)
        return [won, messages]

    assert result(execute(workflow, plane)) == ["good", ["y", "z"]]
    assert plane.operation("hopeless").result == "-1"
    assert set(bodies.runs.values()) == {1}


def test_promise_members(plane, bodies):
    """Members may be tasks and coroutines over futures; a race of nothing is refused."""

    async def workflow(_, context):
        async def plus(future):
            return await future + 1

        first = asyncio.create_task(plus(context.step(bodies("a", 1))))
        values = await context.promise.all([first, plus(context.step(bodies("b", 2)))])
        with pytest.raises(Exception, match="at least one"):
            context.promise.race([])
        return values

    assert result(execute(workflow, plane)) == [2, 3]


def test_promise_race_against_a_callback(plane, bodies):
    """A race between a step and something outside survives a suspension."""

    async def workflow(_, context):
        callback = await context.create_callback(name="cb")
        timer = context.wait(Duration.from_seconds(60), name="timer")
        winner = await context.promise.race([timer, callback.result()])
        return winner

    assert result(execute(workflow, plane, pending=lambda _: plane.complete("cb", "answer"))) == "answer"


# ------------------------------------------------------------------------------------------------------- leaks


@pytest.mark.parametrize("ending", ["return", "suspend", "fail"])
def test_nothing_is_kept(plane, bodies, ending):
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

    for _ in range(3):
        invoke_once(workflow, Plane())
    gc.collect()
    assert [reference() for reference in references] == [None] * 3
