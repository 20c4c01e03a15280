"""When a batch is over, and why (feature 10)."""

from __future__ import annotations

import threading

import pytest

from perdure.batch import BatchCompletionError
from perdure.config import (
    CompletionConfig,
    CompletionOutcome,
    Duration,
    MapConfig,
    NestingType,
    ParallelConfig,
    complete_batch,
    continue_batch,
)
from perdure.errors import ChildContextError


def described(result):
    return {
        "reason": result.completion_reason.value,
        "status": result.status.value,
        "items": [f"{item.index} {item.status.value}" for item in result.all],
    }


def items(stage):
    """A function that succeeds, or fails for items that are texts."""

    async def item(context, item, index, items):
        stage.ran("item")
        if item == "no":
            raise ValueError(item)
        return item

    return item


async def mapped(context, stage, inputs, completion, **options):
    """The description of a map, one item at a time, live or on replay."""
    config = MapConfig(max_concurrency=1, completion_config=completion, **options)
    result = await context.map(inputs, items(stage), name="batch", config=config)
    return described(result)


ROWS = {
    "all_successful": (
        CompletionConfig.all_successful(),
        [1, "no", 3],
        ("FAILURE_TOLERANCE_EXCEEDED", "FAILED", ["0 SUCCEEDED", "1 FAILED"]),
    ),
    "all_successful, met": (
        CompletionConfig.all_successful(),
        [1, 2],
        ("ALL_COMPLETED", "SUCCEEDED", ["0 SUCCEEDED", "1 SUCCEEDED"]),
    ),
    "no criterion": (
        CompletionConfig(),
        ["no", 2],
        ("FAILURE_TOLERANCE_EXCEEDED", "FAILED", ["0 FAILED"]),
    ),
    "all_completed": (
        CompletionConfig.all_completed(),
        ["no", 2, "no"],
        ("ALL_COMPLETED", "FAILED", ["0 FAILED", "1 SUCCEEDED", "2 FAILED"]),
    ),
    "first_successful": (
        CompletionConfig.first_successful(),
        ["no", 2, 3],
        ("MIN_SUCCESSFUL_REACHED", "FAILED", ["0 FAILED", "1 SUCCEEDED"]),
    ),
    "min_successful": (
        CompletionConfig(min_successful=2),
        [1, 2, 3, 4],
        ("MIN_SUCCESSFUL_REACHED", "SUCCEEDED", ["0 SUCCEEDED", "1 SUCCEEDED"]),
    ),
    "min_successful, missed": (
        CompletionConfig(min_successful=2),
        [1, "no"],
        ("ALL_COMPLETED", "FAILED", ["0 SUCCEEDED", "1 FAILED"]),
    ),
    "min_successful, the last one": (
        CompletionConfig(min_successful=2),
        [1, 2],
        ("ALL_COMPLETED", "SUCCEEDED", ["0 SUCCEEDED", "1 SUCCEEDED"]),
    ),
    "tolerated count": (
        CompletionConfig(tolerated_failure_count=1),
        ["no", 2, "no", 4],
        ("FAILURE_TOLERANCE_EXCEEDED", "FAILED", ["0 FAILED", "1 SUCCEEDED", "2 FAILED"]),
    ),
    "tolerated count, kept": (
        CompletionConfig(tolerated_failure_count=1),
        ["no", 2, 3],
        ("ALL_COMPLETED", "FAILED", ["0 FAILED", "1 SUCCEEDED", "2 SUCCEEDED"]),
    ),
    "tolerated percentage": (
        CompletionConfig(tolerated_failure_percentage=25),
        ["no", 2, "no", 4],
        ("FAILURE_TOLERANCE_EXCEEDED", "FAILED", ["0 FAILED", "1 SUCCEEDED", "2 FAILED"]),
    ),
    "tolerated percentage, kept": (
        CompletionConfig(tolerated_failure_percentage=25),
        ["no", 2, 3, 4],
        ("ALL_COMPLETED", "FAILED", ["0 FAILED", "1 SUCCEEDED", "2 SUCCEEDED", "3 SUCCEEDED"]),
    ),
    "tolerance before the rest": (
        CompletionConfig(min_successful=2, tolerated_failure_count=0),
        [1, "no", 3],
        ("FAILURE_TOLERANCE_EXCEEDED", "FAILED", ["0 SUCCEEDED", "1 FAILED"]),
    ),
}


@pytest.mark.parametrize(("completion", "inputs", "expected"), ROWS.values(), ids=ROWS)
def test_thresholds(stage, completion, inputs, expected):
    """Each threshold ends the batch when it should and says why, on the first run and on replay."""
    seen = []

    async def workflow(event, context):
        seen.append(await mapped(context, stage, inputs, completion))
        await context.wait(Duration(1))

    assert stage.run(workflow).status == "SUCCEEDED"
    reason, status, branches = expected
    assert seen == [{"reason": reason, "status": status, "items": branches}] * 2
    assert stage.runs["item"] == len(branches)


def test_defaults(stage):
    """Without a completion config both parallel and map end at the first failure."""

    async def workflow(event, context):
        async def bad(_):
            raise ValueError("no")

        async def good(_):
            return 1

        one = ParallelConfig(max_concurrency=1)
        return [
            described(await context.parallel([bad, good], config=one))["items"],
            described(await context.map(["no", 1], items(stage), config=MapConfig(max_concurrency=1)))["items"],
        ]

    assert stage.run(workflow).result == [["0 FAILED"], ["0 FAILED"]]


