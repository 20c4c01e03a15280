"""Invocations that find a part of the work done: what is repeated, and what is not."""

from __future__ import annotations

import threading

import pytest

from perdure.durable import (
    ChildConfig,
    CompletionConfig,
    Duration,
    NestingType,
    ParallelConfig,
    RetryPresets,
    StepConfig,
    WaitForConditionConfig,
    WaitForConditionDecision,
    WithRetryConfig,
    complete_batch,
    continue_batch,
    durable_execution,
    with_retry,
)
from perdure.model import InvocationStatus
from tests.replay.plane import Plane, execute, invoke


class Crash(BaseException):
    """The process dies."""


@pytest.fixture
def plane():
    return Plane()


def crash_at(plane, number, *, before):
    """Let the process die with the request of that number, before or after it has taken effect."""
    left = [number]

    def count(_):
        left[0] -= 1
        if left[0] == 0:
            raise Crash

    if before:
        plane.before = count
    else:
        plane.after = count


def test_finished_steps_are_not_repeated(plane):
    """A step runs once, though the code runs three times."""
    runs = []

    @durable_execution
    def workflow(_, context):
        values = []
        for name in ("a", "b", "c"):
            values.append(context.step(lambda _, name=name: runs.append(name) or name, name=name))
            context.wait(Duration(5))
        return values

    assert execute(workflow, plane).result == '["a", "b", "c"]'
    assert (runs, plane.invocations) == (["a", "b", "c"], 4)


def test_a_finished_child_is_skipped(plane):
    """Neither its body nor its operations are needed; those are not even sent any more."""
    runs = []

    @durable_execution
    def workflow(_, context):
        def child(inner):
            runs.append("child")
            return inner.step(lambda _: 5, name="in")

        value = context.run_in_child_context(child)
        context.wait(Duration(5))
        return value

    assert execute(workflow, plane).result == "5"
    assert runs == ["child"]


def test_a_large_result_is_rebuilt(plane):
    """The child's body runs again over its recorded steps, which do not; nothing more is sent."""
    runs = []

    @durable_execution
    def workflow(_, context):
        def child(inner):
            runs.append("child")
            return inner.step(lambda _: runs.append("step") or "x" * 30)

        value = context.run_in_child_context(child, config=ChildConfig(summary_generator=lambda _: "many x"))
        context.wait(Duration(5), name="w")
        return value

    assert execute(workflow, plane, replay_children_threshold=20).result == '"' + "x" * 30 + '"'
    assert runs == ["child", "step", "child"]
    assert plane.sent[-1] == ["START w"]


@pytest.mark.parametrize("nesting", NestingType)
def test_a_large_batch_is_rebuilt(plane, nesting):
    """The recorded decision is reproduced: a branch that was not over then is not looked at again."""
    release, runs = threading.Event(), []

    @durable_execution
    def workflow(_, context):
        def slow(inner):
            inner.step(lambda _: release.wait(10))
            runs.append("orphan went on")

        def quick(inner):
            return inner.step(lambda _: runs.append("step") or "x" * 30)

        config = ParallelConfig(completion_config=CompletionConfig.first_successful(), nesting_type=nesting)
        result = context.parallel([slow, quick], config=config)
        release.set()
        context.wait(Duration(5), name="w")
        return [item.status.value for item in result.all], result.get_results(), result.completion_reason.value

    output = execute(workflow, plane, replay_children_threshold=20)
    assert output.result == f'[["STARTED", "SUCCEEDED"], ["{"x" * 30}"], "MIN_SUCCESSFUL_REACHED"]'
    assert runs == ["step"]


@pytest.mark.parametrize("nesting", NestingType)
def test_branches_that_have_ended_do_not_run_again(plane, nesting):
    """After a suspension only those that were blocked do their work."""
    runs = []

    @durable_execution
    def workflow(_, context):
        def branch(seconds):
            def body(inner):
                inner.step(lambda _: runs.append(seconds))
                inner.wait(Duration(seconds))
                inner.step(lambda _: runs.append(-seconds))
                return seconds

            return body

        config = ParallelConfig(nesting_type=nesting)
        return context.parallel([branch(5), branch(10), branch(15)], config=config).get_results()

    assert execute(workflow, plane).result == "[5, 10, 15]"
    assert sorted(runs) == [-15, -10, -5, 5, 10, 15]


