"""parallel: branches side by side (features 8, 11, 16)."""

from __future__ import annotations

import threading

import pytest

from perdure.batch import BatchItem, BatchItemStatus, BatchResult, CompletionReason
from perdure.config import (
    CompletionConfig,
    Duration,
    JitterStrategy,
    NestingType,
    ParallelBranch,
    ParallelConfig,
    StepConfig,
)
from perdure.durable import durable_parallel_branch
from perdure.errors import ChildContextError, ValidationError
from perdure.model import ErrorObject
from perdure.retries import RetryPresets, RetryStrategyConfig, create_retry_strategy
from tests.scenarios.stage import lines


def test_plain_branches(stage):
    """Branches are named by their index; the result has theirs in order."""

    async def workflow(event, context):
        async def one(branch):
            return await branch.step(stage.body("one", 1), name="load")

        async def two(branch):
            return await branch.step(stage.body("two", 2), name="load")

        result = await context.parallel([one, two], name="both")
        return [result.get_results(), result.completion_reason.value]

    outcome = stage.run(workflow)
    assert outcome.result == [[1, 2], "ALL_COMPLETED"]
    assert stage.runs == {"one": 1, "two": 1}
    batch = (
        '{"t":"br","v":{"all":{"t":"l","v":['
        '{"t":"m","v":{"index":{"t":"i","v":0},"status":{"t":"s","v":"SUCCEEDED"},'
        '"result":{"t":"i","v":1},"error":{"t":"n","v":null}}},'
        '{"t":"m","v":{"index":{"t":"i","v":1},"status":{"t":"s","v":"SUCCEEDED"},'
        '"result":{"t":"i","v":2},"error":{"t":"n","v":null}}}]},'
        '"completionReason":{"t":"s","v":"ALL_COMPLETED"}}}'
    )
    shown = batch if len(batch) <= 300 else f"<{len(batch)} characters>"
    assert outcome.by_operation == {
        "": 'ExecutionStarted; ExecutionSucceeded = [[1, 2], "ALL_COMPLETED"]',
        "both": f"ContextStarted [Parallel]; ContextSucceeded = {shown}",
        "both/parallel-branch-0": "ContextStarted [ParallelBranch]; ContextSucceeded = 1",
        "both/parallel-branch-0/load": "StepStarted; StepSucceeded #1 = 1",
        "both/parallel-branch-1": "ContextStarted [ParallelBranch]; ContextSucceeded = 2",
        "both/parallel-branch-1/load": "StepStarted; StepSucceeded #1 = 2",
    }


def test_named_branches(stage):
    """A ParallelBranch has its own name; a decorated function brings its arguments, and its name if it is given one."""

    @durable_parallel_branch(name="fetch-user")
    async def fetch(branch, user):
        return await branch.step(lambda _: {"user": user})

    @durable_parallel_branch()
    async def orders(branch, *, count):
        return count

    async def plain(branch):
        return "plain"

    async def workflow(event, context):
        branches = [fetch("ann"), orders(count=3), ParallelBranch(plain, name="third"), ParallelBranch(plain)]
        return (await context.parallel(branches, name="load")).get_results()

    outcome = stage.run(workflow)
    assert outcome.result == [{"user": "ann"}, 3, "plain", "plain"]
    assert {path for path in outcome.by_operation if path.count("/") == 1} == {
        "load/fetch-user",
        "load/parallel-branch-1",
        "load/third",
        "load/parallel-branch-3",
    }


def test_no_branches(stage):
    """A batch of nothing has completed."""

    async def workflow(event, context):
        result = await context.parallel([])
        return [result.total_count, result.completion_reason.value, result.status.value]

    assert stage.run(workflow).result == [0, "ALL_COMPLETED", "SUCCEEDED"]


def test_branches_run_side_by_side(stage):
    """Bodies of several branches run at the same time: each waits for the other one."""
    together = threading.Barrier(3, timeout=10)

    async def branch(context):
        return await context.step(lambda _: together.wait() * 0, name="meet")

    async def workflow(event, context):
        return (await context.parallel([branch] * 3)).get_results()

    assert stage.run(workflow).result == [0, 0, 0]


def test_at_most_so_many_at_a_time(stage):
    """max_concurrency bounds how many branches run at once; all are run in the end."""
    running, most, lock = [], [], threading.Lock()
    pairs = threading.Barrier(2, timeout=10)

    def body(_):
        with lock:
            running.append(1)
            most.append(len(running))
        pairs.wait()
        with lock:
            running.pop()

    async def branch(context):
        await context.step(body)
        return 1

    async def workflow(event, context):
        return sum((await context.parallel([branch] * 6, config=ParallelConfig(max_concurrency=2))).get_results())

    assert stage.run(workflow).result == 6
    assert max(most) == 2


def test_a_waiting_branch_keeps_its_slot(stage):
    """With one slot the second branch starts when the first one, which waits, has ended."""
    order = []

    async def branch(context, name):
        await context.step(lambda _: order.append(name), name=f"{name}-1")
        await context.wait(Duration(10), name=f"{name}-wait")
        await context.step(lambda _: order.append(name), name=f"{name}-2")

    async def workflow(event, context):
        branches = [lambda branch_context, name=name: branch(branch_context, name) for name in "ab"]
        result = await context.parallel(branches, config=ParallelConfig(max_concurrency=1))
        return result.success_count

    assert stage.run(workflow).result == 2
    assert order == ["a", "a", "b", "b"]


