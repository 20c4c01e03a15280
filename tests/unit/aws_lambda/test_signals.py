"""Pausing, resuming and deleting at AWS, and other answers that its emulator does not give: by AWS's own model."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from perdure.errors import ExecutionNotFoundError, StoreError, ValidationError
from perdure.model import ErrorObject, ExecutionStatus
from tests.unit.aws_lambda.conftest import ARN

THEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=5)))
SUMMARY = {
    "DurableExecutionArn": ARN,
    "DurableExecutionName": "o-1",
    "FunctionArn": "arn:aws:lambda:eu-west-1:123456789012:function:buy",
    "Status": "RUNNING",
    "StartTimestamp": THEN,
}


def listed(stubber, *found):
    """The next answer is that of a list by the name `o-1`."""
    stubber.add_response(
        "list_durable_executions_by_function",
        {"DurableExecutions": list(found)},
        {"FunctionName": "buy", "DurableExecutionName": "o-1"},
    )


def test_pause(stubbed):
    """With its reason, by ARN or name."""
    client, stubber = stubbed
    asked = {"DurableExecutionArn": ARN, "Reason": "lunch", "ExecutionTimeoutPaused": True}
    stubber.add_response("pause_durable_execution", {}, asked)
    client.pause(ARN, "lunch")
    listed(stubber, SUMMARY)
    asked = {"DurableExecutionArn": ARN, "ExecutionTimeoutPaused": False}
    stubber.add_response("pause_durable_execution", {}, asked)
    client.pause("o-1", timeout_paused=False)


def test_resume(stubbed):
    """With its reason."""
    client, stubber = stubbed
    asked = {"DurableExecutionArn": ARN, "Reason": "back"}
    stubber.add_response("resume_durable_execution", {}, asked)
    client.resume(ARN, "back")


def test_delete(stubbed):
    """Answers when it was asked for, in UTC."""
    client, stubber = stubbed
    stubber.add_response("delete_durable_execution", {"DeletionRequestTimestamp": THEN}, {"DurableExecutionArn": ARN})
    asked = client.delete(ARN)
    assert asked == THEN
    assert asked.tzinfo is UTC


def test_a_handle_has_the_same_verbs(stubbed):
    """By its ARN."""
    client, stubber = stubbed
    listed(stubber, SUMMARY)
    handle = client.handle("o-1")
    assert (handle.arn, handle.id, handle.function, handle.version) == (ARN, "e-1", "buy", "3")
    stubber.add_response("pause_durable_execution", {})
    stubber.add_response("resume_durable_execution", {})
    stubber.add_response("delete_durable_execution", {"DeletionRequestTimestamp": THEN})
    handle.pause()
    handle.resume()
    assert handle.delete() == THEN


def test_reasons_are_checked(stubbed):
    """AWS keeps 1024 characters."""
    client, _ = stubbed
    for refused in (client.pause, client.resume):
        with pytest.raises(ValidationError, match="1024"):
            refused(ARN, "x" * 1025)


def test_stop(stubbed):
    """The error is the request's body, or nothing."""
    client, stubber = stubbed
    asked = {"DurableExecutionArn": ARN, "Error": {"ErrorMessage": "enough", "ErrorType": "Enough"}}
    stubber.add_response("stop_durable_execution", {"StopTimestamp": THEN}, asked)
    assert client.stop(ARN, ErrorObject("enough", "Enough")) == THEN
    stubber.add_response("stop_durable_execution", {"StopTimestamp": THEN}, {"DurableExecutionArn": ARN})
    client.stop(ARN)


def test_a_paused_execution_is_described(stubbed):
    """Since when, why, and whether its timeout stands still."""
    client, stubber = stubbed
    details = {"PauseRequestTimestamp": THEN, "Reason": "lunch", "ExecutionTimeoutPaused": True}
    stubber.add_response(
        "get_durable_execution",
        {
            **SUMMARY,
            "Status": "PAUSED",
            "PauseDetails": details,
            "DurableConfig": {"ExecutionTimeout": 60, "RetentionPeriodInDays": 7},
            "ExpectedExecutionTimeoutTimestamp": THEN,
        },
        {"DurableExecutionArn": ARN, "IncludeExecutionData": True},
    )
    found = client.describe(ARN)
    assert found.status is ExecutionStatus.PAUSED
    assert (found.pause.requested, found.pause.reason, found.pause.timeout_paused) == (THEN, "lunch", True)
    assert (found.execution_timeout, found.retention_days, found.deadline) == (60, 7, THEN)
    assert found.version == "3"


