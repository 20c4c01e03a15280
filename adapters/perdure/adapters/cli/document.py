"""
What `--json` prints: the answers of AWS's API with its member names.

Instants are ISO 8601, as the aws command prints them.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from perdure.codec import to_wire

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perdure.client import ExecutionDescription, ExecutionSummary, PauseDescription, WorkerDescription
    from perdure.model import Event, Operation

Document = dict[str, Any]


def summary(execution: ExecutionSummary) -> Document:
    """
    One of the `DurableExecutions` that ListDurableExecutionsByFunction answers.

    `Quarantined` is ours: too many of its invocations in a row died.
    """
    return _present(
        DurableExecutionArn=execution.arn,
        DurableExecutionName=execution.name,
        FunctionArn=execution.arn.partition("/durable-execution/")[0],
        Version=execution.version,
        Status=execution.status.value,
        StartTimestamp=instant(execution.started),
        EndTimestamp=instant(execution.ended),
        Quarantined=execution.quarantined or None,
    )


def description(execution: ExecutionDescription) -> Document:
    """
    What GetDurableExecution answers.

    `Crashes` is ours: how many invocations in a row died.
    """
    config = _present(ExecutionTimeout=execution.execution_timeout, RetentionPeriodInDays=execution.retention_days)
    return summary(execution) | _present(
        InputPayload=execution.input,
        Result=execution.result,
        Error=execution.error.to_dict() if execution.error else None,
        DurableConfig=config,
        PauseDetails=_pause(execution.pause) if execution.pause else None,
        ExpectedExecutionTimeoutTimestamp=instant(execution.deadline),
        Crashes=execution.crashes or None,
    )


def worker(found: WorkerDescription) -> Document:
    """A worker; AWS has no such answer."""
    return _present(
        WorkerId=found.owner,
        Host=found.host,
        ProcessId=found.pid,
        StartTimestamp=instant(found.since),
        RenewTimestamp=instant(found.renewed),
        ExpiryTimestamp=instant(found.until),
        LeaseAgeSeconds=found.age.total_seconds(),
        Executions=list(found.held),
    )


def operations(found: Iterable[Operation]) -> list[Document]:
    """The `Operations` of GetDurableExecutionState."""
    return [_dated(to_wire(operation)) for operation in found]


def events(found: Iterable[Event]) -> list[Document]:
    """The `Events` of GetDurableExecutionHistory."""
    return [_dated(to_wire(event)) for event in found]


def instant(at: datetime | None) -> str | None:
    """ISO 8601 in UTC."""
    return None if at is None else at.astimezone(UTC).isoformat()


def text(document: Document) -> str:
    """A document as it is printed."""
    return json.dumps(document, indent=4, ensure_ascii=False)


def _pause(pause: PauseDescription) -> Document:
    return _present(
        PauseRequestTimestamp=instant(pause.requested),
        Reason=pause.reason,
        ExecutionTimeoutPaused=pause.timeout_paused,
    )


def _dated(value: Any, member: str = "") -> Any:
    # Only names tell instants from numbers: on the wire both are seconds.
    match value:
        case dict():
            return {name: _dated(inner, name) for name, inner in value.items()}
        case list() | tuple():
            return [_dated(inner) for inner in value]
        case int() | float() if member.endswith("Timestamp"):
            return instant(datetime.fromtimestamp(value, UTC))
        case datetime():
            return instant(value)
        case _:
            return value


def _present(**members: object) -> Document:
    return {name: value for name, value in members.items() if value is not None}
