"""A parallel or map with a time limit of its own: what is recorded of it, and what replay makes of that."""

from __future__ import annotations

import asyncio
import json
import threading
from contextvars import copy_context

import pytest

from perdure.batch import BatchCompletionError, CompletionReason
from perdure.config import Duration, MapConfig, NestingType, ParallelConfig, continue_batch
from perdure.durable import CompletionConfig, StepConfig
from perdure.engine.activity import Activity
from perdure.engine.commands import Checkpoint, Raised, Rest, Returned, Spawn, WaitAny
from perdure.engine.delivery import Deliveries
from perdure.engine.ids import Identity, operation_id
from perdure.engine.operations.batch import PARALLEL, Branch, batch
from perdure.engine.replay import Run
from perdure.errors import ChildContextError, NonDeterministicExecutionError, ValidationError
from perdure.model import ErrorObject, OperationAction, OperationStatus, OperationSubType, OperationType, WaitOptions
from perdure.retries import RetryPresets
from perdure.testing import explore_crashes
from tests.replay import async_host
from tests.replay import plane as blocking_host
from tests.replay.by_hand import NOW, Hand, returned
from tests.replay.plane import Plane
from tests.scenarios.colour import Colour, durable

MINUTE = Duration.from_minutes(1)
HOUR = Duration.from_hours(1)
LIMITED = ParallelConfig(timeout=MINUTE)
FLAT = ParallelConfig(timeout=MINUTE, nesting_type=NestingType.FLAT)


# -------------------------------------------------------------------------------------------------------- commands


@pytest.fixture
def hand():
    return Hand()


@pytest.fixture
def identity(hand):
    return hand.draw(OperationType.CONTEXT, OperationSubType.PARALLEL, "all")


@pytest.fixture
def timer(identity):
    id = operation_id(identity.operation_id, "timeout")
    return Identity(
        id, OperationType.WAIT, OperationSubType.WAIT, "all-timeout", identity.operation_id, position="timeout"
    )


def branch(identity, index):
    id, name = operation_id(identity.operation_id, index), f"parallel-branch-{index}"
    return Identity(id, OperationType.CONTEXT, OperationSubType.PARALLEL_BRANCH, name, identity.operation_id, index)


def body(_):
    raise AssertionError("a procedure runs no body itself")


def begin(hand, identity, count=2, config=LIMITED):
    return batch(hand.scope, identity, PARALLEL, lambda: [Branch(body) for _ in range(count)], config)


def begun(hand, identity, timer, count=2, config=LIMITED):
    """A batch whose branches have all been started, and which waits for them."""
    procedure = begin(hand, identity, count, config)
    procedure.send(None)
    hand.record(identity, OperationStatus.STARTED)
    procedure.send(None)
    hand.record(timer, OperationStatus.STARTED, scheduled_end_timestamp=NOW)
    assert [procedure.send(None).key for _ in range(count)] == list(range(count))
    return procedure


def statuses(result):
    return result.completion_reason.value, [f"{item.index} {item.status.value}" for item in result.all]


def test_the_timer_is_answered_before_any_branch_starts(hand, identity, timer):
    """Its id derives from the batch's and the word `timeout`, and its duration is the timeout."""
    procedure = begin(hand, identity)
    assert procedure.send(None) == Checkpoint((identity.update(OperationAction.START),), durable=False)
    start = timer.update(OperationAction.START, wait_options=WaitOptions(60))
    assert procedure.send(None) == Checkpoint((start,))
    hand.record(timer, OperationStatus.STARTED, scheduled_end_timestamp=NOW)
    assert isinstance(procedure.send(None), Spawn)
    procedure.send(None)
    assert procedure.send(None) == WaitAny((timer.operation_id,), NOW)


def test_the_timer_of_a_batch_without_a_name(hand):
    """It is called `timeout`."""
    procedure = begin(hand, hand.draw(OperationType.CONTEXT, OperationSubType.PARALLEL))
    procedure.send(None)
    assert procedure.send(None).updates[0].name == "timeout"


def test_no_timer_for_what_is_over_at_once(hand, identity):
    """A batch without branches sets none."""
    procedure = begin(hand, identity, 0)
    procedure.send(None)
    assert [each.action for each in procedure.send(None).updates] == [OperationAction.SUCCEED]


