"""Attacks on the control signals of `def` workflows, and on the moment of suspending."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from datetime import timedelta
from math import inf

import pytest

from perdure.durable import (
    CompletionConfig,
    ContextMisuseError,
    Duration,
    InvocationError,
    MapConfig,
    NestingType,
    ParallelConfig,
    RetryPresets,
    StepConfig,
    StepSemantics,
    complete_batch,
    continue_batch,
    durable_execution,
)
from perdure.engine.invocation import Invocation
from perdure.engine.settings import FLUSH_AGE, Settings
from perdure.engine.threads import Threads
from perdure.errors import (
    CheckpointError,
    DurableApiErrorCategory,
    InvalidParameterValueError,
    StaleTokenError,
)
from perdure.model import InvocationStatus, OperationAction
from tests.replay.plane import Plane, execute, invoke, settings, wait_until

PENDING, SUCCEEDED, FAILED = InvocationStatus.PENDING, InvocationStatus.SUCCEEDED, InvocationStatus.FAILED
FIRST = ParallelConfig(completion_config=CompletionConfig.first_successful())


@pytest.fixture
def plane():
    return Plane()


def wait(context, seconds=60, name="w"):
    context.wait(Duration(seconds), name=name)


# ------------------------------------------------------------------------------------------------- swallowed signals


def test_except_exception_does_not_see_a_suspension(plane):
    """Control signals are no Exceptions."""

    @durable_execution
    def workflow(_, context):
        try:
            wait(context)
        except Exception:  # noqa: BLE001
            return "caught"
        return "waited"

    assert execute(workflow, plane).result == '"waited"'


def test_except_base_exception_changes_nothing(plane):
    """Whatever is swallowed, no further body runs and what is returned is ignored."""
    ran = []

    @durable_execution
    def workflow(_, context):
        try:
            wait(context)
        except BaseException:  # noqa: BLE001
            ran.append("handler")
        with contextlib.suppress(BaseException):
            context.step(lambda _: ran.append("body"), name="b")
        with contextlib.suppress(BaseException):
            context.uuid4()
            ran.append("uuid")
        return "lied"

    assert invoke(workflow, plane).status is PENDING
    assert (ran, plane.statuses()) == (["handler"], {"w": "STARTED"})


def test_an_error_in_place_of_the_signal_changes_nothing(plane):
    """An exception that a handler raises instead does not fail the execution."""

    @durable_execution
    def workflow(_, context):
        try:
            wait(context)
        except BaseException:  # noqa: BLE001
            raise ValueError("instead") from None

    assert invoke(workflow, plane).status is PENDING
    assert execute(workflow, plane).status is SUCCEEDED


def test_finally_that_calls_operations(plane):
    """The operation of a finally runs once, when the code gets there for good."""
    ran = []

    @durable_execution
    def workflow(_, context):
        try:
            wait(context)
        finally:
            context.step(lambda _: ran.append("cleanup"), name="cleanup")
        return "end"

    assert execute(workflow, plane).result == '"end"'
    assert (ran, list(plane.statuses())) == (["cleanup"], ["w", "cleanup"])


def test_swallowing_in_a_child_and_in_a_branch(plane):
    """A body that swallows the signal of its own operation has no outcome."""

    def swallow(inner):
        with contextlib.suppress(BaseException):
            wait(inner, name=None)
        return "lied"

    @durable_execution
    def workflow(_, context):
        child = context.run_in_child_context(swallow, name="child")
        return child, context.parallel([swallow], name="batch").get_results()

    assert invoke(workflow, plane).status is PENDING
    assert plane.operation("child").status.value == "STARTED"
    assert execute(workflow, plane).result == '["lied", ["lied"]]'


@pytest.mark.parametrize("where", ["workflow", "branch"])
def test_a_thread_that_swallows_for_ever_is_given_up(plane, where):
    """The invocation ends as crashed, though the thread does not; nobody waits for it, or keeps its place free."""
    spins = []

    def spin(context):
        while True:
            with contextlib.suppress(BaseException):
                wait(context)
            spins.append(None)

    @durable_execution
    def workflow(_, context):
        return spin(context) if where == "workflow" else context.parallel([spin])

    invocation = Invocation(workflow, plane.begin(), settings=settings(plane))
    with pytest.raises(InvocationError, match="1000 times"):
        invocation.run(plane)
    assert 1000 <= len(spins) < 1010
    assert invocation.join(10)
    assert invocation.orphans == 0


# ------------------------------------------------------------------------------------------------- interrupts, exits


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_interrupt_in_a_body(plane, interrupt):
    """The step stays STARTED, `finally` calls nothing, the invocation ends uncleanly; the next one runs it again."""
    runs = []

    def body(_):
        runs.append("body")
        if len(runs) == 1:
            raise interrupt
        return "ok"

    @durable_execution
    def workflow(_, context):
        try:
            return context.step(body, name="a")
        finally:
            context.step(lambda _: runs.append("cleanup"), name="cleanup")

    with pytest.raises(interrupt):
        invoke(workflow, plane)
    assert runs == ["body"]
    assert invoke(workflow, plane).result == '"ok"'
    assert runs == ["body", "body", "cleanup"]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_interrupt_in_a_branch(plane, interrupt):
    """It ends the invocation, not the branch."""

    def branch(_):
        raise interrupt

    @durable_execution
    def workflow(_, context):
        context.parallel([branch, lambda _: 1], name="both")

    with pytest.raises(interrupt):
        invoke(workflow, plane)
    assert plane.statuses().get("both", "STARTED") == "STARTED"


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_interrupt_in_the_workflow(plane, interrupt):
    """It is an unclean end, never FAILED."""

    @durable_execution
    def workflow(*_):
        raise interrupt

    with pytest.raises(interrupt):
        invoke(workflow, plane)


def test_other_base_exceptions_are_failures(plane):
    """Something like a stray CancelledError in a body has failed the body."""

    class Cancelled(BaseException):
        pass

    def body(_):
        raise Cancelled("stop")

    @durable_execution
    def workflow(_, context):
        context.step(body, config=StepConfig(RetryPresets.none()))

    assert "Cancelled was raised: stop" in invoke(workflow, plane).error.message


def test_at_most_once_interrupted(plane):
    """The attempt is not repeated; the strategy decides about the next."""
    runs = []

    def body(_):
        runs.append(None)
        if len(runs) == 1:
            raise SystemExit
        return "ok"

    @durable_execution
    def workflow(_, context):
        config = StepConfig(RetryPresets.fixed(), StepSemantics.AT_MOST_ONCE_PER_RETRY)
        return context.step(body, name="a", config=config)

    with pytest.raises(SystemExit):
        invoke(workflow, plane)
    assert invoke(workflow, plane).status is PENDING
    assert len(runs) == 1
    assert execute(workflow, plane).result == '"ok"'
    assert plane.sent == [["START a"], ["RETRY a"], ["START a"], ["SUCCEED a"]]


# ------------------------------------------------------------------------------------------------------ the service


def test_fenced(plane):
    """A stale token ends the invocation uncleanly, and what swallows that goes no further."""
    ran = []

    def refuse(_):
        raise StaleTokenError

    @durable_execution
    def workflow(_, context):
        with contextlib.suppress(BaseException):
            context.step(lambda _: 1, name="a")
        context.step(ran.append, name="b")

    plane.before = refuse
    with pytest.raises(StaleTokenError):
        invoke(workflow, plane)
    assert ran == []


def test_a_refused_update_fails_the_execution(plane):
    """The service's text is the error."""

    def refuse(_):
        raise InvalidParameterValueError("Invalid current STEP state to close.")

    plane.before = refuse
    output = invoke(durable_execution(lambda _, context: context.step(lambda _: 1)), plane)
    assert (output.status, output.error.message) == (FAILED, "Invalid current STEP state to close.")


