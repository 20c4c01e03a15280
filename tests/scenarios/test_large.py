"""Results above 262,144 characters: kept as a summary, rebuilt from what is recorded (feature 12)."""

from __future__ import annotations

import json

import pytest

from perdure.batch import BatchResult
from perdure.config import ChildConfig, CompletionConfig, Duration, MapConfig, NestingType, ParallelConfig

LARGE = 300_000
PART = 100_000


def context_details(stage, handle, name):
    return stage.operation(handle, name).context_details


def replayed(stage, workflow):
    """Run a workflow that pauses once, with another worker after the pause."""
    handle = stage.start(workflow)
    stage.suspended(handle, "pause").restart()
    return stage.end(handle)


def test_a_child_with_a_large_result(stage):
    """Its body is run again on replay over its recorded steps, none of which runs again; the result is the same."""
    seen = []

    async def workflow(event, context):
        async def child(child_context):
            stage.ran("child")
            letter = await child_context.step(stage.body("letter", "x"), name="letter")
            return letter * LARGE

        seen.append(await context.run_in_child_context(child, name="large"))
        await context.wait(Duration.from_minutes(1), name="pause")
        return len(seen[-1])

    outcome = replayed(stage, workflow)
    assert outcome.result == LARGE
    assert seen == ["x" * LARGE] * 2
    assert stage.runs == {"child": 2, "letter": 1}
    details = context_details(stage, outcome.handle, "large")
    assert details.replay_children
    assert details.result == ""


def test_a_child_with_a_summary(stage):
    """What a summary generator makes of the result is what history shows."""

    async def workflow(event, context):
        async def child(child_context):
            return "x" * LARGE

        config = ChildConfig(summary_generator=lambda result: f"{len(result)} letters")
        value = await context.run_in_child_context(child, name="large", config=config)
        await context.wait(Duration.from_minutes(1), name="pause")
        return len(value)

    outcome = replayed(stage, workflow)
    assert outcome.result == LARGE
    assert outcome.by_operation["large"] == "ContextStarted [RunInChildContext]; ContextSucceeded = 300000 letters"


def test_a_result_at_the_threshold(stage):
    """262,144 characters are stored as they are, one more is not."""

    async def workflow(event, context):
        for length in (262_144, 262_145):

            async def child(child_context, length=length):
                return "x" * (length - 2)

            await context.run_in_child_context(child, name=f"{length}")

    handle = stage.run(workflow).handle
    assert not context_details(stage, handle, "262144").replay_children
    assert context_details(stage, handle, "262145").replay_children


@pytest.mark.parametrize("nesting", list(NestingType), ids=lambda nesting: nesting.value)
@pytest.mark.parametrize("summary", [None, lambda result: f"{result.success_count} of them"], ids=["plain", "summary"])
@pytest.mark.parametrize("kind", ["map", "parallel"])
def test_a_batch_with_a_large_result(stage, nesting, summary, kind):
    """It is rebuilt from its branches: no body runs again, and the result is equal."""
    seen = []

    async def workflow(event, context):
        async def branch(branch_context, n):
            letter = await branch_context.step(stage.body(f"letter-{n}", "abcd"[n]), name="letter")
            if n == 3:
                raise ValueError("no")
            return letter * PART

        shared = {
            "nesting_type": nesting,
            "summary_generator": summary,
            "completion_config": CompletionConfig.all_completed(),
        }
        if kind == "map":
            result = await context.map(
                [0, 1, 2, 3], lambda c, item, i, s: branch(c, item), name="large", config=MapConfig(**shared)
            )
        else:
            branches = [lambda c, n=n: branch(c, n) for n in range(4)]
            result = await context.parallel(branches, name="large", config=ParallelConfig(**shared))
        seen.append(result)
        await context.wait(Duration.from_minutes(1), name="pause")
        return [len(value) for value in result.get_results()]

    outcome = replayed(stage, workflow)
    assert outcome.result == [PART] * 3
    assert isinstance(seen[0], BatchResult)
    assert seen[0] == seen[1]
    assert seen[0].get_results() == [letter * PART for letter in "abc"]
    assert [item.error.message for item in seen[0].failed()] == ["no"]
    assert stage.runs == {f"letter-{n}": 1 for n in range(4)}
    details = context_details(stage, outcome.handle, "large")
    assert details.replay_children
    expected = {
        "type": "MapResult" if kind == "map" else "ParallelResult",
        "totalCount": 4,
        "completionReason": "ALL_COMPLETED",
        "startedIndexes": [],
        "startedCount": 0,
        "successCount": 3,
        "failureCount": 1,
        "status": "FAILED",
    }
    assert json.loads(details.result) == (expected | {"summary": "3 of them"} if summary else expected)


@pytest.mark.parametrize("nesting", list(NestingType), ids=lambda nesting: nesting.value)
def test_a_large_batch_that_ended_early(stage, nesting):
    """The recorded decision is reproduced: which branches had not ended, and that others never began."""
    seen = []

    async def workflow(event, context):
        async def item(item_context, n, index, items):
            if n == 1:
                callback = await item_context.create_callback(name="never")
                await callback.result()
            await item_context.step(stage.body(f"step-{n}"), name="step")
            return "x" * PART

        config = MapConfig(
            max_concurrency=2, nesting_type=nesting, completion_config=CompletionConfig(min_successful=3)
        )
        result = await context.map(list(range(6)), item, name="large", config=config)
        seen.append(result)
        await context.wait(Duration.from_minutes(1), name="pause")
        return [f"{item.index} {item.status.value}" for item in result.all]

    outcome = replayed(stage, workflow)
    assert outcome.result == ["0 SUCCEEDED", "1 STARTED", "2 SUCCEEDED", "3 SUCCEEDED"]
    assert seen[0] == seen[1]
    assert stage.runs == {"step-0": 1, "step-2": 1, "step-3": 1}


def test_a_large_branch_in_a_small_batch(stage):
    """A branch whose own result is too large is read again over its records, alone."""
    seen = []

    async def workflow(event, context):
        async def item(item_context, n, index, items):
            stage.ran(f"item-{n}")
            letter = await item_context.step(stage.body(f"letter-{n}", "abc"[n]), name="letter")
            return letter * (LARGE if n == 1 else 1)

        result = await context.map([0, 1, 2], item, name="large")
        seen.append(result)
        await context.wait(Duration.from_minutes(1), name="pause")
        return [len(value) for value in result.get_results()]

    outcome = replayed(stage, workflow)
    assert outcome.result == [1, LARGE, 1]
    assert seen[0] == seen[1]
    assert stage.runs == {"item-0": 1, "item-1": 2, "item-2": 1, **{f"letter-{n}": 1 for n in range(3)}}
    assert context_details(stage, outcome.handle, "map-item-1").replay_children
    assert not context_details(stage, outcome.handle, "map-item-0").replay_children


SIX_MIB = 6 * 1024 * 1024


@pytest.mark.parametrize("size", [1_000_000, SIX_MIB - 50, SIX_MIB - 49, SIX_MIB])
def test_a_large_result_of_the_execution(stage, size):
    """Up to 6 MiB are returned; what does not fit into an invocation's output is checkpointed."""

    async def workflow(event, context):
        return "x" * (size - 2)

    assert stage.run(workflow).result == "x" * (size - 2)


def test_a_result_of_the_execution_that_is_too_large(stage):
    """It fails the execution, and says how much would have been accepted."""

    async def workflow(event, context):
        return "x" * SIX_MIB

    outcome = stage.run(workflow)
    assert outcome.status == "FAILED"
    assert str(SIX_MIB) in outcome.error.error_message
