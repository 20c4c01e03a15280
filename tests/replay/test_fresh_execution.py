"""First runs: what is sent, how often, and what comes back."""

from __future__ import annotations

import threading

import pytest

from perdure.durable import (
    CallbackExternalError,
    ChildContextError,
    Duration,
    InvokeError,
    ParallelBranch,
    RetryPresets,
    StepConfig,
    StepError,
    StepSemantics,
    ValidationError,
    WaitForConditionConfig,
    WaitForConditionDecision,
    durable_execution,
    durable_step,
)
from perdure.engine.invocation import Invocation
from perdure.engine.settings import FLUSH_AGE
from perdure.engine.threads import Threads
from perdure.model import ErrorObject, InvocationStatus, OperationSubType
from tests.replay.plane import Plane, execute, invoke, settings


@pytest.fixture
def plane():
    return Plane()


def test_one_step_is_one_request(plane):
    """START rides with SUCCEED."""

    @durable_execution
    def workflow(_, context):
        return context.step(lambda _: "done", name="a")

    output = invoke(workflow, plane)
    assert (output.status, output.result) == (InvocationStatus.SUCCEEDED, '"done"')
    assert plane.sent == [["START a", "SUCCEED a"]]


def test_no_operations_no_requests(plane):
    """A workflow without operations sends nothing."""
    assert invoke(durable_execution(lambda event, _: event), plane).result == "{}"
    assert plane.requests == []


def test_a_step_returns_only_what_is_durable(plane):
    """The result is recorded before the caller has it."""
    seen = []

    @durable_execution
    def workflow(_, context):
        context.step(lambda _: 1, name="a")
        seen.append(plane.statuses())

    invoke(workflow, plane)
    assert seen == [{"a": "SUCCEEDED"}]


def test_at_most_once_start_is_durable_before_the_body(plane):
    """The body finds its START recorded."""
    seen = []

    @durable_execution
    def workflow(_, context):
        config = StepConfig(step_semantics=StepSemantics.AT_MOST_ONCE_PER_RETRY)
        context.step(lambda _: seen.append(plane.statuses()), name="a", config=config)

    invoke(workflow, plane)
    assert seen == [{"a": "STARTED"}]


def test_wait_suspends(plane):
    """The wait is recorded, the invocation ends as PENDING, the code behind it runs in the next."""
    runs = []

    @durable_execution
    def workflow(_, context):
        runs.append("before")
        context.wait(Duration.from_days(1), name="cool-off")
        runs.append("after")

    assert invoke(workflow, plane).status is InvocationStatus.PENDING
    assert (runs, plane.sent) == (["before"], [["START cool-off"]])
    plane.advance(86_400)
    assert invoke(workflow, plane).status is InvocationStatus.SUCCEEDED
    assert runs == ["before", "before", "after"]


def test_retries_run_the_body_again(plane):
    """Attempts are counted, each in an invocation of its own, delays by the strategy."""
    attempts = []

    def flaky(step):
        attempts.append(step.attempt)
        if len(attempts) < 3:
            raise ValueError("not yet")
        return "ok"

    @durable_execution
    def workflow(_, context):
        return context.step(flaky, name="a", config=StepConfig(RetryPresets.fixed()))

    assert execute(workflow, plane).result == '"ok"'
    assert (attempts, plane.invocations) == ([1, 2, 3], 3)


def test_exhausted_retries_fail_the_execution(plane):
    """The error of the step is the execution's."""

    @durable_execution
    def workflow(_, context):
        context.step(lambda _: 1 / 0, config=StepConfig(RetryPresets.none()))

    output = invoke(workflow, plane)
    assert output.status is InvocationStatus.FAILED
    assert output.error.type == "aws_durable_execution_sdk_python.exceptions.StepError"
    assert "division" in output.error.message


def test_errors_of_workflow_code_fail_the_execution(plane):
    """They are recorded under their own name."""

    @durable_execution
    def workflow(*_):
        raise LookupError("nothing there")

    assert invoke(workflow, plane).error == ErrorObject("nothing there", "LookupError")