def test_errors_of_the_service(plane):
    """Throttling ends the invocation, anything else that is the caller's fault the execution."""
    workflow = durable_execution(lambda _, context: context.step(lambda _: 1))
    for category in DurableApiErrorCategory:

        def refuse(_, category=category):
            raise CheckpointError("no", category)

        plane.before = refuse
        if category is DurableApiErrorCategory.INVOCATION:
            with pytest.raises(CheckpointError):
                invoke(workflow, plane)
        else:
            assert invoke(workflow, plane).status is FAILED


def test_an_interrupted_sender_fails_all_waiters(plane):
    """Whatever ends the sending thread's request, nobody waits for its answer."""
    both = threading.Barrier(2)

    def refuse(_):
        raise SystemExit

    @durable_execution
    def workflow(_, context):
        def branch(inner):
            inner.step(lambda _: both.wait(10))

        context.parallel([branch, branch])

    plane.before = refuse
    with pytest.raises(SystemExit):
        invoke(workflow, plane)


def test_withdrawn_token(plane):
    """Without a further token the invocation is PENDING, whatever the code makes of it; the update counts."""

    @durable_execution
    def workflow(_, context):
        with contextlib.suppress(BaseException):
            context.step(lambda _: 1, name="a")
        return "lied"

    plane.withdraw = True
    assert invoke(workflow, plane).status is PENDING
    assert plane.statuses() == {"a": "SUCCEEDED"}


