"""What `--json` prints."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from perdure.adapters.cli import document
from perdure.model import Event, Operation, OperationStatus, OperationType, WaitDetails

START = datetime(2026, 1, 2, 3, 4, 5, 678_901, UTC)


def test_instants_are_iso_8601_in_utc() -> None:
    """Whatever zone an instant is in, microseconds are kept."""
    assert document.instant(START) == "2026-01-02T03:04:05.678901+00:00"
    assert document.instant(START.astimezone(timezone(timedelta(hours=5)))) == "2026-01-02T03:04:05.678901+00:00"
    assert document.instant(None) is None


def test_operations_have_the_wires_members() -> None:
    """Operations are as in GetDurableExecutionState, but for their instants."""
    wait = Operation(
        operation_id="a",
        operation_type=OperationType.WAIT,
        status=OperationStatus.STARTED,
        start_timestamp=START,
        name="month",
        wait_details=WaitDetails(START + timedelta(days=30)),
    )
    assert document.operations([wait]) == [
        {
            "Id": "a",
            "Type": "WAIT",
            "Status": "STARTED",
            "StartTimestamp": "2026-01-02T03:04:05.678901+00:00",
            "Name": "month",
            "WaitDetails": {"ScheduledEndTimestamp": "2026-02-01T03:04:05.678901+00:00"},
        }
    ]


def test_events_have_the_wires_members() -> None:
    """Events are as in GetDurableExecutionHistory, but for their instants; other numbers stay numbers."""
    event = Event(
        event_id=3,
        event_type="WaitStarted",
        event_timestamp=START,
        operation_id="a",
        name="month",
        details={"Duration": 5, "ScheduledEndTimestamp": START + timedelta(seconds=5)},
    )
    assert document.events([event]) == [
        {
            "EventId": 3,
            "EventType": "WaitStarted",
            "EventTimestamp": "2026-01-02T03:04:05.678901+00:00",
            "Id": "a",
            "Name": "month",
            "WaitStartedDetails": {"Duration": 5, "ScheduledEndTimestamp": "2026-01-02T03:04:10.678901+00:00"},
        }
    ]
