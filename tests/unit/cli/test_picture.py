"""What people see of executions, operations and durations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from perdure.adapters.cli import document, picture
from perdure.client import ExecutionSummary
from perdure.model import (
    CallbackDetails,
    ErrorObject,
    Event,
    ExecutionStatus,
    Operation,
    OperationStatus,
    OperationType,
    StepDetails,
    WaitDetails,
)

START = datetime(2026, 1, 2, 3, 4, 5, 678_901, UTC)


def printed(renderable: object) -> list[str]:
    """Its lines on a wide console without colours."""
    console = Console(width=300, color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    return [line.rstrip() for line in capture.get().splitlines()]


def operation(
    id: str,
    type: OperationType = OperationType.STEP,
    status: OperationStatus = OperationStatus.SUCCEEDED,
    **fields: object,
) -> Operation:
    """An operation that took 250 ms, if it has ended."""
    ended = {"end_timestamp": START + timedelta(milliseconds=250)} if status is OperationStatus.SUCCEEDED else {}
    return Operation(
        operation_id=id,
        operation_type=type,
        status=status,
        start_timestamp=START,
        **{"name": id, **ended, **fields},  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(), "0 ms"),
        (timedelta(microseconds=999), "0 ms"),
        (timedelta(microseconds=-5), "0 ms"),
        (timedelta(milliseconds=12.9), "12 ms"),
        (timedelta(seconds=1), "1.0 s"),
        (timedelta(seconds=59.9), "59.9 s"),
        (timedelta(seconds=200), "3 min 20 s"),
        (timedelta(hours=25), "1 d 1 h"),
        (timedelta(minutes=90), "1 h 30 min"),
    ],
)
def test_durations_are_told_in_their_two_largest_units(duration: timedelta, text: str) -> None:
    """A duration is as exact as a person wants to know."""
    assert picture.span(duration) == text


def test_instants_are_told_to_the_millisecond_in_utc() -> None:
    """Whatever zone an instant is in."""
    assert picture.moment(START) == "2026-01-02 03:04:05.678Z"


def test_operations_stand_below_their_contexts() -> None:
    """The tree nests by parent, keeps the order of starts, and leaves the execution itself out."""
    tree = picture.tree(
        "o-17",
        [
            operation("root", OperationType.EXECUTION, OperationStatus.STARTED),
            operation("group", OperationType.CONTEXT, sub_type="Parallel"),
            operation("left", OperationType.CONTEXT, sub_type="ParallelBranch", parent_id="group"),
            operation("inner", parent_id="left"),
            operation("after"),
        ],
    )
    assert printed(tree) == [
        "o-17",
        "├── ✓ group  Parallel  SUCCEEDED  250 ms",
        "│   └── ✓ left  ParallelBranch  SUCCEEDED  250 ms",
        "│       └── ✓ inner  STEP  SUCCEEDED  250 ms",
        "└── ✓ after  STEP  SUCCEEDED  250 ms",
    ]


def test_an_operation_whose_context_was_not_loaded_is_shown_at_the_top() -> None:
    """Nothing that is known is left out."""
    assert printed(picture.tree("x", [operation("orphan", parent_id="gone")]))[1:] == [
        "└── ✓ orphan  STEP  SUCCEEDED  250 ms"
    ]


def test_a_line_tells_what_one_waits_for() -> None:
    """Attempts, due times and errors are told where they say how it goes on; callback ids have lines of their own."""
    due = START + timedelta(days=1)
    error = ErrorObject("no\nluck", "ValueError")
    retried = operation(
        "retried", status=OperationStatus.PENDING, step_details=StepDetails(1, next_attempt_timestamp=due, error=error)
    )
    waiting = operation("w", OperationType.WAIT, OperationStatus.STARTED, wait_details=WaitDetails(due))
    asked = operation("c", OperationType.CALLBACK, OperationStatus.STARTED, callback_details=CallbackDetails("aWQ="))
    running = operation("again", status=OperationStatus.STARTED, step_details=StepDetails(1, error=error))
    _, first, second, third, fourth = printed(picture.tree("x", [retried, waiting, asked, running]))
    assert "attempt 1" in first
    assert "until 2026-01-03 03:04:05.678Z" in first
    assert first.endswith("ValueError: no luck")
    assert second.endswith("until 2026-01-03 03:04:05.678Z")
    assert third.startswith("├── ▸ c ")
    assert list(picture.open_callbacks([retried, waiting, asked])) == ["waits for: perdure callback success aWQ="]
    assert "attempt 2" in fourth


def test_names_are_not_taken_for_markup() -> None:
    """Square brackets in users' names are printed as they are."""
    assert printed(picture.tree("[bold]x", [operation("[red]y")]))[1].startswith("└── ✓ [red]y ")
    event = Event(event_id=1, event_type="StepStarted", event_timestamp=START, name="[red]y", details={"Result": "[/]"})
    assert printed(picture.events([event]))[1].endswith("StepStarted  [red]y  Result [/]")


def test_details_of_events_are_one_line() -> None:
    """Payloads and errors are unwrapped, what was left out says so."""
    details = {
        "Input": {"Payload": '{"a": 1}', "Truncated": False},
        "Result": {"Truncated": True},
        "Error": {"Payload": {"ErrorType": "ValueError", "ErrorMessage": "no\nluck"}, "Truncated": False},
        "RetryDetails": {"CurrentAttempt": 1, "NextAttemptDelaySeconds": 5},
        "ScheduledEndTimestamp": START,
    }
    event = Event(event_id=1, event_type="Any", event_timestamp=START, details=details)
    assert printed(picture.events([event]))[1].endswith(
        'Input {"a": 1}, Result (left out), Error ValueError: no luck, '
        "RetryDetails CurrentAttempt 1 NextAttemptDelaySeconds 5, ScheduledEndTimestamp 2026-01-02 03:04:05.678Z"
    )


def test_long_texts_are_cut() -> None:
    """A text takes at most a hundred characters of a line."""
    assert picture.shortened("x" * 100) == "x" * 100
    assert picture.shortened("x" * 101) == "x" * 99 + "…"


def test_a_list_shows_what_is_quarantined() -> None:
    """It runs only by its status; somebody has to resume it."""
    fields = {
        "arn": "arn:x/durable-execution/n/i",
        "name": "n",
        "function": "f",
        "version": "1",
        "status": ExecutionStatus.RUNNING,
        "started": START,
        "ended": None,
        "due": None,
    }
    found = [ExecutionSummary(id=name, quarantined=name == "poisoned", **fields) for name in ("sound", "poisoned")]  # type: ignore[arg-type]
    _, sound, poisoned = printed(picture.executions(found))
    assert "RUNNING, quarantined" in poisoned
    assert "quarantined" not in sound
    assert [document.summary(each).get("Quarantined") for each in found] == [None, True]
