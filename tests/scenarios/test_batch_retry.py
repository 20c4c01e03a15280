"""A parallel or map that is done again as a whole while it fails (feature 17)."""

from __future__ import annotations

import pytest

from perdure.config import CompletionConfig, Duration, MapConfig, NestingType, ParallelConfig
from perdure.retries import RetryDecision

NESTINGS = pytest.mark.parametrize("nesting", list(NestingType))


def again(error, attempt):
    return RetryDecision.retry(Duration(attempt)) if attempt < 3 else RetryDecision.no_retry()


def told(result):
    items = [f"{item.index} {item.status.value}" for item in result.all]
    return {"reason": result.completion_reason.value, "items": items, "results": result.get_results()}


@NESTINGS
def test_until_nothing_fails(stage, nesting):
    """Each attempt runs all branches afresh, in a context in the batch's place, with waits between."""

    async def item(context, item, index, items):
        run = await context.step(lambda _: stage.ran(item), name=item)
        if item == "flaky" and run < 3:
            raise ValueError(f"no {run}")
        return run

    async def workflow(event, context):
        config = MapConfig(
            completion_config=CompletionConfig.all_completed(), nesting_type=nesting, retry_strategy=again
        )
        return told(await context.map(["flaky", "well"], item, name="all", config=config))

    outcome = stage.run(workflow)
    expected = {"reason": "ALL_COMPLETED", "items": ["0 SUCCEEDED", "1 SUCCEEDED"], "results": [3, 3]}
    assert outcome.result == expected
    assert stage.runs == {"flaky": 3, "well": 3}
    told_of = outcome.by_operation
    assert told_of["all/all-backoff-1"] == "WaitStarted for 1 s; WaitSucceeded for 1 s"
    assert told_of["all/all-backoff-2"] == "WaitStarted for 2 s; WaitSucceeded for 2 s"
    assert told_of["all"].startswith("ContextStarted [RunInChildContext]; ContextSucceeded")
    assert told_of["all/all"].count("ContextStarted [Map]") == 3


def test_given_up(stage):
    """The result of the last attempt is returned, with its failures; raising is the workflow's affair."""

    async def branch(context):
        raise ValueError(stage.ran("branch"))

    async def workflow(event, context):
        result = await context.parallel([branch], config=ParallelConfig(retry_strategy=again))
        return [told(result)["items"], [error.message for error in result.get_errors()]]

    assert stage.run(workflow).result[0] == ["0 FAILED"]
    assert stage.runs["branch"] == 3


def test_each_attempt_has_its_time(stage):
    """With a timeout, an attempt that times out is made again, and has all of the time."""

    async def branch(context):
        attempt = await context.step(lambda _: stage.ran("branch"), name="attempt")
        await context.wait(Duration(1000 if attempt < 3 else 50))
        return attempt

    async def workflow(event, context):
        config = ParallelConfig(timeout=Duration.from_minutes(1), retry_strategy=again)
        return told(await context.parallel([branch], name="all", config=config))

    outcome = stage.run(workflow)
    assert outcome.result == {"reason": "ALL_COMPLETED", "items": ["0 SUCCEEDED"], "results": [3]}
    timers = [each for each in outcome.handle.operations() if each.name == "all-timeout"]
    assert [each.status.value for each in timers] == ["SUCCEEDED", "SUCCEEDED", "CANCELLED"]


def test_across_a_restart(stage):
    """A worker that remembers nothing goes on with the attempt that was under way."""

    async def branch(context):
        run = await context.step(lambda _: stage.ran("branch"), name="attempt")
        await context.wait(Duration(30), name="pause")
        if run == 1:
            raise ValueError("no")
        return run

    async def workflow(event, context):
        config = ParallelConfig(retry_strategy=lambda *_: RetryDecision.retry(Duration(100)))
        return told(await context.parallel([branch], name="all", config=config))

    function = stage.durable(workflow)
    handle = stage.start(function)
    stage.suspended(handle, "all-backoff-1", skipping=True)
    stage.restart(function)
    stage.skip(101)
    stage.reached(handle, lambda: stage.runs["branch"] == 2)
    stage.restart(function)
    assert stage.end(handle).result["results"] == [2]
    assert stage.runs == {"branch": 2}