@pytest.mark.parametrize("nesting", list(NestingType), ids=lambda nesting: nesting.value)
def test_early_exit_leaves_others_started(stage, nesting):
    """A batch that is content does not wait for branches that wait; they are STARTED in its result, then and later."""
    seen = []

    async def workflow(event, context):
        async def quick(branch):
            return await branch.step(stage.body("quick", "first"), name="quick")

        async def never(branch):
            await branch.step(stage.body("before"), name="before")
            callback = await branch.create_callback(name="never")
            await callback.result()

        async def gate(branch):
            await branch.wait(Duration(5), name="gate")
            return await branch.step(stage.body("gated", "second"), name="gated")

        config = ParallelConfig(completion_config=CompletionConfig(min_successful=2), nesting_type=nesting)
        result = await context.parallel([quick, never, gate], name="batch", config=config)
        seen.append((described(result), result.get_results()))
        await context.wait(Duration.from_minutes(1), name="pause")
        return await context.step(stage.body("after", "done"), name="after")

    outcome = stage.run(workflow)
    assert outcome.result == "done"
    assert len(seen) == 2
    for batch, results in seen:
        assert batch == {
            "reason": "MIN_SUCCESSFUL_REACHED",
            "status": "SUCCEEDED",
            "items": ["0 SUCCEEDED", "1 STARTED", "2 SUCCEEDED"],
        }
        assert results == ["first", "second"]
    assert stage.runs == {"quick": 1, "before": 1, "gated": 1, "after": 1}


def test_an_orphan_records_nothing(stage):
    """A body that is still running when its batch ends is let run, but what it returns is not recorded."""
    begun, ended, finished = threading.Event(), threading.Event(), threading.Event()

    def slow(_):
        begun.set()
        ended.wait(10)
        finished.set()
        return "too late"

    async def workflow(event, context):
        async def first(branch):
            return await branch.step(lambda _: begun.wait(10) and "first", name="first")

        async def second(branch):
            await branch.step(slow, name="slow")
            await branch.step(stage.body("after the end"), name="next")

        config = ParallelConfig(completion_config=CompletionConfig.first_successful())
        result = await context.parallel([first, second], name="race", config=config)
        ended.set()
        return [result.get_results(), await context.step(lambda _: finished.wait(10), name="after")]

    outcome = stage.run(workflow)
    assert outcome.result == [["first"], True]
    assert stage.runs == {}
    assert outcome.by_operation["race/parallel-branch-1/slow"] == "StepStarted"
    assert outcome.by_operation["race/parallel-branch-1"] == "ContextStarted [ParallelBranch]"


def test_a_predicate(stage):
    """A predicate sees all branches, and alone decides when the batch is over and as what."""
    totals = set()

    def two_thirds(status):
        totals.add(status.total_count)
        assert [item.index for item in status.items] == list(range(status.total_count))
        if status.success_count * 3 >= status.total_count * 2:
            return complete_batch()
        return continue_batch()

    seen = []

    async def workflow(event, context):
        seen.append(
            await mapped(context, stage, [1, "no", 3, "no", 5, 6], CompletionConfig(should_complete=two_thirds))
        )
        await context.wait(Duration(1))

    assert stage.run(workflow).status == "SUCCEEDED"
    assert totals == {6}
    assert (
        seen
        == [
            {
                "reason": "CUSTOM_COMPLETION_SUCCEEDED",
                "status": "SUCCEEDED",
                "items": ["0 SUCCEEDED", "1 FAILED", "2 SUCCEEDED", "3 FAILED", "4 SUCCEEDED", "5 SUCCEEDED"],
            }
        ]
        * 2
    )


def test_a_predicate_that_ends_a_batch_as_failed(stage):
    """throw_if_error then raises, though no branch has failed."""

    def too_few(status):
        return complete_batch(CompletionOutcome.FAILED) if status.completed_count == 1 else continue_batch()

    async def workflow(event, context):
        config = MapConfig(max_concurrency=1, completion_config=CompletionConfig(should_complete=too_few))
        result = await context.map([1, 2, 3], items(stage), config=config)
        try:
            result.throw_if_error()
        except BatchCompletionError as error:
            return [described(result), error.completion_reason.value]

    assert stage.run(workflow).result == [
        {"reason": "CUSTOM_COMPLETION_FAILED", "status": "FAILED", "items": ["0 SUCCEEDED"]},
        "CUSTOM_COMPLETION_FAILED",
    ]


def test_a_predicate_may_be_content_before_the_first_branch(stage):
    """Then none is started."""

    async def workflow(event, context):
        return await mapped(context, stage, [1, 2], CompletionConfig(should_complete=lambda _: complete_batch()))

    outcome = stage.run(workflow)
    assert outcome.result == {"reason": "CUSTOM_COMPLETION_SUCCEEDED", "status": "SUCCEEDED", "items": []}
    assert stage.runs == {}


def test_a_predicate_that_is_never_content(stage):
    """The batch is over when all branches are."""

    async def workflow(event, context):
        return await mapped(context, stage, [1, "no"], CompletionConfig(should_complete=lambda _: continue_batch()))

    assert stage.run(workflow).result == {
        "reason": "ALL_COMPLETED",
        "status": "FAILED",
        "items": ["0 SUCCEEDED", "1 FAILED"],
    }


def test_a_predicate_that_raises(stage):
    """It fails the batch as an operation."""

    def broken(status):
        raise RuntimeError("no idea")

    async def workflow(event, context):
        try:
            await mapped(context, stage, [1], CompletionConfig(should_complete=broken))
        except ChildContextError as error:
            return [error.error_type, error.message]

    assert stage.run(workflow).result == ["RuntimeError", "no idea"]
