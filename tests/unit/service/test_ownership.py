"""The owner's side of an execution: what is recorded when, and what is refused."""

from __future__ import annotations

import pytest

from perdure.errors import InvalidParameterValueError, StaleTokenError
from perdure.journal import history
from perdure.model import ErrorObject, ExecutionStatus, InvocationOutput, InvocationStatus, OperationStatus
from perdure.service import reading
from perdure.service.crash_policy import CrashPolicy
from perdure.storage import Status
from tests.unit.service.stage import (
    PENDING,
    Stage,
    callback,
    done,
    invoke,
    retried_step,
    run,
    started_step,
    succeeded_step,
    wait,
)


async def types_of(stage, id):
    return [event.event_type for event in history.events(id, await reading.rows(stage.store, id))]


def test_an_execution_of_one_checkpoint_costs_three_commits():
    """Create, one checkpoint, and invocation and execution end in one."""

    async def scene():
        stage = await Stage().open()
        header = await stage.start()
        ownership = await stage.begun()
        answer = await ownership.checkpoint(ownership.token, [started_step(), succeeded_step()])
        assert [operation.status for operation in answer.operations] == [OperationStatus.SUCCEEDED]
        await ownership.finish(done("7"))
        assert stage.service.committer.commits == 2
        ended = await stage.store.describe(header.id)
        assert (ended.status, ended.length) == (Status.SUCCEEDED, 3)
        assert (await stage.service.load(header.id)).result == "7"

    run(scene())


def test_a_token_is_good_for_one_checkpoint():
    """The same token again, or any other, is stale; nothing is recorded."""

    async def scene():
        stage = await Stage().open()
        header = await stage.start()
        ownership = await stage.begun()
        first = ownership.token
        await ownership.checkpoint(first, [started_step()])
        for token in (first, "nonsense"):
            with pytest.raises(StaleTokenError):
                await ownership.checkpoint(token, [succeeded_step()])
        assert (await stage.store.describe(header.id)).length == 2

    run(scene())


def test_an_illegal_update_records_nothing_and_keeps_the_token():
    """Protocol.md §6.1, point 3."""

    async def scene():
        stage = await Stage().open()
        await stage.start()
        ownership = await stage.begun()
        await ownership.checkpoint(ownership.token, [wait("a")])
        token, length = ownership.token, ownership.execution.length
        with pytest.raises(InvalidParameterValueError, match="Cannot start a WAIT that already exist"):
            await ownership.checkpoint(token, [succeeded_step(), wait("a")])
        assert (ownership.token, ownership.execution.length) == (token, length)
        await ownership.checkpoint(token, [succeeded_step()])

    run(scene())


def test_a_timer_is_fired_by_the_next_owner_before_the_handler_sees_it():
    """The wait is over in the input, and WaitSucceeded stands after the end of the invocation that began it."""

    async def scene():
        stage = await Stage().open()
        header = await stage.start()
        ownership = await stage.begun()
        await ownership.checkpoint(ownership.token, [wait(seconds=10)])
        await ownership.finish(PENDING)
        stage.advance(9)
        assert await stage.claim() is None
        stage.advance(1)
        ownership = await stage.begun()
        assert ownership.execution.operations["w"].status is OperationStatus.SUCCEEDED
        assert await types_of(stage, header.id) == [
            "ExecutionStarted",
            "WaitStarted",
            "InvocationCompleted",
            "WaitSucceeded",
        ]

    run(scene())


def test_a_poll_fires_what_is_due_and_tells_what_came_from_outside():
    """An empty checkpoint is a poll (protocol.md §6.1, point 5)."""

    async def scene():
        stage = await Stage().open()
        await stage.start()
        ownership = await stage.begun()
        answer = await ownership.checkpoint(ownership.token, [callback(), wait(seconds=10)])
        callback_id = answer.operations[0].callback_details.callback_id
        await stage.service.succeed_callback(callback_id, "yes")
        stage.advance(10)
        stage.service.clock.read(stage.clock())
        answer = await ownership.checkpoint(ownership.token, [])
        assert {o.operation_id: o.status for o in answer.operations} == {
            "c": OperationStatus.SUCCEEDED,
            "w": OperationStatus.SUCCEEDED,
        }
        assert (await ownership.checkpoint(ownership.token, [])).operations == ()

    run(scene())


def test_what_arrives_while_an_owner_suspends_makes_it_due_at_once():
    """No wake-up is lost: the owner had not seen the callback's row."""

    async def scene():
        stage = await Stage().open()
        await stage.start()
        ownership = await stage.begun()
        answer = await ownership.checkpoint(ownership.token, [callback()])
        await stage.service.succeed_callback(answer.operations[0].callback_details.callback_id, "yes")
        await ownership.finish(PENDING)
        ownership = await stage.begun()
        assert ownership.execution.operations["c"].result == "yes"

    run(scene())


