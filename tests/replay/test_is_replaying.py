"""Where replay ends, and who is silent before (protocol.md §10.10)."""

from __future__ import annotations

import logging
import threading

import pytest

from perdure.durable import Duration, NestingType, ParallelConfig, RetryPresets, StepConfig, durable_execution
from perdure.engine.invocation import Invocation
from tests.replay.plane import Plane, execute, invoke, settings, wait_until


@pytest.fixture
def plane():
    return Plane()


def observed(plane, build, **kwargs):
    """The replay status at each point that the workflow notes, one list per invocation."""
    invocations = []

    @durable_execution
    def workflow(_, context):
        seen = []
        invocations.append(seen)
        build(context, lambda each: seen.append(each.is_replaying()))

    execute(workflow, plane, **kwargs)
    return invocations


def test_first_run_is_never_a_replay(plane):
    """Nothing is recorded, nothing replays."""

    def build(context, note):
        note(context)
        context.step(lambda _: 1)
        note(context)

    assert observed(plane, build) == [[False, False]]


def test_ends_behind_the_last_recorded_operation(plane):
    """When the next operation has no record, the code is new from there, before that operation is called."""

    def build(context, note):
        note(context)
        context.step(lambda _: 1)
        note(context)
        context.wait(Duration(5))
        note(context)
        context.step(lambda _: 2)
        note(context)

    assert observed(plane, build) == [[False, False], [True, True, False, False]]


def test_a_step_that_runs_again_is_new(plane):
    """The body of a retry logs; the code before it does not."""

    def build(context, note):
        def body(step):
            note(context)
            if step.attempt == 1:
                raise ValueError

        note(context)
        context.step(body, config=StepConfig(RetryPresets.fixed()))
        note(context)

    assert observed(plane, build) == [[False, False], [True, False, False]]


def test_ends_behind_an_operation_that_was_open(plane):
    """An operation that is waited for again is the end of the replay."""

    def build(context, note):
        context.create_callback("other")
        callback = context.create_callback("cb")
        note(context)
        context.wait(Duration(5))
        note(context)
        callback.result()

    seen = observed(plane, build, pending=lambda n: n == 1 or plane.complete("cb", "x"))
    # Both callbacks were open at the second run: creating the first ended the replay. At the third, too.
    assert seen == [[False], [False, False], [False, False]]


def test_a_child_replays_for_itself(plane):
    """A child is replaying only if its own record is older than this run of its body."""

    def build(context, note):
        def child(inner):
            note(inner)
            inner.step(lambda _: 1)
            note(inner)
            inner.wait(Duration(5))
            note(inner)

        context.run_in_child_context(child)
        note(context)

    assert observed(plane, build) == [[False, False], [True, True, False, False]]


def test_a_new_child_of_a_replaying_context(plane):
    """A child without a record is new though its parent replays up to it."""

    def build(context, note):
        context.wait(Duration(5))
        context.run_in_child_context(note)

    assert observed(plane, build) == [[], [False]]


@pytest.mark.parametrize("nesting", NestingType)
def test_branches(plane, nesting):
    """Each branch replays for itself, FLAT ones too, which have no record."""
    config = ParallelConfig(nesting_type=nesting, max_concurrency=1)
    seen = []

    @durable_execution
    def workflow(_, context):
        def branch(name):
            def body(inner):
                seen.append((name, inner.is_replaying()))
                inner.step(lambda _: 1)
                seen.append((name, inner.is_replaying()))
                inner.wait(Duration(5))
                seen.append((name, inner.is_replaying()))

            return body

        context.parallel([branch("a"), branch("b")], config=config)

    execute(workflow, plane)
    a = [replaying for name, replaying in seen if name == "a"]
    b = [replaying for name, replaying in seen if name == "b"]
    again = [] if nesting is NestingType.NESTED else [True, True, False]
    assert a == [False, False, True, True, False, *again]
    assert b == [False, False, True, True, False]


def test_a_branch_that_goes_on_in_place_replays(plane):
    """It runs from its top in the same invocation, silently up to where it was."""
    seen, go = [], threading.Event()

    @durable_execution
    def workflow(_, context):
        def waiting(inner):
            seen.append(inner.is_replaying())
            callback = inner.create_callback("cb")
            callback.result()
            go.set()

        def other(inner):
            def body(_):
                # Two threads are left when the other branch is blocked.
                wait_until(lambda: "cb" in plane.statuses() and invocation.orphans == 2, "the other is blocked")
                plane.complete("cb", "x")

            inner.step(body)
            inner.step(lambda _: go.wait(10))

        context.parallel([waiting, other])

    invocation = Invocation(workflow, plane.begin(), settings=settings(plane))
    invocation.run(plane)
    assert seen == [False, True]


# ---------------------------------------------------------------------------------------------------------- logging


class Recorder:
    """A logger of somebody else's."""

    def __init__(self):
        self.lines = []

    def _log(self, message, *args, extra):
        self.lines.append((message % args, extra))

    debug = info = warning = error = exception = _log


def test_what_was_logged_is_not_logged_again(plane):
    """Each line of code logs once, in whichever invocation it first runs."""
    recorder = Recorder()

    @durable_execution
    def workflow(_, context):
        context.set_logger(recorder)
        context.logger.info("one")
        context.step(lambda step: step.logger.warning("in %s", "step"), name="s")
        context.logger.info("two")
        context.run_in_child_context(lambda inner: inner.logger.info("child"), name="c")
        context.wait(Duration(5))
        context.logger.info("three")

    execute(workflow, plane)
    assert [message for message, _ in recorder.lines] == ["one", "in step", "two", "child", "three"]
    arn = {"executionArn": plane.arn}
    step, child = plane.operation("s"), plane.operation("c")
    assert recorder.lines[0][1] == arn
    assert recorder.lines[1][1] == arn | {"operationId": step.operation_id, "operationName": "s", "attempt": 1}
    assert recorder.lines[3][1] == arn | {"parentId": child.operation_id}


def test_logging_regardless_of_replay(plane):
    """mode_aware=False logs every time; children inherit the setting."""
    recorder = Recorder()

    @durable_execution
    def workflow(_, context):
        context.configure_logger(custom_logger=recorder, mode_aware=False)
        context.logger.info("one")
        context.run_in_child_context(lambda inner: (inner.logger.info("child"), inner.wait(Duration(5))))

    execute(workflow, plane)
    assert [message for message, _ in recorder.lines] == ["one", "child"] * 2


def test_default_logger(plane, caplog):
    """Without a logger of one's own it is the root logger."""

    @durable_execution
    def workflow(_, context):
        context.logger.info("hello")

    with caplog.at_level(logging.INFO):
        invoke(workflow, plane)
    record = next(each for each in caplog.records if each.message == "hello")
    assert (record.name, record.executionArn) == ("root", plane.arn)
    assert record.pathname == __file__
