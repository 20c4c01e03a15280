"""How AWS's runtime interface client shows what the handler raises."""

from __future__ import annotations

import json
import logging

import pytest
from awslambdaric import bootstrap
from awslambdaric.lambda_runtime_marshaller import LambdaMarshaller

from perdure.durable import durable_execution
from tests.official.web import Reply


class RuntimeApi:
    """Where the client posts what came of an invocation."""

    def __init__(self):
        self.marshaller = LambdaMarshaller()
        self.posted = {}

    def post_invocation_error(self, invoke_id, error, xray_fault, invocation_id):
        self.posted = {"error": json.loads(error), "fault": json.loads(xray_fault)}

    def post_invocation_result(self, invoke_id, result, content_type, invocation_id):
        self.posted = {"result": json.loads(result)}


@durable_execution
def order(event, context):
    return context.step(lambda _: 1, name="pay")


def handled(event):
    """What is posted for an event, and what is logged."""
    runtime = RuntimeApi()
    body = json.dumps(event).encode()
    arn = "arn:aws:lambda:us-west-2:123456789012:function:f"
    deadline = 4_000_000_000_000
    sink = bootstrap.StandardLogSink()
    bootstrap.handle_event_request(
        runtime, order, "id", body, "application/json", None, None, arn, deadline, None, sink
    )
    return runtime.posted


@pytest.fixture(autouse=True)
def _no_logging():
    """Nothing of the client's set-up of logging is needed here."""
    assert not [handler for handler in logging.getLogger().handlers if "Lambda" in type(handler).__name__]


def test_an_answer(service):
    """The output goes out as it is."""
    assert handled(service.event()) == {"result": {"Status": "SUCCEEDED", "Result": "1"}}


def test_trouble_with_the_service(service, capsys):
    """Type and text name what the service said; no token is shown, not in the stack trace either."""
    service.misdeeds.extend([Reply.error(500, "ServiceException", "internal")] * 2)
    event = service.event()
    posted = handled(event)
    assert posted["error"]["errorType"] == "CheckpointError"
    assert "ServiceException" in posted["error"]["errorMessage"]
    assert "internal" in posted["error"]["errorMessage"]
    assert posted["error"]["stackTrace"]
    told = capsys.readouterr().out
    assert told.startswith("[ERROR] CheckpointError: An error occurred (ServiceException)")
    assert event["CheckpointToken"] not in told + json.dumps(posted)


def test_a_function_that_is_not_configured(capsys):
    """Whoever invokes it sees what to do."""
    posted = handled({"name": "World"})
    assert posted["error"]["errorType"] == "ValidationError"
    assert "DurableConfig" in posted["error"]["errorMessage"]
    assert "DurableConfig" in capsys.readouterr().out
