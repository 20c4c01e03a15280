"""What crashing a workflow behind each of its commits finds, and what it leaves alone."""

from __future__ import annotations

import random
import sys
import time
from collections import Counter

import attrs
import pytest

from perdure.config import StepConfig
from perdure.durable import Duration, ParallelBranch, StepSemantics
from perdure.engine import calls
from perdure.engine.commands import Call
from perdure.engine.operations.step import step
from perdure.engine.settings import FLUSH_AGE
from perdure.errors import ValidationError
from perdure.model import ExecutionStatus, OperationStatus
from perdure.retries import RetryDecision
from perdure.service.carrier import Carrier
from perdure.storage import Committed
from perdure.testing import BlockedExecutionError, FaultKind, explore_crashes
from perdure.testing.memory import MemoryStore
from perdure.types import StepContext

NO_RETRY = StepConfig(retry_strategy=lambda *_: RetryDecision.no_retry())
ONCE = StepConfig(
    step_semantics=StepSemantics.AT_MOST_ONCE_PER_RETRY, retry_strategy=lambda *_: RetryDecision.no_retry()
)
AGAIN = StepConfig(
    step_semantics=StepSemantics.AT_MOST_ONCE_PER_RETRY,
    retry_strategy=lambda _, attempt: RetryDecision.retry(Duration.from_hours(attempt)),
)


async def order(event, context):
    paid = await context.step(lambda _: f"{event} paid", name="charge")

    def deliver(step):
        if step.attempt < 3:
            raise ConnectionError("no driver")
        return "delivered"

    async def left(inner, *_):
        await inner.wait(Duration.from_days(1), name="rest")
        return await inner.step(lambda _: "left", name="left")

    both = await context.parallel([left, ParallelBranch(left, name="other")], name="both")
    seen = await context.invoke("ship", {"to": "Rome"}, name="shipping")
    approved = await context.wait_for_callback(lambda *_: None, name="approval")
    retry = StepConfig(retry_strategy=lambda *_: RetryDecision.retry(Duration.from_hours(1)))
    parcel = await context.step(deliver, name="deliver", config=retry)
    return [paid, both.get_results(), seen, approved, parcel]


async def ship(event, context):
    await context.wait(Duration.from_days(3), name="road")
    return await context.step(lambda _: event["to"], name="unload")


@pytest.fixture
def runs(monkeypatch) -> list[Counter[str]]:
    """Commits that stores in memory have accepted, for each run; counted at the stores themselves."""
    found: list[Counter[str]] = []
    commit, init = MemoryStore.commit, MemoryStore.__init__

    def counting_init(self, *args):
        init(self, *args)
        found.append(Counter())
        self.counter = found[-1]

    async def counting_commit(self, batch):
        answers = await commit(self, batch)
        self.counter["commits"] += sum(isinstance(answer, Committed) for answer in answers)
        return answers

    monkeypatch.setattr(MemoryStore, "__init__", counting_init)
    monkeypatch.setattr(MemoryStore, "commit", counting_commit)
    return found


# --------------------------------------------------------------------------------------------------------- all is well


def test_every_commit_is_a_crash_point(workflow, runs):
    """The crash points are the commits that the store itself has counted, and each is a run of its own."""
    found = explore_crashes(workflow(order), 7, callbacks={"approval": "yes"}, functions=[workflow(ship)])
    found.assert_none()
    assert found.undisturbed.value[3] == "yes"
    undisturbed, _, *crashed = runs
    assert found.commits == undisturbed["commits"] == len(found.crash_points) == len(crashed)
    assert [point.number for point in found.crash_points] == list(range(1, found.commits + 1))
    for point, run in zip(found.crash_points, crashed, strict=True):
        assert point in found.missed or run["commits"] >= point.number


def test_how_long_bodies_take_changes_no_commit(workflow):
    """However slow the machine is, a START is not sent by itself: there would be a crash behind it now and then."""

    async def slow(_, context):
        return await context.step(lambda _: time.sleep(2 * FLUSH_AGE), name="slow")

    found = explore_crashes(workflow(slow), limit=1)
    assert found.commits == 2


def test_a_sound_sequence_misses_no_crash(workflow):
    """Where no threads take turns each commit is reached, and says what it was about."""

    async def sequence(_, context):
        await context.step(lambda _: 1, name="one")
        await context.wait(Duration.from_days(1), name="night")
        return await context.step(lambda _: 2, name="two")

    found = explore_crashes(workflow(sequence))
    assert found.missed == found.interrupted == found.faults == ()
    assert [str(point) for point in found.crash_points] == [
        "crash behind commit 1 (START and SUCCEED of step 'one')",
        "crash behind commit 2 (START of wait 'night')",
        "crash behind commit 3 (the end of an invocation)",
        "crash behind commit 4 (timers that fired)",
        "crash behind commit 5 (START and SUCCEED of step 'two')",
        "crash behind commit 6 (the end of the execution as SUCCEEDED)",
    ]


