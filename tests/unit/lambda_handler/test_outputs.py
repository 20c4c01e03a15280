"""What the handler answers (protocol.md §4.2), and what it records before."""

from __future__ import annotations

import json
import subprocess
import sys

import boto3
import pytest

from perdure.config import StepConfig
from perdure.durable import Duration, durable_execution
from perdure.engine.settings import PAYLOAD_LIMIT, RESULT_INLINE_LIMIT
from perdure.errors import CheckpointError, InvocationError
from perdure.retries import RetryPresets
from tests.official.web import Reply
from tests.unit.lambda_handler.service import LambdaContext

AWS = "aws_durable_execution_sdk_python.exceptions"
LARGE = "x" * (RESULT_INLINE_LIMIT + 1)


def returning(colour, value):
    """A function that returns `value`."""

    @durable_execution
    def blocking(event, context):
        return value

    @durable_execution
    async def awaiting(event, context):
        return value

    return {"blocking": blocking, "awaiting": awaiting}[colour]


class TestResults:
    @pytest.mark.parametrize("value", [None, 0, "ä", [1, {"a": None}], {"b": 1.5}])
    def test_a_result_is_json(self, value, colour, service):
        """And without any operation nothing is asked of the service."""
        output = returning(colour, value)(service.event(), LambdaContext())
        assert output == {"Status": "SUCCEEDED", "Result": json.dumps(value)}
        assert not service.requests

    @pytest.mark.parametrize(
        "value", [object(), {1, 2}, {(1, 2): 3}, b"bytes"], ids=["object", "set", "tuple key", "bytes"]
    )
    def test_a_result_that_is_no_json_fails_the_execution(self, value, colour, service):
        """The error names the function and the remedy."""
        output = returning(colour, value)(service.event(), LambdaContext())
        assert (output["Status"], output["Error"]["ErrorType"]) == ("FAILED", f"{AWS}.SerDesError")
        assert "cannot be written as JSON" in output["Error"]["ErrorMessage"]

    def test_a_large_result_is_recorded_first(self, colour, service):
        """§10.7: EXECUTION SUCCEED with all of it, then an empty result."""
        output = returning(colour, LARGE)(service.event(), LambdaContext())
        assert output == {"Status": "SUCCEEDED", "Result": ""}
        assert (service.outcome["Action"], json.loads(service.outcome["Payload"])) == ("SUCCEED", LARGE)

    def test_what_grows_in_the_output_counts_as_large(self, colour, service):
        """A result is JSON within the output's JSON: every quote in it takes two bytes there."""
        words = ["a"] * (RESULT_INLINE_LIMIT // 6)
        assert len(json.dumps(words)) < RESULT_INLINE_LIMIT
        output = returning(colour, words)(service.event(), LambdaContext())
        assert output == {"Status": "SUCCEEDED", "Result": ""}
        assert json.loads(service.outcome["Payload"]) == words
        few = words[: RESULT_INLINE_LIMIT // 8]
        output = returning(colour, few)(service.event(), LambdaContext())
        assert json.loads(output["Result"]) == few
        assert len(json.dumps(output)) < RESULT_INLINE_LIMIT + 50

    def test_a_large_error_is_recorded_first(self, colour, service):
        """The same with EXECUTION FAIL, then FAILED without an error."""

        @durable_execution
        def blocking(event, context):
            raise ValueError(LARGE)

        @durable_execution
        async def awaiting(event, context):
            raise ValueError(LARGE)

        function = {"blocking": blocking, "awaiting": awaiting}[colour]
        assert function(service.event(), LambdaContext()) == {"Status": "FAILED"}
        assert (service.outcome["Action"], service.outcome["Error"]["ErrorType"]) == ("FAIL", "ValueError")

    def test_a_large_result_that_cannot_be_recorded(self, colour, service):
        """Trouble that passes raises, a refusal fails the execution."""
        function = returning(colour, LARGE)
        service.misdeeds.extend([Reply.error(500, "ServiceException", "internal")] * 2)
        with pytest.raises(CheckpointError):
            function(service.event(), LambdaContext())
        service.misdeeds.append(Reply.error(400, "InvalidParameterValueException", "too large"))
        output = function(service.event(), LambdaContext())
        assert (output["Status"], output["Error"]["ErrorType"]) == ("FAILED", f"{AWS}.CheckpointError")

    def test_an_error_fails_the_execution(self, colour, service):
        """With its class and text."""

        @durable_execution
        def blocking(event, context):
            raise LookupError("no card")

        @durable_execution
        async def awaiting(event, context):
            raise LookupError("no card")

        function = {"blocking": blocking, "awaiting": awaiting}[colour]
        expected = {"Status": "FAILED", "Error": {"ErrorType": "LookupError", "ErrorMessage": "no card"}}
        assert function(service.event(), LambdaContext()) == expected


class TestPayloads:
    def test_one_that_is_too_large_fails_its_step(self, colour, service):
        """It names size and limit, and the step is not repeated whatever its strategy says."""
        ran = []

        def body(_):
            ran.append(1)
            return "x" * PAYLOAD_LIMIT

        config = StepConfig(retry_strategy=RetryPresets.default())

        @durable_execution
        def blocking(event, context):
            return context.step(body, name="big", config=config)

        @durable_execution
        async def awaiting(event, context):
            return await context.step(body, name="big", config=config)

        function = {"blocking": blocking, "awaiting": awaiting}[colour]
        output = function(service.event(), LambdaContext())
        assert output["Status"] == "FAILED"
        assert str(PAYLOAD_LIMIT) in output["Error"]["ErrorMessage"]
        assert [update["Action"] for update in service.updates] == ["START", "FAIL"]
        assert function(service.event(), LambdaContext()) == output
        assert len(ran) == 1

    def test_one_of_a_mebibyte_travels(self, colour, service):
        """The largest there may be."""
        text = "x" * (PAYLOAD_LIMIT - 2)

        @durable_execution
        def blocking(event, context):
            return len(context.step(lambda _: text))

        @durable_execution
        async def awaiting(event, context):
            return len(await context.step(lambda _: text))

        function = {"blocking": blocking, "awaiting": awaiting}[colour]
        assert function(service.event(), LambdaContext())["Result"] == str(len(text))


class TestPending:
    def test_a_wait_is_pending(self, colour, service):
        """Something is outstanding."""

        @durable_execution
        def blocking(event, context):
            context.wait(Duration.from_days(1))

        @durable_execution
        async def awaiting(event, context):
            await context.wait(Duration.from_days(1))

        function = {"blocking": blocking, "awaiting": awaiting}[colour]
        assert function(service.event(), LambdaContext()) == {"Status": "PENDING"}
        service.requests.clear()
        assert function(service.event(), LambdaContext()) == {"Status": "PENDING"}
        assert not service.requests

    def test_pending_with_nothing_outstanding_raises(self, colour, service):
        """A wait that the service ends while it answers, and tells so only next time: none would be invoked again."""

        @durable_execution
        def blocking(event, context):
            context.wait(Duration.from_days(1))

        @durable_execution
        async def awaiting(event, context):
            await context.wait(Duration.from_days(1))

        def as_context(request, serve):
            # Nothing but a broken service does this: the operation comes back as one that is never outstanding.
            answer = serve().json()
            (operation,) = answer["NewExecutionState"]["Operations"]
            operation["Status"] = "READY"
            return Reply.of(200, answer)

        service.misdeeds.append(as_context)
        function = {"blocking": blocking, "awaiting": awaiting}[colour]
        with pytest.raises(InvocationError, match="no operation of it is outstanding") as raised:
            function(service.event(), LambdaContext())
        assert raised.value.is_retryable()


class TestSetUp:
    def test_without_a_region_the_error_says_so(self, service, monkeypatch):
        """As botocore has it: the invocation is repeated, for a deployment may mend it."""
        monkeypatch.delenv("AWS_REGION")
        monkeypatch.delenv("AWS_DEFAULT_REGION")
        with pytest.raises(InvocationError, match="You must specify a region"):
            returning("blocking", 1)(service.event(), LambdaContext())

    def test_a_client_that_is_given_is_used(self, service, monkeypatch):
        """`boto3_client=` instead of the process's own."""
        monkeypatch.delenv("AWS_ENDPOINT_URL_LAMBDA")
        given = boto3.client("lambda", endpoint_url=service.url)

        @durable_execution(boto3_client=given)
        def function(event, context):
            return context.step(lambda _: 1)

        assert function(service.event(), LambdaContext())["Result"] == "1"
        given.close()

    def test_lambda_may_give_no_context(self, service):
        """As in a test of the author's."""
        assert returning("blocking", 1)(service.event(), None)["Result"] == "1"

    def test_without_boto3_the_error_names_the_extra(self):
        """Only when a function is invoked; everything else of Perdure works without it."""
        code = """
import sys
sys.modules["botocore"] = None
from perdure.durable import durable_execution
from perdure.errors import DurableExecutionsError
from tests.unit.lambda_handler.service import LambdaContext, Service
with Service() as service:
    try:
        durable_execution(lambda event, context: 1)(service.event(), LambdaContext())
    except DurableExecutionsError as error:
        print(error)
"""
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert "pip install 'perdure[lambda]'" in told
