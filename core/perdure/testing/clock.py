"""Clocks a store can be given: callables that answer microseconds since the epoch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

Clock = Callable[[], int]
"""The time, in integer microseconds since the epoch."""

EPOCH = 1_750_000_000_000_000
"""Where a virtual clock begins unless told otherwise; any instant would do."""


def system_clock() -> int:
    """The time of this machine."""
    return time.time_ns() // 1000


class VirtualClock:
    """A clock that stands still until it is advanced; safe to share between threads."""

    def __init__(self, now: int = EPOCH) -> None:
        self._now = now
        self._lock = threading.Lock()

    def __call__(self) -> int:
        """The time it stands at."""
        return self._now

    def advance(self, span: int) -> None:
        """Go on by `span` microseconds; a negative one sets the clock back."""
        with self._lock:
            self._now += span
