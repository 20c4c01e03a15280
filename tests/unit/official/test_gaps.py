"""What is added to the emulator's histories, and what is left alone."""

from __future__ import annotations

import json

import pytest

from tests.official.gaps import filled
from tests.official.runtime_api import Outcome
from tests.official.trail import Checkpoint, Trail


def event(kind, at, operation=None, **details):
    named = {} if operation is None else {"Id": operation}
    return {"EventType": kind, "EventTimestamp": at, "EventId": 0, **named, **details}


def outcome(begin, end, error=None, request="r"):
    payload = json.dumps(error or {"Status": "PENDING"}).encode()
    return Outcome(payload, request, begin, end, failed=error is not None)


def checkpoint(*updates, token=None, status=200):
    return Checkpoint(updates, token, status, 0.0)


def update(operation, action, **members):
    return {"Id": operation, "Action": action, **members}


def test_invocations_get_their_details_in_their_order():
    """Start, end and request of the clean invocations; those the emulator gives details of keep them."""
    trail = Trail(outcomes=[outcome(1.0, 2.0, request="a"), outcome(3.0, 4.0, request="b")])
    first, second = filled([event("InvocationCompleted", 2.0), event("InvocationCompleted", 4.0)], trail)
    assert first["InvocationCompletedDetails"] == {"StartTimestamp": 1.0, "EndTimestamp": 2.0, "RequestId": "a"}
    assert second["InvocationCompletedDetails"]["RequestId"] == "b"
    known = event("InvocationCompleted", 2.0, InvocationCompletedDetails={"RequestId": "z"})
    assert filled([known], trail) == [{**known, "EventId": 1}]


def test_a_crash_is_an_event_where_it_happened():
    """The missing event has the error and its place by time; the events after it are numbered anew."""
    crash = outcome(1.0, 2.5, {"errorType": "Runtime.ExitError", "errorMessage": "gone"})
    events = [event("ExecutionStarted", 1.0), event("StepStarted", 2.0, "s"), event("StepSucceeded", 3.0, "s")]
    found = filled(events, Trail(outcomes=[crash]))
    assert [(one["EventId"], one["EventType"]) for one in found] == [
        (1, "ExecutionStarted"),
        (2, "StepStarted"),
        (3, "InvocationCompleted"),
        (4, "StepSucceeded"),
    ]
    payload = found[2]["InvocationCompletedDetails"]["Error"]["Payload"]
    assert payload == {"ErrorType": "Runtime.ExitError", "ErrorMessage": "gone"}


def test_a_success_gets_the_number_of_its_attempt():
    """The attempts are the starts so far."""
    events = [event("StepStarted", 1.0, "s"), event("StepFailed", 2.0, "s", StepFailedDetails={"x": 1})]
    events += [event("StepStarted", 3.0, "s"), event("StepSucceeded", 4.0, "s")]
    found = filled(events, Trail())
    assert found[3]["StepSucceededDetails"] == {"RetryDetails": {"CurrentAttempt": 2}}
    assert found[1]["StepFailedDetails"] == {"x": 1}


def test_polls_that_go_on_get_their_states():
    """Each from its own retry; the last has its result from the emulator; a request that was repeated counts once."""
    retries = [update("p", "RETRY", Payload="1"), update("p", "RETRY", Payload="2")]
    trail = Trail(
        checkpoints=[
            checkpoint(retries[0], token="a"),
            checkpoint(retries[0], token="a"),
            checkpoint(update("p", "RETRY", Payload="refused"), token="x", status=400),
            checkpoint(retries[1], token="b"),
            checkpoint(update("p", "SUCCEED", Payload="3"), token="c"),
        ]
    )
    last = {"Result": {"Payload": "3", "Truncated": False}}
    events = [event("StepSucceeded", 1.0, "p"), event("StepSucceeded", 2.0, "p")]
    events += [event("StepSucceeded", 3.0, "p", StepSucceededDetails=last)]
    results = [one["StepSucceededDetails"]["Result"]["Payload"] for one in filled(events, trail)]
    assert results == ["1", "2", "3"]


def test_payloads_that_were_not_asked_for_stay_away():
    """A history without data says `Truncated`, and so it stays."""
    trail = Trail(checkpoints=[checkpoint(update("p", "RETRY", Payload="1"))])
    (found,) = filled([event("StepSucceeded", 1.0, "p", StepSucceededDetails={"Result": {"Truncated": True}})], trail)
    assert found["StepSucceededDetails"]["Result"] == {"Truncated": True}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"TimeoutSeconds": 5, "HeartbeatTimeoutSeconds": 2}, {"Timeout": 5, "HeartbeatTimeout": 2}),
        ({"TimeoutSeconds": 5}, {"Timeout": 5}),
        ({"TimeoutSeconds": 0}, {}),
        ({}, {}),
    ],
)
def test_callbacks_get_the_timeouts_that_were_set(options, expected):
    """Those of the START, when greater than nothing."""
    trail = Trail(checkpoints=[checkpoint(update("c", "START", CallbackOptions=options))])
    (found,) = filled([event("CallbackStarted", 1.0, "c", CallbackStartedDetails={"CallbackId": "i"})], trail)
    assert found["CallbackStartedDetails"] == {"CallbackId": "i", **expected}


def test_chained_invokes_get_version_and_tenant():
    """The tenant only if one was given."""
    trail = Trail(checkpoints=[checkpoint(update("i", "START", ChainedInvokeOptions={"TenantId": "t"}))])
    events = [event("ChainedInvokeStarted", 1.0, "i"), event("ChainedInvokeStarted", 2.0, "j")]
    first, second = (one["ChainedInvokeStartedDetails"] for one in filled(events, trail))
    assert (first, second) == ({"ExecutedVersion": "$LATEST", "TenantId": "t"}, {"ExecutedVersion": "$LATEST"})


def test_nothing_else_is_touched():
    """An event without a gap is as the emulator has written it."""
    events = [
        event("ExecutionStarted", 1.0, "e", ExecutionStartedDetails={"Input": {"Payload": "{}"}}),
        event("WaitStarted", 2.0, "w", WaitStartedDetails={"Duration": 1}),
        event("ContextSucceeded", 3.0, "c", ContextSucceededDetails={"Result": {"Payload": "1"}}),
        event("StepFailed", 4.0, "s", StepFailedDetails={"Error": {}}),
    ]
    assert filled(events, Trail()) == [{**one, "EventId": number} for number, one in enumerate(events, 1)]
