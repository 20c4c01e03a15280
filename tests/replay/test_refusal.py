"""A host that refuses bodies: what has begun is finished, nothing else is recorded to have begun."""

from __future__ import annotations

import asyncio
import threading
from itertools import count

import attrs
import pytest

from perdure.durable import (
    Duration,
    NestingType,
    ParallelConfig,
    RetryDecision,
    RetryPresets,
    StepConfig,
    StepSemantics,
    WaitForConditionConfig,
    WaitForConditionDecision,
    durable_execution,
)
from perdure.engine.ids import operation_id
from perdure.engine.invocation import Invocation
from perdure.errors import ExecutionError, StaleTokenError
from perdure.model import InvocationStatus, OperationAction
from tests.replay import async_host
from tests.replay.plane import AsyncPlane, Plane, invoke, settings

AT_MOST_ONCE = StepConfig(RetryPresets.none(), StepSemantics.AT_MOST_ONCE_PER_RETRY)
AT_ONCE = StepConfig(lambda _error, attempt: RetryDecision(attempt < 3, Duration.from_seconds(1)))


class OutOfTime(Exception):  # noqa: N818 - no error: a host's reason
    """The host has no time left."""


def never():
    """Refuses all it is asked about."""
    return OutOfTime("no time left")


@pytest.fixture
def plane():
    return Plane()


@pytest.fixture(params=["def", "async def"])
def colour(request):
    return request.param


class Side:
    """The same workflow in either colour, whose steps are named and counted."""

    def __init__(self, colour, plane):
        self.is_async = colour != "def"
        self.plane = plane
        self.ran = []

    def body(self, name, error=None):
        def body(*_):
            self.ran.append(name)
            if error is not None and self.ran.count(name) == 1:
                raise error
            return name

        return body

    def invoke(self, workflow, **members):
        if self.is_async:
            return async_host.invoke_once(workflow, self.plane, **members)
        return invoke(durable_execution(workflow), self.plane, **members)

    def sequence(self, *calls):
        """A workflow of these operations, one after the other."""
        if not self.is_async:
            return lambda _, context: [call(context) for call in calls]

        async def workflow(_, context):
            return [await call(context) for call in calls]

        return workflow

    def step(self, name, config=None, error=None):
        return lambda context: context.step(self.body(name, error), name, config)

    def drive(self, workflow, limit=20):
        """Invocations that have time for one body each, until the end."""
        for number in range(1, limit):
            try:
                output = self.invoke(workflow, refusal=never)
            except OutOfTime:
                continue
            if output.status is not InvocationStatus.PENDING:
                return output, number
            if not self.plane.execution.has_news:
                assert self.plane.advance_to_next()
        raise AssertionError(f"no end: {self.plane.statuses()}")


@pytest.fixture
def side(colour, plane):
    return Side(colour, plane)


@pytest.mark.parametrize("config", [None, AT_MOST_ONCE], ids=["at least once", "at most once"])
def test_one_body_an_invocation(side, plane, config):
    """The first body begins unasked; one that is refused leaves no trace, so that an execution goes on and ends."""
    workflow = side.sequence(*(side.step(name, config) for name in "abc"))
    with pytest.raises(OutOfTime):
        side.invoke(workflow, refusal=never)
    assert side.ran == ["a"]
    assert plane.statuses() == {"a": "SUCCEEDED"}
    output, number = side.drive(workflow)
    assert (output.result, number, side.ran) == ('["a", "b", "c"]', 2, ["a", "b", "c"])
    assert [each for request in plane.sent for each in request if each.startswith("START")] == [
        "START a",
        "START b",
        "START c",
    ]


def test_asked_before_each_other_body(side):
    """Once for each, also where no START is recorded before it; never for what is recorded, nor by default."""
    asked = count()

    def refusal():
        next(asked)

    workflow = side.sequence(side.step("a"), side.step("b", AT_MOST_ONCE), side.step("c"))
    assert side.invoke(workflow, refusal=refusal).result == '["a", "b", "c"]'
    assert next(asked) == 2


