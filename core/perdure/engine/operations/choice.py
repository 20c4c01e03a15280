"""The choice: which of several futures came first, recorded as a step without a body."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from perdure.engine.commands import Checkpoint
from perdure.errors import NonDeterministicExecutionError
from perdure.model import OperationAction

if TYPE_CHECKING:
    from perdure.engine.commands import Procedure
    from perdure.engine.ids import Identity
    from perdure.engine.scope import Scope

NONE = -1
"""What is recorded when none of them was to be chosen."""


def choice(scope: Scope, identity: Identity, index: int) -> Procedure[int]:
    """Record `index`, and return it."""
    payload = json.dumps(index)
    yield Checkpoint((identity.update(OperationAction.SUCCEED, payload=payload),))
    return index


def recorded_choice(scope: Scope, identity: Identity, among: int) -> int | None:
    """
    The index that is recorded, None if there is none yet.

    Raises:
        NonDeterministicExecutionError: The record is not of a choice among so many.
    """
    record = scope.replay.record(identity)
    if record is None:
        return None
    index = json.loads(record.result) if record.result and record.result.lstrip("-").isdigit() else None
    if not isinstance(index, int) or not NONE <= index < among:
        message = (
            f"execution {scope.replay.execution_name!r} replayed {identity.name!r} as a choice among {among} futures, "
            f"where its journal has {record.result!r}; deploy changed code as a new version"
        )
        raise NonDeterministicExecutionError(message, step_id=identity.operation_id)
    return index
