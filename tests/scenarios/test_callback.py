"""Callbacks: created, submitted, completed from outside, timed out (features 4, 20)."""

from __future__ import annotations

import json

import pytest

from perdure.config import CallbackConfig, Duration, JitterStrategy, WaitForCallbackConfig
from perdure.durable import durable_wait_for_callback
from perdure.errors import (
    CallbackClosedError,
    CallbackError,
    CallbackExternalError,
    CallbackNotFoundError,
    CallbackSubmitterError,
    CallbackTimeoutError,
    StepError,
)
from perdure.model import ErrorObject
from perdure.retries import RetryPresets, RetryStrategyConfig, create_retry_strategy
from perdure.serdes import JsonSerDes
from tests.scenarios.stage import lines


def test_a_callback_that_succeeds(stage):
    """The workflow hands the id out itself, and gets the text that was sent, as it was sent."""

    async def workflow(event, context):
        callback = await context.create_callback(name="approval")
        sent = await context.step(stage.body("mail", "sent"), name="mail")
        return [sent, await callback.result()]

    handle = stage.start(workflow)
    stage.client.send_callback_success(stage.callback_id(handle, "approval"), '{"by": "Ann"}')
    outcome = stage.end(handle)
    assert outcome.result == ["sent", '{"by": "Ann"}']
    assert stage.runs == {"mail": 1}
    assert outcome.history == lines(
        """
        ExecutionStarted
        CallbackStarted approval
        StepStarted mail
        StepSucceeded mail #1 = "sent"
        InvocationCompleted
        CallbackSucceeded approval = {"by": "Ann"}
        InvocationCompleted
        ExecutionSucceeded = ["sent", "{\\"by\\": \\"Ann\\"}"]
        """
    )


def test_the_id_is_the_same_on_replay(stage):
    """Every invocation sees the id that the first one was given."""
    seen = []

    async def workflow(event, context):
        callback = await context.create_callback(name="approval")
        seen.append(callback.callback_id)
        await context.wait(Duration.from_minutes(1), name="pause")
        return await callback.result()

    handle = stage.start(workflow)
    stage.client.send_callback_success(stage.callback_id(handle, "approval"), b"ok")
    assert stage.end(handle).result == "ok"
    assert len(seen) >= 2
    assert len(set(seen)) == 1


def test_an_empty_success(stage):
    """A callback completed without a result yields None."""

    async def workflow(event, context):
        callback = await context.create_callback(name="signal")
        return [await callback.result()]

    handle = stage.start(workflow)
    stage.client.send_callback_success(stage.callback_id(handle, "signal"))
    outcome = stage.end(handle)
    assert outcome.result == [None]
    assert "CallbackSucceeded signal\n" in outcome.history


def test_serdes_of_a_callback(stage):
    """A serializer reads what was sent."""

    async def workflow(event, context):
        callback = await context.create_callback(name="order", config=CallbackConfig(serdes=JsonSerDes()))
        return await callback.result()

    handle = stage.start(workflow)
    stage.client.send_callback_success(stage.callback_id(handle, "order"), '{"n": [1]}')
    assert stage.end(handle).result == {"n": [1]}


def test_a_callback_that_fails(stage):
    """What the outside reports is raised where the result is asked for, not where the callback is made."""

    async def workflow(event, context):
        callback = await context.create_callback(name="approval")
        await context.step(stage.body("between"), name="between")
        try:
            await callback.result()
        except CallbackExternalError as error:
            return [error.message, error.data, error.stack_trace]

    handle = stage.start(workflow)
    error = ErrorObject("rejected", "Manager.No", '{"why": "money"}', ["line 1"])
    stage.client.send_callback_failure(stage.callback_id(handle, "approval"), error)
    outcome = stage.end(handle)
    assert outcome.result == ["rejected", '{"why": "money"}', ["line 1"]]
    assert stage.runs == {"between": 1}
    assert "CallbackFailed approval ! Manager.No: rejected" in outcome.history


def test_a_failure_without_an_error(stage):
    """A callback may be failed without a word; uncaught, it fails the execution."""

    async def workflow(event, context):
        callback = await context.create_callback(name="approval")
        return await callback.result()

    handle = stage.start(workflow)
    stage.client.send_callback_failure(stage.callback_id(handle, "approval"))
    outcome = stage.end(handle)
    assert outcome.status == "FAILED"
    assert outcome.error.error_type.endswith("CallbackExternalError")


