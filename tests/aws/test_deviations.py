"""Where we differ from AWS's SDK on purpose: what each does, side by side."""

from __future__ import annotations

import contextlib

import pytest

from perdure import durable
from perdure.journal.entry import Outcome
from perdure.model import InvocationStatus, OperationAction, OperationStatus, OperationType, OperationUpdate
from tests.aws.operations import WORKFLOWS
from tests.aws.outside import told
from tests.aws.sides import AHEAD, AWS, PERDURE, Run, Workflow
from tests.aws.wording import WORDINGS
from tests.replay.plane import Plane

WORDED = {
    "<without a form>": "serializer_fails",
    "<not written>": "broken_serializers",
    "<not read>": "broken_serializers",
    "<no error>": "invoke_inside",
    "<failed as decided>": "fails_by_custom_batch",
    "<interrupted>": "passing_trouble",
    "<given up>": "condition_given_up",
}
"""A workflow for each text that the SDKs word differently."""
SUCCEEDED, FAILED = InvocationStatus.SUCCEEDED, InvocationStatus.FAILED
AWS_ERRORS = "aws_durable_execution_sdk_python.exceptions"


def ended(side, build, **options):
    """How an execution of a workflow by one side ends: status, result or type of error, statuses by name."""
    run = Run(Workflow("workflow", build, **options)).finish(side)
    error = run.output.error
    return run.output.status, error.type if error else run.output.result, run.plane.statuses()


@pytest.mark.parametrize("wording", WORDINGS)
def test_wordings_are_needed(wording):
    """Both SDKs say it, each in its own words."""
    for side in (AWS, PERDURE):
        assert wording in str(Run(WORKFLOWS[WORDED[wording]]).finish(side).story())


def test_execution_error_is_sticky():
    """AWS's can be swallowed, and the workflow goes on; with us the execution fails whatever is made of it."""

    def build(kit):
        def workflow(event, context):
            try:
                context.step(kit.raises("a", kit.ExecutionError("enough")), "a")
            except Exception:  # noqa: BLE001 - swallowed on purpose
                kit.step(context, "b")
            return "went on"

        return workflow

    assert ended(AWS, build) == (SUCCEEDED, '"went on"', {"a": "STARTED", "b": "SUCCEEDED"})
    # The START that nobody waited for is not sent any more.
    assert ended(PERDURE, build) == (FAILED, f"{AWS_ERRORS}.ExecutionError", {})


def test_retryable_invocation_error_is_sticky():
    """The same for the error that asks for another invocation."""
    asked = []

    def build(kit):
        def body(context):
            asked.append(kit)
            if len(asked) in {1, 2}:
                raise kit.InvocationError("once more")
            return "done"

        def workflow(event, context):
            try:
                return context.run_in_child_context(body)
            except Exception:  # noqa: BLE001 - swallowed on purpose
                return "swallowed"

        return workflow

    assert Run(Workflow("w", build)).finish(AWS).output.result == '"swallowed"'
    run = Run(Workflow("w", build))
    assert run.finish(PERDURE).output.result == '"done"'
    assert run.crashes == 1


def test_a_suspension_cannot_be_swallowed():
    """AWS's goes on past a wait that has not ended; with us what follows is not run."""

    def build(kit):
        def workflow(event, context):
            with contextlib.suppress(BaseException):
                kit.wait(context, 60)
            return kit.step(context, "after the wait")

        return workflow

    runs = [Run(Workflow("w", build)) for _ in range(2)]
    assert runs[0].invoke(AWS)
    assert not runs[1].invoke(PERDURE)
    assert runs[1].ran == {}


def broken_strategy(*_):
    raise LookupError("strategy")


@pytest.mark.parametrize(
    ("strategy", "theirs"), [(broken_strategy, "LookupError"), (lambda *_: True, "AttributeError")]
)
def test_a_retry_strategy_that_decides_nothing(strategy, theirs):
    """Its error, or Python's of what it answers, leaves AWS's step STARTED, as it is; with us the step has failed."""

    def build(kit):
        def workflow(event, context):
            try:
                context.step(kit.raises("a", ValueError("body")), "a", kit.StepConfig(strategy))
            except Exception as error:  # noqa: BLE001 - whatever it is
                kit.wait(context, 1)
                return type(error).__name__

        return workflow

    assert ended(AWS, build)[:2] == (SUCCEEDED, f'"{theirs}"')
    assert ended(AWS, build)[2]["a"] == "STARTED"
    assert ended(PERDURE, build)[:2] == (SUCCEEDED, '"StepError"')
    assert ended(PERDURE, build)[2]["a"] == "FAILED"


@pytest.mark.parametrize("answer", [True, None])
def test_a_wait_strategy_that_decides_nothing(answer):
    """Both operations have failed: AWS's with an error of Python's, ours with one that says what was expected."""

    def build(kit):
        def workflow(event, context):
            try:
                config = kit.WaitForConditionConfig(lambda *_: answer, 0)
                context.wait_for_condition(lambda *_: 1, config, "poll")
            except kit.WaitForConditionError as error:
                return error.error_type, str(error)

        return workflow

    assert "AttributeError" in ended(AWS, build)[1]
    assert "ValidationError" in ended(PERDURE, build)[1]
    assert "a WaitForConditionDecision was expected" in ended(PERDURE, build)[1]


