"""What the handler makes of a service that does not answer as it should (protocol.md §6.4)."""

from __future__ import annotations

import json
import pickle
import socket
import time

import pytest
from aws_durable_execution_sdk_python import durable_execution as aws_durable_execution

from perdure.config import InvokeConfig, ParallelConfig
from perdure.durable import Duration, durable_execution
from perdure.errors import BotoClientError, CheckpointError, GetExecutionStateError
from tests.official.web import ConnectionDropped, Reply
from tests.unit.lambda_handler.service import ENVIRONMENT, STALE, LambdaContext

AWS = "aws_durable_execution_sdk_python.exceptions"


def twice(colour, ran):
    """A function of two steps that tells which of them ran."""

    @durable_execution
    def blocking(event, context):
        return [context.step(lambda _, i=i: ran.append(i) or i, name=f"step-{i}") for i in range(2)]

    @durable_execution
    async def awaiting(event, context):
        async def body(_, i):
            ran.append(i)
            return i

        return [await context.step(lambda _, i=i: body(_, i), name=f"step-{i}") for i in range(2)]

    return {"blocking": blocking, "awaiting": awaiting}[colour]


def untold(text, service):
    """Whether a text has no secrets in it."""
    secrets = [ENVIRONMENT["AWS_SECRET_ACCESS_KEY"], "c2VjcmV0", *service.operations]
    return not any(secret in text for secret in secrets[:2])