def test_a_limit_spreads_the_crashes(workflow, runs):
    """The first and the last commit are among them; one alone is the last."""

    async def sequence(_, context):
        for number in range(10):
            await context.step(lambda _: None, name=f"step {number}")

    for limit, numbers in ((3, [1, 6, 11]), (1, [11]), (50, list(range(1, 12)))):
        runs.clear()
        found = explore_crashes(workflow(sequence), limit=limit)
        assert [point.number for point in found.crash_points] == numbers
        assert len(runs) == 2 + len(numbers)
    with pytest.raises(ValidationError, match="a limit is at least 1 crash, not 0"):
        explore_crashes(workflow(sequence), limit=0)


def test_a_failure_is_an_end_like_others(workflow):
    """A workflow that fails has to fail in the same way."""

    async def fails(_, context):
        await context.step(lambda _: 1 / 0, name="divide", config=NO_RETRY)

    found = explore_crashes(workflow(fails))
    found.assert_none()
    assert found.undisturbed.status is ExecutionStatus.FAILED


def test_secrets_of_callbacks_may_differ(workflow):
    """A workflow may return the id of a callback, which is another in each run."""

    async def tells(_, context):
        callback = await context.create_callback(name="open")
        return callback.callback_id, await callback.result()

    explore_crashes(workflow(tells), callbacks={"open": lambda callback: callback.succeed(callback.id)}).assert_none()


def test_an_ordered_crash_does_not_use_up_patience(workflow):
    """A workflow that recovers from four crashes of its own does so from one more; any callback is answered."""
    exits = Counter()

    async def stumbles(_, context):
        answer = await context.wait_for_callback(lambda *_: None, name="approval")
        await context.step(lambda _: exits.update("x") or (exits["x"] < 5 and sys.exit(3)), name="stumble")
        return answer

    found = explore_crashes(
        workflow(stumbles), callbacks=lambda callback: callback.succeed(callback.name), reset=exits.clear, in_front=True
    )
    found.assert_none()
    assert found.undisturbed.value == "approval"


def test_chance_is_the_same_in_every_run(workflow):
    """Python's random numbers begin alike in each run, and go on afterwards as if nothing had been."""
    random.seed(42)
    expected = random.random()
    random.seed(42)

    async def dice(_, context):
        return await context.step(lambda _: random.random(), name="dice")

    found = explore_crashes(workflow(dice), limit=1)
    assert found.faults == ()
    assert random.random() == expected


def test_reset_is_called_before_each_run(workflow):
    """What steps change outside can be put back, so that runs are alike."""
    booked = []

    async def books(_, context):
        return await context.step(lambda _: booked.append("seat") or len(booked), name="book")

    assert explore_crashes(workflow(books)).faults
    explore_crashes(workflow(books), reset=booked.clear).assert_none()


def test_outcome_says_what_has_to_be_the_same(workflow):
    """The rest of a result may differ."""
    ran = Counter()

    async def counts(event, context):
        return {"sum": await context.step(lambda _: event + 1, name="add"), "calls": ran.update("c") or ran["c"]}

    assert explore_crashes(workflow(counts), 1).faults
    explore_crashes(workflow(counts), 1, outcome=lambda result: result.value["sum"]).assert_none()


# ---------------------------------------------------------------------------------------------------- what goes wrong


def test_an_engine_that_runs_a_completed_step_again_is_found(workflow, monkeypatch):
    """The step is named, and where the crash was; here replay runs bodies over their recorded results."""

    def altered(scope, identity, body, config, arguments=None):
        record = scope.replay.record(identity)
        if record is not None and record.is_terminal and identity.name == "charge":
            yield Call(body, (StepContext(logger=scope.logger, attempt=1),), watch=scope.replay.watch(identity, 1))
        return (yield from step(scope, identity, body, config, arguments))

    _alter_steps(monkeypatch, altered)

    async def pays(_, context):
        await context.step(lambda _: "paid", name="charge")
        return await context.step(lambda _: "told", name="tell")

    found = explore_crashes(workflow(pays))
    assert {(fault.kind, fault.operation) for fault in found.faults} == {(FaultKind.RAN_AGAIN, "step 'charge'")}
    assert [fault.crash.number for fault in found.faults] == [1, 2]
    with pytest.raises(AssertionError) as raised:
        found.assert_none()
    assert str(raised.value) == (
        "2 faults in 3 crashes:\n"
        "  crash behind commit 1 (START and SUCCEED of step 'charge'): "
        "step 'charge' ran again in attempt 1, though its end was recorded\n"
        "  crash behind commit 2 (START and SUCCEED of step 'tell'): "
        "step 'charge' ran again in attempt 1, though its end was recorded"
    )


