"""Pauses that come at a bad moment: what runs is finished and recorded, nothing else begins, and nothing runs twice."""

from __future__ import annotations

import threading

import pytest

from perdure.config import (
    CompletionConfig,
    Duration,
    MapConfig,
    ParallelConfig,
    StepConfig,
    StepSemantics,
    WaitForCallbackConfig,
)
from perdure.engine.settings import RESULT_LIMIT
from perdure.errors import ExecutionFailedError
from perdure.model import ExecutionStatus
from perdure.plugin import DurableInstrumentationPlugin
from perdure.retries import RetryDecision, RetryPresets
from perdure.waits import WaitForConditionConfig, WaitForConditionDecision
from tests.scenarios.stage import PATIENCE

PAUSING, PAUSED = ExecutionStatus.PAUSING, ExecutionStatus.PAUSED
MINUTE = Duration.from_minutes(1)
AT_MOST_ONCE = StepSemantics.AT_MOST_ONCE_PER_RETRY


def again(limit):
    """A second between attempts, and at most so many."""
    return lambda _error, attempt: RetryDecision(attempt < limit, Duration(1))


class Gate:
    """Where bodies, or workflows, wait for the test."""

    def __init__(self, stage):
        self.stage = stage
        self.opened = threading.Event()

    def body(self, name, *outcomes):
        """As `stage.body`, but its outcome has to wait."""
        outcome = self.stage.body(name, *outcomes)

        def body(*args):
            self.stage.ran(f"{name} begins")
            self.opened.wait(PATIENCE)
            return outcome(*args)

        return body

    def paused(self, handle, *names):
        """Once these bodies run, have the pause found by their invocation, and what runs finished."""
        stage = self.stage
        stage.reached(handle, lambda: all(stage.runs[f"{name} begins"] for name in names))
        handle.pause()
        self.opened.set()
        stage.reached(handle, lambda: handle.describe().status is PAUSED)
        return handle


@pytest.fixture
def gate(stage):
    gate = Gate(stage)
    yield gate
    gate.opened.set()


def in_code(stage, gate, then):
    """A workflow that is paused in its own code, before its next operation."""

    async def workflow(event, context):
        await context.step(stage.body("first"), name="first")
        stage.ran("code begins")
        gate.opened.wait(PATIENCE)
        return await then(context)

    return workflow


def begun(handle):
    return [operation.name for operation in handle.operations()]


# ------------------------------------------------------------------------------------- what has not begun does not


def test_nothing_begins_behind_the_checkpoint_that_finds_it(stage, gate):
    """The timer of a batch may be recorded by then; no branch asks, waits or invokes before the resume."""

    async def child(event, context):
        return stage.ran("child")

    async def asking(context):
        config = WaitForCallbackConfig(timeout=MINUTE)
        return await context.wait_for_callback(stage.body("submitter"), name="ask", config=config)

    async def invoking(context):
        return await context.invoke("child", None, name="invoke")

    async def batch(context):
        config = ParallelConfig(timeout=Duration.from_days(1))
        return (await context.parallel([asking, invoking], name="batch", config=config)).get_results()

    stage.durable(child)
    handle = gate.paused(stage.start(in_code(stage, gate, batch)), "code")
    assert set(begun(handle)[1:]) <= {"first", "batch", "batch-timeout"}
    stage.skip(3600)
    handle.resume()
    callback = stage.callback_id(handle, "ask create callback id")
    stage.client.send_callback_success(callback, "yes")
    assert stage.end(handle).result == ["yes", 1]
    assert stage.runs["submitter"] == 1


@pytest.mark.parametrize("slots", [1, 2])
def test_items_beyond_the_concurrency_wait_for_the_resume(stage, gate, slots):
    """Those that run are finished, as items; no other begins, not even by name."""
    body = gate.body("body")

    async def workflow(event, context):
        async def item(context, item, index, items):
            return await context.step(lambda step: body(step) or item, name=f"step {item}")

        config = MapConfig(max_concurrency=slots, completion_config=CompletionConfig.all_completed())
        return (await context.map(list(range(5)), item, name="all", config=config)).get_results()

    handle = stage.start(workflow)
    stage.reached(handle, lambda: stage.runs["body begins"] == slots)
    gate.paused(handle, "body")
    assert len(begun(handle)) <= 2 + 2 * slots
    assert stage.runs["body"] == slots
    handle.resume()
    assert stage.end(handle).result == [0, 1, 2, 3, 4]
    assert stage.runs["body"] == 5


# ------------------------------------------------------------------------------------------------ what runs is kept


@pytest.mark.parametrize("semantics", StepSemantics)
def test_an_attempt_that_fails(stage, gate, semantics):
    """It is recorded as one; the next comes after the resume, though its time has come before."""
    body = gate.body("body", ValueError("once"), "twice")
    config = StepConfig(again(3), semantics)

    async def workflow(event, context):
        return await context.step(body, name="step", config=config)

    handle = gate.paused(stage.start(workflow), "body")
    stage.skip(10)
    assert stage.runs["body"] == 1
    assert handle.describe().status is PAUSED
    handle.resume()
    assert stage.end(handle).result == "twice"
    assert stage.runs["body"] == 2
    assert stage.operation(handle, "step").step_details.attempt == 2


