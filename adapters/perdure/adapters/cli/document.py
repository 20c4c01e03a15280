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

    from perdure.client import ExecutionDescription, ExecutionSummary
    from perdure.model import Event, Operation

Document = dict[str, Any]


def summary(execution: ExecutionSummary) -> Document:
    """One of the `DurableExecutions` that ListDurableExecutionsByFunction answers."""
    return _present(
        DurableExecutionArn=execution.arn,
        DurableExecutionName=execution.name,
        FunctionArn=execution.arn.partition("/durable-execution/")[0],
        Version=execution.version,
        Status=execution.status.value,
        StartTimestamp=instant(execution.started),
        EndTimestamp=instant(execution.ended),
    )


def description(execution: ExecutionDescription) -> Document:
    """
    What GetDurableExecution answers.

    `Crashes` and `Quarantined` are ours: invocations in a row that died, and whether they were too many.
    """
    config = _present(ExecutionTimeout=execution.execution_timeout, RetentionPeriodInDays=execution.retention_days)
    return summary(execution) | _present(
        InputPayload=execution.input,
        Result=execution.result,
        Error=execution.error.to_dict() if execution.error else None,
        DurableConfig=config,
        ExpectedExecutionTimeoutTimestamp=instant(execution.deadline),
        Crashes=execution.crashes or None,
        Quarantined=execution.quarantined or None,
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
