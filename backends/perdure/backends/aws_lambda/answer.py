"""Answers of AWS's API as the values that clients know."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

import attrs

from perdure.backends.aws_lambda.function import LATEST, LambdaFunction
from perdure.codec import from_wire
from perdure.desk.answer import ExecutionDescription, ExecutionReference, ExecutionSummary, PauseDescription
from perdure.errors import StoreError, ValidationError
from perdure.model import ErrorObject, Event, ExecutionStatus
from perdure.types import DurableExecutionArn

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


def reference(arn: str) -> ExecutionReference | None:
    """What an ARN says of its execution, or None if it is of a shape of its own, as those of an emulator may be."""
    parts = DurableExecutionArn.from_arn(arn)
    if parts is None:
        return None
    return ExecutionReference(
        arn=arn,
        id=parts.execution_id,
        name=parts.execution_name,
        function=parts.function_name,
        version=parts.function_version,
    )


def described(members: Mapping[str, Any]) -> ExecutionReference:
    """Which execution an answer is about."""
    return ExecutionReference(**_reference(members))


def summary(members: Mapping[str, Any]) -> ExecutionSummary:
    """One of the `DurableExecutions` of a list."""
    return ExecutionSummary(**_summary(members))


def description(members: Mapping[str, Any]) -> ExecutionDescription:
    """The answer of GetDurableExecution."""
    config: Mapping[str, Any] = members.get("DurableConfig") or {}
    error = members.get("Error")
    return ExecutionDescription(
        **_summary(members),
        input=members.get("InputPayload") or "{}",
        result=members.get("Result"),
        error=None if error is None else ErrorObject.from_dict(error),
        execution_timeout=config.get("ExecutionTimeout"),
        deadline=_instant(members.get("ExpectedExecutionTimeoutTimestamp")),
        retention_days=config.get("RetentionPeriodInDays"),
        pause=_pause(members.get("PauseDetails")),
    )


def status(members: Mapping[str, Any]) -> ExecutionStatus:
    """
    Where an execution stands.

    Raises:
        StoreError: Nobody knew of that status when this was written.
    """
    try:
        return ExecutionStatus(members["Status"])
    except ValueError:
        raise StoreError(f"AWS tells of the status {members['Status']!r}, unknown to this version; upgrade") from None


def instant(at: datetime) -> datetime:
    """An instant in UTC; boto3 gives those of this machine's zone."""
    return at.astimezone(UTC)


def event(members: Mapping[str, Any]) -> Event:
    """One of the `Events` of a history; reasons are plain text, as in histories of own stores."""
    try:
        read = from_wire(Event, members)
    except ValidationError as error:
        raise StoreError(f"AWS tells of an event that this version cannot read: {error}; upgrade") from error
    reason = read.details.get("Reason")
    if not isinstance(reason, dict):
        return read
    rest = {name: value for name, value in read.details.items() if name != "Reason"}
    told = {} if reason.get("Payload") is None else {"Reason": reason["Payload"]}
    return attrs.evolve(read, details=rest | told)


def _reference(members: Mapping[str, Any]) -> dict[str, Any]:
    arn: str = members["DurableExecutionArn"]
    parts = DurableExecutionArn.from_arn(arn)
    if parts is not None:
        function, version = parts.function_name, parts.function_version
    else:
        deployed = LambdaFunction.parse(members["FunctionArn"])
        function, version = deployed.name, members.get("Version") or deployed.qualifier or LATEST
    return {
        "arn": arn,
        "id": arn.rpartition("/")[2],
        "name": members["DurableExecutionName"],
        "function": function,
        "version": version,
    }


def _instant(at: datetime | None) -> datetime | None:
    return None if at is None else instant(at)


def _summary(members: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **_reference(members),
        "status": status(members),
        "started": instant(members["StartTimestamp"]),
        "ended": _instant(members.get("EndTimestamp")),
    }


def _pause(members: Mapping[str, Any] | None) -> PauseDescription | None:
    if not members or members.get("PauseRequestTimestamp") is None:
        return None
    return PauseDescription(
        requested=instant(members["PauseRequestTimestamp"]),
        reason=members.get("Reason"),
        timeout_paused=members.get("ExecutionTimeoutPaused", True),
    )