def test_a_decision_already_recorded_starts_nothing(plane):
    """A batch whose ends are recorded, but not its own, ends without running another branch."""
    runs = []

    @durable_execution
    def workflow(_, context):
        def branch(number):
            return lambda inner: runs.append(number) or inner.step(lambda _: number)

        config = ParallelConfig(max_concurrency=1, completion_config=CompletionConfig(min_successful=2))
        return context.parallel([branch(n) for n in range(4)], name="some", config=config).get_results()

    def before(updates):
        if any(update.name == "some" and update.action.value == "SUCCEED" for update in updates):
            plane.before = lambda _: None
            raise Crash

    plane.before = before
    with pytest.raises(Crash):
        invoke(workflow, plane)
    assert invoke(workflow, plane).result == "[0, 1]"
    assert runs == [0, 1]


def test_a_begun_branch_is_in_the_result(plane):
    """Also when the batch ends in a later invocation, before a FLAT branch gets its slot again."""
    seen, ended = [], threading.Event()

    def decide(status):
        seen.append([item.status and item.status.value for item in status.items])
        return complete_batch() if status.failure_count else continue_batch()

    @durable_execution
    def workflow(_, context):
        def succeeding(inner):
            inner.wait(Duration(1))
            if plane.invocations == 3:
                ended.wait(10)

        def failing(inner):
            inner.wait(Duration(2))
            raise LookupError

        def waiting(inner):
            inner.wait(Duration(9))

        config = ParallelConfig(2, CompletionConfig(should_complete=decide), nesting_type=NestingType.FLAT)
        result = context.parallel([succeeding, failing, waiting, waiting], config=config)
        ended.set()
        return [item.status.value for item in result.all]

    assert execute(workflow, plane).result == '["STARTED", "FAILED", "STARTED"]'
    assert seen[-1] == ["STARTED", "FAILED", "STARTED", None]


def work(runs):
    """A workflow with a bit of everything; `runs` notes the bodies."""

    def note(name):
        return lambda *_: runs.append(name) or name

    def poll(state, _):
        runs.append("poll")
        return state + 1

    def strategy(state, _):
        if state >= 2:
            return WaitForConditionDecision.stop_polling()
        return WaitForConditionDecision.continue_waiting(Duration(1))

    def flaky(step):
        runs.append("flaky")
        if step.attempt < 2:
            raise ValueError("once more")
        return "flaky"

    def branch(inner, item, *_):
        inner.step(note(f"in {item}"))
        inner.wait(Duration(1 + item))
        return inner.step(note(f"out {item}"))

    @durable_execution
    def workflow(_, context):
        result = [context.step(note("first"))]
        result.append(context.step(flaky, config=StepConfig(RetryPresets.fixed())))
        result.append(context.run_in_child_context(lambda inner: inner.step(note("child"))))
        result.append(context.wait_for_condition(poll, WaitForConditionConfig(strategy, 0)))
        result.append(context.map([0, 1], branch).get_results())
        attempts = WithRetryConfig(RetryPresets.fixed())
        result.append(with_retry(context, lambda inner, n: inner.step(note(f"try {n}")) * (1 // (n - 1)), attempts))
        result.append(str(context.uuid4()))
        result.append(context.now().isoformat())
        return result

    return workflow


def test_a_crash_at_every_request(plane):
    """Wherever the process dies, the outcome is the same, and no recorded body is repeated."""
    runs = []
    expected = execute(work(runs), plane)
    assert expected.status is InvocationStatus.SUCCEEDED
    bodies, requests = sorted(runs), len(plane.requests)
    for before in (True, False):
        for number in range(1, requests + 1):
            runs, crashed = [], Plane()
            crash_at(crashed, number, before=before)
            function = work(runs)
            while True:
                try:
                    output = execute(function, crashed)
                    break
                except Crash:
                    pass
            assert output.result[:-40] == expected.result[:-40], (before, number)
            repeated = sorted(runs)
            for body in bodies:
                repeated.remove(body)
            # What had run and was not recorded runs once more: at most one body per strand.
            assert len(repeated) <= (2 if before else 0), (before, number, repeated)