def test_pauses_in_a_history(stubbed):
    """Their reasons are plain text, as in the histories of own stores."""
    client, stubber = stubbed
    stubber.add_response(
        "get_durable_execution_history",
        {
            "Events": [
                {
                    "EventType": "ExecutionPaused",
                    "EventId": 1,
                    "EventTimestamp": THEN,
                    "ExecutionPausedDetails": {
                        "PauseRequestTimestamp": THEN,
                        "Reason": {"Payload": "lunch", "Truncated": False},
                        "ExecutionTimeoutPaused": True,
                    },
                },
                {
                    "EventType": "ExecutionResumed",
                    "EventId": 2,
                    "EventTimestamp": THEN,
                    "ExecutionResumedDetails": {"ResumeRequestTimestamp": THEN, "Reason": {"Truncated": True}},
                },
            ]
        },
        {"DurableExecutionArn": ARN, "IncludeExecutionData": False, "MaxItems": 1000},
    )
    paused, resumed = client.history(ARN, include_data=False)
    assert paused.details == {"PauseRequestTimestamp": THEN, "Reason": "lunch", "ExecutionTimeoutPaused": True}
    assert resumed.details == {"ResumeRequestTimestamp": THEN}


def test_the_latest_of_a_name(stubbed):
    """Where a name was used again after its retention, the execution that began last is meant."""
    client, stubber = stubbed
    newer = {**SUMMARY, "DurableExecutionArn": ARN.replace("e-1", "e-2"), "StartTimestamp": THEN + timedelta(days=1)}
    listed(stubber, SUMMARY, newer)
    assert client.handle("o-1").id == "e-2"
    listed(stubber)
    with pytest.raises(ExecutionNotFoundError, match="no execution of 'buy'"):
        client.handle("o-1")


def test_a_result_that_is_not_handed_out(stubbed):
    """It is said, and not taken for None; one that is left out of the first answer is asked for."""
    client, stubber = stubbed
    listed(stubber, SUMMARY)
    handle = client.handle("o-1")
    ended = {**SUMMARY, "Status": "SUCCEEDED", "EndTimestamp": THEN, "ExecutionDataIncluded": False}
    stubber.add_response("get_durable_execution", ended)
    stubber.add_response("get_durable_execution", {**ended, "Result": '"r"', "ExecutionDataIncluded": True})
    assert handle.result() == "r"
    for _ in range(2):
        stubber.add_response("get_durable_execution", ended)
    with pytest.raises(StoreError, match="look at its history"):
        handle.result()


def test_pages_that_are_short(stubbed):
    """A list goes on until it has what was asked for, or there is no more; pages may be empty."""
    client, stubber = stubbed
    other = {**SUMMARY, "DurableExecutionArn": ARN.replace("e-1", "e-2")}
    asked = {"FunctionName": "buy", "MaxItems": 2}
    stubber.add_response(
        "list_durable_executions_by_function", {"DurableExecutions": [SUMMARY], "NextMarker": "m1"}, asked
    )
    asked = {"FunctionName": "buy", "MaxItems": 1, "Marker": "m1"}
    stubber.add_response("list_durable_executions_by_function", {"DurableExecutions": [], "NextMarker": "m2"}, asked)
    asked = {"FunctionName": "buy", "MaxItems": 1, "Marker": "m2"}
    stubber.add_response(
        "list_durable_executions_by_function", {"DurableExecutions": [other], "NextMarker": "m3"}, asked
    )
    page = client.list(limit=2)
    assert [item.id for item in page.items] == ["e-1", "e-2"]
    assert page.next_cursor == "m3"


def test_a_status_of_the_future(stubbed):
    """It is told, not guessed."""
    client, stubber = stubbed
    stubber.add_response("get_durable_execution", {**SUMMARY, "Status": "HIBERNATING"})
    with pytest.raises(StoreError, match="'HIBERNATING', unknown to this version"):
        client.describe(ARN)
