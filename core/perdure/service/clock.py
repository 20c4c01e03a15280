"""The store's time, between two of its answers."""

from __future__ import annotations

import time


class StoreClock:
    """
    An estimate of the store's clock that is never ahead of it.

    Every answer that carries the store's time sets it; in between the process's monotonic clock carries it on. An
    answer is older when it is read than when it was made, so the estimate can only be late.
    """

    def __init__(self) -> None:
        self._base = 0
        self._read = 0

    def read(self, now: int) -> None:
        """Take note of an answer's time (µs)."""
        current = self.now()
        self._read = time.monotonic_ns()
        # Answers of concurrent calls may arrive out of order; time does not run backwards for that.
        self._base = max(now, current) if now > current - 1_000_000 else now

    def now(self) -> int:
        """The estimate, in µs since the epoch; 0 before the first answer."""
        if not self._base:
            return 0
        return self._base + (time.monotonic_ns() - self._read) // 1000
