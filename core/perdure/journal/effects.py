"""
What a journal asks to be done to other executions: start a child, give a parent the outcome.

Two executions are never written together. The fold yields effects with the row that asks for them; the service carries
out those beyond the settled row, any number of times, each idempotently (spi.md, rule 9).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from perdure.journal.entry import Outcome
from perdure.model import ErrorObject, ExecutionStatus, OperationStatus

if TYPE_CHECKING:
    from perdure.journal.entry import Target
    from perdure.journal.fold import Execution
    from perdure.model import OperationUpdate

CHILD_TIMED_OUT = "ChainedInvoke.Timeout"


@attrs.frozen(kw_only=True)
class StartChild:
    """
    A CHAINED_INVOKE was started whose target is known.

    Attributes:
        index: The row.
        operation_id: The parent's operation, which the child's end completes.
        function, version: Of the target; the function's bare name.
        input: JSON text.
        durable_execution_arn: The child's, or None for a target that is no durable function.
        tenant_id: Passed on to the child, or None.
    """

    index: int
    operation_id: str
    function: str
    version: str
    input: str
    durable_execution_arn: str | None = None
    tenant_id: str | None = None


@attrs.frozen(kw_only=True)
class DeliverResult:
    """An execution ended that another one waits for: `outcome` completes `await_id`; `index` is the row."""

    index: int
    await_id: str
    outcome: Outcome


Effect = StartChild | DeliverResult


def start_child(index: int, update: OperationUpdate, target: Target | None) -> StartChild | None:
    """What a CHAINED_INVOKE START asks for; None where its target could not be resolved."""
    options = update.chained_invoke_options
    if target is None or target.version is None or options is None:
        return None
    return StartChild(
        index=index,
        operation_id=update.operation_id,
        function=_bare_name(options.function_name),
        version=target.version,
        input="{}" if update.payload is None else update.payload,
        durable_execution_arn=target.durable_execution_arn,
        tenant_id=options.tenant_id,
    )


def outcome_for_parent(child: Execution) -> Outcome:
    """
    How the end of an execution completes the operation of its parent (protocol.md §7).

    Raises:
        ValueError: The execution has not ended.
    """
    match child.status:
        case ExecutionStatus.SUCCEEDED:
            return Outcome(status=OperationStatus.SUCCEEDED, result=child.result)
        case ExecutionStatus.FAILED:
            return Outcome(status=OperationStatus.FAILED, error=child.error)
        case ExecutionStatus.TIMED_OUT:
            message = f"CHAINED_INVOKE timed out after {child.execution_timeout or 0} seconds."
            return Outcome(status=OperationStatus.TIMED_OUT, error=ErrorObject(message, CHILD_TIMED_OUT))
        case ExecutionStatus.STOPPED:
            return Outcome(status=OperationStatus.STOPPED, error=child.error)
        case running:
            raise ValueError(f"execution {child.id!r} is {running.value}, and only an ended one has an outcome")


def _bare_name(identifier: str) -> str:
    """The name in `name`, `name:qualifier`, `account:function:name[:qualifier]` or an ARN (protocol.md §2)."""
    account, separator, qualified = identifier.partition(":function:")
    return (qualified if separator else account).partition(":")[0]
