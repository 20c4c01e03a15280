"""What becomes of executions whose invocations do not end cleanly."""

from __future__ import annotations

import attrs

from perdure.storage import MICROSECONDS, Keep, Suspend


@attrs.frozen(kw_only=True)
class CrashPolicy:
    """
    What follows invocations that do not end cleanly.

    The first one is repeated at once, later ones in a row after a growing pause (seconds); after `limit` of them the
    execution is quarantined: visible, and left alone until somebody resumes it.
    """

    limit: int = 5
    first_pause: float = 1.0
    factor: float = 4.0
    longest_pause: float = 300.0

    def then(self, crashes: int) -> Keep | Suspend:
        """What becomes of an execution when its `crashes`-th crash in a row is recorded."""
        if crashes >= self.limit:
            return Suspend(clean=False, quarantine=True)
        if crashes == 1:
            return Keep()
        pause = min(self.first_pause * self.factor ** (crashes - 2), self.longest_pause)
        return Suspend(wake_after=int(pause * MICROSECONDS), clean=False)