def test_an_interrupted_body_is_asked_for(side, plane):
    """The next attempt at a step whose START is recorded already may be refused, too; it is run again later."""
    workflow = side.sequence(side.step("a"), side.step("b", error=SystemExit()), side.step("c"))
    with pytest.raises(SystemExit):
        side.invoke(workflow)
    asked = []
    if plane.statuses().get("b") is None:
        # Its START rode with nothing: as it would be had the flusher been faster.
        started = plane.requests[0][0]
        plane.begin()
        plane.checkpoint(plane.token, [attrs.evolve(started, name="b", operation_id=operation_id(None, 2))])
        plane.crash()
    assert plane.statuses()["b"] == "STARTED"

    def refusal():
        asked.append(None)
        return OutOfTime()

    with pytest.raises(OutOfTime):
        side.invoke(workflow, refusal=refusal)
    assert (side.ran, len(asked)) == (["a", "b", "b"], 1)
    assert side.drive(workflow)[0].result == '["a", "b", "c"]'


def test_every_kind_of_leaf(side, plane):
    """Submitters, checks and later attempts are refused as steps are; waits and callbacks are not."""
    polls = WaitForConditionConfig(
        lambda state, _: WaitForConditionDecision(state < 2, Duration.from_seconds(1)), initial_state=0
    )

    def check(state, _):
        side.ran.append("check")
        return state + 1

    def submit(callback_id, _):
        side.ran.append("submit")
        plane.complete("cb create callback id", callback_id)

    workflow = side.sequence(
        side.step("again", AT_ONCE, ValueError("once")),
        lambda context: context.wait_for_callback(submit, "cb"),
        lambda context: context.wait_for_condition(check, polls, "poll"),
        lambda context: context.wait(Duration.from_seconds(1)),
    )
    output, number = side.drive(workflow)
    assert output.status is InvocationStatus.SUCCEEDED
    assert side.ran == ["again", "again", "submit", "check", "check"]
    assert number >= 5


def test_what_the_workflow_makes_of_it(colour, plane):
    """A refused body ends the invocation, whatever the code catches."""
    if colour == "def":

        def workflow(_, context):
            context.step(lambda _: 1, name="a")
            try:
                context.step(lambda _: 2, name="b")
            except BaseException:  # noqa: BLE001 - as bad code does
                return "caught"
            return "both"

    else:

        async def workflow(_, context):
            await context.step(lambda _: 1, name="a")
            try:
                await context.step(lambda _: 2, name="b")
            except BaseException:  # noqa: BLE001 - as bad code does
                return "caught"
            return "both"

    side = Side(colour, plane)
    with pytest.raises(OutOfTime):
        side.invoke(workflow, refusal=never)
    assert side.invoke(workflow).result == '"both"'


# --------------------------------------------------------------------------------------------------------- branches


def test_branches_that_run_are_recorded(plane):
    """When the body of one branch is refused, those of others end first and are recorded."""
    first, refused = threading.Event(), threading.Event()
    ran = []

    def refusal():
        refused.set()
        return OutOfTime()

    @durable_execution
    def workflow(_, context):
        def slow(inner):
            def body(_):
                ran.append("slow")
                first.set()
                assert refused.wait(10)
                return "slow"

            return inner.step(body, "slow")

        def late(inner):
            assert first.wait(10)
            return inner.step(lambda _: ran.append("late") or "late", "late", AT_MOST_ONCE)

        return context.parallel([slow, late]).get_results()

    with pytest.raises(OutOfTime):
        invoke(workflow, plane, refusal=refusal)
    assert (ran, plane.statuses()["slow"], plane.statuses().get("late")) == (["slow"], "SUCCEEDED", None)
    assert invoke(workflow, plane, refusal=refusal).result == '["slow", "late"]'
    assert ran == ["slow", "late"]