# ------------------------------------------------------------------------------------------------ no wake-up is lost


def test_told_in_the_answer_to_its_start(plane):
    """A callback that has ended when its START is answered is not waited for."""

    @durable_execution
    def workflow(_, context):
        return context.create_callback("cb").result()

    def after(_):
        plane.after = lambda _: None
        plane.complete("cb", "yes")

    plane.after = after
    assert invoke(workflow, plane).result == '"yes"'


def test_told_after_the_strand_has_looked(plane):
    """An answer that arrives between the look and PENDING is the last to tell: the strand runs again instead."""
    runs = []

    @durable_execution
    def workflow(_, context):
        runs.append(None)
        try:
            return context.create_callback("cb").result()
        except BaseException:
            plane.complete("cb", "yes")
            driver = invocation._driver
            with driver.changed:
                driver.wait_for(driver.checkpointer.poll())
            raise

    invocation = Invocation(workflow, plane.begin(), settings=settings(plane))
    assert invocation.run(plane).result == '"yes"'
    assert len(runs) == 2


def test_told_while_blocked(plane):
    """A branch blocked on a callback goes on in place when a sibling's answer tells of the end."""
    blocked = threading.Event()

    @durable_execution
    def workflow(_, context):
        def waiting(inner):
            callback = inner.create_callback("cb")
            inner.step(lambda _: blocked.set(), name="blocked")
            return callback.result()

        def telling(inner):
            inner.step(lambda _: blocked.wait(10) and plane.complete("cb", "yes"), name="told")

        return context.parallel([waiting, telling]).get_results()

    assert invoke(workflow, plane).result == '["yes", null]'


def test_pending_while_an_orphan_still_runs(plane):
    """The workflow suspends at once; what the orphan does afterwards is not recorded."""
    release, ended = threading.Event(), threading.Event()

    @durable_execution
    def workflow(_, context):
        def slow(inner):
            try:
                inner.step(lambda _: release.wait(10), name="slow")
            finally:
                ended.set()

        context.parallel([slow, lambda _: 1], config=FIRST)
        wait(context)

    invocation = Invocation(workflow, plane.begin(), settings=settings(plane))
    output = invocation.run(plane)
    plane.finish(output)
    assert (output.status, invocation.orphans) == (PENDING, 1)
    requests = len(plane.requests)
    release.set()
    assert invocation.join(10)
    assert ended.is_set()
    assert (invocation.orphans, len(plane.requests)) == (0, requests)


def in_place(plane, went_on, long):
    """A branch that waits for two seconds, beside one that runs until the first has gone on."""

    @durable_execution
    def workflow(_, context):
        def quick(inner):
            wait(inner, 2)
            inner.step(lambda _: went_on.set(), name="behind")

        return context.parallel([quick, lambda inner: inner.step(long, name="long")]).get_results()

    return workflow


