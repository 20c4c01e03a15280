"""Operations whose outcome nobody asks for, in `def` workflows."""

from __future__ import annotations

import pytest

from perdure.durable import CallbackExternalError, Duration, durable_execution
from perdure.model import ErrorObject, InvocationStatus
from tests.replay.plane import Plane, execute, invoke


@pytest.fixture
def plane():
    return Plane()


def test_a_callback_nobody_asks_for(plane):
    """An execution may end with an open callback."""

    @durable_execution
    def workflow(_, context):
        return context.create_callback("cb").callback_id

    assert invoke(workflow, plane).status is InvocationStatus.SUCCEEDED
    assert plane.statuses() == {"cb": "STARTED"}


def test_a_failed_callback_nobody_asks_for(plane):
    """Its failure is not raised."""

    @durable_execution
    def workflow(_, context):
        context.create_callback("cb")
        context.wait(Duration(5))
        return "end"

    output = execute(workflow, plane, pending=lambda _: plane.complete("cb", error=ErrorObject("no")))
    assert output.result == '"end"'


def test_a_result_asked_for_twice(plane):
    """It is the same both times, failure as result."""

    @durable_execution
    def workflow(_, context):
        good, bad = context.create_callback("good"), context.create_callback("bad")
        for _ in range(2):
            with pytest.raises(CallbackExternalError, match="no"):
                bad.result()
        return [good.result(), good.result()]

    def pending(_):
        if plane.statuses()["good"] == "STARTED":
            plane.complete("good", "x")
            plane.complete("bad", error=ErrorObject("no"))

    assert execute(workflow, plane, pending=pending).result == '["x", "x"]'
