"""wait_for_condition: polling with a state (feature 5)."""

from __future__ import annotations

import re

from perdure.config import Duration, JitterStrategy
from perdure.errors import WaitForConditionError
from perdure.waits import (
    WaitForConditionConfig,
    WaitForConditionDecision,
    WaitStrategyConfig,
    create_wait_strategy,
)
from tests.scenarios.stage import lines


def until(limit):
    def strategy(state, attempts_made):
        if state["n"] >= limit:
            return WaitForConditionDecision.stop_polling()
        return WaitForConditionDecision.continue_waiting(Duration(10 * attempts_made))

    return strategy


def test_a_condition_is_polled_until_it_is_met(stage):
    """Each check gets the state of the last one; all checks are one step in history."""
    attempts = []

    def check(state, check_context):
        attempts.append((state["n"], check_context.attempt))
        return {"n": state["n"] + 1}

    async def workflow(event, context):
        await context.step(stage.body("before"), name="before")
        config = WaitForConditionConfig(wait_strategy=until(3), initial_state={"n": 0})
        return await context.wait_for_condition(check, config, name="ready")

    outcome = stage.run(workflow)
    assert outcome.result == {"n": 3}
    assert attempts == [(0, 1), (1, 2), (2, 3)]
    assert stage.runs == {"before": 1}
    state = '{"t":"m","v":{"n":{"t":"i","v":%d}}}'
    assert outcome.history == lines(
        f"""
        ExecutionStarted
        StepStarted before
        StepSucceeded before #1 = null
        StepStarted ready [WaitForCondition]
        StepSucceeded ready #1 = {state % 1}
        InvocationCompleted
        StepStarted ready [WaitForCondition]
        StepSucceeded ready #2 = {state % 2}
        InvocationCompleted
        StepStarted ready [WaitForCondition]
        StepSucceeded ready #3 = {state % 3}
        InvocationCompleted
        ExecutionSucceeded = {{"n": 3}}
        """
    )


def test_a_condition_that_is_met_at_once(stage):
    """One check, and no suspension; an `async def` check serves both colours."""

    async def check(state, _):
        return state + 1

    async def workflow(event, context):
        config = WaitForConditionConfig(lambda state, attempts: WaitForConditionDecision.stop_polling(), 0)
        return await context.wait_for_condition(check, config)

    outcome = stage.run(workflow)
    assert outcome.result == 1
    assert outcome.invocations == 1


def strategy(**options):
    return create_wait_strategy(
        WaitStrategyConfig(
            should_continue_polling=lambda state: state < 10,
            initial_delay=Duration.from_minutes(2),
            jitter_strategy=JitterStrategy.NONE,
            **options,
        )
    )


def test_attempts_exhausted(stage):
    """It is raised as WaitForConditionError, the same on replay."""
    seen = []

    async def workflow(event, context):
        config = WaitForConditionConfig(strategy(max_attempts=3), 0)
        try:
            await context.wait_for_condition(lambda state, _: stage.ran("check"), config, name="ready")
        except WaitForConditionError as error:
            seen.append((error.error_type, error.message))
        await context.wait(Duration(1))
        return "gave up"

    outcome = stage.run(workflow)
    assert outcome.result == "gave up"
    assert stage.runs == {"check": 3}
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert "3" in seen[0][1]
    assert re.search(r"StepFailed ready #3 ! WaitForConditionError: ", outcome.history)


def test_delays_grow(stage):
    """The built wait strategy backs off up to its longest delay."""

    async def workflow(event, context):
        config = WaitForConditionConfig(strategy(backoff_rate=3, max_delay=Duration.from_minutes(7)), 6)
        return await context.wait_for_condition(lambda state, _: stage.ran("check") and state + 1, config, name="ready")

    handle = stage.start(workflow)
    delays = []
    while len(delays) < 3:
        due = stage.suspended(handle, "ready").operation(handle, "ready").due
        checked = [event for event in handle.history() if event.event_type == "StepSucceeded"]
        delays.append(round((due - checked[-1].event_timestamp).total_seconds()))
        stage.skip_idle_time()
        stage.reached(handle, lambda seen=delays[:]: stage.runs["check"] > len(seen))
    assert stage.end(handle).result == 10
    assert delays == [120, 360, 420]


def test_a_check_that_raises(stage):
    """The check is not repeated; its error is the cause."""

    async def workflow(event, context):
        config = WaitForConditionConfig(until(1), {"n": 0})
        try:
            await context.wait_for_condition(stage.body("check", ValueError("broken")), config, name="ready")
        except WaitForConditionError as error:
            return [error.error_type, error.message, error.__cause__.error_type]

    outcome = stage.run(workflow)
    assert outcome.result == ["ValueError", "broken", "ValueError"]
    assert stage.runs == {"check": 1}
    assert "StepFailed ready #1 ! ValueError: broken" in outcome.history


def test_an_interrupted_check_keeps_its_state(stage):
    """After a crash the check is repeated with the last recorded state, not from the beginning."""
    states = []

    def check(state, _):
        states.append(state["n"])
        if states == [0, 1]:
            raise SystemExit(1)
        return {"n": state["n"] + 1}

    async def workflow(event, context):
        config = WaitForConditionConfig(until(3), {"n": 0})
        return await context.wait_for_condition(check, config, name="ready")

    assert stage.run(workflow).result == {"n": 3}
    assert states == [0, 1, 1, 2]