def test_continuation_in_place_by_a_hint(plane):
    """While a sibling runs, a blocked branch goes on after one empty checkpoint, in the same invocation."""
    went_on = threading.Event()

    def long(_):
        wait_until(lambda: {"w", "long"} <= plane.statuses().keys(), "both are recorded")
        plane.advance(3)
        invocation.nudge()
        return went_on.wait(10)

    chosen = settings(plane, flush_age=FLUSH_AGE)
    invocation = Invocation(in_place(plane, went_on, long), plane.begin(), settings=chosen)
    assert invocation.run(plane).result == "[null, true]"
    assert [] in plane.requests


@pytest.mark.parametrize("lag", [0, 3])
def test_continuation_in_place_by_the_clock(plane, lag):
    """At its time the coordinator asks by itself, and again if the service's clock is behind."""
    went_on = threading.Event()
    ours = plane.now

    def now():
        # Almost the whole time has passed whenever somebody looks.
        nonlocal ours
        ours += timedelta(seconds=1.9)
        plane.now = max(plane.now, ours - timedelta(seconds=lag))
        return ours

    workflow = in_place(plane, went_on, lambda _: went_on.wait(10))
    invocation = Invocation(workflow, plane.begin(), settings=Settings(now=now))
    assert invocation.run(plane).result == "[null, true]"


def test_hint_before_anything_is_blocked(plane):
    """A hint that comes early is kept until a strand is blocked."""
    go, done = threading.Event(), threading.Event()

    @durable_execution
    def workflow(_, context):
        def waiting(inner):
            callback = inner.create_callback("cb")
            # Nothing is blocked, and nothing is sent, until the hint has been given.
            go.wait(10)
            value = callback.result()
            done.set()
            return value

        def long(inner):
            def body(_):
                wait_until(lambda: {"cb", "long"} <= plane.statuses().keys(), "both are recorded")
                plane.complete("cb", "yes")
                invocation.nudge()
                go.set()
                return done.wait(10)

            return inner.step(body, name="long")

        return context.parallel([waiting, long]).get_results()

    invocation = Invocation(workflow, plane.begin(), settings=settings(plane, flush_age=FLUSH_AGE))
    assert invocation.run(plane).result == '["yes", true]'


def test_all_branches_blocked_suspends_until_the_first(plane):
    """When no branch can run the workflow suspends, and each goes on in its turn."""

    @durable_execution
    def workflow(_, context):
        def branch(seconds):
            return lambda inner: (wait(inner, seconds), seconds)[1]

        return context.parallel([branch(30), branch(10), branch(20)]).get_results()

    assert execute(workflow, plane).result == "[30, 10, 20]"
    assert plane.invocations == 4


# ---------------------------------------------------------------------------------------------------------- batches


def test_early_completion_beside_a_slow_branch(plane):
    """min_successful=1 ends the batch although a branch still runs; that one records nothing more."""
    release = threading.Event()
    orphan = []

    @durable_execution
    def workflow(_, context):
        def slow(inner):
            inner.step(lambda _: release.wait(10), name="slow")
            orphan.append("went on")

        result = context.parallel([slow, lambda inner: inner.step(lambda _: "fast")], config=FIRST)
        release.set()
        return result.get_results(), context.step(lambda _: "next", name="next")

    invocation = Invocation(workflow, plane.begin(), settings=settings(plane))
    assert invocation.run(plane).result == '[["fast"], "next"]'
    assert invocation.join(10)
    assert orphan == []
    assert plane.statuses().get("slow", "STARTED") == "STARTED"


def test_queued_branches_are_dropped(plane):
    """Those that no thread has come to when the batch ends are never begun."""
    ended, begun = threading.Event(), []

    @durable_execution
    def workflow(_, context):
        def branch(inner, item, *_):
            begun.append(item)
            if item:
                ended.wait(10)
            inner.step(lambda _: item)

        context.map(range(9), branch, config=MapConfig(completion_config=FIRST.completion_config))
        ended.set()

    invocation = Invocation(workflow, plane.begin(), settings=settings(plane), threads=Threads(branches=1))
    plane.finish(invocation.run(plane))
    assert invocation.join(10)
    assert sorted(begun) in ([0], [0, 1])


