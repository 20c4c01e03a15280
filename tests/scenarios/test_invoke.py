"""Invoking other functions (feature 6)."""

from __future__ import annotations

import json

import pytest

from perdure.config import Duration, InvokeConfig
from perdure.errors import InvokeError
from perdure.model import ErrorObject, ExecutionStatus
from perdure.serdes import SerDes
from tests.scenarios.stage import lines


async def square(event, context):
    return await context.step(lambda _: event["n"] ** 2, name="square")


async def failing(event, context):
    raise ValueError(f"no {event}")


async def endless(event, context):
    callback = await context.create_callback(name="never")
    return await callback.result()


def child_of(stage, name):
    """The handle of the only execution of a function."""
    (summary,) = stage.client.list(name).items
    return stage.client.handle(summary.arn)


def test_a_child_that_succeeds(stage):
    """The child is an execution of its own; its result is the operation's."""
    stage.durable(square, name="square")

    async def workflow(event, context):
        await context.step(stage.body("before"), name="before")
        return await context.invoke("square", {"n": 7}, name="squared")

    outcome = stage.run(workflow)
    assert outcome.result == 49
    assert stage.runs == {"before": 1}
    # The child may end before its parent's invocation does.
    assert outcome.history.replace("InvocationCompleted\n", "") == lines(
        """
        ExecutionStarted
        StepStarted before
        StepSucceeded before #1 = null
        ChainedInvokeStarted squared square ({"n": 7})
        ChainedInvokeSucceeded squared = 49
        ExecutionSucceeded = 49
        """
    )
    child = child_of(stage, "square")
    assert child.describe().input == '{"n": 7}'
    started = next(event for event in outcome.events if event.event_type == "ChainedInvokeStarted")
    assert started.details["DurableExecutionArn"] == child.arn
    assert started.details["ExecutedVersion"] == "$LATEST"


def test_a_child_without_a_payload(stage):
    """None is sent as null."""

    async def echo(event, context):
        return [event]

    stage.durable(echo, name="echo")

    async def workflow(event, context):
        return await context.invoke("echo", None)

    assert stage.run(workflow).result == [None]


def test_a_child_that_fails(stage):
    """The child's error is raised as InvokeError, with its type and message, the same on replay."""
    stage.durable(failing, name="failing")
    seen = []

    async def workflow(event, context):
        try:
            await context.invoke("failing", 3, name="call")
        except InvokeError as error:
            seen.append((error.error_type, error.message))
        await context.wait(Duration(1))
        return "survived"

    outcome = stage.run(workflow)
    assert outcome.result == "survived"
    assert seen == [("ValueError", "no 3")] * 2
    assert "ChainedInvokeFailed call ! ValueError: no 3" in outcome.history


def test_a_child_that_times_out(stage):
    """Its execution timeout is the end of the operation too."""
    stage.durable(endless, name="endless", execution_timeout=Duration(60))

    async def workflow(event, context):
        try:
            await context.invoke("endless", {}, name="call")
        except InvokeError as error:
            return [error.error_type, error.message]

    handle = stage.start(workflow)
    stage.suspended(handle, "call")
    stage.reached(handle, lambda: len(stage.client.list("endless").items) == 1)
    child = child_of(stage, "endless")
    stage.suspended(child, "never").skip(61)
    stage.reached(child, lambda: child.describe().status is ExecutionStatus.TIMED_OUT)
    # Nobody owned the child when it ended; its parent is told after a moment of grace.
    stage.skip(3)
    outcome = stage.end(handle)
    assert outcome.result == ["ChainedInvoke.Timeout", "CHAINED_INVOKE timed out after 60 seconds."]
    assert "ChainedInvokeTimedOut call ! ChainedInvoke.Timeout" in outcome.history


def test_a_child_that_is_stopped(stage):
    """The error that the stop was given is the operation's."""
    stage.durable(endless, name="endless")

    async def workflow(event, context):
        try:
            await context.invoke("endless", {}, name="call")
        except InvokeError as error:
            return [error.error_type, error.message]

    handle = stage.start(workflow)
    stage.suspended(handle, "call")
    stage.reached(handle, lambda: len(stage.client.list("endless").items) == 1)
    child_of(stage, "endless").stop(ErrorObject("enough", "Operator.Stop"))
    outcome = stage.end(handle)
    assert outcome.result == ["Operator.Stop", "enough"]
    assert "ChainedInvokeStopped call ! Operator.Stop: enough" in outcome.history


def test_a_function_that_nobody_knows(stage):
    """It fails at once, and the workflow may go on."""

    async def workflow(event, context):
        try:
            await context.invoke("nobody", {}, name="call")
        except InvokeError as error:
            return [error.error_type, "nobody" in error.message]

    outcome = stage.run(workflow)
    assert outcome.result == ["ResourceNotFoundException", True]
    assert outcome.invocations == 1


class Wrapped(SerDes):
    def serialize(self, value, _):
        return json.dumps({"wrapped": value})

    def deserialize(self, data, _):
        return json.loads(data)["wrapped"]


def test_serdes_of_an_invoke(stage):
    """Payload and result have serializers of their own."""

    async def echo(event, context):
        return {"wrapped": [event]}

    stage.durable(echo, name="echo")

    async def workflow(event, context):
        config = InvokeConfig(serdes_payload=Wrapped(), serdes_result=Wrapped())
        return await context.invoke("echo", 5, config=config)

    assert stage.run(workflow).result == [{"wrapped": 5}]


def test_a_version_may_be_asked_for(stage):
    """`name:version` invokes that version, a bare name the one registered last."""

    def versioned(version):
        async def versioned(event, context):
            return version

        return stage.durable(versioned, version=version)

    versioned("1")
    versioned("2")

    async def workflow(event, context):
        return [await context.invoke(name, {}) for name in ("versioned:1", "versioned:2", "versioned")]

    result = stage.run(workflow).result
    assert result[:2] == ["1", "2"]
    assert result[2] in ("1", "2")


def test_a_child_that_is_running_when_the_worker_restarts(stage):
    """Parent and child both go on in another worker."""
    stage.durable(endless, name="endless")

    async def workflow(event, context):
        return await context.invoke("endless", {}, name="call")

    handle = stage.start(workflow)
    stage.suspended(handle, "call")
    stage.reached(handle, lambda: len(stage.client.list("endless").items) == 1)
    child = child_of(stage, "endless")
    callback_id = stage.callback_id(child, "never")
    stage.restart()
    stage.client.send_callback_success(callback_id, "at last")
    assert stage.end(handle).result == "at last"


def test_an_invoke_inside_a_branch(stage):
    """Several children at once, each in a branch."""
    stage.durable(square, name="square")

    async def branch(context, item, index, items):
        return await context.invoke("square", {"n": item}, name="call")

    async def workflow(event, context):
        result = await context.map([1, 2, 3], branch, name="squares")
        return result.get_results()

    outcome = stage.run(workflow)
    assert outcome.result == [1, 4, 9]
    assert outcome.by_operation["squares/map-item-2/call"] == (
        'ChainedInvokeStarted square ({"n": 3}); ChainedInvokeSucceeded = 9'
    )


@pytest.mark.parametrize("size", [1_048_577])
def test_a_payload_that_is_too_large(stage, size):
    """What a child could not be given is refused before anything is recorded of it."""
    stage.durable(square, name="square")

    async def workflow(event, context):
        await context.invoke("square", "x" * size, name="call")

    outcome = stage.run(workflow)
    assert outcome.status == "FAILED"
    assert "1048576" in outcome.error.error_message
    assert len(outcome.handle.operations()) == 1
