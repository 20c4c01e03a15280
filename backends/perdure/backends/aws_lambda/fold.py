"""
The operations of an execution as far as its history tells them.

AWS shows operations to the handler only. Histories lack two things: whether the children of a context are needed on
replay, and whether a poll goes on when a check of it is over. That shows when the next check begins. Until then a poll
seems done, unless it is all that its execution can be waiting for.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import attrs

from perdure.model import (
    CallbackDetails,
    ChainedInvokeDetails,
    ContextDetails,
    ErrorObject,
    ExecutionDetails,
    Operation,
    OperationStatus,
    OperationSubType,
    OperationType,
    StepDetails,
    WaitDetails,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from perdure.model import Event

_TYPES = {
    "Execution": OperationType.EXECUTION,
    "Context": OperationType.CONTEXT,
    "Step": OperationType.STEP,
    "Wait": OperationType.WAIT,
    "Callback": OperationType.CALLBACK,
    "ChainedInvoke": OperationType.CHAINED_INVOKE,
}
_ENDS = {
    "Succeeded": OperationStatus.SUCCEEDED,
    "Failed": OperationStatus.FAILED,
    "Cancelled": OperationStatus.CANCELLED,
    "TimedOut": OperationStatus.TIMED_OUT,
    "Stopped": OperationStatus.STOPPED,
}
_STARTED = "Started"
_PASSIVE = {OperationType.EXECUTION, OperationType.CONTEXT}
"""What ends only by what its children, or an invocation, do."""


def operations(events: Iterable[Event]) -> list[Operation]:
    """The operations, in start order, the EXECUTION operation first; events of kinds not known here are passed over."""
    all_events = list(events)
    fold = _Fold(all_events)
    for event in all_events:
        fold.take(event)
    if (waited_for := _poll_waited_for(all_events, fold.operations)) is not None:
        fold.operations[waited_for.operation_id] = attrs.evolve(
            waited_for, status=OperationStatus.PENDING, end_timestamp=None, position=None
        )
    return list(fold.operations.values())


def _poll_waited_for(events: Sequence[Event], found: Mapping[str, Operation]) -> Operation | None:
    """The only poll of the last invocation, if that has left nothing else to wait for."""
    if not events or events[-1].event_type != "InvocationCompleted" or "Error" in events[-1].details:
        return None
    if any(not one.is_terminal and one.operation_type not in _PASSIVE for one in found.values()):
        return None
    polls = set()
    for event in reversed(events[:-1]):
        if event.event_type == "InvocationCompleted":
            break
        if event.event_type == "StepSucceeded" and event.sub_type == OperationSubType.WAIT_FOR_CONDITION:
            polls.add(event.operation_id or "")
    return found[polls.pop()] if len(polls) == 1 else None


class _Fold:
    def __init__(self, events: Sequence[Event]) -> None:
        self.operations: dict[str, Operation] = {}
        self._ends = 0
        self._last_starts = {
            event.operation_id: event.event_id for event in events if event.event_type.endswith(_STARTED)
        }

    def take(self, event: Event) -> None:
        kind = next((name for name in _TYPES if event.event_type.startswith(name)), None)
        if kind is None or event.operation_id is None:
            return
        what = event.event_type.removeprefix(kind)
        known = self.operations.get(event.operation_id)
        if what == _STARTED and known is not None:
            self._restart(known)
        elif what == _STARTED:
            self._place(_started(event, _TYPES[kind]))
        elif what in _ENDS:
            # What began and ended in one request may have no event of its start.
            self._end(known or _started(event, _TYPES[kind]), event, _ENDS[what])

    def _place(self, operation: Operation) -> None:
        self.operations[operation.operation_id] = operation

    def _restart(self, operation: Operation) -> None:
        step = operation.step_details
        step = step and attrs.evolve(step, next_attempt_timestamp=None)
        status = OperationStatus.STARTED
        self._place(attrs.evolve(operation, status=status, end_timestamp=None, position=None, step_details=step))

    def _end(self, operation: Operation, event: Event, status: OperationStatus) -> None:
        if operation.step_details is not None:
            step = _attempt(operation.step_details, event)
            operation = attrs.evolve(operation, step_details=step)
            is_repeated = self._last_starts.get(event.operation_id, 0) > event.event_id
            if is_repeated or step.next_attempt_timestamp is not None:
                self._place(attrs.evolve(operation, status=OperationStatus.PENDING))
                return
        self._ends += 1
        at = event.event_timestamp
        ended = attrs.evolve(operation, status=status, end_timestamp=at, position=self._ends)
        self._place(attrs.evolve(ended, **_outcome(operation, event)))


def _started(event: Event, kind: OperationType) -> Operation:
    operation = Operation(
        operation_id=event.operation_id or "",
        operation_type=kind,
        status=OperationStatus.STARTED,
        start_timestamp=event.event_timestamp,
        parent_id=event.parent_id,
        name=event.name,
        sub_type=event.sub_type,
    )
    return attrs.evolve(operation, **_DETAILS[kind](event))


_DETAILS: dict[OperationType, Callable[[Event], dict[str, Any]]] = {
    OperationType.EXECUTION: lambda event: {"execution_details": ExecutionDetails(_payload(event, "Input"))},
    OperationType.CONTEXT: lambda _: {"context_details": ContextDetails()},
    OperationType.STEP: lambda _: {"step_details": StepDetails()},
    OperationType.WAIT: lambda event: {"wait_details": WaitDetails(event.details.get("ScheduledEndTimestamp"))},
    OperationType.CALLBACK: lambda event: {"callback_details": CallbackDetails(event.details.get("CallbackId"))},
    OperationType.CHAINED_INVOKE: lambda _: {"chained_invoke_details": ChainedInvokeDetails()},
}


def _attempt(before: StepDetails, event: Event) -> StepDetails:
    retry = event.details.get("RetryDetails") or {}
    delay = retry.get("NextAttemptDelaySeconds")
    result = _payload(event, "Result")
    return StepDetails(
        attempt=retry.get("CurrentAttempt") or before.attempt + 1,
        next_attempt_timestamp=event.event_timestamp + timedelta(seconds=delay) if delay else None,
        result=before.result if result is None and delay else result,
        error=_error(event),
    )


def _outcome(operation: Operation, event: Event) -> dict[str, Any]:
    result, error = _payload(event, "Result"), _error(event)
    if operation.context_details is not None:
        return {"context_details": ContextDetails(result=result, error=error)}
    if operation.callback_details is not None:
        return {"callback_details": CallbackDetails(operation.callback_details.callback_id, result, error)}
    if operation.chained_invoke_details is not None:
        return {"chained_invoke_details": ChainedInvokeDetails(result, error)}
    return {}


def _payload(event: Event, member: str) -> str | None:
    payload: str | None = (event.details.get(member) or {}).get("Payload")
    return payload


def _error(event: Event) -> ErrorObject | None:
    members = (event.details.get("Error") or {}).get("Payload")
    return None if members is None else ErrorObject.from_dict(members)