def test_a_rerun_is_found_without_a_crash(workflow, monkeypatch):
    """Where the workflow is suspended, its replay shows the same."""

    def altered(scope, identity, body, config, arguments=None):
        record = scope.replay.record(identity)
        if record is not None and record.is_terminal:
            yield Call(body, (StepContext(logger=scope.logger, attempt=1),), watch=scope.replay.watch(identity, 1))
        return (yield from step(scope, identity, body, config, arguments))

    _alter_steps(monkeypatch, altered)

    async def pays(_, context):
        await context.step(lambda _: "paid", name="charge")
        await context.wait(Duration.from_days(1))

    fault = explore_crashes(workflow(pays), limit=1).faults[0]
    assert str(fault) == "without a crash: step 'charge' ran again in attempt 1, though its end was recorded"


def test_an_engine_that_repeats_what_runs_at_most_once_is_found(workflow, monkeypatch):
    """Its attempt may have run before the crash; that its end is not recorded is no excuse."""

    def altered(scope, identity, body, config, arguments=None):
        record = scope.replay.record(identity)
        if record is not None and record.status is OperationStatus.STARTED:
            watch = scope.replay.watch(identity, 1, at_most_once=True)
            yield Call(body, (StepContext(logger=scope.logger, attempt=1),), watch=watch)
        return (yield from step(scope, identity, body, config, arguments))

    _alter_steps(monkeypatch, altered)

    async def pays(_, context):
        return await context.step(lambda _: "paid", name="charge", config=ONCE)

    behind, in_front = explore_crashes(workflow(pays), in_front=True).faults
    for fault in (behind, in_front):
        assert (fault.kind, fault.operation) == (FaultKind.RAN_AGAIN, "step 'charge'")
        assert fault.message == "step 'charge' ran again in attempt 1, which is to run at most once"
    assert str(behind.crash) == "crash behind commit 1 (START of step 'charge')"
    assert str(in_front.crash) == "crash in front of commit 2 (SUCCEED of step 'charge')"


def test_an_engine_that_runs_an_attempt_twice_is_found(workflow, monkeypatch):
    """Neither run is recorded yet; only where something has cut the first one off may there be a second."""

    def altered(scope, identity, body, config, arguments=None):
        if scope.replay.record(identity) is None and identity.name == "charge":
            yield Call(body, (StepContext(logger=scope.logger, attempt=1),), watch=scope.replay.watch(identity, 1))
        return (yield from step(scope, identity, body, config, arguments))

    _alter_steps(monkeypatch, altered)

    async def pays(_, context):
        return await context.step(lambda _: "paid", name="charge")

    found = explore_crashes(workflow(pays), limit=1)
    assert (
        str(found.faults[0]) == "without a crash: step 'charge' ran again in attempt 1, though nothing had cut it off"
    )


def test_a_body_that_an_invocation_left_unfinished_may_run_again(workflow):
    """An invocation may end in the midst of a step without its process being dead."""
    ran = Counter()

    def body(_):
        ran["body"] += 1
        if ran["body"] == 1:
            raise SystemExit
        return "done"

    async def leaves(_, context):
        return await context.step(body, name="leave")

    explore_crashes(workflow(leaves), reset=ran.clear).assert_none()


def test_a_service_that_carries_out_an_invoke_twice_is_found(workflow, monkeypatch):
    """The process that takes over would have to find the execution that the first one began."""
    begin = Carrier._start
    ids = iter(range(1000))

    async def altered(self, parent, effect):
        new = await self._child(parent, effect)
        await self._service.store.create(attrs.evolve(new, id=f"{next(ids):032x}", name=f"other-{next(ids)}"), None)
        await begin(self, parent, effect)

    monkeypatch.setattr(Carrier, "_start", altered)

    async def ships(_, context):
        return await context.invoke("ship", 1, name="shipping")

    fault = explore_crashes(workflow(ships), functions={"ship": lambda event: event + 1}, limit=1).faults[0]
    assert (fault.kind, fault.operation) == (FaultKind.RAN_AGAIN, "invoke 'shipping'")
    assert fault.message == "invoke 'shipping' was carried out again, as another execution"


def test_an_attempt_cut_short_at_most_once_is_no_fault(workflow):
    """A step that runs at most once fails, or is tried anew, where a crash leaves open whether it ran."""

    async def pays(again, context):
        return await context.step(lambda _: "paid", name="charge", config=AGAIN if again else ONCE)

    for again in (False, True):
        found = explore_crashes(workflow(pays), again)
        found.assert_none()
        assert [point.commit for point in found.interrupted] == ["START of step 'charge'"]


