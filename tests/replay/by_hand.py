"""Operations driven by hand: outcomes are fed in, commands come out. No store, clock or threads."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from perdure.engine.replay import Records, Replay, Run
from perdure.engine.scope import Scope
from perdure.engine.settings import Settings
from perdure.model import (
    CallbackDetails,
    ChainedInvokeDetails,
    ContextDetails,
    Operation,
    OperationStatus,
    OperationSubType,
    OperationType,
    StepDetails,
    WaitDetails,
)

if TYPE_CHECKING:
    from perdure.engine.commands import Procedure
    from perdure.engine.ids import Identity

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ARN = "arn:perdure:lambda:local:000000000000:function:f:$LATEST/durable-execution/o-17/e-1"
DETAILS = {
    OperationType.STEP: ("step_details", StepDetails),
    OperationType.CONTEXT: ("context_details", ContextDetails),
    OperationType.WAIT: ("wait_details", WaitDetails),
    OperationType.CALLBACK: ("callback_details", CallbackDetails),
    OperationType.CHAINED_INVOKE: ("chained_invoke_details", ChainedInvokeDetails),
}


class Hand:
    """
    A context of an execution, and the records that the test gives it.

    Attributes:
        scope: Of the context.
    """

    def __init__(self, **settings: Any) -> None:
        self.records = Records()
        replay = Replay(ARN, self.records, Settings(**settings), NOW)
        self.scope = Scope(replay, Run())

    def draw(
        self, operation_type: OperationType, sub_type: str = OperationSubType.STEP, name: str | None = None
    ) -> Identity:
        """The next operation of the context."""
        return self.scope.draw(operation_type, sub_type, name)

    def record(
        self, identity: Identity, status: OperationStatus, *, position: int | None = None, **details: Any
    ) -> Operation:
        """Have the service tell of an operation."""
        member, made_by = DETAILS[identity.type]
        operation = Operation(
            operation_id=identity.operation_id,
            operation_type=identity.type,
            status=status,
            sub_type=identity.sub_type,
            name=identity.name,
            parent_id=identity.parent_id,
            start_timestamp=NOW,
            end_timestamp=NOW if position is not None else None,
            position=position,
            **{member: made_by(**details)},
        )
        self.records.update([operation])
        return operation


def returned(procedure: Procedure[Any], answer: Any = None) -> Any:
    """Feed the last answer; what the procedure returns."""
    try:
        command = procedure.send(answer)
    except StopIteration as end:
        return end.value
    raise AssertionError(f"the procedure goes on with {command!r}")


def is_scope(value: object) -> bool:
    """Whether a `Call` is one of a context's body."""
    return isinstance(value, Scope)
