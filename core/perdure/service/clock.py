"""The store's time, between two of its answers."""

from __future__ import annotations

import time


class StoreClock:
    """
    An estimate of the store's clock that is hardly ever ahead of it.

    Every answer that carries the store's time sets it; in between the process's monotonic clock carries it on. An
    answer is older when it is read than when it was made, so the estimate is late, also right after the store's clock
    was set back. Only where the monotonic clock runs faster it is ahead, until the next answer.
    """

    def __init__(self) -> None:
        # One value, as threads may read it while the store's loop sets it.
        self._known = 0, 0

    def read(self, now: int) -> None:
        """Take note of an answer's time (µs)."""
        # Not the later of both: an estimate that is ahead would never come back, and fire timers before their time.
        self._known = now, time.monotonic_ns()

    def now(self) -> int:
        """The estimate, in µs since the epoch; 0 before the first answer."""
        base, read = self._known
        return base and base + (time.monotonic_ns() - read) // 1000
