"""Pausing and resuming executions, and deleting them (protocol.md §13)."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest

from perdure.client import AsyncClient
from perdure.config import CallbackConfig, Duration, StepConfig, StepSemantics
from perdure.errors import (
    ExecutionConflictError,
    ExecutionFailedError,
    ExecutionNotFoundError,
    ResultTimeoutError,
    ValidationError,
)
from perdure.model import ExecutionStatus
from perdure.portal import store_portal
from tests.scenarios.stage import LOOK, PATIENCE, lines

RUNNING, PAUSING, PAUSED = ExecutionStatus.RUNNING, ExecutionStatus.PAUSING, ExecutionStatus.PAUSED
DELETING, STOPPED = ExecutionStatus.DELETING, ExecutionStatus.STOPPED


async def napping(event, context):
    await context.wait(Duration.from_minutes(1), name="nap")
    return "rested"


async def asking(event, context):
    callback = await context.create_callback(name="go")
    return await callback.result()


async def asking_twice(event, context):
    first = await context.create_callback(name="first")
    second = await context.create_callback(name="second")
    return [await first.result(), await second.result()]


async def quick(event, context):
    return event


def slow_and_after(stage, gate, config=None):
    """A step that lasts until the gate opens, and one behind it."""

    async def workflow(event, context):
        def slow(_):
            stage.ran("slow")
            return gate.wait(PATIENCE)

        await context.step(slow, name="slow", config=config)
        return await context.step(stage.body("after", "done"), name="after")

    return workflow


def status(handle):
    return handle.describe().status


def goes_on(handle):
    """Whether it has not ended, although nothing but a pause keeps it from that."""
    with pytest.raises(ResultTimeoutError):
        handle.result(timeout=20 * LOOK)
    return True


@pytest.fixture
def gate():
    """Opened by the test, or by its end: a step waits for it."""
    event = threading.Event()
    yield event
    event.set()


# --------------------------------------------------------------------------------------------------------------- pause


def test_pause_while_a_step_runs(stage, gate):
    """The step is finished and recorded, nothing behind it begins; after the resume the workflow goes on, once."""
    # So its start is recorded before it runs.
    config = StepConfig(step_semantics=StepSemantics.AT_MOST_ONCE_PER_RETRY)
    handle = stage.start(slow_and_after(stage, gate, config))
    stage.reached(handle, lambda: stage.runs["slow"] == 1)
    handle.pause("lunch")
    assert status(handle) is PAUSING
    gate.set()
    stage.reached(handle, lambda: status(handle) is PAUSED)
    assert goes_on(handle)
    assert stage.runs == {"slow": 1}
    handle.resume("back")
    outcome = stage.end(handle)
    assert outcome.result == "done"
    assert stage.runs == {"slow": 1, "after": 1}
    assert outcome.history == lines(
        """
        ExecutionStarted
        StepStarted slow
        ExecutionPaused
        StepSucceeded slow #1 = true
        InvocationCompleted
        ExecutionResumed
        StepStarted after
        StepSucceeded after #1 = "done"
        InvocationCompleted
        ExecutionSucceeded = "done"
        """
    )
    told = {event.event_type: event.details for event in outcome.events}
    assert told["ExecutionPaused"]["Reason"] == "lunch"
    assert told["ExecutionPaused"]["ExecutionTimeoutPaused"] is True
    assert told["ExecutionResumed"]["Reason"] == "back"


def test_pause_before_the_start_of_a_running_step_is_recorded(stage, gate):
    """The start is recorded while the body runs, and is not what the pause takes effect with: the end would be lost."""
    handle = stage.start(slow_and_after(stage, gate))
    stage.reached(handle, lambda: stage.runs["slow"] == 1)
    handle.pause()
    stage.reached(handle, lambda: [operation.name for operation in handle.operations()].count("slow") == 1)
    assert status(handle) is PAUSING
    gate.set()
    stage.reached(handle, lambda: status(handle) is PAUSED)
    handle.resume()
    assert stage.end(handle).result == "done"
    assert stage.runs == {"slow": 1, "after": 1}


def test_pause_taken_back_while_a_step_runs(stage, gate):
    """A resume before the next checkpoint cancels the pause; the invocation never notices."""

    async def workflow(event, context):
        def slow(_):
            stage.ran("slow")
            return gate.wait(PATIENCE)

        await context.step(slow, name="slow")
        return "done"

    handle = stage.start(workflow)
    stage.reached(handle, lambda: stage.runs["slow"] == 1)
    handle.pause()
    handle.resume()
    assert status(handle) is RUNNING
    gate.set()
    outcome = stage.end(handle)
    assert outcome.result == "done"
    assert stage.runs == {"slow": 1}


def test_pause_while_waiting(stage):
    """What waits is PAUSED at once; a time that comes meanwhile begins nothing, and counts when it is resumed."""
    handle = stage.start(napping)
    stage.suspended(handle, "nap")
    handle.pause()
    described = handle.describe()
    assert (described.status, described.due) == (PAUSED, None)
    stage.skip(3600)
    assert goes_on(handle)
    handle.resume()
    outcome = stage.end(handle)
    assert outcome.result == "rested"
    assert outcome.invocations == 2
    assert [event.event_type for event in outcome.events].count("WaitSucceeded") == 1


def test_resume_before_the_time_comes(stage):
    """A wait that is not over goes on; the early invocation, if any, does no harm."""
    handle = stage.start(napping)
    stage.suspended(handle, "nap")
    handle.pause()
    handle.resume()
    stage.suspended(handle, "nap")
    assert goes_on(handle)
    assert stage.end(handle).result == "rested"


def test_a_callback_is_completed_while_paused(stage):
    """It is accepted and recorded; the workflow learns of it after the resume, once."""
    handle = stage.start(asking_twice)
    first, second = stage.callback_id(handle, "first"), stage.callback_id(handle, "second")
    handle.pause()
    stage.client.send_callback_heartbeat(first)
    stage.client.send_callback_success(first, "one")
    assert goes_on(handle)
    assert stage.operation(handle, "first").result == "one"
    handle.resume()
    stage.suspended(handle, "second")
    stage.client.send_callback_success(second, "two")
    outcome = stage.end(handle)
    assert outcome.result == ["one", "two"]
    told = [event.event_type for event in outcome.events if event.name == "first"]
    assert told == ["CallbackStarted", "CallbackSucceeded"]


def test_a_callback_times_out_while_paused(stage):
    """Its time goes on; what came of it is seen after the resume."""

    async def workflow(event, context):
        callback = await context.create_callback(name="go", config=CallbackConfig(timeout=Duration.from_minutes(1)))
        try:
            return await callback.result()
        except Exception as error:  # noqa: BLE001 - whatever it is
            return type(error).__name__

    handle = stage.start(workflow)
    stage.suspended(handle, "go")
    handle.pause()
    stage.skip(61)
    stage.reached(handle, lambda: stage.operation(handle, "go").is_terminal)
    assert status(handle) is PAUSED
    handle.resume()
    assert stage.end(handle).result == "CallbackTimeoutError"


def test_pause_before_the_first_invocation(stage):
    """Nothing of it runs until it is resumed."""

    async def workflow(event, context):
        return stage.ran("workflow")

    function = stage.durable(workflow)
    stage.work(stage.durable(quick))
    with pytest.warns(UserWarning, match="no worker"):
        handle = stage.start(function)
    handle.pause()
    stage.restart(function)
    assert goes_on(handle)
    assert not stage.runs
    handle.resume()
    assert stage.end(handle).result == 1


def test_a_pause_survives_the_worker(stage):
    """Another worker leaves it alone too."""
    handle = stage.start(asking)
    callback = stage.callback_id(handle, "go")
    handle.pause()
    stage.restart()
    stage.client.send_callback_success(callback, "went")
    assert goes_on(handle)
    handle.resume()
    assert stage.end(handle).result == "went"


@pytest.mark.parametrize("semantics", StepSemantics)
def test_parallel_branches_pause_together(stage, gate, semantics):
    """Bodies that run are finished and recorded, all of them; no branch begins another one until the resume."""
    config = StepConfig(step_semantics=semantics)

    async def workflow(event, context):
        async def branch(context, number):
            def slow(_):
                stage.ran("first")
                return gate.wait(PATIENCE)

            await context.step(slow, name=f"first {number}", config=config)
            return await context.step(stage.body("second", number), name=f"second {number}")

        async def one(context):
            return await branch(context, 1)

        async def two(context):
            return await branch(context, 2)

        return len((await context.parallel([one, two], name="both")).get_results())

    handle = stage.start(workflow)
    stage.reached(handle, lambda: stage.runs["first"] == 2)
    handle.pause()
    gate.set()
    stage.reached(handle, lambda: status(handle) is PAUSED)
    assert goes_on(handle)
    assert not stage.runs["second"]
    handle.resume()
    assert stage.end(handle).result == 2
    assert stage.runs == {"first": 2, "second": 2}


def test_pause_while_a_worker_drains(stage, gate):
    """What runs is finished by the worker that leaves; the next one goes on after the resume, and repeats nothing."""
    handle = stage.start(slow_and_after(stage, gate))
    stage.reached(handle, lambda: stage.runs["slow"] == 1)
    handle.pause()
    stage.reached(handle, lambda: [operation.name for operation in handle.operations()].count("slow") == 1)
    halting = threading.Thread(target=stage.halt)
    halting.start()
    gate.set()
    halting.join(PATIENCE)
    assert status(handle) is PAUSED
    stage.work()
    assert goes_on(handle)
    handle.resume()
    assert stage.end(handle).result == "done"
    assert stage.runs == {"slow": 1, "after": 1}


def test_pause_in_the_last_code(stage, gate):
    """An invocation that has nothing more to record ends its execution, paused or not."""

    async def workflow(event, context):
        await context.step(stage.body("step"), name="step")
        stage.ran("code")
        gate.wait(PATIENCE)
        return "done"

    handle = stage.start(workflow)
    stage.reached(handle, lambda: stage.runs["code"] == 1)
    handle.pause()
    gate.set()
    outcome = stage.end(handle)
    assert outcome.result == "done"
    assert handle.describe().pause is None
    with pytest.raises(ExecutionConflictError):
        handle.resume()


def test_children_of_a_paused_execution_go_on(stage):
    """What it has invoked ends meanwhile; the result is there after the resume."""

    async def child(event, context):
        callback = await context.create_callback(name="child goes")
        return await callback.result()

    stage.durable(child)

    async def parent(event, context):
        return await context.invoke("child", {}, name="invoked")

    handle = stage.start(parent)
    stage.suspended(handle, "invoked")
    handle.pause()
    (invoked,) = stage.client.list("child").items
    child_handle = stage.client.handle(invoked.arn)
    stage.client.send_callback_success(stage.callback_id(child_handle, "child goes"), "went")
    assert stage.end(child_handle).result == "went"
    stage.reached(handle, lambda: stage.operation(handle, "invoked").is_terminal)
    assert status(handle) is PAUSED
    handle.resume()
    assert stage.end(handle).result == "went"


# ------------------------------------------------------------------------------------------------------------- timeout


def test_the_execution_timeout_stands_still(stage):
    """It is extended by the time for which the execution was paused."""
    handle = stage.start(asking, execution_timeout=Duration.from_minutes(5))
    stage.suspended(handle, "go").skip(60)
    before = handle.describe().deadline
    handle.pause()
    assert handle.describe().deadline is None
    assert handle.describe().pause.timeout_paused
    stage.skip(3600)
    assert status(handle) is PAUSED
    handle.resume()
    moved = handle.describe().deadline - before
    assert timedelta(hours=1) <= moved < timedelta(hours=1, minutes=1)
    stage.suspended(handle, "go").skip(180)
    assert status(handle) is RUNNING
    stage.skip(61)
    with pytest.raises(ExecutionFailedError, match="TIMED_OUT"):
        handle.result(timeout=PATIENCE)


def test_the_execution_timeout_runs_on(stage):
    """On demand it counts while the execution is paused, and ends it."""
    handle = stage.start(asking, execution_timeout=Duration.from_minutes(5))
    stage.suspended(handle, "go")
    handle.pause(timeout_paused=False)
    assert not handle.describe().pause.timeout_paused
    stage.skip(301)
    with pytest.raises(ExecutionFailedError, match="TIMED_OUT"):
        handle.result(timeout=PATIENCE)
    assert handle.describe().pause is None


# ----------------------------------------------------------------------------------------------------- what is refused


def test_what_cannot_be_paused_or_resumed(stage):
    """Each in the wrong status, and nothing changes by asking."""
    handle = stage.start(asking)
    stage.suspended(handle, "go")
    with pytest.raises(ExecutionConflictError, match="neither quarantined nor paused"):
        handle.resume()
    handle.pause()
    with pytest.raises(ExecutionConflictError, match="is paused already"):
        handle.pause()
    handle.stop()
    assert status(handle) is STOPPED
    for refused in (handle.pause, handle.resume):
        with pytest.raises(ExecutionConflictError):
            refused()
    assert [event.event_type for event in handle.history()].count("ExecutionPaused") == 1
    for unknown in (stage.client.pause, stage.client.resume, stage.client.delete):
        with pytest.raises(ExecutionNotFoundError):
            unknown("nobody")
    with pytest.raises(ValidationError, match="1024"):
        handle.pause("x" * 1025)


def test_the_same_token_again(stage):
    """A pause or resume that is repeated under one token succeeds, and changes nothing."""
    handle = stage.start(asking)
    callback = stage.callback_id(handle, "go")
    service, call = stage.client._desk.connection.service, store_portal().call
    for _ in range(2):
        call(service.pause(handle.id, client_token="once"))
    call(service.resume(handle.id, client_token="once"))
    # A late duplicate of the pause.
    call(service.pause(handle.id, client_token="once"))
    call(service.resume(handle.id, client_token="once"))
    assert status(handle) is RUNNING
    stage.client.send_callback_success(callback, "went")
    told = [event.event_type for event in stage.end(handle).events]
    assert (told.count("ExecutionPaused"), told.count("ExecutionResumed")) == (1, 1)


# -------------------------------------------------------------------------------------------------------------- delete


def test_delete(stage):
    """Only in a terminal status; DELETING until it is removed, and the name is free then."""
    handle = stage.start(asking, name="the-one")
    callback = stage.callback_id(handle, "go")
    with pytest.raises(ExecutionConflictError, match="has not ended"):
        handle.delete()
    stage.client.send_callback_success(callback, "went")
    assert stage.end(handle).result == "went"
    asked = handle.delete()
    assert asked.utcoffset() == timedelta()
    assert status(handle) is DELETING
    assert [found.id for found in stage.client.list(statuses=["DELETING"]).items] == [handle.id]
    handle.delete()
    again = stage.start(asking, {"another": "input"}, name="the-one")
    assert again.id != handle.id
    with pytest.raises(ExecutionNotFoundError):
        handle.describe()
    assert stage.client.handle("the-one").id == again.id


def test_purge_removes_what_is_deleted(stage):
    """Long before its retention is over, and nothing else."""
    kept, gone = (stage.start(quick, name=name) for name in ("kept", "gone"))
    for handle in (kept, gone):
        stage.end(handle)
    gone.delete()
    stage.client.purge()
    assert [found.name for found in stage.client.list().items] == ["kept"]


def test_lists_tell_what_is_paused(stage):
    """By the status that is shown, in pages that are full as long as there are more."""
    handles = [stage.start(asking, name=f"n-{number}") for number in range(6)]
    for handle in handles:
        stage.suspended(handle, "go")
    for handle in handles[::2]:
        handle.pause()

    def names(**options):
        found, cursor = [], None
        while True:
            page = stage.client.list(limit=2, oldest_first=True, cursor=cursor, **options)
            found.append([item.name for item in page.items])
            cursor = page.next_cursor
            if cursor is None:
                return found

    assert [name for page in names(statuses=["PAUSED"]) for name in page] == ["n-0", "n-2", "n-4"]
    assert [name for page in names(statuses=["RUNNING"]) for name in page] == ["n-1", "n-3", "n-5"]
    assert names(statuses=["PAUSED"])[0] == ["n-0", "n-2"]
    assert [name for page in names(statuses=["RUNNING", "PAUSED"]) for name in page] == [one.name for one in handles]
    assert stage.client.list(statuses=["SUCCEEDED", "DELETING", "PAUSING"]).items == []


def test_an_awaited_client_pauses_too(stage):
    """AsyncClient and its handles have the same verbs."""
    handle = stage.start(asking, name="awaited")
    callback = stage.callback_id(handle, "go")

    async def application():
        async with AsyncClient(stage.store) as client:
            own = await client.handle("awaited")
            await own.pause("why not")
            paused = (await own.describe()).pause
            await own.resume()
            await client.pause("awaited")
            await client.resume("awaited")
            await client.send_callback_success(callback, "went")
            result = await own.result(timeout=PATIENCE)
            await own.delete()
            return paused.reason, result, (await own.describe()).status

    assert asyncio.run(application()) == ("why not", "went", DELETING)
