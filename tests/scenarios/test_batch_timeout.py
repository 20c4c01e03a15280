"""A parallel or map with a time limit of its own (feature 17)."""

from __future__ import annotations

import re
import threading

import pytest

from perdure.batch import BatchCompletionError
from perdure.config import CompletionConfig, Duration, MapConfig, NestingType, ParallelConfig
from tests.scenarios.stage import lines

HOUR = Duration.from_hours(1)
NESTINGS = pytest.mark.parametrize("nesting", list(NestingType))


def told(result):
    items = [f"{item.index} {item.status.value}" for item in result.all]
    return {"reason": result.completion_reason.value, "items": items, "results": result.get_results()}


def branches(stage):
    """One that finishes at once, and one that waits for longer than any limit."""
    quick, never = stage.body("quick", "done"), stage.body("never")

    async def first(context):
        return await context.step(quick, name="quick")

    async def second(context):
        await context.wait(HOUR, name="hour")
        await context.step(never, name="never")

    return [first, second]


@NESTINGS
def test_timed_out(stage, nesting):
    """What has finished is kept, the rest records nothing any more, and the workflow goes on."""

    async def workflow(event, context):
        config = ParallelConfig(timeout=Duration.from_minutes(5), nesting_type=nesting)
        result = await context.parallel(branches(stage), name="all", config=config)
        await context.wait(HOUR)
        try:
            result.throw_if_error()
        except BatchCompletionError as error:
            return {**told(result), "error": str(error)}

    outcome = stage.run(workflow)
    assert outcome.result == {
        "reason": "TIMED_OUT",
        "items": ["0 SUCCEEDED", "1 STARTED"],
        "results": ["done"],
        "error": "the batch ended as failed without a failed item (TIMED_OUT)",
    }
    assert stage.runs == {"quick": 1}
    told_of = outcome.by_operation
    assert told_of["all/all-timeout"] == "WaitStarted for 300 s; WaitSucceeded for 300 s"
    assert told_of["all/hour" if nesting is NestingType.FLAT else "all/parallel-branch-1/hour"].startswith(
        "WaitStarted for 3600 s"
    )


def test_in_time(stage):
    """The timer is cancelled together with the end of the batch, and wakes nobody."""

    async def workflow(event, context):
        config = ParallelConfig(max_concurrency=1, timeout=HOUR)
        result = await context.parallel(branches(stage)[:1], name="all", config=config)
        return result.get_results()

    outcome = stage.run(workflow)
    assert outcome.result == ["done"]
    assert re.sub(r"(ContextSucceeded all) = .*", r"\1", outcome.history) == lines(
        """
        ExecutionStarted
        ContextStarted all [Parallel]
        WaitStarted all/all-timeout for 3600 s
        ContextStarted all/parallel-branch-0 [ParallelBranch]
        StepStarted all/parallel-branch-0/quick
        StepSucceeded all/parallel-branch-0/quick #1 = "done"
        ContextSucceeded all/parallel-branch-0 = "done"
        WaitCancelled all/all-timeout
        ContextSucceeded all
        InvocationCompleted
        ExecutionSucceeded = ["done"]
        """
    )


def test_while_a_body_runs(stage):
    """The limit ends the batch on time although a branch is in the midst of a step, whose outcome is dropped."""
    release = threading.Event()

    async def stuck(context):
        await context.step(lambda _: stage.ran("stuck") and release.wait(10), name="stuck")
        await context.step(stage.body("never"), name="never")

    async def workflow(event, context):
        result = await context.parallel([stuck], name="all", config=ParallelConfig(timeout=Duration(1)))
        release.set()
        return told(result)

    outcome = stage.run(workflow)
    assert outcome.result == {"reason": "TIMED_OUT", "items": ["0 STARTED"], "results": []}
    assert stage.runs == {"stuck": 1}
    assert "StepSucceeded" not in outcome.history


def test_across_a_restart(stage):
    """The time runs while no process does, and a worker that remembers nothing finds the same result."""

    async def workflow(event, context):
        config = MapConfig(timeout=HOUR, max_concurrency=2, completion_config=CompletionConfig.all_completed())
        return told(await context.map(["a", "no", "c", "d", "e", "f", "g"], item, name="all", config=config))

    async def item(context, item, index, items):
        if item == "no":
            raise ValueError(item)
        await context.wait(Duration.from_minutes(25))
        return item

    function = stage.durable(workflow)
    handle = stage.start(function)
    stage.suspended(handle, "map-item-4", skipping=True)
    stage.halt()
    stage.skip(3600)
    stage.work()
    result = stage.end(handle).result
    assert result["reason"] == "TIMED_OUT"
    assert result["items"] == ["0 SUCCEEDED", "1 FAILED", "2 SUCCEEDED", "3 STARTED", "4 STARTED"]
    assert result["results"] == ["a", "c"]


def test_callbacks_in_time_and_late(stage):
    """A callback of a branch that was left behind may still be completed, and changes nothing."""

    async def approval(context):
        return await (await context.create_callback(name="approval")).result()

    async def workflow(event, context):
        result = await context.parallel([approval], name="all", config=ParallelConfig(timeout=Duration.from_minutes(5)))
        await context.wait(HOUR, name="after")
        return told(result)

    handle = stage.start(workflow)
    callback_id = stage.callback_id(handle, "approval")
    stage.skip(301)
    stage.suspended(handle, "after")
    stage.client.send_callback_success(callback_id, "late")
    assert stage.end(handle).result == {"reason": "TIMED_OUT", "items": ["0 STARTED"], "results": []}
