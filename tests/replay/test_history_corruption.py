"""Records that no run of this code can have made."""

from __future__ import annotations

import attrs
import pytest

from perdure.durable import Duration, durable_execution
from perdure.engine.invocation import Invocation
from perdure.errors import DurableApiErrorCategory, GetExecutionStateError
from perdure.model import InvocationInput, InvocationStatus, OperationStatus, OperationType, StepDetails
from tests.replay.plane import Plane, settings

FAILED = InvocationStatus.FAILED


@pytest.fixture
def plane():
    return Plane()


def replayed(plane, workflow, **changes):
    """One invocation, then another over records that were changed by name."""
    function = durable_execution(workflow)
    plane.finish(Invocation(function, plane.begin(), settings=settings(plane)).run(plane))
    given = plane.begin()
    operations = tuple(
        attrs.evolve(each, **changes[each.name]) if each.name in changes else each for each in given.operations
    )
    given = attrs.evolve(given, operations=operations)
    return Invocation(function, given, settings=settings(plane)).run(plane)


def workflow(_, context):
    value = context.step(lambda _: [1], name="pay")
    context.wait(Duration(60), name="w")
    return value


def test_unreadable_payload(plane):
    """What the serializer cannot read is a SerDesError, not some value."""
    output = replayed(plane, workflow, pay={"step_details": StepDetails(1, None, "{")})
    assert output.status is FAILED
    assert output.error.type == "aws_durable_execution_sdk_python.exceptions.SerDesError"


def test_status_that_no_wait_has(plane):
    """A wait that is over, however it ended, is over; the code goes on."""
    output = replayed(plane, workflow, w={"status": OperationStatus.CANCELLED})
    assert output.status is InvocationStatus.SUCCEEDED


def test_callback_without_an_id(plane):
    """A callback the service gave no id is an error that says so."""

    def with_callback(_, context):
        callback = context.create_callback("cb")
        context.wait(Duration(60))
        return callback.callback_id

    output = replayed(plane, with_callback, cb={"callback_details": None})
    assert (output.status, "no callback id" in output.error.message) == (FAILED, True)


@pytest.mark.parametrize(
    "change",
    [{"operation_type": OperationType.WAIT}, {"sub_type": None}, {"name": "other"}, {"parent_id": "elsewhere"}],
)
def test_another_identity(plane, change):
    """Type, sub type, name and parent are all compared."""
    output = replayed(plane, workflow, pay=change)
    assert output.status is FAILED
    assert output.error.type.endswith("NonDeterministicExecutionError")


def test_an_execution_record_under_another_id(plane):
    """The first operation is the execution, if none has its id."""
    given = plane.begin()
    execution = attrs.evolve(given.operations[0], operation_id="else")
    given = attrs.evolve(given, operations=(execution,))
    assert Invocation(durable_execution(lambda event, _: event), given).run(plane).result == "{}"


def test_no_records_at_all(plane):
    """An input without the execution's record ends the invocation, not the execution."""
    given = InvocationInput(durable_execution_arn=plane.arn, checkpoint_token="t")
    with pytest.raises(GetExecutionStateError):
        Invocation(durable_execution(lambda *_: 1), given).run(plane)


@pytest.mark.parametrize("category", DurableApiErrorCategory)
def test_state_that_cannot_be_read(plane, category):
    """Passing trouble ends the invocation; anything else fails the execution."""
    plane.page_size = 1
    function = durable_execution(workflow)
    plane.finish(Invocation(function, plane.begin(), settings=settings(plane)).run(plane))
    given = plane.begin()
    assert given.next_marker is not None

    def refuse(*_):
        raise GetExecutionStateError("no", category)

    plane.state = refuse
    invocation = Invocation(function, given, settings=settings(plane))
    if category is DurableApiErrorCategory.INVOCATION:
        with pytest.raises(GetExecutionStateError):
            invocation.run(plane)
    else:
        assert invocation.run(plane).status is FAILED


def test_input_that_does_not_fit():
    """A typed workflow whose input cannot be structured fails, and no code of it runs."""

    @attrs.frozen
    class Order:
        amount: int

    ran = []

    def typed(order, _):
        ran.append(order)

    typed.__annotations__ = {"order": Order}
    for text, runs in (('{"amount": 3}', [Order(3)]), ('{"price": 3}', []), ("{", [])):
        ran.clear()
        plane = Plane(text)
        output = Invocation(durable_execution(typed), plane.begin(), settings=settings(plane)).run(plane)
        assert ran == runs
        assert output.status is (InvocationStatus.SUCCEEDED if runs else FAILED)
