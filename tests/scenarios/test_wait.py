"""Waits (feature 3)."""

from __future__ import annotations

import pytest

from perdure.config import Duration
from perdure.errors import ValidationError
from tests.scenarios.stage import lines


def test_a_wait(stage):
    """The workflow goes on when the time has come, in another invocation; what came before does not run again."""

    async def workflow(event, context):
        first = await context.step(stage.body("before", 1), name="before")
        slept = await context.wait(Duration.from_days(3), name="cool-off")
        return [first, slept, await context.step(stage.body("after", 2), name="after")]

    outcome = stage.run(workflow)
    assert outcome.result == [1, None, 2]
    assert stage.runs == {"before": 1, "after": 1}
    assert outcome.history == lines(
        """
        ExecutionStarted
        StepStarted before
        StepSucceeded before #1 = 1
        WaitStarted cool-off for 259200 s
        InvocationCompleted
        WaitSucceeded cool-off for 259200 s
        StepStarted after
        StepSucceeded after #1 = 2
        InvocationCompleted
        ExecutionSucceeded = [1, null, 2]
        """
    )


def test_a_wait_is_not_over_early(stage):
    """Before its time, a wait keeps the workflow suspended, also across a restart."""

    async def workflow(event, context):
        await context.wait(Duration.from_hours(1), name="hour")
        return "over"

    handle = stage.start(workflow)
    stage.suspended(handle, "hour").skip(3000)
    stage.restart()
    stage.suspended(handle, "hour")
    assert handle.describe().status.value == "RUNNING"
    assert "WaitSucceeded" not in [event.event_type for event in handle.history()]
    stage.skip(700)
    assert stage.end(handle).result == "over"


def test_waits_without_names(stage):
    """Several waits follow each other, each its own suspension."""

    async def workflow(event, context):
        for minutes in range(1, 4):
            await context.wait(Duration.from_minutes(minutes))
        return "done"

    outcome = stage.run(workflow)
    assert outcome.history == lines(
        """
        ExecutionStarted
        WaitStarted (Wait) for 60 s
        InvocationCompleted
        WaitSucceeded (Wait) for 60 s
        WaitStarted (Wait) for 120 s
        InvocationCompleted
        WaitSucceeded (Wait) for 120 s
        WaitStarted (Wait) for 180 s
        InvocationCompleted
        WaitSucceeded (Wait) for 180 s
        InvocationCompleted
        ExecutionSucceeded = "done"
        """
    )


def test_a_real_second(stage):
    """A wait also ends when nobody skips time."""

    async def workflow(event, context):
        await context.wait(Duration(1))
        return "done"

    assert stage.start(workflow).result(timeout=10) == "done"


def test_a_wait_below_a_second_is_refused(stage):
    """It is an error of the call, and leaves no operation behind."""

    async def workflow(event, context):
        with pytest.raises(ValidationError, match="shortest lasts 1 s"):
            await context.wait(Duration(0))
        return "refused"

    outcome = stage.run(workflow)
    assert outcome.result == "refused"
    assert len(outcome.handle.operations()) == 1