def test_a_check_and_a_submitter(stage, gate):
    """Both are bodies like those of steps: each call is made once."""
    submitter, check = gate.body("submitter"), gate.body("check")

    async def workflow(event, context):
        async def ask(context):
            return await context.wait_for_callback(submitter, name="ask")

        async def poll(context):
            def counted(state, _):
                check()
                return state + 1

            strategy = WaitForConditionConfig(lambda state, _: WaitForConditionDecision(state < 3, Duration(1)), 0)
            return await context.wait_for_condition(counted, strategy, name="poll")

        return (await context.parallel([ask, poll], name="both")).get_results()

    handle = gate.paused(stage.start(workflow), "submitter", "check")
    assert (stage.runs["submitter"], stage.runs["check"]) == (1, 1)
    handle.resume()
    stage.client.send_callback_success(stage.callback_id(handle, "ask create callback id"), "yes")
    assert stage.end(handle).result == ["yes", 3]
    assert (stage.runs["submitter"], stage.runs["check"]) == (1, 3)


def test_deep_inside(stage, gate):
    """Through children, virtual ones too, and batches within batches."""
    body = gate.body("body")

    async def workflow(event, context):
        def nest(depth):
            async def branch(context):
                if not depth:
                    await context.step(body, config=StepConfig(step_semantics=AT_MOST_ONCE))
                    return await context.step(stage.body("after", 1))
                if depth % 2:
                    return await context.run_in_child_context(nest(depth - 1))
                return sum((await context.parallel([nest(depth - 1)] * 2)).get_results())

            return branch

        return await nest(4)(context)

    handle = stage.start(workflow)
    stage.reached(handle, lambda: stage.runs["body begins"] == 4)
    gate.paused(handle, "body")
    assert (stage.runs["body"], stage.runs["after"]) == (4, 0)
    handle.resume()
    assert stage.end(handle).result == 4
    assert (stage.runs["body"], stage.runs["after"]) == (4, 4)


def test_a_batch_whose_time_is_over_meanwhile(stage, gate):
    """It ends as timed out after the resume, with what was finished before."""
    body = gate.body("body", "done")

    async def workflow(event, context):
        async def quick(context):
            return await context.step(stage.body("quick", "quick"), name="quick")

        async def work(context):
            await context.step(body, name="work")
            return await context.step(stage.body("after"), name="after")

        result = await context.parallel([quick, work], name="batch", config=ParallelConfig(timeout=MINUTE))
        return [result.completion_reason.value, result.get_results()]

    handle = stage.start(workflow)
    stage.reached(
        handle, lambda: any(each.name == "parallel-branch-0" and each.is_terminal for each in handle.operations())
    )
    gate.paused(handle, "body")
    stage.skip(61)
    assert not stage.operation(handle, "batch").is_terminal
    handle.resume()
    assert stage.end(handle).result == ["TIMED_OUT", ["quick"]]
    assert (stage.runs["body"], stage.runs["after"]) == (1, 0)


def test_a_batch_that_is_to_be_repeated(stage, gate):
    """The next batch begins after the resume, and runs nothing of the last one again."""
    body = gate.body("body", ValueError("once"), "done")

    async def workflow(event, context):
        async def work(context):
            return await context.step(body, name="work", config=StepConfig(RetryPresets.none()))

        return (
            await context.parallel([work], name="batch", config=ParallelConfig(retry_strategy=again(3)))
        ).get_results()

    handle = gate.paused(stage.start(workflow), "body")
    stage.skip(10)
    assert stage.runs["body"] == 1
    handle.resume()
    assert stage.end(handle).result == ["done"]
    assert stage.runs["body"] == 2


def test_a_large_result(stage, gate):
    """The checkpoint that records it ends the execution, though it finds the pause."""
    large = "x" * (RESULT_LIMIT - 20)

    async def result(context):
        return large

    handle = stage.start(in_code(stage, gate, result))
    stage.reached(handle, lambda: stage.runs["code begins"] == 1)
    handle.pause()
    gate.opened.set()
    assert handle.result(timeout=PATIENCE) == large
    assert handle.describe().pause is None


# ------------------------------------------------------------------------------------------- pauses of short duration


def test_resumed_while_what_runs_is_finished(stage, gate):
    """It goes on by itself, whether its invocation had found the pause or not, and nothing runs twice."""
    body = gate.body("body", "done")

    async def workflow(event, context):
        await context.step(body, name="step")
        return await context.step(stage.body("after", "went"), name="after")

    handle = stage.start(workflow)
    stage.reached(handle, lambda: stage.runs["body begins"] == 1)
    handle.pause()
    stage.reached(handle, lambda: "step" in begun(handle))
    handle.resume()
    gate.opened.set()
    assert stage.end(handle).result == "went"
    assert (stage.runs["body"], stage.runs["after"]) == (1, 1)


