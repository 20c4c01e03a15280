"""The wait: nothing happens until the service says that the time has come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.engine.commands import Blocked, Checkpoint
from perdure.errors import ValidationError
from perdure.model import OperationAction, WaitOptions

if TYPE_CHECKING:
    from perdure.duration import Duration
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


def wait_seconds(duration: Duration) -> int:
    """
    The seconds of a wait.

    Raises:
        ValidationError: It is shorter than the service can wait.
    """
    seconds = duration.to_seconds()
    if seconds < 1:
        message = f"a wait of {seconds} s was asked for, where the shortest is 1 s; leave it out"
        raise ValidationError(message)
    return seconds