def test_a_claim_with_nothing_to_tell_is_released_without_a_row():
    """A spurious wake leaves no trace, and the timer stays armed."""

    async def scene():
        stage = await Stage().open()
        header = await stage.start()
        ownership = await stage.begun()
        await ownership.checkpoint(ownership.token, [wait(seconds=10)])
        await ownership.drain()
        ownership = await stage.begun()
        await ownership.finish(PENDING)
        before = await stage.store.describe(header.id)
        assert before.wake is not None
        stage.advance(1)
        assert await stage.claim() is None
        assert (await stage.store.describe(header.id)).length == before.length

    run(scene())


def test_a_dead_owners_invocation_is_recorded_before_user_code_runs_again():
    """InvocationCompleted with Runtime.ExitError, and the step stays STARTED without a second START."""

    async def scene():
        stage = await Stage().open()
        header = await stage.start()
        ownership = await stage.begun()
        await ownership.checkpoint(ownership.token, [started_step()])
        stage.advance(3601)
        assert (await stage.store.reap(10)).count == 1
        await stage.store.register("w3", [], 10**9)
        heir = await stage.begun("w3")
        assert heir.execution.operations["s"].status is OperationStatus.STARTED
        assert (await stage.store.describe(header.id)).crashes == 1
        with pytest.raises(StaleTokenError):
            await ownership.checkpoint(ownership.token, [succeeded_step()])
        await heir.checkpoint(heir.token, [succeeded_step()])
        await heir.finish(done())
        events = history.events(header.id, await reading.rows(stage.store, header.id))
        assert [event.event_type for event in events] == [
            "ExecutionStarted",
            "StepStarted",
            "InvocationCompleted",
            "StepSucceeded",
            "InvocationCompleted",
            "ExecutionSucceeded",
        ]
        assert events[2].details["Error"]["Payload"]["ErrorType"] == "Runtime.ExitError"

    run(scene())


def test_crashes_are_repeated_at_once_then_later_then_quarantined():
    """Once at once, then after growing pauses; the limit leaves the execution alone, visible, until resumed."""

    async def scene():
        stage = await Stage(CrashPolicy(limit=4, first_pause=10, factor=2)).open()
        header = await stage.start()
        for pause in (0, 10, 20):
            ownership = await stage.begun()
            await ownership.crash(ErrorObject("boom", "SystemExit"))
            if pause:
                stage.advance(pause - 1)
                assert await stage.claim() is None
                stage.advance(1)
        await (await stage.begun()).crash(ErrorObject("boom", "SystemExit"))
        stage.advance(10_000)
        assert await stage.claim() is None
        poisoned = await stage.store.describe(header.id)
        assert (poisoned.quarantined, poisoned.crashes, poisoned.status) == (True, 4, Status.RUNNING)

    run(scene())


def test_a_clean_end_forgets_crashes_and_a_drain_counts_none():
    """Draining is no crash; ending well resets the count."""

    async def scene():
        stage = await Stage().open()
        header = await stage.start()
        await (await stage.begun()).crash(ErrorObject("boom", "SystemExit"))
        ownership = await stage.begun()
        await ownership.drain()
        assert (await stage.store.describe(header.id)).crashes == 1
        ownership = await stage.begun()
        await ownership.checkpoint(ownership.token, [wait()])
        await ownership.finish(PENDING)
        assert (await stage.store.describe(header.id)).crashes == 0

    run(scene())


def test_pending_with_nothing_outstanding():
    """It counts as a crash, and is tried again; the third in a row fails the execution (protocol.md §4.2)."""

    async def scene():
        stage = await Stage().open()
        header = await stage.start()
        for crashes in (1, 2):
            await (await stage.begun()).finish(PENDING)
            assert (await stage.store.describe(header.id)).crashes == crashes
            stage.advance(1)
        await (await stage.begun()).finish(PENDING)
        ended = await stage.service.load(header.id)
        assert ended.status is ExecutionStatus.FAILED
        assert ended.error == ErrorObject(
            "Cannot return PENDING status with no pending operations.", "InvalidParameterValueException"
        )
        assert await types_of(stage, header.id) == [
            "ExecutionStarted",
            *["InvocationCompleted"] * 3,
            "ExecutionFailed",
        ]

    run(scene())


