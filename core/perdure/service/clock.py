"""The store's time, between two of its answers."""

from __future__ import annotations

import time


class StoreClock:
    """
    An estimate of the store's clock that is hardly ever ahead of it.

    Every answer that carries the store's time says between which bounds it is: it cannot be earlier than what was
    answered, nor further on than if that had been answered as soon as it was asked. In between the process's monotonic
    clock carries it on. The estimate is the latest lower bound of all answers, so that it is as late as the fastest
    answer was slow; that it is ahead, the store's clock having been set back, the next answer's upper bound tells.
    """

    def __init__(self) -> None:
        # Threads may write it at the same time: one answer may be lost, and the next one puts that right.
        self._ahead: int | None = None

    def read(self, now: int, asked: int | None = None) -> None:
        """
        Take note of an answer's time.

        Args:
            now: The store's time (µs).
            asked: When it was asked, by `time.monotonic_ns`; just now, unless given.
        """
        received = time.monotonic_ns()
        least, most = now * 1000 - received, now * 1000 - (received if asked is None else asked)
        known = self._ahead
        self._ahead = least if known is None else min(max(known, least), most)

    def now(self) -> int:
        """The estimate, in µs since the epoch; 0 before the first answer."""
        ahead = self._ahead
        return 0 if ahead is None else (time.monotonic_ns() + ahead) // 1000