def test_callback_between_creation_and_result(plane):
    """Code between the two runs before the callback is completed."""
    ids = []

    @durable_execution
    def workflow(_, context):
        callback = context.create_callback("approval")
        context.step(lambda _: ids.append(callback.callback_id), name="tell")
        return callback.result()

    output = execute(workflow, plane, pending=lambda _: plane.complete("approval", "yes"))
    assert (output.result, len(ids)) == ('"yes"', 1)


def test_wait_for_callback(plane):
    """The submitter gets the id; the failure that comes back is raised as the callback's."""

    @durable_execution
    def workflow(_, context):
        try:
            context.wait_for_callback(lambda *_: None, name="X")
        except CallbackExternalError as error:
            return error.message

    error = ErrorObject("rejected", "Manager")
    output = execute(workflow, plane, pending=lambda _: plane.complete("X create callback id", error=error))
    assert output.result == '"rejected"'
    assert plane.statuses() == {"X": "FAILED", "X create callback id": "FAILED", "X submitter": "SUCCEEDED"}


def test_wait_for_condition(plane):
    """One STEP for all polls."""

    @durable_execution
    def workflow(_, context):
        def strategy(state, _):
            if state >= 3:
                return WaitForConditionDecision.stop_polling()
            return WaitForConditionDecision.continue_waiting(Duration(60))

        return context.wait_for_condition(lambda state, _: state + 1, WaitForConditionConfig(strategy, 0), name="poll")

    assert execute(workflow, plane).result == "3"
    assert [each.sub_type for each in plane.operations()] == [OperationSubType.WAIT_FOR_CONDITION]
    assert plane.invocations == 3


def test_invoke(plane):
    """The result comes from outside; a target that does not exist fails in the same answer."""

    @durable_execution
    def workflow(_, context):
        try:
            context.invoke("missing", None, name="gone")
        except InvokeError as error:
            return error.error_type, context.invoke("other", {"a": 1}, name="child")

    output = execute(workflow, plane, pending=lambda _: plane.complete("child", "[5]"))
    assert output.result == '["ResourceNotFoundException", [5]]'
    assert plane.invocations == 2


def test_child_context(plane):
    """Its operations are recorded below it, its failure is raised as one."""

    @durable_execution
    def workflow(_, context):
        value = context.run_in_child_context(lambda inner: inner.step(lambda _: 4, name="in"), name="part")
        with pytest.raises(ChildContextError, match="no"):
            context.run_in_child_context(failing, name="bad")
        return value

    def failing(_):
        raise ValueError("no")

    assert invoke(workflow, plane).result == "4"
    assert plane.operation("in").parent_id == plane.operation("part").operation_id
    assert plane.statuses() == {"part": "SUCCEEDED", "in": "SUCCEEDED", "bad": "FAILED"}


def test_parallel_and_map(plane):
    """Results in the order of the branches; names given, made and default."""

    @durable_execution
    def workflow(_, context):
        both = context.parallel([lambda c: c.step(lambda _: 1), ParallelBranch(lambda _: 2, "named")], name="both")
        each = context.map([5, 6], lambda c, item, index, items: [item, index, len(items)], name="each")
        return both.get_results(), each.get_results()

    assert invoke(workflow, plane).result == "[[1, 2], [[5, 0, 2], [6, 1, 2]]]"
    named = [each.name for each in plane.operations() if each.sub_type in {"ParallelBranch", "MapIteration"}]
    assert sorted(named) == ["map-item-0", "map-item-1", "named", "parallel-branch-0"]


def test_names_of_decorated_functions(plane):
    """A function made by durable_step names its step."""

    @durable_step
    def charge(step, card, *, amount):
        return [card, amount, step.attempt]

    @durable_execution
    def workflow(_, context):
        return context.step(charge("4711", amount=3))

    assert invoke(workflow, plane).result == '["4711", 3, 1]'
    assert plane.sent == [["START charge", "SUCCEED charge"]]


def test_asynchronous_step_bodies(plane):
    """A coroutine function is awaited on the process's loop, with the caller's context variables."""

    async def body(step):
        return step.attempt, threading.current_thread().name

    @durable_execution
    def workflow(_, context):
        return context.step(body), context.step(lambda step: body(step))  # noqa: PLW0108

    assert invoke(workflow, plane).result == '[[1, "perdure-host"], [1, "perdure-host"]]'


