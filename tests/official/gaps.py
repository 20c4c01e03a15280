"""
What the emulator (1.4.0) leaves out of histories, added from what passed through the endpoint.

The service tells these, the suite asks for them, and the emulator omits them (protocol.md §14, rows 1 to 7):

1. `InvocationCompletedDetails` of every InvocationCompleted
2. the InvocationCompleted of an invocation that crashed, timed out or raised
3. `RetryDetails` of StepSucceeded
4. the state in the StepSucceeded of a poll that goes on
5. `Timeout` and `HeartbeatTimeout` of CallbackStarted
6. `ExecutedVersion` of ChainedInvokeStarted
7. `TenantId` of ChainedInvokeStarted

Nothing else is touched, and nothing the emulator has written is changed but the numbers of events after an added one.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.official.names import QUALIFIER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.official.runtime_api import Outcome
    from tests.official.trail import Trail, Update

Event = dict[str, Any]


def filled(events: list[Event], trail: Trail) -> list[Event]:
    """
    A history with its gaps filled.

    Args:
        events: All events of one execution, oldest first, as the emulator tells them.
        trail: What was seen of this execution.
    """
    clean = iter([outcome for outcome in trail.outcomes if not outcome.failed])
    whole = _with_failed_invocations(events, [outcome for outcome in trail.outcomes if outcome.failed])
    gaps = _Gaps(trail, clean)
    return [gaps.fill({**event, "EventId": number}) for number, event in enumerate(whole, 1)]


def _with_failed_invocations(events: list[Event], failed: list[Outcome]) -> list[Event]:
    whole = list(events)
    for outcome in failed:
        later = (number for number, event in enumerate(whole) if event["EventTimestamp"] > outcome.ended)
        added = {
            "EventType": "InvocationCompleted",
            "EventTimestamp": outcome.ended,
            "InvocationCompletedDetails": _invocation_details(outcome),
        }
        whole.insert(next(later, len(whole)), added)
    return whole


class _Gaps:
    """Goes through a history once, counting what the details are numbered by."""

    def __init__(self, trail: Trail, clean: Iterator[Outcome]) -> None:
        self._updates = trail.updates()
        self._clean = clean
        self._starts: Counter[str] = Counter()
        self._successes: Counter[str] = Counter()
        self._fills: dict[str, Callable[[Event], None]] = {
            "InvocationCompleted": self._invocation,
            "StepStarted": self._step_started,
            "StepSucceeded": self._step_succeeded,
            "CallbackStarted": self._callback,
            "ChainedInvokeStarted": self._chained_invoke,
        }

    def fill(self, event: Event) -> Event:
        if fill := self._fills.get(event["EventType"]):
            fill(event)
        return event

    def _invocation(self, event: Event) -> None:
        if "InvocationCompletedDetails" not in event and (outcome := next(self._clean, None)):
            event["InvocationCompletedDetails"] = _invocation_details(outcome)

    def _step_started(self, event: Event) -> None:
        self._starts[event["Id"]] += 1

    def _step_succeeded(self, event: Event) -> None:
        operation = event["Id"]
        attempt = {"CurrentAttempt": max(1, self._starts[operation])}
        details = {"RetryDetails": attempt, **event.get("StepSucceededDetails", {})}
        result = details.get("Result") or {"Truncated": False}
        payload = self._poll(operation, self._successes[operation]).get("Payload")
        if payload is not None and not result.get("Truncated"):
            details["Result"] = {"Payload": payload, **result}
        self._successes[operation] += 1
        event["StepSucceededDetails"] = details

    def _callback(self, event: Event) -> None:
        options = self._options(event, "CallbackOptions")
        names = {"Timeout": "TimeoutSeconds", "HeartbeatTimeout": "HeartbeatTimeoutSeconds"}
        known = {name: options[option] for name, option in names.items() if options.get(option)}
        event["CallbackStartedDetails"] = {**known, **event.get("CallbackStartedDetails", {})}

    def _chained_invoke(self, event: Event) -> None:
        options = self._options(event, "ChainedInvokeOptions")
        known = {"ExecutedVersion": QUALIFIER}
        if tenant := options.get("TenantId"):
            known["TenantId"] = tenant
        event["ChainedInvokeStartedDetails"] = {**known, **event.get("ChainedInvokeStartedDetails", {})}

    def _options(self, event: Event, member: str) -> dict[str, Any]:
        starts = (one for one in self._updates.get(event["Id"], ()) if one["Action"] == "START")
        return next(starts, {}).get(member) or {}

    def _poll(self, operation: str, number: int) -> Update:
        updates = self._updates.get(operation, ())
        polls = [one for one in updates if one["Action"] == "RETRY" and "Error" not in one]
        return polls[number] if number < len(polls) else {}


def _invocation_details(outcome: Outcome) -> dict[str, Any]:
    details: dict[str, Any] = {
        "StartTimestamp": outcome.started,
        "EndTimestamp": outcome.ended,
        "RequestId": outcome.request_id,
    }
    if error := outcome.error():
        payload = {"ErrorType": error.get("errorType", ""), "ErrorMessage": error.get("errorMessage", "")}
        details["Error"] = {"Payload": payload, "Truncated": False}
    return details