def test_a_branch_whose_outcome_is_being_recorded_needs_no_thread(plane):
    """The pool's only thread runs the next branch while the request with the first one's outcome is under way."""
    begun = threading.Event()

    @durable_execution
    def workflow(_, context):
        def branch(inner, item, *_):
            if item:
                begun.set()
            return item

        return context.map(range(2), branch, name="m").get_results()

    def before(updates):
        if any(each.name == "map-item-0" and each.action is OperationAction.SUCCEED for each in updates):
            assert begun.wait(10)

    plane.before = before
    assert execute(workflow, plane, threads=Threads(branches=1)).result == "[0, 1]"


def test_a_slow_decision_keeps_no_branch_from_recording(plane):
    """While a predicate thinks, branches that wait send for those that have nothing left to do but to be recorded."""
    deciding, sending, told = threading.Event(), threading.Event(), threading.Event()

    def decide(status):
        if status.completed_count:
            deciding.set()
            assert told.wait(10)
        return complete_batch() if status.completed_count == status.total_count else continue_batch()

    @durable_execution
    def workflow(_, context):
        def over_soon(inner):
            assert sending.wait(10)

        def told_later(inner):
            assert sending.wait(10)
            wait_until(lambda: invocation._driver.checkpointer.waiting, "the other is to be recorded before")
            inner.step(lambda _: None, name="later")
            told.set()

        branches = [
            lambda inner: None,
            over_soon,
            told_later,
            lambda inner: inner.step(lambda _: deciding.wait(10), name="slow"),
        ]
        config = ParallelConfig(completion_config=CompletionConfig(should_complete=decide))
        return context.parallel(branches, config=config).success_count

    def before(updates):
        if any(each.name == "slow" and each.action is OperationAction.SUCCEED for each in updates):
            sending.set()
            wait_until(lambda: invocation._driver.checkpointer.waiting == 2, "two branches wait to be recorded")

    plane.before = before
    invocation = Invocation(workflow, plane.begin(), settings=settings(plane, flush_age=inf))
    assert invocation.run(plane).result == "4"


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_nested_batches_on_few_threads(plane, threads):
    """Batches in batches need no thread each."""

    @durable_execution
    def workflow(_, context):
        def nested(depth):
            def branch(inner):
                if not depth:
                    return inner.step(lambda _: 1)
                return sum(inner.parallel([nested(depth - 1)] * 2).get_results())

            return branch

        return nested(4)(context)

    assert invoke(workflow, plane, threads=Threads(branches=threads)).result == "16"


@pytest.mark.parametrize("threads", [1, 4])
def test_suspending_in_nested_batches(plane, threads):
    """Blocked branches of nested batches give their threads back and go on."""

    @durable_execution
    def workflow(_, context):
        def leaf(number):
            def branch(inner):
                inner.step(lambda _: number)
                wait(inner, 3, None)
                return inner.step(lambda _: number * 10)

            return branch

        def middle(number):
            config = ParallelConfig(max_concurrency=1)
            return lambda inner: inner.parallel([leaf(number), leaf(number + 1)], config=config).get_results()

        config = ParallelConfig(max_concurrency=1)
        return context.parallel([middle(0), middle(2)], config=config).get_results()

    output = execute(workflow, plane, threads=Threads(branches=threads))
    assert output.result == "[[0, 10], [20, 30]]"


def test_branches_share_one_thread(plane):
    """A blocked branch frees the only thread for the next."""

    @durable_execution
    def workflow(_, context):
        return context.map(range(20), lambda inner, item, *_: (wait(inner, 5, None), item)[1]).get_results()

    output = execute(workflow, plane, threads=Threads(branches=1))
    assert output.result == str(list(range(20)))
    assert plane.invocations == 2