def test_cancel_rides_before_the_end(hand, identity, timer):
    """A batch that ends first has its timer cancelled in the same breath."""
    procedure = begun(hand, identity, timer)
    procedure.send(None)
    final = procedure.send([(0, Returned(0)), (1, Returned(1))])
    assert final.updates[0] == timer.update(OperationAction.CANCEL)
    assert [each.action.value for each in final.updates] == ["CANCEL", "SUCCEED"]
    assert statuses(returned(procedure)) == ("ALL_COMPLETED", ["0 SUCCEEDED", "1 SUCCEEDED"])


def test_cancel_rides_before_a_failure(hand, identity, timer):
    """So it is if the batch fails for what is no branch's doing."""

    def broken(status):
        if status.completed_count:
            raise RuntimeError("broken")
        return continue_batch()

    config = ParallelConfig(timeout=MINUTE, completion_config=CompletionConfig(should_complete=broken))
    procedure = begun(hand, identity, timer, config=config)
    procedure.send(None)
    final = procedure.send([(0, Returned(0))])
    assert [each.action.value for each in final.updates] == ["CANCEL", "FAIL"]


def test_time_is_over(hand, identity, timer):
    """What has finished keeps its outcome, the rest is STARTED; nothing is left to be cancelled."""
    procedure = begun(hand, identity, timer, 3)
    procedure.send(None)
    procedure.send([(1, Returned("b"))])
    hand.record(timer, OperationStatus.SUCCEEDED, position=9)
    final = procedure.send([])
    assert [each.action.value for each in final.updates] == ["SUCCEED"]
    result = returned(procedure)
    assert statuses(result) == ("TIMED_OUT", ["0 STARTED", "1 SUCCEEDED", "2 STARTED"])
    assert result.status.value == "FAILED"


def test_an_end_that_is_recorded_counts(hand, identity, timer):
    """When time is over, an end of which the batch has not been told yet is waited for."""
    procedure = begun(hand, identity, timer)
    procedure.send(None)
    hand.record(branch(identity, 1), OperationStatus.SUCCEEDED, position=8, result="1")
    hand.record(timer, OperationStatus.SUCCEEDED, position=9)
    assert procedure.send([]) == WaitAny()
    assert procedure.send([(1, Returned(1))]) == WaitAny((timer.operation_id,), NOW)
    procedure.send([])
    assert statuses(returned(procedure)) == ("TIMED_OUT", ["0 STARTED", "1 SUCCEEDED"])


def test_no_branch_starts_after_that(hand, identity, timer):
    """A slot that becomes free when time is over is not used."""
    config = ParallelConfig(max_concurrency=1, timeout=MINUTE)
    procedure = begin(hand, identity, 3, config)
    procedure.send(None)
    procedure.send(None)
    hand.record(timer, OperationStatus.STARTED, scheduled_end_timestamp=NOW)
    procedure.send(None)
    procedure.send(None)
    hand.record(timer, OperationStatus.SUCCEEDED, position=9)
    assert isinstance(procedure.send([(0, Returned(0))]), WaitAny)
    procedure.send([])
    assert statuses(returned(procedure)) == ("TIMED_OUT", ["0 SUCCEEDED"])


def test_replay_while_time_runs(hand, identity, timer):
    """The timer is not set again, and branches go on where a first run would have begun them."""
    hand.record(identity, OperationStatus.STARTED)
    hand.record(timer, OperationStatus.STARTED, scheduled_end_timestamp=NOW)
    procedure = begin(hand, identity)
    assert procedure.send(None) == Rest()
    assert [procedure.send(None).frozen for _ in range(2)] == [False, False]
    assert procedure.send(None) == WaitAny((timer.operation_id,), NOW)


def test_replay_after_time_was_over(hand, identity, timer):
    """Recorded ends count, in whatever order; nothing else is run."""
    hand.record(identity, OperationStatus.STARTED)
    hand.record(branch(identity, 0), OperationStatus.STARTED)
    hand.record(timer, OperationStatus.SUCCEEDED, position=5)
    hand.record(branch(identity, 1), OperationStatus.SUCCEEDED, position=7, result="1")
    procedure = begin(hand, identity, 3)
    assert procedure.send(None) == Rest()
    assert [each.action.value for each in procedure.send(None).updates] == ["SUCCEED"]
    assert statuses(returned(procedure)) == ("TIMED_OUT", ["0 STARTED", "1 SUCCEEDED"])


def test_replay_of_an_end_that_came_first(hand, identity, timer):
    """A policy that recorded ends content is content, though the time is over as well."""
    hand.record(identity, OperationStatus.STARTED)
    hand.record(branch(identity, 1), OperationStatus.SUCCEEDED, position=4, result="1")
    hand.record(timer, OperationStatus.SUCCEEDED, position=5)
    config = ParallelConfig(timeout=MINUTE, completion_config=CompletionConfig.first_successful())
    procedure = begin(hand, identity, 2, config)
    assert [each.action.value for each in procedure.send(None).updates] == ["SUCCEED"]
    assert statuses(returned(procedure)) == ("MIN_SUCCESSFUL_REACHED", ["1 SUCCEEDED"])


