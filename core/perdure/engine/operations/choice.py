"""The choice: which of several futures came first, recorded as a step without a body."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.engine.commands import Checkpoint
from perdure.errors import NonDeterministicExecutionError
from perdure.model import OperationAction

if TYPE_CHECKING:
    from perdure.engine.commands import Procedure
    from perdure.engine.ids import Identity
    from perdure.engine.scope import Scope

NONE = -1
"""What is recorded when all are lost."""


def choice(scope: Scope, identity: Identity, among: int, index: int) -> Procedure[int]:
    """Return the recorded index of a choice among so many; the first time, record `index`."""
    while True:
        record = scope.replay.record(identity)
        if record is None:
            yield Checkpoint((identity.update(OperationAction.SUCCEED, payload=str(index)),))
            continue
        recorded = record.result or ""
        if recorded.removeprefix("-").isdecimal() and NONE <= int(recorded) < among:
            return int(recorded)
        message = (
            f"execution {scope.replay.execution_name!r} replayed {identity.name!r} as a choice among {among} futures, "
            f"where its journal has {record.result!r}; deploy changed code as a new version"
        )
        raise NonDeterministicExecutionError(message, step_id=identity.operation_id)