def test_a_branch_that_is_taken_by_chance_is_found(workflow):
    """Code that goes another way on replay is named with both operations."""
    ran = Counter()

    async def wavers(_, context):
        ran["wavers"] += 1
        name = "left" if ran["wavers"] % 2 else "right"
        await context.step(lambda _: None, name=name)
        return "done"

    found = explore_crashes(workflow(wavers))
    fault = next(fault for fault in found.faults if fault.kind is FaultKind.NON_DETERMINISTIC)
    assert fault.operation in {"step 'left'", "step 'right'"}
    assert "'left'" in fault.message
    assert "'right'" in fault.message
    assert fault.crash is not None


def test_a_suspension_shows_a_wavering_branch_without_a_crash(workflow):
    """The undisturbed run fails of it already."""
    ran = Counter()

    async def wavers(_, context):
        ran["wavers"] += 1
        await context.step(lambda _: None, name=f"step {ran['wavers']}")
        await context.wait(Duration.from_days(1))

    fault = explore_crashes(workflow(wavers), limit=1).faults[0]
    assert (fault.kind, fault.crash) == (FaultKind.NON_DETERMINISTIC, None)
    assert "deploy changed code as a new version" in fault.message


def test_a_value_from_outside_a_step_is_found(workflow):
    """A result that depends on how often the code ran is another one after a crash; the operation is named."""
    ran = Counter()

    async def counts(_, context):
        ran["code"] += 1
        code = ran["code"]
        return await context.step(lambda _: f"run {code}", name="count")

    found = explore_crashes(workflow(counts), reset=ran.clear)
    faults = [fault for fault in found.faults if fault.kind is FaultKind.OTHER_END]
    assert faults == []  # the step is recorded with its first value

    async def leaks(_, context):
        ran["code"] += 1
        await context.step(lambda _: None, name="before")
        await context.step(lambda _: ran["code"], name="count")
        return ran["code"]

    first, *_ = explore_crashes(workflow(leaks), reset=ran.clear).faults
    assert first.kind is FaultKind.OTHER_END
    assert first.operation == "step 'count'"
    assert first.message == (
        "the workflow ended as SUCCEEDED 2 instead of SUCCEEDED 1; the first operation that differs is step 'count'"
    )


def test_an_effect_that_cannot_be_repeated_is_found(workflow):
    """A body that ran, but was not recorded, runs again; what is not ready for that shows here."""
    booked = set()

    def book(_):
        if "seat" in booked:
            raise ValueError("taken")
        booked.add("seat")

    async def books(_, context):
        await context.step(book, name="book", config=NO_RETRY)

    # Behind a commit the process dies before its next body: what was begun is recorded.
    explore_crashes(workflow(books), reset=booked.clear).assert_none()
    found = explore_crashes(workflow(books), reset=booked.clear, in_front=True)
    (fault,) = found.faults
    assert str(fault.crash) == "crash in front of commit 1 (START and SUCCEED of step 'book')"
    assert fault.operation == "step 'book'"
    assert len(found.crash_points) == 2 * found.commits


def test_a_workflow_that_ends_no_more_is_found(workflow):
    """Here a callback is completed but once, and the answer is lost with the process that asked for it."""
    asked = Counter()

    async def asks(_, context):
        asked["code"] += 1
        callback = await context.create_callback(name="first" if asked["code"] < 3 else "late")
        return await callback.result()

    answers = {"first": lambda callback: None if asked["code"] > 1 else callback.succeed("yes")}
    found = explore_crashes(workflow(asks), callbacks=answers, reset=asked.clear)
    assert {fault.kind for fault in found.faults} == {FaultKind.NO_END}
    assert "waits for callback 'first'" in found.faults[0].message


def test_a_workflow_that_never_ends_is_refused(workflow):
    """What is blocked without a crash cannot be explored."""

    async def asks(_, context):
        return await context.wait_for_callback(lambda *_: None, name="approval")

    with pytest.raises(BlockedExecutionError, match="'approval'"):
        explore_crashes(workflow(asks))


def test_what_a_dead_process_does_reaches_nobody(workflow, runs):
    """A chained function is started by the process that took over, if the first died before it could do so."""

    async def ships(_, context):
        return await context.invoke("ship", 1, name="shipping")

    found = explore_crashes(workflow(ships), functions={"ship": lambda event: event + 1})
    found.assert_none()
    assert "START of invoke 'shipping'" in [point.commit for point in found.crash_points]
    assert "the end of the execution as SUCCEEDED, in an invoked function" in [
        point.commit for point in found.crash_points
    ]


def _alter_steps(monkeypatch, altered):
    monkeypatch.setattr(calls, "step", altered)
