"""The wait: nothing happens until the service says that the time has come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.engine.commands import Blocked, Checkpoint
from perdure.model import OperationAction, WaitOptions

if TYPE_CHECKING:
    from perdure.engine.commands import Procedure
    from perdure.engine.ids import Identity
    from perdure.engine.scope import Scope


def wait(scope: Scope, identity: Identity, seconds: int) -> Procedure[None]:
    """Return once `seconds`, counted by the service from the first time this is reached, have passed."""
    while True:
        record = scope.replay.record(identity)
        if record is None:
            start = identity.update(OperationAction.START, wait_options=WaitOptions(seconds))
            yield Checkpoint((start,))
        elif record.is_terminal:
            return
        else:
            yield Blocked(record)