def test_replay_of_an_end_whose_record_was_lost(hand, identity, timer):
    """A cancelled timer ends nothing: the batch had ended for another reason, and does again."""
    hand.record(identity, OperationStatus.STARTED)
    hand.record(timer, OperationStatus.CANCELLED, position=5)
    procedure = begin(hand, identity)
    procedure.send(None)
    assert [procedure.send(None).frozen for _ in range(2)] == [False, False]
    assert procedure.send(None) == WaitAny()


def test_flat_branches_are_run_over_their_records(hand, identity, timer):
    """When time is over only that tells which had finished; they go no further."""
    hand.record(identity, OperationStatus.STARTED)
    hand.record(timer, OperationStatus.SUCCEEDED, position=5)
    procedure = begin(hand, identity, config=FLAT)
    procedure.send(None)
    assert [procedure.send(None).frozen for _ in range(2)] == [True, True]
    patient = procedure.send(None)
    assert patient == WaitAny((timer.operation_id,), None, patient=True)
    assert procedure.send([(1, Raised(ErrorObject("no", "ValueError").to_operation_error(ChildContextError)))])
    assert statuses(returned(procedure)) == ("FAILURE_TOLERANCE_EXCEEDED", ["0 STARTED", "1 FAILED"])


@pytest.mark.parametrize("patient", [False, True])
def test_patient_news_come_after_all_else(hand, timer, patient):
    """What FLAT branches replay may have ended after the time was over; what it tells comes first all the same."""
    step = hand.draw(OperationType.STEP)
    hand.record(timer, OperationStatus.SUCCEEDED, position=5)
    hand.record(step, OperationStatus.SUCCEEDED, position=9)
    waiting, ended = (Activity(iter(()), Run(), each.operation_id, copy_context()) for each in (timer, step))
    waiting.waiting = WaitAny((timer.operation_id,), patient=patient)
    deliveries = Deliveries(hand.records)
    deliveries.tell(waiting)
    deliveries.add(ended, Returned(1))
    expected = [(waiting, None), (ended, Returned(1))]
    assert [deliveries.next(), deliveries.next()] == (expected[::-1] if patient else expected)


def test_another_operation_in_place_of_the_timer(hand, identity, timer):
    """It is refused, naming both."""
    other = Identity(timer.operation_id, timer.type, timer.sub_type, "else", timer.parent_id)
    hand.record(identity, OperationStatus.STARTED)
    hand.record(other, OperationStatus.STARTED)
    with pytest.raises(NonDeterministicExecutionError, match=r"wait 'all-timeout' at position timeout.*wait 'else'"):
        begin(hand, identity).send(None)


@pytest.mark.parametrize("config", [ParallelConfig, MapConfig])
def test_a_timeout_that_cannot_be(config):
    """The service waits no less than a second and no more than 366 days; a number has no unit."""
    for timeout in (Duration(0), Duration.from_days(366 + 1)):
        with pytest.raises(ValidationError, match="use a second to 366 days, or None for no limit"):
            config(timeout=timeout)
    config(timeout=Duration.from_days(366))
    with pytest.raises(ValidationError, match=r"timeout is 5; use a Duration, such as Duration.from_minutes\(5\)"):
        config(timeout=5)


# ------------------------------------------------------------------------------------------------------ whole runs


@pytest.fixture(params=list(Colour), ids=str)
def colour(request):
    return request.param


@pytest.fixture
def plane():
    return Plane()


def execute(colour, workflow, plane, **options):
    host = async_host if colour is Colour.ASYNC else blocking_host
    return json.loads(host.execute(durable(colour, workflow), plane, **options).result)


def told(result):
    return [*statuses(result), result.get_results()]


async def quick(context):
    return await context.step(lambda _: "done", name="quick")


async def plain(context):
    return "plain"


async def slow(context):
    await context.wait(HOUR, "hour")
    return await context.step(lambda _: 1 / 0, name="never")


NESTINGS = pytest.mark.parametrize("nesting", list(NestingType))