def test_asynchronous_branches_are_refused(plane):
    """Bodies of contexts have the workflow's colour."""

    async def branch(_):
        raise AssertionError("run")

    @durable_execution
    def workflow(_, context):
        context.run_in_child_context(branch)

    output = invoke(workflow, plane)
    assert "make both `async def`" in output.error.message


@pytest.mark.parametrize(
    "call",
    [
        lambda context: context.wait(Duration.from_seconds(0)),
        lambda context: context.wait_for_condition(None, None),
    ],
)
def test_refused_arguments_take_no_id(plane, call):
    """A call that is refused leaves the ids of later operations as they are."""

    @durable_execution
    def workflow(_, context):
        with pytest.raises(ValidationError):
            call(context)
        context.step(lambda _: 1, name="first")

    invoke(workflow, plane)
    assert plane.operation("first").operation_id.startswith("1ced8f5b")


def test_start_of_a_long_step_is_sent_by_itself(plane):
    """A START nobody waits for leaves after a while, while the body runs."""
    sent = threading.Event()
    plane.after = lambda updates: sent.set()

    @durable_execution
    def workflow(_, context):
        return context.step(lambda _: sent.wait(10), name="long")

    assert invoke(workflow, plane, flush_age=FLUSH_AGE).result == "true"
    assert plane.sent == [["START long"], ["SUCCEED long"]]


def test_values_that_are_equal_on_replay(plane):
    """now, uuid4 and random give the same in every invocation, and differ between contexts and calls."""
    seen = []

    @durable_execution
    def workflow(_, context):
        def values(each):
            return each.now(), each.uuid4(), each.uuid4(), each.random().random(), each.random().random()

        context.step(lambda _: plane.advance(5), name="a")
        seen.append((values(context), context.run_in_child_context(lambda inner: str(values(inner)))))
        context.wait(Duration(60))

    execute(workflow, plane)
    assert seen[0] == seen[1]
    outer, inner = seen[0]
    assert len(set(outer)) == 5
    assert not any(str(each) in inner for each in outer[1:])
    assert outer[1].version == 4


def test_now_is_the_end_of_the_last_operation(plane):
    """In whole milliseconds; a callback that has ended by the time of the replay does not move it."""
    seen = []

    @durable_execution
    def workflow(_, context):
        seen.append(context.now())
        callback = context.create_callback("approval")
        seen.append(context.now())
        context.wait(Duration(60))
        seen.append(context.now())
        callback.result()
        seen.append(context.now())

    start = plane.now
    plane.advance(0.0009)

    def pending(_):
        plane.complete("approval", "x")

    execute(workflow, plane, pending=pending)
    first, created, waited, _ = seen[-4:]
    assert seen[:2] == seen[2:4] == [first, created]
    assert first == created == start
    assert (waited - start).total_seconds() == 60


def test_input_and_identity(plane):
    """The input is the start's JSON; a missing one is an empty object."""

    @durable_execution
    def workflow(event, context):
        return event, context.execution_id, context.execution_context.durable_execution_arn, context.lambda_context

    plane = Plane('{"card": "4711"}')
    assert invoke(workflow, plane).result == f'[{{"card": "4711"}}, "e-1", "{plane.arn}", null]'
    assert invoke(workflow, Plane(" ")).result.startswith("[{}, ")


def test_pages_of_answers(plane):
    """An answer that comes in pages is read whole before anyone goes on."""
    plane.page_size = 1

    @durable_execution
    def workflow(_, context):
        return context.run_in_child_context(lambda inner: inner.step(lambda _: 4))

    assert invoke(workflow, plane).result == "4"


def test_large_result_is_recorded_first(plane):
    """A result too large for the output travels in an update, and the output says so; the same for an error."""

    def fail(*_):
        raise ValueError("y" * 200)

    for function, expected in ((lambda *_: "x" * 200, "SUCCEED"), (fail, "FAIL")):
        plane = Plane()
        output = invoke(durable_execution(function), plane, result_inline_limit=100)
        assert (output.result or "", output.error) == ("", None)
        assert plane.sent == [[f"{expected} None"]]
        assert plane.execution.status.value == output.status.value