def test_max_concurrency_counts_blocked_branches(plane):
    """A blocked branch keeps its slot."""
    running, most = set(), []

    @durable_execution
    def workflow(_, context):
        def branch(inner, item, *_):
            running.add(item)
            most.append(len(running))
            wait(inner, 5, None)
            running.discard(item)

        context.map(range(6), branch, name="m")
        context.map(range(6), branch, name="limited", config=limited)

    limited = MapConfig(max_concurrency=2)
    execute(workflow, plane)
    started = [each for each in plane.operations() if each.sub_type == "Wait"]
    assert len(started) == 12
    assert max(most) == 6
    # The limited map needs a suspension for every two items.
    assert plane.invocations == 5


def test_flat(plane):
    """FLAT branches record no contexts; ids differ by branch, the parent is the container."""
    config = ParallelConfig(nesting_type=NestingType.FLAT)

    @durable_execution
    def workflow(_, context):
        def branch(inner):
            inner.step(lambda _: 1, name="s")
            wait(inner)
            return "x"

        return context.parallel([branch, branch], name="flat", config=config).get_results()

    assert execute(workflow, plane).result == '["x", "x"]'
    container, *rest = plane.operations()
    assert sorted(each.name for each in rest) == ["s", "s", "w", "w"]
    assert {each.parent_id for each in rest} == {container.operation_id}


# --------------------------------------------------------------------------------------------------- whose context


def refused(plane, workflow):
    output = invoke(durable_execution(workflow), plane)
    assert output.status is FAILED
    for way in ("run_in_child_context", "parallel", "map"):
        assert way in output.error.message
    return output


def test_step_in_step(plane):
    """Refused, the step fails at once; no retry strategy sees it."""

    def strategy(*_):
        raise AssertionError("asked")

    def workflow(_, context):
        context.step(lambda _: context.step(lambda _: 1, name="inner"), name="outer", config=StepConfig(strategy))

    refused(plane, workflow)
    assert plane.statuses() == {"outer": "FAILED"}


def test_context_of_the_parent_in_a_child(plane):
    """Refused: it would shift the parent's ids once the finished child is skipped."""

    def workflow(_, context):
        context.run_in_child_context(lambda _: context.step(lambda _: 1), name="child")

    refused(plane, workflow)


def test_context_of_a_child_behind_its_end(plane):
    """Refused: the child has ended."""
    kept = []

    def workflow(_, context):
        context.run_in_child_context(kept.append)
        kept[0].step(lambda _: 1)

    refused(plane, workflow)


@pytest.mark.parametrize("copied", [False, True])
def test_context_in_another_thread(plane, copied):
    """Refused, also with the context variables copied."""
    caught = []

    @durable_execution
    def workflow(_, context):
        def call():
            try:
                context.step(lambda _: 1)
            except ContextMisuseError as error:
                caught.append(error)

        variables = contextvars.copy_context()
        thread = threading.Thread(target=(lambda: variables.run(call)) if copied else call)
        thread.start()
        thread.join()

    invoke(workflow, plane)
    assert len(caught) == 1
    assert plane.operations() == []


def test_random_values_in_a_step(plane):
    """Refused: replay would skip the body and shift those that follow."""
    refused(plane, lambda _, context: context.step(lambda _: context.uuid4()))


def test_promise(plane):
    """A `def` context has no futures to combine."""
    output = invoke(durable_execution(lambda _, context: context.promise), plane)
    assert "parallel" in output.error.message


# ------------------------------------------------------------------------------------------------ context variables

VARIABLE = contextvars.ContextVar("VARIABLE", default="none")


def test_context_variables(plane):
    """Bodies see what their caller set; what they set stays with them, live as on replay."""
    seen = []

    @durable_execution
    def workflow(_, context):
        VARIABLE.set("root")
        context.step(lambda _: VARIABLE.set("leaked") and None)
        seen.append(VARIABLE.get())
        context.run_in_child_context(lambda _: VARIABLE.set("leaked") and None)
        seen.append(VARIABLE.get())

        def branch(_):
            found = VARIABLE.get()
            VARIABLE.set("leaked")
            return found

        found = context.parallel([branch, branch]).get_results()
        wait(context)
        return found, VARIABLE.get()

    assert execute(workflow, plane).result == '[["root", "root"], "root"]'
    assert seen == ["root"] * 4
    assert VARIABLE.get() == "none"