@NESTINGS
def test_what_has_finished_is_kept(colour, plane, nesting):
    """Branches that finished before a suspension are in the result, and those that wait are left behind."""

    async def workflow(_, context):
        config = ParallelConfig(timeout=MINUTE, nesting_type=nesting, completion_config=CompletionConfig(None, 9))
        result = await context.parallel([slow, quick, plain, slow], "all", config)
        await context.wait(MINUTE, "later")
        return told(result)

    assert execute(colour, workflow, plane) == [
        "TIMED_OUT",
        ["0 STARTED", "1 SUCCEEDED", "2 SUCCEEDED", "3 STARTED"],
        ["done", "plain"],
    ]
    assert plane.statuses()["all-timeout"] == "SUCCEEDED"
    assert plane.statuses()["hour"] == "STARTED"
    assert "never" not in plane.statuses()


@NESTINGS
def test_a_batch_in_time(colour, plane, nesting):
    """Its timer is cancelled with its end, and wakes nobody."""

    async def waits(context):
        await context.wait(Duration(5))
        return 5

    async def workflow(_, context):
        result = await context.parallel([quick, waits], "all", ParallelConfig(timeout=MINUTE, nesting_type=nesting))
        await context.wait(HOUR)
        return told(result)

    assert execute(colour, workflow, plane)[0] == "ALL_COMPLETED"
    assert plane.statuses()["all-timeout"] == "CANCELLED"
    assert plane.invocations == 3
    assert next(request for request in plane.sent if "CANCEL all-timeout" in request)[-2:] == [
        "CANCEL all-timeout",
        "SUCCEED all",
    ]


def test_a_running_branch_is_left_behind(colour, plane):
    """Time is over while a body runs: its outcome is dropped, and nothing is begun after it."""
    running, release = threading.Event(), threading.Event()

    def stay(_):
        running.set()
        release.wait(10)

    async def stuck(context):
        await context.step(stay, name="stuck")
        await context.step(lambda _: 1 / 0, name="never")

    async def dawdling(context):
        await context.step(lambda _: running.wait(10) and plane.advance(60))
        await slow(context)

    async def workflow(_, context):
        result = await context.parallel([stuck, dawdling], "all", LIMITED)
        release.set()
        return told(result)

    assert execute(colour, workflow, plane) == ["TIMED_OUT", ["0 STARTED", "1 STARTED"], []]
    assert plane.invocations == 1
    assert plane.statuses()["stuck"] == "STARTED"


def test_the_timer_wins_the_race(colour, plane):
    """It ended while its CANCEL was under way: the rest is recorded without, and the result stands."""
    crossed = []

    def before(updates):
        if any(each.action is OperationAction.CANCEL for each in updates):
            crossed.append([f"{each.action.value} {each.name}" for each in updates])
            plane.advance(60)
            plane._fire()

    async def workflow(_, context):
        return told(await context.parallel([quick], "all", LIMITED))

    plane.before = before
    assert execute(colour, workflow, plane) == ["ALL_COMPLETED", ["0 SUCCEEDED"], ["done"]]
    assert plane.statuses()["all-timeout"] == "SUCCEEDED"
    assert [each[-2:] for each in crossed] == [["CANCEL all-timeout", "SUCCEED all"]]
    assert plane.sent[-1] == [each for each in crossed[0] if not each.startswith("CANCEL")]


@NESTINGS
@pytest.mark.parametrize("large", ["branches", "batch"])
def test_large_results(colour, plane, nesting, large):
    """The decision is read from the summary, and finished branches are run again over their records."""

    async def quick(context):
        value = await context.step(lambda _: "done", name="quick")
        return value * (70_000 if large == "branches" else 20_000)

    async def workflow(_, context):
        config = ParallelConfig(timeout=MINUTE, nesting_type=nesting)
        branches = [quick, slow] if large == "branches" else [quick, slow, quick, quick, quick]
        result = await context.parallel(branches, "all", config)
        await context.wait(MINUTE)
        return [*statuses(result), [len(each) for each in result.get_results()]]

    expected = {
        "branches": ["TIMED_OUT", ["0 SUCCEEDED", "1 STARTED"], [280_000]],
        "batch": [
            "TIMED_OUT",
            ["0 SUCCEEDED", "1 STARTED", "2 SUCCEEDED", "3 SUCCEEDED", "4 SUCCEEDED"],
            [80_000] * 4,
        ],
    }
    assert execute(colour, workflow, plane) == expected[large]
    record = plane.operation("all")
    assert record.context_details.replay_children
    assert json.loads(record.result)["completionReason"] == "TIMED_OUT"