def test_branches_wait_together(stage):
    """Waits of several branches pass at the same time; the longest one counts."""

    async def workflow(event, context):
        def waiting(seconds):
            async def branch(branch_context):
                await branch_context.wait(Duration(seconds), name="wait")
                return await branch_context.step(stage.body(f"after-{seconds}", seconds), name="after")

            return branch

        return (await context.parallel([waiting(30), waiting(10), waiting(20)], name="waits")).get_results()

    handle = stage.start(workflow)
    begun = stage.clock()
    outcome = stage.end(handle)
    assert outcome.result == [30, 10, 20]
    assert stage.clock() - begun < 45_000_000
    assert stage.runs == {"after-30": 1, "after-10": 1, "after-20": 1}


def test_a_branch_resumes_while_another_one_runs(stage):
    """A wait in a branch ends in the same invocation if another branch keeps it alive."""
    resumed = threading.Event()

    async def slow(context):
        return await context.step(lambda _: resumed.wait(10), name="slow")

    async def waiting(context):
        await context.wait(Duration(1), name="wait")
        await context.step(lambda _: resumed.set(), name="after")
        return True

    async def workflow(event, context):
        return (await context.parallel([slow, waiting])).get_results()

    outcome = stage.run(workflow)
    assert outcome.result == [True, True]
    assert outcome.invocations == 1


def test_a_branch_that_retries(stage):
    """A retry in one branch does not run the other one again."""
    config = StepConfig(
        retry_strategy=create_retry_strategy(
            RetryStrategyConfig(initial_delay=Duration(3), jitter_strategy=JitterStrategy.NONE)
        )
    )

    async def flaky(context):
        return await context.step(stage.body("flaky", ValueError("x"), "ok"), name="flaky", config=config)

    async def steady(context):
        return await context.step(stage.body("steady", "ok"), name="steady")

    async def workflow(event, context):
        return (await context.parallel([flaky, steady], name="both")).get_results()

    outcome = stage.run(workflow)
    assert outcome.result == ["ok", "ok"]
    assert stage.runs == {"flaky": 2, "steady": 1}
    assert outcome.by_operation["both/parallel-branch-0/flaky"] == (
        'StepStarted; StepFailed #1 ! ValueError: x, again in 3 s; StepStarted; StepSucceeded #2 = "ok"'
    )


def test_a_failed_branch_leaves_the_others_alone(stage):
    """Failures are captured and not raised; the batch as an operation succeeds (feature 16)."""
    config = ParallelConfig(completion_config=CompletionConfig.all_completed())

    async def good(context):
        return await context.step(stage.body("good", "fine"))

    async def bad(context):
        await context.step(stage.body("before"))
        raise ValueError("bad luck")

    async def workflow(event, context):
        result = await context.parallel([good, bad, good], name="batch", config=config)
        before = _described(result)
        await context.wait(Duration(1))
        return [before, before == _described(result)]

    outcome = stage.run(workflow)
    described, same = outcome.result
    assert same
    assert described == {
        "statuses": ["SUCCEEDED", "FAILED", "SUCCEEDED"],
        "results": ["fine", "fine"],
        "errors": [{"ErrorType": "ValueError", "ErrorMessage": "bad luck"}],
        "counts": [2, 1, 0, 3],
        "status": "FAILED",
        "has_failure": True,
        "reason": "ALL_COMPLETED",
    }
    assert "ContextFailed ! ValueError: bad luck" in outcome.by_operation["batch/parallel-branch-1"]
    assert "ContextSucceeded" in outcome.by_operation["batch"]
    assert stage.runs == {"good": 2, "before": 1}


def _described(result):
    return {
        "statuses": [item.status.value for item in result.all],
        "results": result.get_results(),
        "errors": [error.to_dict() for error in result.get_errors()],
        "counts": [result.success_count, result.failure_count, result.started_count, result.total_count],
        "status": result.status.value,
        "has_failure": result.has_failure,
        "reason": result.completion_reason.value,
    }


def test_the_methods_of_a_batch_result(stage):
    """A result is the same object's worth live and on replay, and survives its own dictionary."""
    seen = []

    async def workflow(event, context):
        async def good(_):
            return {"n": 1}

        async def bad(_):
            raise ValueError("no")

        config = ParallelConfig(completion_config=CompletionConfig.all_completed())
        result = await context.parallel([good, bad], config=config)
        seen.append(result)
        await context.wait(Duration(1))

    assert stage.run(workflow).status == "SUCCEEDED"
    assert len(seen) == 2
    for result in seen:
        assert result == BatchResult(
            [
                BatchItem(0, BatchItemStatus.SUCCEEDED, {"n": 1}),
                BatchItem(1, BatchItemStatus.FAILED, error=ErrorObject("no", "ValueError")),
            ],
            CompletionReason.ALL_COMPLETED,
        )
        assert result.succeeded() == result.all[:1]
        assert result.failed() == result.all[1:]
        assert result.started() == []
        assert BatchResult.from_dict(result.to_dict()) == result