def test_a_result_that_is_too_large_fails_the_execution(plane):
    """Nothing is sent that the service would refuse without a remedy."""
    output = invoke(durable_execution(lambda *_: "x" * 200, name="big"), plane, result_limit=100)
    assert (output.status, plane.sent) == (InvocationStatus.FAILED, [])
    assert "the result of function 'big' has 202 bytes, and 100 are allowed; store it elsewhere" in output.error.message


def test_a_payload_that_cannot_be_serialized_is_named(plane):
    """The recorded error names the operation, and what in its result is wrong."""
    function = durable_execution(lambda _, context: context.step(lambda _: {"a": object()}, name="pay"))
    message = invoke(function, plane).error.message
    assert message.startswith("the payload of step 'pay': value['a'] is an object; convert it")


def test_a_result_that_is_no_json_fails_the_execution(plane):
    """It is refused by name."""
    output = invoke(durable_execution(lambda *_: object(), name="odd"), plane)
    assert (output.status, "'odd'" in output.error.message) == (InvocationStatus.FAILED, True)


def test_interrupt_lets_the_body_finish(plane):
    """An interrupted invocation records what runs, begins nothing more, and raises the reason."""
    reason = RuntimeError("draining")
    ran = []

    @durable_execution
    def workflow(_, context):
        context.step(lambda _: invocation.interrupt(reason), name="a")
        context.step(ran.append, name="b")

    invocation = Invocation(workflow, plane.begin(), settings=settings(plane), threads=Threads())
    with pytest.raises(RuntimeError) as caught:
        invocation.run(plane)
    assert caught.value is reason
    assert (plane.statuses(), ran) == ({"a": "SUCCEEDED"}, [])


def test_an_interrupt_does_not_spoil_an_end(plane):
    """A workflow that ends, or suspends, without another operation ends as it would have."""

    @durable_execution
    def workflow(_, context):
        return context.step(lambda _: invocation.interrupt(RuntimeError("draining")))

    invocation = Invocation(workflow, plane.begin(), settings=settings(plane))
    assert invocation.run(plane).status is InvocationStatus.SUCCEEDED


def test_interrupt_waits_for_branches(plane):
    """Branches that run finish what they do before the reason is raised."""
    both = threading.Barrier(2)

    @durable_execution
    def workflow(_, context):
        def branch(inner):
            def body(_):
                if both.wait(10) == 0:
                    invocation.interrupt(RuntimeError("draining"))
                both.wait(10)

            inner.step(body)
            inner.step(lambda _: pytest.fail("begun"))

        context.parallel([branch, branch], name="both")

    invocation = Invocation(workflow, plane.begin(), settings=settings(plane))
    with pytest.raises(RuntimeError, match="draining"):
        invocation.run(plane)
    steps = [each for each in plane.operations() if each.sub_type == "Step"]
    assert [each.status.value for each in steps] == ["SUCCEEDED", "SUCCEEDED"]
    assert invocation.join(10)


def test_branches_that_wait_for_each_other(plane):
    """All branches of a batch run at the same time, as code and as bodies, in a batch below another one as well."""
    width = 48
    code, bodies = threading.Barrier(2 * width), threading.Barrier(2 * width)

    @durable_execution
    def workflow(_, context):
        def branch(inner):
            code.wait(30)
            inner.step(lambda _: bodies.wait(30) and None)

        def half(inner):
            return inner.parallel([branch] * width).success_count

        return context.parallel([half, half]).get_results()

    assert invoke(workflow, plane).result == f"[{width}, {width}]"


def test_step_error_names_the_cause(plane):
    """The error of a step has the fields of the error that escaped, and a stand-in for it as its cause."""
    caught = []

    @durable_execution
    def workflow(_, context):
        try:
            context.step(lambda _: {}["x"], config=StepConfig(RetryPresets.none()))
        except StepError as error:
            caught.append(error)

    invoke(workflow, plane)
    assert (caught[0].error_type, caught[0].__cause__.error_type) == ("KeyError", "KeyError")