class TestRepeated:
    """The invocation ends uncleanly, and another one goes on."""

    @pytest.mark.parametrize(
        "reply",
        [
            Reply.error(429, "TooManyRequestsException", "Rate exceeded", {"Retry-After": "1"}),
            Reply.error(500, "ServiceException", "internal"),
            Reply(503, b"<html>busy</html>"),
            Reply(502, b""),
        ],
        ids=["throttled", "fault", "html", "empty"],
    )
    def test_passing_trouble_raises_once_botocore_gives_up(self, reply, colour, service):
        """The error is retryable; what was recorded stays, and the next invocation runs only the rest."""
        ran = []
        function = twice(colour, ran)
        service.misdeeds.extend([None, reply, reply])
        with pytest.raises(CheckpointError) as raised:
            function(service.event(), LambdaContext())
        assert raised.value.is_retryable()
        assert len(service.requests) == 3
        assert ran == [0, 1]
        assert function(service.event(), LambdaContext()) == {"Status": "SUCCEEDED", "Result": "[0, 1]"}
        assert ran == [0, 1, 1]

    def test_trouble_that_passes_is_not_noticed(self, colour, service):
        """One throttled request: botocore sends it again, with the same ClientToken."""
        ran = []
        service.misdeeds.append(Reply.error(429, "TooManyRequestsException", "Rate exceeded", {"Retry-After": "1"}))
        assert twice(colour, ran)(service.event(), LambdaContext())["Result"] == "[0, 1]"
        first, second, third = [request.json()["ClientToken"] for request in service.requests]
        assert first == second != third

    @pytest.mark.parametrize("code", ["InvalidParameterValueException", None])
    def test_a_stale_token_raises(self, code, colour, service):
        """Somebody else has the execution; also told by a service that sends no header with the code."""
        refusal = Reply.error(400, code or "", STALE)
        if code is None:
            refusal = Reply.of(400, {"Type": "InvalidParameterValueException", "message": f"{STALE}: replaced"})
        service.misdeeds.append(refusal)
        with pytest.raises(CheckpointError, match=STALE) as raised:
            twice(colour, [])(service.event(), LambdaContext())
        assert raised.value.is_retryable()
        assert len(service.requests) == 1

    @pytest.mark.parametrize(
        "body",
        [
            b"[]",
            b'"text"',
            b'{"CheckpointToken": 5, "NewExecutionState": {}}',
            b'{"CheckpointToken": "dG9r", "NewExecutionState": {"Operations": [{"Id": "x"}]}}',
            b'{"CheckpointToken": "dG9r", "NewExecutionState": {"Operations": [{"Id": "x", "Type": "NOVEL"}]}}',
            b'{"CheckpointToken": "dG9r", "NewExecutionState": {"Operations": 7}}',
        ],
    )
    def test_an_answer_that_cannot_be_read_raises(self, body, colour, service):
        """Nobody knows what was recorded: another invocation is told."""
        service.misdeeds.extend([Reply(200, body, {"Content-Type": "application/json"})] * 2)
        with pytest.raises(CheckpointError) as raised:
            twice(colour, [])(service.event(), LambdaContext())
        assert raised.value.is_retryable()

    @pytest.mark.parametrize("body", [b"<html>", b"{}", b""])
    def test_an_answer_with_nothing_in_it_is_no_reason_to_go_on(self, body, colour, service):
        """boto3 shows no difference between what is not JSON and a token that is withheld: nothing else is sent."""
        service.misdeeds.append(Reply(200, body, {"Content-Type": "application/json"}))
        ran = []
        function = twice(colour, ran)
        assert function(service.event(), LambdaContext()) == {"Status": "PENDING"}
        assert len(service.requests) == 1
        assert function(service.event(), LambdaContext())["Result"] == "[0, 1]"

    def test_an_endpoint_that_nobody_listens_on_raises(self, colour, service, reach):
        """The error says where it asked, and no token."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        reach(f"http://127.0.0.1:{port}")
        event = service.event()
        with pytest.raises(CheckpointError, match=rf"127\.0\.0\.1:{port}") as raised:
            twice(colour, [])(event, LambdaContext())
        assert raised.value.is_retryable()
        event["InitialExecutionState"]["NextMarker"] = "1"
        with pytest.raises(GetExecutionStateError, match=rf"127\.0\.0\.1:{port}") as raised:
            twice(colour, [])(event, LambdaContext())
        assert untold(str(raised.value), service)
        assert "…" in str(raised.value)

    def test_a_state_that_cannot_be_read_raises(self, colour, service):
        """No user code has run by then."""
        ran = []
        event = service.event()
        event["InitialExecutionState"]["NextMarker"] = "1"
        service.misdeeds.extend([Reply.error(500, "ServiceException", "internal")] * 2)
        with pytest.raises(GetExecutionStateError, match="internal") as raised:
            twice(colour, ran)(event, LambdaContext())
        assert raised.value.is_retryable()
        assert ran == []

    def test_the_error_survives_pickling(self, service):
        """What hosts the handler may hand it to another process."""
        service.misdeeds.extend([Reply.error(500, "ServiceException", "internal")] * 2)
        with pytest.raises(CheckpointError) as raised:
            twice("blocking", [])(service.event(), LambdaContext())
        copy = pickle.loads(pickle.dumps(raised.value))
        assert (type(copy), str(copy), copy.error["Code"]) == (
            CheckpointError,
            str(raised.value),
            "ServiceException",
        )


class TestFinal:
    """The execution fails, as it would with AWS's SDK."""

    @pytest.mark.parametrize(
        ("status", "code", "tried"),
        [
            (400, "InvalidParameterValueException", ""),
            (403, "AccessDeniedException", ""),
            (502, "KMSDisabledException", " (reached max retries: 1)"),
        ],
    )
    def test_a_refusal_fails_the_execution(self, status, code, tried, colour, service):
        """The record of the error is AWS's, and its text is botocore's."""
        service.misdeeds.extend([Reply.error(status, code, "for a reason")] * 2)
        message = (
            f"An error occurred ({code}) when calling the CheckpointDurableExecution operation{tried}: for a reason"
        )
        output = twice(colour, [])(service.event(), LambdaContext())
        assert output == {
            "Status": "FAILED",
            "Error": {"ErrorType": f"{AWS}.CheckpointError", "ErrorMessage": message},
        }

    def test_aws_sdk_records_the_same(self, service):
        """The same refusals, met by AWS's SDK."""

        @aws_durable_execution
        def function(event, context):
            return context.step(lambda _: 1, name="step")

        refusal = Reply.error(403, "AccessDeniedException", "not authorized to perform")
        service.misdeeds.append(refusal)
        theirs = function(service.event(), LambdaContext())
        service.misdeeds.append(refusal)
        assert twice("blocking", [])(service.event(), LambdaContext()) == theirs

    @pytest.mark.parametrize("code", ["ResourceNotFoundException", "InvalidParameterValueException"])
    def test_a_state_that_is_refused_fails_the_execution(self, code, colour, service):
        """Under its own name."""
        event = service.event()
        event["InitialExecutionState"]["NextMarker"] = "1"
        service.misdeeds.append(Reply.error(404, code, "no such thing"))
        output = twice(colour, [])(event, LambdaContext())
        assert (output["Status"], output["Error"]["ErrorType"]) == ("FAILED", f"{AWS}.GetExecutionStateError")

    def test_what_botocore_itself_refuses_fails_the_execution(self, service):
        """Members that no request can have, it would not have in the next invocation either."""

        @durable_execution
        def function(event, context):
            return context.invoke("", {}, name="call")

        output = function(service.event(), LambdaContext())
        assert (output["Status"], output["Error"]["ErrorType"]) == ("FAILED", f"{AWS}.CheckpointError")
        assert "Invalid length for parameter" in output["Error"]["ErrorMessage"]
        assert not service.requests

    def test_what_cannot_be_written_fails_the_execution(self, service):
        """An option that is no text, for example."""

        @durable_execution
        def function(event, context):
            context.invoke("other", {}, name="call", config=InvokeConfig(tenant_id=object()))

        output = function(service.event(), LambdaContext())
        assert (output["Status"], output["Error"]["ErrorType"]) == ("FAILED", f"{AWS}.CheckpointError")
        assert "is no text" in output["Error"]["ErrorMessage"]

    def test_texts_may_be_of_classes_of_the_authors(self, service):
        """They are sent as what they are."""

        class Markup(str):
            __slots__ = ()

        @durable_execution
        def function(event, context):
            return context.step(lambda _: Markup("x"), name=Markup("step"))

        assert function(service.event(), LambdaContext())["Result"] == '"x"'
        assert [each["Name"] for each in service.updates] == ["step", "step"]


