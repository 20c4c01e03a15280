"""Workflows that do it the hard way: crashes, restarts, everything at once, and what is not allowed."""

from __future__ import annotations

import threading

import pytest

from perdure.config import (
    ChildConfig,
    CompletionConfig,
    CompletionOutcome,
    Duration,
    MapConfig,
    NestingType,
    ParallelConfig,
    StepConfig,
    complete_batch,
    continue_batch,
)
from perdure.errors import ChildContextError, ValidationError
from perdure.model import ExecutionStatus
from perdure.retries import RetryDecision, WithRetryConfig
from perdure.waits import WaitForConditionConfig, WaitForConditionDecision
from tests.scenarios.colour import retried
from tests.scenarios.stage import lines

NESTINGS = pytest.mark.parametrize("nesting", list(NestingType), ids=lambda nesting: nesting.value)


@NESTINGS
def test_everything_at_once(stage, nesting):  # noqa: C901 - five branches
    """Branches that retry, wait, poll, repeat blocks and ask outside, over several workers: each body runs as often
    as it should and never again."""

    def again(error, attempts_made):
        return RetryDecision.retry(Duration.from_minutes(3))

    def polled(state, attempts_made):
        if state >= 3:
            return WaitForConditionDecision.stop_polling()
        return WaitForConditionDecision.continue_waiting(Duration.from_minutes(4))

    async def flaky(branch):
        body = stage.body("flaky", ValueError(1), ValueError(2), "ok")
        return await branch.step(body, name="flaky", config=StepConfig(retry_strategy=again))

    async def asking(branch):
        await branch.wait(Duration.from_minutes(7), name="before")
        return await branch.wait_for_callback(stage.body("submit"), name="ask")

    async def polling(branch):
        config = WaitForConditionConfig(polled, 0)
        return await branch.wait_for_condition(lambda state, _: stage.ran("check") and state + 1, config, name="poll")

    async def repeated(branch):
        async def block(context, attempt):
            await context.step(stage.body(f"block-{attempt}"), name="block")
            if attempt < 2:
                raise KeyError("once more")
            return attempt

        return await retried(branch, block, WithRetryConfig(retry_strategy=again), name="repeat")

    async def virtual(branch):
        async def inner(context):
            await context.wait(Duration.from_minutes(9), name="inner wait")
            return await context.step(stage.body("inner", "v"), name="inner step")

        return await branch.run_in_child_context(inner, config=ChildConfig(is_virtual=True))

    async def workflow(event, context):
        config = ParallelConfig(nesting_type=nesting)
        result = await context.parallel([flaky, asking, polling, repeated, virtual], name="all", config=config)
        return [result.get_results(), result.completion_reason.value]

    handle = stage.start(workflow)
    for _ in range(3):
        stage.suspended(handle).restart()
        seen = len(handle.history())
        stage.suspended(handle).skip_idle_time()
        stage.reached(handle, lambda seen=seen: len(handle.history()) > seen)
    callback_name = "ask create callback id"
    stage.suspended(handle, callback_name, skipping=True)
    stage.client.send_callback_success(stage.callback_id(handle, callback_name), "told")
    outcome = stage.end(handle)
    assert outcome.result == [["ok", "told", 3, 2, "v"], "ALL_COMPLETED"]
    assert stage.runs == {"flaky": 3, "submit": 1, "check": 3, "block-1": 1, "block-2": 1, "inner": 1}


@pytest.mark.parametrize("where", ["branch", "body"])
def test_a_crash_in_a_branch(stage, where):
    """It ends the invocation and fails nothing; what was recorded does not run again."""

    async def item(context, n, index, items):
        await context.step(stage.body(f"first-{n}"), name="first")
        if where == "branch" and n == 1 and stage.ran("crash") == 1:
            raise SystemExit(4)
        outcomes = [KeyboardInterrupt(), n] if where == "body" and n == 1 else [n]
        return await context.step(stage.body(f"second-{n}", *outcomes), name="second")

    async def workflow(event, context):
        return (await context.map([0, 1, 2], item, name="batch")).get_results()

    outcome = stage.run(workflow)
    assert outcome.result == [0, 1, 2]
    assert outcome.invocations == 2
    assert stage.runs["first-1"] == 1
    assert stage.runs["second-1"] == (1 if where == "branch" else 2)
    for path, told in outcome.by_operation.items():
        assert told.count("StepSucceeded") == (1 if path.endswith(("first", "second")) else 0), path


