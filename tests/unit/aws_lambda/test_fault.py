"""Failed calls of AWS as errors of the client."""

from __future__ import annotations

import socket
import threading

import pytest

from perdure.client import Client
from perdure.errors import (
    CallbackClosedError,
    CallbackNotFoundError,
    ExecutionAlreadyStartedError,
    ExecutionConflictError,
    ExecutionNotFoundError,
    FunctionNotFoundError,
    StoreError,
    StoreUnavailableError,
    ValidationError,
)
from perdure.model import ErrorObject
from perdure.nonce import nonce
from tests.official.web import Reply
from tests.unit.aws_lambda.conftest import ARN, open_callback, until

SECRET = "c2VjcmV0LWlkLW9mLWEtY2FsbGJhY2s="

CALLS = {
    "get_durable_execution": lambda client: client.describe(ARN),
    "get_durable_execution_history": lambda client: client.history(ARN),
    "invoke": lambda client: client.start("buy", {}),
    "list_durable_executions_by_function": lambda client: client.list("buy"),
    "stop_durable_execution": lambda client: client.stop(ARN, ErrorObject("enough")),
    "pause_durable_execution": lambda client: client.pause(ARN, "lunch"),
    "resume_durable_execution": lambda client: client.resume(ARN),
    "delete_durable_execution": lambda client: client.delete(ARN),
    "send_durable_execution_callback_success": lambda client: client.send_callback_success(SECRET, "ok"),
    "send_durable_execution_callback_failure": lambda client: client.send_callback_failure(SECRET),
    "send_durable_execution_callback_heartbeat": lambda client: client.send_callback_heartbeat(SECRET),
}
CALLBACKS = [name for name in CALLS if "callback" in name]
EXECUTIONS = [
    name for name in CALLS if "callback" not in name and name not in {"invoke", "list_durable_executions_by_function"}
]
SIGNALS = ["pause_durable_execution", "resume_durable_execution", "delete_durable_execution"]

ANSWERS = [
    *((call, "ResourceNotFoundException", 404, ExecutionNotFoundError, "retention") for call in EXECUTIONS),
    *((call, "404", 404, ExecutionNotFoundError, "retention") for call in EXECUTIONS),
    *((call, "ResourceNotFoundException", 404, CallbackNotFoundError, "no open callback") for call in CALLBACKS),
    *((call, "404", 404, CallbackNotFoundError, "no open callback") for call in CALLBACKS),
    *((call, "CallbackTimeoutException", 400, CallbackClosedError, "completed already") for call in CALLBACKS),
    *((call, "408", 408, CallbackClosedError, "completed already") for call in CALLBACKS),
    *((call, "ResourceConflictException", 409, ExecutionConflictError, "does not allow") for call in SIGNALS),
    *((call, "409", 409, ExecutionConflictError, "does not allow") for call in SIGNALS),
    ("invoke", "ResourceNotFoundException", 404, FunctionNotFoundError, "'buy:live'"),
    ("list_durable_executions_by_function", "404", 404, FunctionNotFoundError, "'buy'"),
    ("invoke", "DurableExecutionAlreadyStartedException", 409, ExecutionAlreadyStartedError, "another input"),
    ("invoke", "409", 409, ExecutionAlreadyStartedError, "another input"),
    ("invoke", "ResourceConflictException", 409, StoreUnavailableError, "is being changed"),
    ("invoke", "RequestTooLargeException", 413, ValidationError, "pass a reference"),
    *((call, "InvalidParameterValueException", 400, ValidationError, "words of AWS") for call in CALLS),
    *((call, "400", 400, ValidationError, "words of AWS") for call in CALLS),
    *((call, "TooManyRequestsException", 429, StoreUnavailableError, "words of AWS") for call in CALLS),
    *((call, "429", 429, StoreUnavailableError, "words of AWS") for call in CALLS),
    *((call, "ServiceException", 500, StoreUnavailableError, "words of AWS") for call in CALLS),
    *((call, "503", 503, StoreUnavailableError, "words of AWS") for call in CALLS),
    *((call, "KMSDisabledException", 502, StoreError, "see to the key") for call in CALLS),
    *((call, "AccessDeniedException", 403, StoreError, "allows lambda:") for call in CALLS),
    *((call, "ExpiredTokenException", 403, StoreError, "check the credentials") for call in CALLS),
]


@pytest.mark.parametrize(("call", "code", "status", "error", "message"), ANSWERS)
def test_answers(stubbed, call, code, status, error, message):
    """By code, or by status where a service omits the code, and by what was asked; no callback id is told."""
    client, stubber = stubbed
    stubber.add_client_error(call, code, f"words of AWS about {SECRET}", http_status_code=status)
    with pytest.raises(error, match=message) as told:
        CALLS[call](client)
    assert type(told.value) is error
    if call in CALLBACKS:
        assert SECRET not in str(told.value)
        assert told.value.__cause__ is None


def test_what_may_succeed_later(stubbed):
    """Throttling and faults of the service are retryable, keys and permissions are not."""
    client, stubber = stubbed
    for code, status, retryable in (
        ("TooManyRequestsException", 429, True),
        ("ServiceException", 500, True),
        ("KMSAccessDeniedException", 502, False),
        ("AccessDeniedException", 403, False),
    ):
        stubber.add_client_error("get_durable_execution", code, "no", http_status_code=status)
        with pytest.raises(StoreError) as told:
            client.describe(ARN)
        assert told.value.retryable is retryable


