"""Operations told by a history are those that the service itself has: shown with own stores, which tell both."""

from __future__ import annotations

import attrs
import pytest

from perdure.backends.aws_lambda.fold import operations
from perdure.config import CallbackConfig, InvokeConfig, ParallelConfig, StepConfig
from perdure.durable import Duration
from perdure.errors import DurableOperationError
from perdure.model import ErrorObject, Event, OperationStatus
from perdure.retries import RetryDecision
from perdure.testing.memory import MemoryStore
from perdure.waits import WaitForConditionConfig, WaitForConditionDecision
from tests.scenarios.colour import Colour
from tests.scenarios.stage import Stage

MINUTE = Duration.from_minutes(1)
RETRY = StepConfig(retry_strategy=lambda error, attempt: RetryDecision(attempt < 3, MINUTE))


@pytest.fixture
def stage():
    stage = Stage(Colour.DEF, MemoryStore)
    yield stage
    stage.close()


def told_alike(handle):
    """Compare what the history tells with what is so, but for what no history tells; returns the operations."""
    told = operations(handle.history())
    known = handle.operations()
    assert told == [_without(operation) for operation in known]
    return {operation.name: operation for operation in told}


def _without(operation):
    if operation.context_details is None:
        return operation
    return attrs.evolve(operation, context_details=attrs.evolve(operation.context_details, replay_children=False))


async def of_steps(event, context):
    await context.step(lambda _: "one", name="one")
    failing = stage_body(event, ValueError("no"), ValueError("nor now"), "at last")
    await context.step(failing, name="tried", config=RETRY)
    try:
        await context.step(stage_body("", ValueError("never")), name="refused", config=RETRY)
    except DurableOperationError:
        return "done"


def stage_body(_, *outcomes):
    """A body by the attempt that it is told, so that it needs to remember nothing."""

    def body(step):
        outcome = outcomes[min(step.attempt, len(outcomes)) - 1]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return body


def test_steps(stage):
    """Attempts, delays, results and errors, also between two attempts."""
    handle = stage.start(of_steps)
    stage.suspended(handle, "tried")
    tried = told_alike(handle)["tried"]
    assert (tried.status, tried.attempt) == (OperationStatus.PENDING, 1)
    assert tried.due is not None
    stage.end(handle)
    found = told_alike(handle)
    assert (found["refused"].status, found["refused"].attempt) == (OperationStatus.FAILED, 3)
    assert found["tried"].result == '"at last"'


def test_contexts_and_waits(stage):
    """Children below their parents, in start order; branches that were given up stay as they are."""

    async def workflow(event, context):
        async def branch(context):
            await context.wait(MINUTE, name="branch waits")
            return 1

        async def failing(context):
            raise ValueError("no")

        async def quick(context):
            return await context.step(lambda _: 2, name="quick")

        await context.run_in_child_context(branch, name="child")
        await context.parallel([quick, failing], name="both", config=ParallelConfig())

        async def one(context, item, *_):
            return await context.step(lambda _: item, name=f"item {item}")

        await context.map([1, 2, 3], one, name="all")
        await context.wait(MINUTE, name="nap")
        return "done"

    handle = stage.start(workflow)
    stage.suspended(handle, "branch waits")
    waiting = told_alike(handle)
    assert waiting["branch waits"].due is not None
    stage.suspended(handle, "nap", skipping=True)
    told_alike(handle)
    stage.end(handle)
    assert told_alike(handle)["nap"].status is OperationStatus.SUCCEEDED


def test_callbacks(stage):
    """Their ids while they are open, and all the ways in which they end."""

    async def workflow(event, context):
        ends = []
        for name in ("good", "bad", "late"):
            callback = await context.create_callback(name=name, config=CallbackConfig(timeout=MINUTE))
            try:
                ends.append(await callback.result())
            except DurableOperationError as error:
                ends.append(type(error).__name__)
        return ends

    handle = stage.start(workflow)
    open_one = stage.callback_id(handle, "good")
    assert told_alike(handle)["good"].callback_details.callback_id == open_one
    stage.client.send_callback_success(open_one, "fine")
    stage.client.send_callback_failure(stage.callback_id(handle, "bad"), ErrorObject("no", "No", "data", ["line"]))
    stage.suspended(handle, "late").skip(61)
    assert stage.end(handle).result == ["fine", "CallbackExternalError", "CallbackTimeoutError"]
    found = told_alike(handle)
    assert found["bad"].error == ErrorObject("no", "No", "data", ["line"])
    assert found["late"].status is OperationStatus.TIMED_OUT