def test_a_callback_that_times_out(stage):
    """Nothing came in time; what comes later is refused."""

    async def workflow(event, context):
        callback = await context.create_callback(name="approval", config=CallbackConfig(timeout=Duration(60)))
        try:
            await callback.result()
        except CallbackTimeoutError as error:
            return error.message

    handle = stage.start(workflow)
    callback_id = stage.callback_id(handle, "approval")
    stage.skip(30)
    assert handle.describe().status.value == "RUNNING"
    stage.skip(31)
    outcome = stage.end(handle)
    assert outcome.result == "Callback timed out"
    assert outcome.history == lines(
        """
        ExecutionStarted
        CallbackStarted approval timeout 60 s
        InvocationCompleted
        CallbackTimedOut approval ! Callback.Timeout: Callback timed out
        InvocationCompleted
        ExecutionSucceeded = "Callback timed out"
        """
    )
    with pytest.raises(CallbackClosedError):
        stage.client.send_callback_success(callback_id, "late")


def test_heartbeats_keep_a_callback_alive(stage):
    """Without one in time it times out; each one restarts the timer."""

    async def workflow(event, context):
        config = CallbackConfig(timeout=Duration(1000), heartbeat_timeout=Duration(20))
        callback = await context.create_callback(name="job", config=config)
        try:
            await callback.result()
        except CallbackTimeoutError as error:
            return error.message

    handle = stage.start(workflow)
    callback_id = stage.callback_id(handle, "job")
    for _ in range(4):
        stage.skip(15)
        stage.client.send_callback_heartbeat(callback_id)
    assert handle.describe().status.value == "RUNNING"
    stage.skip(21)
    outcome = stage.end(handle)
    assert outcome.result == "Callback timed out on heartbeat"
    assert outcome.history == lines(
        """
        ExecutionStarted
        CallbackStarted job timeout 1000 s heartbeat 20 s
        InvocationCompleted
        CallbackTimedOut job ! Callback.Heartbeat: Callback timed out on heartbeat
        InvocationCompleted
        ExecutionSucceeded = "Callback timed out on heartbeat"
        """
    )
    with pytest.raises(CallbackClosedError):
        stage.client.send_callback_heartbeat(callback_id)


def test_the_first_completion_counts(stage):
    """A second completion is refused and changes nothing; an id that nobody has is unknown."""

    async def workflow(event, context):
        callback = await context.create_callback(name="vote")
        return await callback.result()

    handle = stage.start(workflow)
    callback_id = stage.callback_id(handle, "vote")
    stage.halt()
    stage.client.send_callback_success(callback_id, "yes")
    with pytest.raises(CallbackClosedError):
        stage.client.send_callback_failure(callback_id, ErrorObject("no"))
    with pytest.raises((CallbackNotFoundError, CallbackClosedError)):
        stage.client.send_callback_success(callback_id[:-4] + "AAAA", "forged")
    stage.work()
    assert stage.end(handle).result == "yes"


# ---------------------------------------------------------------------------------------------------- wait_for_callback


def test_wait_for_callback(stage):
    """The submitter is a step that is given the id; all of it is one context in history."""
    given = []

    def submit(callback_id, submit_context):
        stage.ran("submit")
        submit_context.logger.info("submitting")
        given.append(callback_id)

    async def workflow(event, context):
        return await context.wait_for_callback(submit, name="approval")

    handle = stage.start(workflow)
    assert stage.callback_id(handle, "approval create callback id") == given[0]
    stage.client.send_callback_success(given[0], "granted")
    outcome = stage.end(handle)
    assert outcome.result == "granted"
    assert stage.runs == {"submit": 1}
    assert outcome.history == lines(
        """
        ExecutionStarted
        ContextStarted approval [WaitForCallback]
        CallbackStarted approval/approval create callback id
        StepStarted approval/approval submitter
        StepSucceeded approval/approval submitter #1 = null
        InvocationCompleted
        CallbackSucceeded approval/approval create callback id = granted
        ContextSucceeded approval = "granted"
        InvocationCompleted
        ExecutionSucceeded = "granted"
        """
    )


def test_a_submitter_may_complete_its_callback_itself(stage):
    """The completion that comes before the submitter has returned is not lost."""

    async def submit(callback_id, submit_context):
        stage.client.send_callback_success(callback_id, "at once")

    async def workflow(event, context):
        return await context.wait_for_callback(submit)

    outcome = stage.run(workflow)
    assert outcome.result == "at once"
    assert "CallbackStarted (WaitForCallback)/create callback id" in outcome.history