def test_paused_again_while_what_runs_is_finished(stage, gate):
    """The last word counts."""
    body = gate.body("body", "done")

    async def workflow(event, context):
        await context.step(body, name="step")
        return await context.step(stage.body("after", "went"), name="after")

    handle = stage.start(workflow)
    stage.reached(handle, lambda: stage.runs["body begins"] == 1)
    handle.pause()
    stage.reached(handle, lambda: "step" in begun(handle))
    handle.resume()
    gate.paused(handle, "body")
    assert not stage.runs["after"]
    handle.resume()
    assert stage.end(handle).result == "went"
    assert (stage.runs["body"], stage.runs["after"]) == (1, 1)


def test_a_child_is_paused_and_its_parent_waits(stage, gate):
    """The parent gets the result after the resume of the child."""
    body = gate.body("body", "grown")

    async def child(event, context):
        await context.step(body, name="step")
        return await context.step(stage.body("after", "up"), name="after")

    stage.durable(child)

    async def parent(event, context):
        return await context.invoke("child", {}, name="invoked")

    handle = stage.start(parent)
    stage.suspended(handle, "invoked")
    stage.reached(handle, lambda: stage.runs["body begins"] == 1)
    (invoked,) = stage.client.list("child").items
    gate.paused(stage.client.handle(invoked.arn), "body").resume()
    assert stage.end(handle).result == "up"
    assert (stage.runs["body"], stage.runs["after"]) == (1, 1)


# -------------------------------------------------------------------------------------------------------- ended instead


@pytest.mark.parametrize("timeout_paused", [True, False])
def test_the_execution_timeout_of_what_is_pausing(stage, gate, timeout_paused):
    """It stands still from the pause on, though a step runs; or it strikes, and that step records nothing."""
    body = gate.body("body", "done")

    async def workflow(event, context):
        await context.step(body, name="step", config=StepConfig(step_semantics=AT_MOST_ONCE))
        return await context.step(stage.body("after", "done"), name="after")

    handle = stage.start(workflow, execution_timeout=MINUTE)
    stage.reached(handle, lambda: stage.runs["body begins"] == 1)
    handle.pause(timeout_paused=timeout_paused)
    stage.skip(61)
    assert handle.describe().status is (PAUSING if timeout_paused else ExecutionStatus.TIMED_OUT)
    gate.opened.set()
    if timeout_paused:
        stage.reached(handle, lambda: handle.describe().status is PAUSED)
        handle.resume()
        assert stage.end(handle).result == "done"
    else:
        with pytest.raises(ExecutionFailedError, match="TIMED_OUT"):
            handle.result(timeout=PATIENCE)
        stage.reached(handle, lambda: stage.runs["body"] == 1)
    assert stage.runs["body"] == 1


def test_stopped_while_pausing(stage, gate):
    """It is over at once; the step that runs records nothing."""
    body = gate.body("body", "done")

    async def workflow(event, context):
        return await context.step(body, name="step", config=StepConfig(step_semantics=AT_MOST_ONCE))

    handle = stage.start(workflow)
    stage.reached(handle, lambda: stage.runs["body begins"] == 1)
    handle.pause()
    handle.stop()
    gate.opened.set()
    assert handle.describe().status is ExecutionStatus.STOPPED
    stage.reached(handle, lambda: stage.runs["body"] == 1)
    stage.halt()
    assert not stage.operation(handle, "step").is_terminal


def test_code_that_catches_everything(stage, gate):
    """It cannot go on in spite of a pause: PAUSED all the same, and what it made of it counts for nothing."""
    body = gate.body("body", "done")

    async def workflow(event, context):
        try:
            await context.step(body, name="step")
            return await context.step(stage.body("after", "after"), name="after")
        except BaseException:  # noqa: BLE001 - as bad code does
            return "caught"

    handle = gate.paused(stage.start(workflow), "body")
    handle.resume()
    assert stage.end(handle).result == "after"
    assert (stage.runs["body"], stage.runs["after"]) == (1, 1)


# ------------------------------------------------------------------------------------------------------------ observed


class Watcher(DurableInstrumentationPlugin):
    """Notes the ends of which it is told; it is its own factory."""

    def __init__(self):
        self.told = []

    def create_plugin(self, _):
        return self

    def on_operation_end(self, info):
        self.told.append((info.name, info.status.value))

    def on_invocation_end(self, info):
        self.told.append((info.status.value, info.error and info.error.message))


def test_what_plugins_are_told(stage, gate):
    """As of a worker that leaves: the invocation is to be repeated; each operation ends once."""
    watcher, body = Watcher(), gate.body("body", "done")

    async def workflow(event, context):
        await context.step(body, name="step")
        return await context.step(stage.body("after"), name="after")

    gate.paused(handle := stage.start(stage.durable(workflow, plugins=[watcher])), "body").resume()
    stage.end(handle)
    assert watcher.told == [
        ("step", "SUCCEEDED"),
        ("RETRY", "the execution is paused"),
        ("after", "SUCCEEDED"),
        ("SUCCEEDED", None),
    ]