def test_invokes(stage):
    """Of what succeeds, fails, and does not exist."""

    async def echo(event, context):
        return event

    async def fails(event, context):
        raise ValueError("no")

    for known in (echo, fails):
        stage.durable(known)

    async def workflow(event, context):
        for name in ("echo", "fails", "nowhere"):
            try:
                await context.invoke(name, {"x": 1}, name=f"of {name}", config=InvokeConfig())
            except DurableOperationError as error:
                last = type(error).__name__
        return last

    handle = stage.start(workflow)
    assert stage.end(handle).result == "InvokeError"
    found = told_alike(handle)
    assert found["of echo"].result == '{"x": 1}'
    assert {found["of fails"].status, found["of nowhere"].status} == {OperationStatus.FAILED}


def decide(state, attempt):
    if state >= 3:
        return WaitForConditionDecision.stop_polling()
    return WaitForConditionDecision.continue_waiting(MINUTE)


POLL = WaitForConditionConfig(initial_state=0, wait_strategy=decide)


def test_polls(stage):
    """One that is all an execution can wait for is pending, though nothing says when it goes on."""

    async def workflow(event, context):
        state = await context.wait_for_condition(lambda state, _: state + 1, config=POLL, name="poll")
        callback = await context.create_callback(name="go")
        await callback.result()
        return state

    handle = stage.start(workflow)
    stage.suspended(handle, "poll")
    poll = {one.name: one for one in operations(handle.history())}["poll"]
    known = stage.operation(handle, "poll")
    assert (poll.status, poll.result, poll.attempt) == (OperationStatus.PENDING, "1", 1)
    assert poll == attrs.evolve(known, step_details=attrs.evolve(known.step_details, next_attempt_timestamp=None))
    stage.suspended(handle, "go", skipping=True)
    assert told_alike(handle)["poll"].attempt == 3
    stage.client.send_callback_success(stage.callback_id(handle, "go"))
    assert stage.end(handle).result == 3
    told_alike(handle)


def test_a_poll_beside_something_else(stage):
    """While something else is waited for too, a poll seems done between two checks; later it is right."""

    async def workflow(event, context):
        callback = await context.create_callback(name="go")
        await context.wait_for_condition(lambda state, _: state + 1, config=POLL, name="poll")
        return await callback.result()

    handle = stage.start(workflow)
    stage.suspended(handle, "poll")
    poll = {one.name: one for one in operations(handle.history())}["poll"]
    assert (poll.status, poll.result) == (OperationStatus.SUCCEEDED, "1")
    stage.client.send_callback_success(stage.callback_id(handle, "go"), "went")
    assert stage.end(handle).result == "went"
    assert told_alike(handle)["poll"].attempt == 3


@pytest.mark.parametrize("ending", ["fail", "stop", "time out"])
def test_ends(stage, ending):
    """The execution's own operation, however it ends; what was open stays open."""

    async def workflow(event, context):
        callback = await context.create_callback(name="go")
        if ending == "fail":
            raise ValueError("no")
        return await callback.result()

    handle = stage.start(workflow, name="whole", execution_timeout=MINUTE)
    if ending != "fail":
        stage.suspended(handle, "go")
    if ending == "stop":
        handle.stop()
    elif ending == "time out":
        stage.skip(61)
    stage.end(handle)
    found = told_alike(handle)
    assert found["whole"].is_terminal
    assert not found["go"].is_terminal


def test_what_is_not_known(stage):
    """Events of kinds that came later are passed over; an end without a start is one of both."""
    handle = stage.start(of_steps)
    events = stage.end(handle).events
    at = events[0].event_timestamp
    strange = [
        Event(event_id=90, event_type="ExecutionMoved", event_timestamp=at, operation_id=handle.id),
        Event(event_id=91, event_type="QueueStarted", event_timestamp=at, operation_id="q"),
        Event(event_id=92, event_type="InvocationCompleted", event_timestamp=at),
    ]
    assert operations([*events, *strange]) == operations(events)
    unstarted = [event for event in events if event.event_type != "StepStarted"]
    alike = {one.name: (one.status, one.result, one.attempt) for one in operations(unstarted)}
    assert alike == {one.name: (one.status, one.result, one.attempt) for one in operations(events)}
