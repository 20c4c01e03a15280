"""
The history of an execution: the events of protocol.md §12, from the same fold as everything else.

An event's id is its place in the journal's telling, so it never changes: the history of a prefix of a journal is a
prefix of its history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from perdure.journal.fold import Execution
from perdure.model import Event, ExecutionStatus, OperationAction, OperationStatus, OperationType

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from perdure.journal.entry import InvocationEnd, Paused, Resumed, Target
    from perdure.model import ErrorObject, Operation, OperationUpdate
    from perdure.storage import Row

_TYPES = {
    OperationType.CONTEXT: "Context",
    OperationType.STEP: "Step",
    OperationType.WAIT: "Wait",
    OperationType.CALLBACK: "Callback",
    OperationType.CHAINED_INVOKE: "ChainedInvoke",
}
_ENDS = {
    OperationStatus.SUCCEEDED: "Succeeded",
    OperationStatus.FAILED: "Failed",
    OperationStatus.CANCELLED: "Cancelled",
    OperationStatus.TIMED_OUT: "TimedOut",
    OperationStatus.STOPPED: "Stopped",
}


def events(execution_id: str, rows: Iterable[Row], *, include_data: bool = True) -> list[Event]:
    """
    The history that these rows, all from the first, make.

    Args:
        execution_id: Whose rows they are.
        rows: A journal, or a prefix of one.
        include_data: False leaves out payloads and errors, and marks them as truncated.
    """
    execution = Execution(execution_id)
    chronicle = Chronicle(include_data=include_data)
    for row in rows:
        execution.apply(row, observer=chronicle)
    return chronicle.events


class Chronicle:
    """
    Writes down as events what it observes of a fold.

    Attributes:
        events: So far, with ids from 1 without gaps.
    """

    def __init__(self, *, include_data: bool = True) -> None:
        self.events: list[Event] = []
        self._include_data = include_data

    # ----------------------------------------------------------------------------------------------- the execution

    def started(self, at: datetime, execution: Execution) -> None:
        """ExecutionStarted."""
        details: dict[str, Any] = {"Input": self._wrapped(execution.input)}
        if execution.execution_timeout is not None:
            details["ExecutionTimeout"] = execution.execution_timeout
        self._write(at, "ExecutionStarted", details, execution.operations[execution.id])

    def invocation_ended(self, at: datetime, end: InvocationEnd) -> None:
        """InvocationCompleted."""
        details: dict[str, Any] = {
            "StartTimestamp": end.start_timestamp,
            "EndTimestamp": at,
            "RequestId": end.request_id,
        }
        if end.error is not None:
            details["Error"] = self._wrapped(end.error)
        self._write(at, "InvocationCompleted", details)

    def paused(self, at: datetime, paused: Paused) -> None:
        """ExecutionPaused."""
        details = {"PauseRequestTimestamp": at, "ExecutionTimeoutPaused": paused.execution_timeout_paused}
        self._write(at, "ExecutionPaused", details | _reason(paused))

    def resumed(self, at: datetime, resumed: Resumed) -> None:
        """ExecutionResumed."""
        self._write(at, "ExecutionResumed", {"ResumeRequestTimestamp": at} | _reason(resumed))

    def ended(self, at: datetime, execution: Execution) -> None:
        """ExecutionSucceeded, …Failed, …TimedOut or …Stopped."""
        if execution.status is ExecutionStatus.SUCCEEDED:
            details = {"Result": self._wrapped(execution.result)}
        else:
            details = {"Error": self._wrapped(execution.error)}
        operation = execution.operations[execution.id]
        self._write(at, f"Execution{_ENDS[operation.status]}", details, operation)

    # ---------------------------------------------------------------------------------------------------- operations

    def updated(self, at: datetime, operation: Operation, update: OperationUpdate, target: Target | None) -> None:
        """The event of an update; a chained invoke without a target has two, its start and its failure."""
        kind = _TYPES[operation.operation_type]
        if update.action is OperationAction.START:
            self._write(at, f"{kind}Started", self._start_details(operation, update, target), operation)
            if operation.is_terminal:
                self.completed(at, operation)
        elif operation.operation_type is OperationType.STEP:
            self._write_attempt(at, operation, update)
        elif update.action is OperationAction.CANCEL:
            details = {} if update.error is None else {"Error": self._wrapped(update.error)}
            self._write(at, f"{kind}Cancelled", details, operation)
        else:
            self.completed(at, operation)

    def completed(self, at: datetime, operation: Operation) -> None:
        """WaitSucceeded, or the event of an outcome."""
        if operation.operation_type is OperationType.WAIT:
            details: dict[str, Any] = {"Duration": _seconds(operation)}
        elif operation.status is OperationStatus.SUCCEEDED:
            details = {"Result": self._wrapped(operation.result)}
        else:
            details = {"Error": self._wrapped(operation.error)}
        self._write(at, f"{_TYPES[operation.operation_type]}{_ENDS[operation.status]}", details, operation)

    def _start_details(self, operation: Operation, update: OperationUpdate, target: Target | None) -> dict[str, Any]:
        if operation.wait_details is not None:
            scheduled = operation.wait_details.scheduled_end_timestamp
            return {"Duration": _seconds(operation), "ScheduledEndTimestamp": scheduled}
        if operation.callback_details is not None:
            details: dict[str, Any] = {"CallbackId": operation.callback_details.callback_id}
            options = update.callback_options
            if options is not None and options.timeout_seconds:
                details["Timeout"] = options.timeout_seconds
            if options is not None and options.heartbeat_timeout_seconds:
                details["HeartbeatTimeout"] = options.heartbeat_timeout_seconds
            return details
        return self._invoke_details(operation, update, target) if update.chained_invoke_options else {}

    def _invoke_details(self, operation: Operation, update: OperationUpdate, target: Target | None) -> dict[str, Any]:
        options = update.chained_invoke_options
        members = {
            "FunctionName": options and options.function_name,
            "TenantId": options and options.tenant_id,
            # Of a target that could not be resolved no input is kept (protocol.md §7).
            "Input": None if operation.is_terminal else self._wrapped(update.payload),
            "ExecutedVersion": target and target.version,
            "DurableExecutionArn": target and target.durable_execution_arn,
        }
        return {name: value for name, value in members.items() if value is not None}

    def _write_attempt(self, at: datetime, operation: Operation, update: OperationUpdate) -> None:
        retry: dict[str, Any] = {"CurrentAttempt": operation.attempt}
        if update.action is OperationAction.SUCCEED or (
            update.action is OperationAction.RETRY and update.error is None
        ):
            details = {"Result": self._wrapped(update.payload), "RetryDetails": retry}
            self._write(at, "StepSucceeded", details, operation)
            return
        if update.action is OperationAction.RETRY and update.step_options is not None:
            retry["NextAttemptDelaySeconds"] = update.step_options.next_attempt_delay_seconds
        self._write(at, "StepFailed", {"Error": self._wrapped(update.error), "RetryDetails": retry}, operation)

    # ------------------------------------------------------------------------------------------------------- writing

    def _wrapped(self, payload: str | ErrorObject | None) -> dict[str, Any]:
        if not self._include_data:
            return {"Truncated": True}
        if payload is None:
            return {"Truncated": False}
        return {"Payload": payload if isinstance(payload, str) else payload.to_dict(), "Truncated": False}

    def _write(self, at: datetime, kind: str, details: dict[str, Any], operation: Operation | None = None) -> None:
        event = Event(event_id=len(self.events) + 1, event_type=kind, event_timestamp=at, details=details)
        if operation is not None:
            event = attrs.evolve(
                event,
                operation_id=operation.operation_id,
                name=operation.name,
                sub_type=operation.sub_type,
                parent_id=operation.parent_id,
            )
        self.events.append(event)


def _reason(signal: Paused | Resumed) -> dict[str, str]:
    return {} if signal.reason is None else {"Reason": signal.reason}


def _seconds(wait: Operation) -> int:
    details = wait.wait_details
    if details is None or details.scheduled_end_timestamp is None or wait.start_timestamp is None:
        return 0
    return round((details.scheduled_end_timestamp - wait.start_timestamp).total_seconds())