def test_a_workflow_that_always_crashes(stage):
    """After five crashes in a row it is left alone, and shows why; it has not ended."""

    async def workflow(event, context):
        stage.ran("workflow")
        raise SystemExit(9)

    handle = stage.start(workflow)

    def is_left_alone():
        stage.skip_idle_time()
        return handle.describe().quarantined

    stage.reached(handle, is_left_alone)
    description = handle.describe()
    assert (description.status, description.crashes, description.due) == (ExecutionStatus.RUNNING, 5, None)
    assert stage.runs == {"workflow": 5}
    assert [event.event_type for event in handle.history()] == ["ExecutionStarted", *["InvocationCompleted"] * 5]


def test_a_suspension_cannot_be_swallowed(stage):
    """What catches everything, and cleans up with operations, changes nothing: no operation runs before its time."""

    async def workflow(event, context):
        try:
            await context.wait(Duration(5), name="wait")
        except BaseException:  # noqa: BLE001 - what is tested
            stage.ran("caught")
        finally:
            await context.step(stage.body("cleanup"), name="cleanup")
        return "end"

    outcome = stage.run(workflow)
    assert outcome.result == "end"
    assert stage.runs["cleanup"] == 1
    assert outcome.history == lines(
        """
        ExecutionStarted
        WaitStarted wait for 5 s
        InvocationCompleted
        WaitSucceeded wait for 5 s
        StepStarted cleanup
        StepSucceeded cleanup #1 = null
        InvocationCompleted
        ExecutionSucceeded = "end"
        """
    )


@NESTINGS
def test_large_results_inside_each_other(stage, nesting):
    """A large batch in a large child in a branch of a large batch is rebuilt from its steps, time and again."""
    seen = []

    async def leaf(context, n, index, items):
        return 150_000 * await context.step(stage.body(f"leaf-{n}", "x"), name="leaf")

    async def child(context):
        config = MapConfig(nesting_type=nesting)
        return "".join((await context.map([0, 1, 2], leaf, name="inner", config=config)).get_results())

    async def branch(context):
        return await context.run_in_child_context(child, name="child")

    async def workflow(event, context):
        result = await context.parallel([branch, branch], name="outer", config=ParallelConfig(nesting_type=nesting))
        seen.append(result)
        await context.wait(Duration.from_minutes(1), name="pause")
        await context.wait(Duration(1))
        return [len(value) for value in result.get_results()]

    handle = stage.start(workflow)
    stage.suspended(handle, "pause").restart()
    assert stage.end(handle).result == [450_000] * 2
    assert len(seen) == 3
    assert seen[0] == seen[1] == seen[2]
    assert stage.runs == {f"leaf-{n}": 2 for n in range(3)}


@NESTINGS
def test_a_large_batch_that_its_predicate_has_ended(stage, nesting):
    """The predicate's decision is reproduced, not made again, though its world has changed."""
    seen = []
    enough = [2]

    def predicate(status):
        done = status.success_count >= enough[0]
        return complete_batch(CompletionOutcome.FAILED) if done else continue_batch()

    async def item(context, n, index, items):
        return 150_000 * await context.step(stage.body(f"item-{n}", "x"), name="item")

    async def workflow(event, context):
        completion = CompletionConfig(should_complete=predicate)
        config = MapConfig(max_concurrency=1, completion_config=completion, nesting_type=nesting)
        seen.append(await context.map([0, 1, 2, 3], item, name="batch", config=config))
        await context.wait(Duration.from_minutes(1), name="pause")
        return seen[-1].completion_reason.value

    handle = stage.start(workflow)
    stage.suspended(handle, "pause").halt()
    enough[0] = 4
    stage.work()
    assert stage.end(handle).result == "CUSTOM_COMPLETION_FAILED"
    assert seen[0] == seen[1]
    assert stage.runs == {"item-0": 1, "item-1": 1}