@pytest.mark.parametrize("between", ["crash", "drain", "wait"])
def test_pending_with_nothing_outstanding_not_in_a_row(between):
    """Whatever other end an invocation has begins the count anew."""

    async def scene():
        stage = await Stage().open()
        header = await stage.start()
        for number in range(4):
            ownership = await stage.begun()
            if number != 2:
                await ownership.finish(PENDING)
            elif between == "wait":
                await ownership.checkpoint(ownership.token, [wait(seconds=1)])
                await ownership.finish(PENDING)
            elif between == "drain":
                await ownership.drain()
            else:
                await ownership.crash(ErrorObject("boom", "SystemExit"))
            stage.advance(1000)
        found = await stage.service.load(header.id)
        assert (found.status, found.idle) == (ExecutionStatus.RUNNING, 1)

    run(scene())


@pytest.mark.parametrize(
    ("member", "message"),
    [("result", "Cannot provide a Result for FAILED status."), ("error", "Cannot provide an Error for SUCCEEDED")],
)
def test_an_output_that_contradicts_itself_fails_the_execution(member, message):
    """Protocol.md §4.2."""

    async def scene():
        stage = await Stage().open()
        header = await stage.start()
        if member == "result":
            output = InvocationOutput(status=InvocationStatus.FAILED, result="1")
        else:
            output = InvocationOutput(status=InvocationStatus.SUCCEEDED, error=ErrorObject("x"))
        await (await stage.begun()).finish(output)
        execution = await stage.service.load(header.id)
        assert execution.status is ExecutionStatus.FAILED
        assert message in execution.error.message

    run(scene())


def test_a_pause_halts_the_invocation_and_keeps_what_it_records():
    """What runs is still recorded, in as many checkpoints as that takes; the end lets go, and resume invokes again."""

    async def scene():
        stage = await Stage().open()
        header = await stage.start()
        halted = []
        ownership = await stage.begun(halt=lambda: halted.append(ownership.execution.length))
        await ownership.checkpoint(ownership.token, [started_step("a"), started_step("b")])
        assert not halted
        await stage.service.pause(header.id)
        for step in ("a", "b"):
            answer = await ownership.checkpoint(ownership.token, [succeeded_step(step)])
            assert answer.token == ownership.token
            assert [operation.operation_id for operation in answer.operations] == [step]
        assert halted == [4, 5]
        await ownership.drain()
        assert await stage.claim() is None
        await stage.service.resume(header.id)
        ownership = await stage.begun()
        assert {ownership.execution.operations[step].status for step in ("a", "b")} == {OperationStatus.SUCCEEDED}
        assert (await stage.store.describe(header.id)).crashes == 0

    run(scene())


@pytest.mark.parametrize(
    ("output", "standing"), [(done("7"), (Status.SUCCEEDED, False)), (PENDING, (Status.RUNNING, True))]
)
def test_a_paused_invocation_that_comes_to_its_end_ends_as_it_would(output, standing):
    """There is nothing left to hold it from; what is outstanding is waited for, paused."""

    async def scene():
        stage = await Stage().open()
        header = await stage.start()
        ownership = await stage.begun()
        await stage.service.pause(header.id)
        await ownership.checkpoint(ownership.token, [wait()])
        await ownership.finish(output)
        header = await stage.store.describe(header.id)
        assert (header.status, header.paused) == standing

    run(scene())


def test_a_stop_fences_the_owner():
    """Stopped at once; the running invocation's next checkpoint is rejected (protocol.md §13)."""

    async def scene():
        stage = await Stage().open()
        header = await stage.start()
        ownership = await stage.begun()
        await stage.service.stop(header.id, ErrorObject("enough", "Operator"))
        with pytest.raises(StaleTokenError):
            await ownership.checkpoint(ownership.token, [started_step()])
        assert await types_of(stage, header.id) == ["ExecutionStarted", "InvocationCompleted", "ExecutionStopped"]

    run(scene())


def test_the_state_of_a_poll_survives_its_retry():
    """RETRY with a payload: PENDING, then READY with the result kept."""

    async def scene():
        stage = await Stage().open()
        await stage.start()
        ownership = await stage.begun()
        await ownership.checkpoint(ownership.token, [started_step(), retried_step(seconds=5)])
        await ownership.finish(PENDING)
        stage.advance(5)
        ownership = await stage.begun()
        operation = ownership.execution.operations["s"]
        assert (operation.status, operation.result, operation.attempt) == (OperationStatus.READY, "1", 1)

    run(scene())


def test_invoking_an_unknown_function_fails_in_the_same_answer():
    """Protocol.md §7: FAILED at once, and no child."""

    async def scene():
        stage = await Stage().open()
        header = await stage.start()
        ownership = await stage.begun()
        answer = await ownership.checkpoint(ownership.token, [invoke("nobody")])
        assert answer.operations[0].status is OperationStatus.FAILED
        assert answer.operations[0].error.type == "ResourceNotFoundException"
        assert (await stage.store.describe(header.id)).effect_last == 0

    run(scene())