@pytest.mark.parametrize("where", ["child", "step"])
def test_another_context_is_refused(where):
    """AWS's draws an id of the context above, which shifts its ids on replay; with us that is an error that says so."""

    def build(kit):
        def workflow(event, context):
            body = lambda _: kit.step(context, "of the parent", 1)  # noqa: E731
            if where == "child":
                return context.run_in_child_context(body)
            return context.step(body, config=kit.StepConfig(kit.RetryPresets.none()))

        return workflow

    assert ended(AWS, build)[:2] == (SUCCEEDED, "1")
    assert "of the parent" not in ended(PERDURE, build)[2]
    assert ended(PERDURE, build)[0] is FAILED


def test_a_body_that_raises_no_ordinary_exception():
    """AWS's invocation dies of it, again and again; with us the body has failed."""

    class Odd(BaseException):
        pass

    def build(kit):
        def body(_):
            raise Odd

        def workflow(event, context):
            context.step(body, "a", kit.StepConfig(kit.RetryPresets.none()))

        return workflow

    with pytest.raises(Odd):
        ended(AWS, build)
    assert ended(PERDURE, build) == (FAILED, f"{AWS_ERRORS}.StepError", {"a": "FAILED"})


def test_a_refused_checkpoint_has_its_own_class():
    """Both fail the execution; AWS's names the client's error, we the service's."""

    def build(kit):
        def workflow(event, context):
            raise ValueError("x" * (6 * 1024 * 1024))

        return workflow

    assert ended(AWS, build)[:2] == (FAILED, f"{AWS_ERRORS}.CheckpointError")
    assert ended(PERDURE, build)[:2] == (FAILED, "perdure.errors.InvalidParameterValueError")


def test_a_result_without_a_form_in_json():
    """AWS's error is that of the json module, ours is a SerDesError that names the function."""

    def build(kit):
        return lambda event, context: object()

    assert ended(AWS, build)[:2] == (FAILED, "TypeError")
    assert ended(PERDURE, build)[:2] == (FAILED, f"{AWS_ERRORS}.SerDesError")


def test_an_input_that_is_no_json():
    """AWS's invocation dies of it, again and again; with us the execution fails."""

    def build(kit):
        return lambda event, context: event

    with pytest.raises(ValueError, match="Expecting"):
        ended(AWS, build, input="{")
    assert ended(PERDURE, build, input="{")[:2] == (FAILED, f"{AWS_ERRORS}.SerDesError")


def test_a_failure_without_an_error():
    """The message says so in words of our own."""

    def build(kit):
        def workflow(event, context):
            try:
                context.invoke("f:1", 1, "bare")
            except kit.InvokeError as error:
                return error.message

        return workflow

    outside = told(bare=Outcome(status=OperationStatus.STOPPED))
    assert "No ErrorObject" in ended(AWS, build, outside=outside)[1]
    assert ended(PERDURE, build, outside=outside)[1] == "\"invoke 'bare' is STOPPED, and no error is recorded\""


@pytest.mark.parametrize("side", [AWS, PERDURE])
def test_a_wait_that_was_cancelled(side):
    """No construct of AWS's cancels a wait, and its SDK waits for ever for one; with us it has ended."""
    plane = Plane(now=AHEAD)

    def workflow(event, context):
        context.wait(durable.Duration(60), "w")

    plane.finish(PERDURE.invoke(workflow, plane))
    plane.begin()
    wait = plane.operation("w")
    cancel = OperationUpdate(
        operation_id=wait.operation_id, operation_type=OperationType.WAIT, action=OperationAction.CANCEL
    )
    plane.checkpoint(plane.token, [cancel])
    plane.crash()
    assert side.invoke(workflow, plane).status is (InvocationStatus.PENDING if side is AWS else SUCCEEDED)


REFUSED = {
    "no function": lambda kit, context: context.step(17, "a", kit.StepConfig(kit.RetryPresets.none())),
    "no duration": lambda kit, context: context.wait(5),
    "no list": lambda kit, context: context.map((each for each in "ab"), kit.gives("m", 1)),
    "no strategy": lambda kit, context: context.step(kit.raises("a", ValueError()), "a", kit.StepConfig(17)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_at_once(name):
    """AWS's finds out when it uses it, by an error of Python's; with us the call says what was expected there."""

    def build(kit):
        return lambda event, context: kit.attempt(lambda: REFUSED[name](kit, context))

    theirs, ours = (ended(side, build) for side in (AWS, PERDURE))
    assert "ValidationError" not in theirs[1]
    assert ours[0] is SUCCEEDED
    assert ours[1].startswith('["ValidationError"')
    # Nothing is recorded of it.
    assert ours[2] == {}