def test_what_aws_does_not_take():
    """Its own model refuses it before anything is sent."""
    with (
        Client("lambda://buy?region=eu-west-1") as client,
        pytest.raises(ValidationError, match=r"what AWS does not take: .*ExecutionTimeoutPaused"),
    ):
        client.pause(ARN, timeout_paused="maybe")


def test_what_is_no_callback_id(stubbed):
    """As with own stores: it is not found."""
    client, _ = stubbed
    for bad in ("", "x" * 1025):
        with pytest.raises(CallbackNotFoundError, match="not a callback id"):
            client.send_callback_success(bad)


def test_nobody_listens():
    """The endpoint is named, the callback's id is not."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    with Client(f"lambda://buy?region=eu-west-1&endpoint_url=http://127.0.0.1:{port}") as client:
        with pytest.raises(StoreUnavailableError, match=f"does not answer GetDurableExecution: .*127.0.0.1:{port}"):
            client.describe(ARN)
        with pytest.raises(StoreUnavailableError, match="SendDurableExecutionCallbackSuccess") as told:
            client.send_callback_success(SECRET)
    assert SECRET not in str(told.value)
    assert SECRET.replace("=", "%3D") not in str(told.value)


def test_nobody_is_known(monkeypatch):
    """Without credentials all remedies are named, and no secret is."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with Client("lambda://buy?region=eu-west-1") as client:
        with pytest.raises(StoreError, match=r"AWS_ACCESS_KEY_ID.*\?profile=") as told:
            client.describe(ARN)
        assert not told.value.retryable
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    with Client("lambda://buy?region=eu-west-1&endpoint_url=http://127.0.0.1:9") as client:
        with pytest.raises(StoreUnavailableError) as told:
            client.describe(ARN)
        assert "hunter2" not in repr(told.value)


@pytest.mark.parametrize("operation", ["PauseDurableExecution", "ResumeDurableExecution", "DeleteDurableExecution"])
def test_an_older_boto3(stubbed, monkeypatch, operation):
    """What it does not know is told with its version, and one that does."""
    client, _ = stubbed
    method = {"P": "pause", "R": "resume", "D": "delete"}[operation[0]]
    monkeypatch.delattr(type(client._desk._api._client), f"{method}_durable_execution")
    with pytest.raises(StoreError, match=rf"boto3 [\d.]+ does not know {operation}; pip install --upgrade 'boto3>=1"):
        getattr(client, method)(ARN)


def test_a_throttled_call_is_repeated(cloud, url, monkeypatch):
    """boto3 waits and asks again; what lasts is told as unavailable."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    refusals = []
    original = cloud.front.around

    def throttling(call, forward):
        if call.operation == "GetDurableExecution" and len(refusals) < 2:
            refusals.append(call)
            return Reply.error(429, "TooManyRequestsException", "slow down")
        return forward(call)

    with Client(url) as client:
        handle = client.start("buy_async", {"article": "pen"})
        monkeypatch.setattr(cloud.front, "around", throttling)
        try:
            assert handle.describe().arn == handle.arn
        finally:
            cloud.front.around = original
    assert len(refusals) == 2


def test_an_outage_while_somebody_waits(cloud, url, monkeypatch):
    """It is waited out, and the result comes; who comes during it is told at once."""
    outage = threading.Event()
    original = cloud.front.around

    def failing(call, forward):
        if call.operation == "GetDurableExecution":
            if outage.is_set():
                seen.append(call)
                return Reply.error(500, "ServiceException", "down")
            looked.append(call)
        return forward(call)

    looked, seen, results = [], [], []
    with Client(url) as client:
        handle = client.start("buy_async", {"article": "pen"}, name=f"o-{nonce()}")
        held = client.start("ask")
        waiting = threading.Thread(target=lambda: results.append(held.result(timeout=30)))
        cloud.front.around = failing
        try:
            waiting.start()
            # It has been told once that the execution goes on.
            until(lambda: len(looked) >= 2)
            outage.set()
            until(lambda: len(seen) >= 2)
            with pytest.raises(StoreUnavailableError, match="down"):
                handle.result(timeout=30)
            outage.clear()
        finally:
            cloud.front.around = original
        client.send_callback_success(open_callback(held), "yes")
        waiting.join(30)
    assert results == ["yes"]


def test_an_outage_right_after_the_end(stubbed):
    """What somebody has waited for is fetched as patiently as it was waited for."""
    client, stubber = stubbed
    told = {
        "DurableExecutionArn": ARN,
        "DurableExecutionName": "o-1",
        "FunctionArn": ARN.partition("/")[0],
        "StartTimestamp": 1.0,
        "Status": "SUCCEEDED",
    }
    without_data = {"DurableExecutionArn": ARN, "IncludeExecutionData": False}
    stubber.add_response("get_durable_execution", told, without_data)
    stubber.add_response("get_durable_execution", told, without_data)
    stubber.add_client_error("get_durable_execution", "ServiceException", http_status_code=500)
    stubber.add_response("get_durable_execution", {**told, "Result": '"done"', "ExecutionDataIncluded": True})
    assert client.handle(ARN).result(timeout=5) == "done"
