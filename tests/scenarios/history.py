"""
Histories as text: one line an event, without what differs from run to run.

    StepFailed pay #1 ! ValueError: no, again in 1 s
    StepSucceeded pay #2 = "ok"
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from perdure.errors import AWS_EXCEPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perdure.model import Event

LONGEST = 300


def told(events: Iterable[Event]) -> str:
    """All events in order."""
    names = Names()
    return "\n".join(names.line(event) for event in events)


def by_operation(events: Iterable[Event]) -> dict[str, str]:
    """
    The events of every operation in order, by its path: for branches, whose events mix as they please.

    Invocations are left out, for how many there are is as little determined.
    """
    names = Names()
    told: dict[str, list[str]] = {}
    for event in events:
        if event.event_type != "InvocationCompleted":
            path = names.path(event)
            told.setdefault(path, []).append(names.line(event).replace(f" {path}", "", bool(path)))
    return {path: "; ".join(lines) for path, lines in told.items()}


class Names:
    """Operations by the names of their contexts and their own."""

    def __init__(self) -> None:
        self._paths: dict[str, str] = {}

    def path(self, event: Event) -> str:
        """`child/pay`; an operation without a name is called by its sub type."""
        if event.operation_id is None or event.event_type.startswith("Execution"):
            return ""
        own = event.name or f"({event.sub_type})"
        above = self._paths.get(event.parent_id or "")
        return self._paths.setdefault(event.operation_id, f"{above}/{own}" if above else own)

    def line(self, event: Event) -> str:
        """One event."""
        parts = [event.event_type]
        if path := self.path(event):
            parts.append(path)
            plain = event.event_type.removesuffix("Started")
            if plain not in (event.event_type, event.sub_type):
                parts.append(f"[{event.sub_type}]")
        parts.extend(_told(event))
        return " ".join(parts)


def _told(event: Event) -> Iterable[str]:
    details = event.details
    retry = details.get("RetryDetails") or {}
    if "CurrentAttempt" in retry:
        yield f"#{retry['CurrentAttempt']}"
    if "FunctionName" in details:
        yield details["FunctionName"]
    if "Input" in details and event.event_type != "ExecutionStarted":
        yield f"({_shortened(details['Input'].get('Payload'))})"
    for member, word in (("Duration", "for"), ("Timeout", "timeout"), ("HeartbeatTimeout", "heartbeat")):
        if member in details:
            yield f"{word} {details[member]} s"
    if details.get("Result") is not None and details["Result"].get("Payload") is not None:
        yield f"= {_shortened(details['Result']['Payload'])}"
    if details.get("Error") is not None:
        error = f"! {_error(details['Error'])}"
        delay = retry.get("NextAttemptDelaySeconds")
        yield f"{error}, again in {delay} s" if delay else error


def _shortened(payload: str | None) -> str:
    if payload is None:
        return "-"
    return payload if len(payload) <= LONGEST else f"<{len(payload)} characters>"


def _error(error: Any) -> str:
    payload = error.get("Payload", error)
    if payload is None:
        return "-"
    members = payload.to_dict() if hasattr(payload, "to_dict") else payload
    members = json.loads(members) if isinstance(members, str) else members
    kind, message = members.get("ErrorType"), members.get("ErrorMessage")
    kind = None if kind is None else kind.removeprefix(f"{AWS_EXCEPTIONS}.")
    return ": ".join(text for text in (kind, message) if text) or "-"