def test_a_durable_submitter_brings_its_name_and_its_arguments(stage):
    """A function decorated with durable_wait_for_callback names the operation."""
    given = []

    @durable_wait_for_callback
    def ask(callback_id, submit_context, who, *, urgent):
        given.append((callback_id, who, urgent))

    async def workflow(event, context):
        return await context.wait_for_callback(ask("Ann", urgent=True))

    handle = stage.start(workflow)
    callback_id = stage.callback_id(handle, "ask create callback id")
    assert given == [(callback_id, "Ann", True)]
    stage.client.send_callback_success(callback_id, "yes")
    assert stage.end(handle).result == "yes"


def test_wait_for_callback_that_fails(stage):
    """The outside's failure is raised as itself, not as that of the context around it."""
    seen = []

    async def workflow(event, context):
        try:
            await context.wait_for_callback(stage.body("submit"), name="approval")
        except CallbackExternalError as error:
            seen.append((error.message, error.data))
        await context.wait(Duration(1))
        return "survived"

    handle = stage.start(workflow)
    callback_id = stage.callback_id(handle, "approval create callback id")
    stage.client.send_callback_failure(callback_id, ErrorObject("rejected", "Manager.No", "data"))
    outcome = stage.end(handle)
    assert outcome.result == "survived"
    assert seen == [("rejected", "data")] * 2
    assert stage.runs == {"submit": 1}
    assert "ContextFailed approval ! CallbackExternalError: rejected" in outcome.history


def test_wait_for_callback_that_times_out(stage):
    """It times out as a created callback does."""

    async def workflow(event, context):
        config = WaitForCallbackConfig(timeout=Duration(100), heartbeat_timeout=Duration(10))
        try:
            await context.wait_for_callback(stage.body("submit"), name="approval", config=config)
        except CallbackTimeoutError as error:
            return error.message

    handle = stage.start(workflow)
    stage.suspended(handle, "approval submitter").skip(11)
    assert stage.end(handle).result == "Callback timed out on heartbeat"


def test_a_submitter_that_is_retried(stage):
    """It fails once and succeeds, with the same id."""
    given = []
    once = RetryStrategyConfig(max_attempts=2, initial_delay=Duration(5), jitter_strategy=JitterStrategy.NONE)

    def submit(callback_id, _):
        given.append(callback_id)
        if len(given) == 1:
            raise ConnectionError("reset")

    async def workflow(event, context):
        config = WaitForCallbackConfig(retry_strategy=create_retry_strategy(once))
        return await context.wait_for_callback(submit, name="approval", config=config)

    handle = stage.start(workflow)
    stage.suspended(handle, "approval submitter").skip(6)
    stage.reached(handle, lambda: len(given) == 2)
    stage.client.send_callback_success(stage.callback_id(handle, "approval create callback id"), "ok")
    outcome = stage.end(handle)
    assert outcome.result == "ok"
    assert given[0] == given[1]
    assert outcome.history == lines(
        """
        ExecutionStarted
        ContextStarted approval [WaitForCallback]
        CallbackStarted approval/approval create callback id
        StepStarted approval/approval submitter
        StepFailed approval/approval submitter #1 ! ConnectionError: reset, again in 5 s
        InvocationCompleted
        StepStarted approval/approval submitter
        StepSucceeded approval/approval submitter #2 = null
        InvocationCompleted
        CallbackSucceeded approval/approval create callback id = ok
        ContextSucceeded approval = "ok"
        InvocationCompleted
        ExecutionSucceeded = "ok"
        """
    )


def test_a_submitter_that_fails(stage):
    """A submitter that gives up is told apart from a callback that fails; the step's error is its cause."""

    async def workflow(event, context):
        config = WaitForCallbackConfig(retry_strategy=RetryPresets.none())
        try:
            await context.wait_for_callback(stage.body("submit", ValueError("no address")), "approval", config)
        except CallbackSubmitterError as error:
            return [error.message, isinstance(error, CallbackError), type(error.__cause__) is StepError]

    outcome = stage.run(workflow)
    assert outcome.result == ["no address", True, True]
    assert stage.runs == {"submit": 1}


def test_serdes_of_wait_for_callback(stage):
    """A serializer reads what was sent, and the context keeps the value."""

    async def workflow(event, context):
        value = await context.wait_for_callback(
            stage.body("submit"), name="order", config=WaitForCallbackConfig(serdes=JsonSerDes())
        )
        await context.wait(Duration(1))
        return value

    handle = stage.start(workflow)
    stage.client.send_callback_success(
        stage.callback_id(handle, "order create callback id"), json.dumps({"items": [1, 2]})
    )
    assert stage.end(handle).result == {"items": [1, 2]}
