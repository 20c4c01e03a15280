"""The operations of async workflows, one by one: what is recorded, what is returned, how often bodies run."""

from __future__ import annotations

import asyncio

import pytest

from perdure.durable import (
    RetryDecision,
    StepConfig,
    StepSemantics,
    WaitForConditionConfig,
    WaitForConditionDecision,
    WithRetryConfig,
    with_retry,
)
from perdure.errors import (
    CallbackExternalError,
    StaleTokenError,
    StepError,
)
from perdure.model import ErrorObject
from tests.replay.async_host import NEVER, SECOND, Bodies, execute, invoke_once, result
from tests.replay.plane import Plane


@pytest.fixture
def plane():
    return Plane()


@pytest.fixture
def bodies():
    return Bodies()


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