def test_throw_if_error(stage):
    """The first failure is raised when asked for; uncaught, it fails the execution."""
    raised = []

    async def workflow(event, context):
        async def good(_):
            return 1

        async def bad(branch):
            once = StepConfig(retry_strategy=RetryPresets.none())
            await branch.step(stage.body("bad", ValueError("no")), config=once)

        good_result = await context.parallel([good])
        good_result.throw_if_error()
        result = await context.parallel([bad, good])
        try:
            result.throw_if_error()
        except ChildContextError as error:
            raised.append((error.message, error.error_type.rpartition(".")[2]))
            raise

    outcome = stage.run(workflow)
    assert outcome.status == "FAILED"
    assert raised == [("no", "StepError")]
    assert outcome.error.error_type.endswith("exceptions.ChildContextError")
    assert outcome.error.error_message == "no"


def test_branches_without_contexts(stage):
    """FLAT branches leave no record of themselves; what they do is shown below the batch, and replays rightly."""

    async def branch(context):
        first = await context.step(stage.body("first", 1), name="first")
        await context.wait(Duration(2), name="pause")
        return first + await context.step(stage.body("second", 2), name="second")

    async def workflow(event, context):
        config = ParallelConfig(nesting_type=NestingType.FLAT)
        result = await context.parallel([branch, branch], name="flat", config=config)
        await context.wait(Duration(1), name="after")
        return result.get_results()

    outcome = stage.run(workflow)
    assert outcome.result == [3, 3]
    assert stage.runs == {"first": 2, "second": 2}
    assert set(outcome.by_operation) == {"", "flat", "flat/first", "flat/pause", "flat/second", "after"}
    assert len(outcome.handle.operations()) == 1 + 1 + 6 + 1


def test_parallel_in_parallel(stage):
    """Batches nest, also inside child contexts."""

    async def leaf(context):
        return await context.step(stage.body("leaf", 1), name="leaf")

    async def inner(context):
        return sum((await context.parallel([leaf, leaf], name="inner")).get_results())

    async def outer(context):
        return await context.run_in_child_context(inner, name="child")

    async def workflow(event, context):
        return (await context.parallel([outer, inner], name="outer")).get_results()

    outcome = stage.run(workflow)
    assert outcome.result == [2, 2]
    assert stage.runs == {"leaf": 4}
    assert "outer/parallel-branch-0/child/inner/parallel-branch-1/leaf" in outcome.by_operation
    assert "outer/parallel-branch-1/inner/parallel-branch-0/leaf" in outcome.by_operation


def test_what_is_refused_before_anything_is_recorded(stage):
    """More successes than branches, or no concurrency at all, are errors of the call."""

    async def branch(_):
        return 1

    async def workflow(event, context):
        config = ParallelConfig(completion_config=CompletionConfig(min_successful=3))
        with pytest.raises(ValidationError, match="min_successful"):
            await context.parallel([branch, branch], config=config)
        with pytest.raises(ValidationError, match="max_concurrency"):
            ParallelConfig(max_concurrency=0)
        return "refused"

    outcome = stage.run(workflow)
    assert outcome.result == "refused"
    assert len(outcome.handle.operations()) == 1


def test_a_callback_in_each_branch(stage):
    """Branches may be completed from outside in any order; all of them suspend together."""

    async def workflow(event, context):
        async def branch(branch_context, name, index, names):
            callback = await branch_context.create_callback(name=name)
            return await callback.result()

        return (await context.map(["a", "b", "c"], branch, name="votes")).get_results()

    handle = stage.start(workflow)
    for name in ("c", "a", "b"):
        stage.client.send_callback_success(stage.callback_id(handle, name), name.upper())
    outcome = stage.end(handle)
    assert outcome.result == ["A", "B", "C"]
    assert outcome.by_operation["votes/map-item-2/c"] == "CallbackStarted; CallbackSucceeded = C"


def test_the_history_of_branches_one_at_a_time(stage):
    """With one slot the order of events is determined."""

    async def branch(context):
        return await context.step(lambda _: None, name="step")

    async def workflow(event, context):
        await context.parallel([branch, branch], name="row", config=ParallelConfig(max_concurrency=1))

    outcome = stage.run(workflow)
    assert [line.split(" =")[0] for line in outcome.history.splitlines()] == lines(
        """
        ExecutionStarted
        ContextStarted row [Parallel]
        ContextStarted row/parallel-branch-0 [ParallelBranch]
        StepStarted row/parallel-branch-0/step
        StepSucceeded row/parallel-branch-0/step #1
        ContextSucceeded row/parallel-branch-0
        ContextStarted row/parallel-branch-1 [ParallelBranch]
        StepStarted row/parallel-branch-1/step
        StepSucceeded row/parallel-branch-1/step #1
        ContextSucceeded row/parallel-branch-1
        ContextSucceeded row
        InvocationCompleted
        ExecutionSucceeded
        """
    ).splitlines()