def test_a_summary_that_breaks(stage):
    """A summary generator that raises fails its context."""

    def summary(_):
        raise ValueError("no words")

    async def workflow(event, context):
        async def child(_):
            return "x" * 300_000

        try:
            await context.run_in_child_context(child, config=ChildConfig(summary_generator=summary))
        except ChildContextError as error:
            return [error.error_type, error.message]

    assert stage.run(workflow).result == ["ValueError", "no words"]


def test_many_branches_that_wait(stage):
    """Two hundred branches with fifty slots, all of which wait, take a few invocations and no body twice."""

    async def item(context, n, index, items):
        await context.wait(Duration(1 + n % 5), name="wait")
        return await context.step(stage.body(f"item-{n}", n), name="step")

    async def workflow(event, context):
        config = MapConfig(max_concurrency=50)
        return sum((await context.map(list(range(200)), item, name="batch", config=config)).get_results())

    outcome = stage.run(workflow)
    assert outcome.result == sum(range(200))
    assert set(stage.runs.values()) == {1}
    assert len(stage.runs) == 200


def test_the_context_of_the_parent_in_a_branch(stage):
    """A branch that uses another context than its own fails, and says what is allowed."""

    async def workflow(event, context):
        async def wrong(_):
            await context.step(lambda _: 1, name="wrong")

        result = await context.parallel([wrong], name="batch")
        return [error.type + "|" + error.message for error in result.get_errors()]

    outcome = stage.run(workflow)
    (told,) = outcome.result
    assert told.startswith("perdure.errors.ContextMisuseError|")
    assert "parallel" in told
    assert "wrong" not in {operation.name for operation in outcome.handle.operations()}


def test_an_execution_that_times_out_while_it_runs(stage):
    """The running body may end, but neither it nor anything after it is recorded."""
    begun, go = threading.Event(), threading.Event()

    def body(_):
        begun.set()
        assert go.wait(10)

    async def workflow(event, context):
        await context.step(body, name="long")
        await context.step(stage.body("next"), name="next")

    handle = stage.start(workflow, execution_timeout=Duration(10))
    assert begun.wait(10)
    stage.skip(11)
    outcome = stage.end(handle)
    assert outcome.status == "TIMED_OUT"
    assert outcome.error.error_message == "Execution timed out after 10 seconds."
    go.set()
    stage.halt()
    assert stage.runs == {}
    assert "StepSucceeded" not in [event.event_type for event in handle.history()]


REFUSED = {
    "a name outside ASCII": (lambda context: context.step(lambda _: 1, name="grün"), "Name must be"),
    "a long name": (lambda context: context.step(lambda _: 1, name="x" * 257), "Name must be"),
    "a wait of more than a year": (lambda context: context.wait(Duration.from_days(367)), "31622400"),
}


@pytest.mark.parametrize(("call", "told"), REFUSED.values(), ids=REFUSED)
def test_what_the_service_refuses(stage, call, told):
    """What the protocol does not allow fails the execution with the service's words, as on AWS."""

    async def workflow(event, context):
        await call(context)

    outcome = stage.run(workflow)
    assert outcome.status == "FAILED"
    assert told in outcome.error.error_message
    assert len(outcome.handle.operations()) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"name": "two words"},
        {"name": ""},
        {"name": "x" * 65},
        {"execution_timeout": Duration.from_days(367)},
        {"retention_days": 91},
    ],
    ids=["words", "empty", "long", "timeout", "retention"],
)
def test_what_a_start_refuses(stage, options):
    """What the protocol does not allow is an error of the caller, and nothing begins."""

    async def workflow(event, context):
        return 1

    function = stage.durable(workflow)
    stage.work()
    with pytest.raises(ValidationError):
        stage.client.start(function, 1, **options)
    assert stage.client.list(function).items == []
