"""The comparison notices it if our side alters one sub type, one error type, or one payload."""

from __future__ import annotations

import pytest

from perdure import errors, model, serdes
from perdure.engine.ids import Identity
from perdure.model import OperationSubType
from tests.aws.operations import WORKFLOWS
from tests.aws.sides import AWS, PERDURE, Run

SUB_TYPES = {
    OperationSubType.STEP: "many",
    OperationSubType.WAIT: "waits",
    OperationSubType.CALLBACK: "callbacks",
    OperationSubType.RUN_IN_CHILD_CONTEXT: "children",
    OperationSubType.MAP: "batch_inputs",
    OperationSubType.MAP_ITERATION: "batch_inputs",
    OperationSubType.PARALLEL: "batch_inputs",
    OperationSubType.PARALLEL_BRANCH: "batch_inputs",
    OperationSubType.WAIT_FOR_CALLBACK: "submitters",
    OperationSubType.WAIT_FOR_CONDITION: "condition_states",
    OperationSubType.CHAINED_INVOKE: "invoke",
}
ERROR_TYPES = {
    errors.StepError: "fails_by_step",
    errors.ChildContextError: "fails_by_child",
    errors.InvokeError: "fails_by_invoke",
    errors.WaitForConditionError: "fails_by_condition",
    errors.CallbackExternalError: "fails_by_callback",
    errors.CallbackTimeoutError: "fails_by_callback_timeout",
    errors.CallbackSubmitterError: "fails_by_submitter",
    errors.SerDesError: "serializer_fails",
    ValueError: "failing_step",
}


def differs(name):
    """Whether our story of a workflow is another than AWS's."""
    ours, theirs = (Run(WORKFLOWS[name]).finish(side).story() for side in (PERDURE, AWS))
    return ours != theirs


@pytest.mark.parametrize("altered", OperationSubType)
def test_a_sub_type(monkeypatch, altered):
    """Each of those that are recorded, with a letter more."""
    name, made = SUB_TYPES[altered], Identity.__init__

    def make(self, operation_id, operation_type, sub_type, *rest, **members):
        made(self, operation_id, operation_type, f"{sub_type}x" if sub_type == altered else sub_type, *rest, **members)

    assert not differs(name)
    monkeypatch.setattr(Identity, "__init__", make)
    assert differs(name)


@pytest.mark.parametrize("altered", ERROR_TYPES, ids=lambda each: each.__name__)
def test_an_error_type(monkeypatch, altered):
    """That of an SDK's error, or of the author's, with a letter more."""
    name, named = ERROR_TYPES[altered], model.wire_name
    assert not differs(name)
    monkeypatch.setattr(model, "wire_name", lambda kind: named(kind) + ("x" if kind is altered else ""))
    assert differs(name)


@pytest.mark.parametrize("name", ["many", "children", "condition_states", "batch_inputs", "invoke"])
def test_a_payload(monkeypatch, name):
    """One of them, with a blank more, which reads as the same value."""
    written, count = serdes.write, []

    def write(*args, **members):
        count.append(None)
        payload = written(*args, **members)
        return f"{payload} " if payload is not None and len(count) == 2 else payload

    assert not differs(name)
    monkeypatch.setattr(serdes, "write", write)
    assert differs(name)
