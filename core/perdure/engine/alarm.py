"""When an async driver has to act though nothing happens: the passing of time, as far as it matters to a driver."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from datetime import datetime

    from perdure.engine.settings import Settings

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 30.0
"""Seconds between two questions whether time has changed something; doubled while it has not."""


class Alarm:
    """One timer of the host's loop, armed only while bodies run."""

    def __init__(self, host: asyncio.AbstractEventLoop, settings: Settings, ring: Callable[[], object]) -> None:
        """
        Args:
            host: The loop.
            settings: The clock that the service's instants are compared with, and how long updates may stay unsent.
            ring: Called back.
        """
        self._host = host
        self._now = settings.now
        self._flush_age = settings.flush_age
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None
        self._answered = host.time()
        self._pause = FIRST_PAUSE

    @property
    def armed(self) -> bool:
        """Whether it will ring."""
        return self._handle is not None

    def arm(self, unsent: float, due: datetime | None) -> None:
        """
        Ring in time.

        Args:
            unsent: Seconds for which the oldest update without a waiter has been queued; 0 if there is none.
            due: When time alone changes a record that is waited for, or None.
        """
        delays = []
        if unsent and self._flush_age < inf:
            delays.append(self._flush_age - unsent)
        if due is not None:
            delays.append(self._left(due))
        if not delays:
            return
        moment = self._host.time() + max(0.0, min(delays))
        if self._handle is not None:
            if self._handle.when() <= moment:
                return
            self._handle.cancel()
        self._handle = self._host.call_at(moment, self._rang)

    def cancel(self) -> None:
        """Do not ring any more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def is_due(self, moment: datetime | None) -> bool:
        """Whether the service is to be asked about a record that time should have changed at `moment`."""
        if moment is None or self._left(moment) > 0:
            return False
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        return True

    def is_overdue(self, unsent: float) -> bool:
        """Whether an update without a waiter that has been queued for so many seconds is to be sent by itself."""
        return unsent >= self._flush_age

    def answered(self) -> None:
        """The service has answered."""
        self._answered = self._host.time()

    def changed(self) -> None:
        """A record that was waited for has changed."""
        self._pause = FIRST_PAUSE

    def same_millisecond(self) -> float:
        """Seconds that are left of the millisecond after the last answer."""
        return max(0.0, self._answered + 0.001 - self._host.time())

    def _left(self, due: datetime) -> float:
        # The service's clock decides. Ours may be ahead of it: then it is asked again, less and less often.
        return max(self._answered + self._pause - self._host.time(), (due - self._now()).total_seconds())

    def _rang(self) -> None:
        self._handle = None
        self._ring()