def test_throw_if_error(colour, plane):
    """A batch that timed out raises, its first failure if it has one."""

    async def fails(context):
        raise ValueError("no")

    async def raised(context, *branches):
        config = ParallelConfig(timeout=MINUTE, completion_config=CompletionConfig.all_completed())
        result = await context.parallel([*branches, slow], config=config)
        try:
            result.throw_if_error()
        except (BatchCompletionError, ChildContextError) as error:
            return f"{type(error).__name__}: {error}"

    async def workflow(_, context):
        return [await raised(context), await raised(context, fails)]

    assert execute(colour, workflow, plane) == [
        "BatchCompletionError: the batch ended as failed without a failed item (TIMED_OUT)",
        "ChildContextError: no",
    ]


def test_map(colour, plane):
    """A map has it, too; what was not begun is left out."""

    async def item(context, item, index, items):
        await context.wait(Duration(25))
        return item

    async def workflow(_, context):
        config = MapConfig(max_concurrency=2, timeout=MINUTE)
        return told(await context.map("abcdefgh", item, "all", config))

    assert execute(colour, workflow, plane) == [
        "TIMED_OUT",
        ["0 SUCCEEDED", "1 SUCCEEDED", "2 SUCCEEDED", "3 SUCCEEDED", "4 STARTED", "5 STARTED"],
        ["a", "b", "c", "d"],
    ]


def test_limits_within_limits(colour, plane):
    """An inner batch ends by the outer one's time as any branch does, and by its own if that is shorter."""

    async def inner(context, timeout):
        config = ParallelConfig(timeout=timeout)
        return (await context.parallel([slow, plain], config=config)).completion_reason.value

    async def workflow(_, context):
        config = ParallelConfig(timeout=MINUTE)
        branches = [lambda inner_: inner(inner_, Duration(10)), lambda inner_: inner(inner_, HOUR)]
        return told(await context.parallel(branches, config=config))

    assert execute(colour, workflow, plane) == ["TIMED_OUT", ["0 SUCCEEDED", "1 STARTED"], ["TIMED_OUT"]]


def test_flat_within_time_after_a_crash(colour, plane):
    """A FLAT branch whose step was interrupted does not go on after the time is over."""
    runs = []

    class Crash(BaseException):
        """The process dies."""

    def after(updates):
        if any(each.name == "first" and each.action is OperationAction.SUCCEED for each in updates):
            plane.advance(60)
            plane.after = lambda _: None
            raise Crash

    async def branch(context):
        await context.step(lambda _: runs.append("first"), name="first")
        await context.step(lambda _: runs.append("second"), name="second")

    async def workflow(_, context):
        return told(await context.parallel([branch, plain], "all", FLAT))

    plane.after = after
    with pytest.raises(Crash):
        execute(colour, workflow, plane)
    assert execute(colour, workflow, plane) == ["TIMED_OUT", ["0 STARTED", "1 SUCCEEDED"], ["plain"]]
    assert runs == ["first"]


def test_order_of_futures_is_the_same_on_replay():
    """What else runs in an async workflow comes before the branches, live as on replay."""
    plane, orders = Plane(), []

    async def workflow(_, context):
        order = []
        orders.append(order)

        async def branch(inner):
            order.append("branch")
            await inner.wait(Duration(5))

        future = context.parallel([branch], config=LIMITED)
        for number in range(3):
            order.append(number)
            await asyncio.sleep(0)
        result = await future
        return result.completion_reason.value

    assert async_host.result(async_host.execute(workflow, plane)) == "ALL_COMPLETED"
    assert orders == [[0, 1, 2, "branch"]] * 2


# ---------------------------------------------------------------------------------------------------------- crashes


@NESTINGS
@pytest.mark.parametrize("seconds", [5, 600])
def test_a_crash_at_every_commit(colour, nesting, seconds):
    """In time or not, the result is the same wherever the process crashes, and no step runs again that had ended."""

    async def waits(context):
        await context.step(lambda _: 1, name="before")
        await context.wait(Duration(seconds))
        return await context.step(lambda _: 2, name="after")

    async def workflow(_, context):
        config = ParallelConfig(timeout=MINUTE, nesting_type=nesting)
        result = await context.parallel([quick, waits], "all", config)
        await context.wait(MINUTE)
        return [told(result), await context.step(lambda _: 3, config=StepConfig(RetryPresets.none()))]

    found = explore_crashes(durable(colour, workflow))
    found.assert_none()
    reason = CompletionReason.ALL_COMPLETED if seconds == 5 else CompletionReason.TIMED_OUT
    assert found.undisturbed.value[0][0] == reason.value
    assert found.commits >= 7