class TestALostCancel:
    def test_a_timeout_that_has_just_passed_does_no_harm(self, colour, service):
        """The wait of a batch's timeout ends before the CANCEL arrives: the batch is recorded without it."""

        def ended(request, serve):
            if any(update["Action"] == "CANCEL" for update in request.json()["Updates"]):
                message = "Cannot cancel a WAIT that does not exist or has already completed."
                return Reply.error(400, "InvalidParameterValueException", message)
            return serve()

        service.misdeeds.extend([ended] * 10)
        config = ParallelConfig(timeout=Duration.from_seconds(5))

        @durable_execution
        def blocking(event, context):
            return context.parallel([lambda inner: inner.step(lambda _: 1)], config=config).get_results()

        @durable_execution
        async def awaiting(event, context):
            async def branch(inner):
                return await inner.step(lambda _: 1)

            return (await context.parallel([branch], config=config)).get_results()

        function = {"blocking": blocking, "awaiting": awaiting}[colour]
        assert function(service.event(), LambdaContext()) == {"Status": "SUCCEEDED", "Result": "[1]"}


class TestRepliesLost:
    def test_what_was_accepted_has_its_effect_once(self, colour, service):
        """The reply of each request is lost once: sent again with the same ClientToken, it is answered again."""

        def lost(request, serve):
            serve()
            raise ConnectionDropped

        service.misdeeds.extend([lost, None] * 10)
        ran = []
        assert twice(colour, ran)(service.event(), LambdaContext())["Result"] == "[0, 1]"
        assert ran == [0, 1]
        tokens = [request.json()["ClientToken"] for request in service.requests]
        assert tokens[0::2] == tokens[1::2]
        assert len(set(tokens)) == len(tokens) // 2
        attempts = [each["StepDetails"]["Attempt"] for each in service.operations.values() if "StepDetails" in each]
        assert attempts == [1, 1]


class TestTime:
    @pytest.mark.parametrize("mode", ["legacy", "standard"])
    def test_no_retry_outlives_the_invocation(self, mode, colour, service, monkeypatch):
        """With much patience configured and little time left, the last error is raised in time."""
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "12")
        monkeypatch.setenv("AWS_RETRY_MODE", mode)
        service.misdeeds.extend([Reply.error(429, "TooManyRequestsException", "Rate exceeded")] * 100)
        began = time.monotonic()
        with pytest.raises(CheckpointError, match="Rate exceeded") as raised:
            twice(colour, [])(service.event(), LambdaContext(4))
        assert time.monotonic() - began < 4
        assert raised.value.is_retryable()
        assert 1 < len(service.requests) < 12

    def test_nor_does_one_of_a_connection(self, service, monkeypatch, reach):
        """The same where nobody answers at all."""
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "12")
        reach("http://127.0.0.1:9")
        began = time.monotonic()
        with pytest.raises(BotoClientError, match=r"127\.0\.0\.1:9"):
            twice("blocking", [])(service.event(), LambdaContext(3))
        assert time.monotonic() - began < 3


def test_a_service_that_withdraws_the_token_is_obeyed(colour, service):
    """§6.3: what was accepted stands, nothing else is sent, and the invocation is PENDING."""
    ran = []
    function = twice(colour, ran)
    service.withdraws = True
    assert function(service.event(), LambdaContext()) == {"Status": "PENDING"}
    assert len(service.requests) == 1
    service.withdraws = False
    assert function(service.event(), LambdaContext())["Result"] == "[0, 1]"
    assert ran == [0, 1]
    json.dumps(service.event())