def test_gathered_steps_that_run_are_recorded(plane):
    """The same of steps that are awaited together: one is admitted, two are refused, in each of three invocations."""
    ran = []

    async def workflow(_, context):
        async def body(context):
            ran.append(context.idempotency_key)
            await asyncio.sleep(0)
            return len(ran)

        return await asyncio.gather(*(context.step(body, name, AT_MOST_ONCE) for name in "abc"))

    side = Side("async def", plane)
    output, number = side.drive(workflow)
    assert (output.result, number, len(set(ran))) == ("[1, 2, 3]", 3, 3)


@pytest.mark.parametrize(
    ("reason", "begins"),
    [(OutOfTime(), True), (StaleTokenError(), False)],
    ids=["an ordinary reason", "another owner"],
)
def test_interrupted_between_start_and_body(colour, plane, reason, begins):
    """
    A body whose START is recorded to be its only one begins in spite of an interruption.

    Else the attempt would be taken for interrupted, though nobody has begun it. Only if somebody else may own the
    execution by now, it does not.
    """
    side = Side(colour, plane)
    workflow = durable_execution(side.sequence(side.step("a", AT_MOST_ONCE), side.step("b")))
    invocation = Invocation(workflow, plane.begin(), settings=settings(plane))
    plane.after = lambda updates: invocation.interrupt(reason) if updates[0].action is OperationAction.START else None
    with pytest.raises(type(reason)):
        asyncio.run(invocation.run_async(AsyncPlane(plane))) if side.is_async else invocation.run(plane)
    assert side.ran == (["a"] if begins else [])
    assert plane.statuses() == {"a": "SUCCEEDED" if begins else "STARTED"}


@pytest.mark.parametrize("nesting", list(NestingType))
def test_interrupted_by_the_start_of_a_batch(colour, plane, nesting):
    """What needs no body begins no more than a body does: no branch is entered, and nothing of it recorded."""
    side = Side(colour, plane)
    config = ParallelConfig(timeout=Duration.from_hours(1), nesting_type=nesting)

    def branch(context):
        side.ran.append("branch")
        return context.wait(Duration.from_seconds(1))

    workflow = durable_execution(side.sequence(lambda context: context.parallel([branch], "all", config)))
    invocation = Invocation(workflow, plane.begin(), settings=settings(plane))
    plane.after = lambda _: invocation.interrupt(OutOfTime())
    with pytest.raises(OutOfTime):
        asyncio.run(invocation.run_async(AsyncPlane(plane))) if side.is_async else invocation.run(plane)
    assert side.ran == []
    assert plane.statuses() == {"all": "STARTED", "all-timeout": "STARTED"}


def test_interrupted_by_the_end_of_a_batch_that_is_to_be_repeated(colour, plane):
    """The pause before the next batch is not begun."""
    side = Side(colour, plane)
    again = RetryDecision.retry(Duration.from_seconds(1))
    config = ParallelConfig(retry_strategy=lambda _error, _attempt: again)

    def branch(_):
        raise ValueError("not yet")

    workflow = durable_execution(side.sequence(lambda context: context.parallel([branch], "all", config)))
    invocation = Invocation(workflow, plane.begin(), settings=settings(plane))
    plane.after = lambda updates: ends_batch(updates) and invocation.interrupt(OutOfTime())
    with pytest.raises(OutOfTime):
        asyncio.run(invocation.run_async(AsyncPlane(plane))) if side.is_async else invocation.run(plane)
    assert ends_batch(plane.requests[-1])


def ends_batch(updates):
    """Whether the end of a batch is among them."""
    return any(each.name == "all" and each.action is not OperationAction.START for each in updates)


def test_a_reason_may_fail_the_execution(side):
    """It is taken as `interrupt` takes it: an error that ends more than the invocation does."""
    output = side.invoke(side.sequence(side.step("a"), side.step("b")), refusal=lambda: ExecutionError("enough"))
    assert (output.status, output.error.message) == (InvocationStatus.FAILED, "enough")
    assert side.ran == ["a"]
