"""The wait: nothing happens until the service says that the time has come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.duration import Duration, require_duration
from perdure.engine.commands import Blocked, Checkpoint
from perdure.engine.ids import description
from perdure.errors import ValidationError
from perdure.model import OperationAction, OperationSubType, OperationType, WaitOptions

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


def wait_seconds(duration: Duration, name: str | None = None) -> int:
    """
    The seconds of a wait.

    Args:
        duration: As the author has given it.
        name: Of the wait.

    Raises:
        ValidationError: It is none, or shorter than the service can wait.
    """
    if isinstance(duration, Duration) and duration.seconds >= 1:
        return duration.seconds
    what = description(OperationType.WAIT, OperationSubType.WAIT, name)
    require_duration(f"the duration of {what}", duration)
    raise ValidationError(f"{what} is to last {duration.seconds} s, where the shortest lasts 1 s; leave it out")
