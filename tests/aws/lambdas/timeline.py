"""Virtual time for AWS's emulator: what it schedules happens one thing after the other, when the test says so."""

from __future__ import annotations

import asyncio
import heapq
import inspect
import itertools
import threading
import time
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta

BEGINNING = datetime(2100, 1, 1, tzinfo=UTC)
"""Far ahead of the wall clock, by which branches are resumed within an invocation: time passes only between them."""
TICK = timedelta(microseconds=1)


class Timeline:
    """
    Scheduler and clock of the emulator in one.

    Nothing scheduled runs while something else does: timers never overtake the invocation that set them.

    Attributes:
        is_real: Whether time is that of the wall clock, and passes while an invocation runs.
    """

    def __init__(self) -> None:
        self.is_real = False
        self._now = BEGINNING
        self._lock = threading.Lock()
        self._order = itertools.count()
        self._due = []
        self._loop = asyncio.new_event_loop()

    def close(self):
        """Nothing scheduled will happen."""
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def forget(self):
        """Nothing of what is scheduled will happen, as what belongs to tests that are over."""
        self.is_real = False
        with self._lock:
            self._due.clear()

    def step(self):
        """Let the next thing happen; whether there was one."""
        while True:
            with self._lock:
                if not self._due:
                    return False
                at, _, func, future = heapq.heappop(self._due)
                if not future.set_running_or_notify_cancel():
                    continue
                self._now = max(self._now, at)
            if self.is_real:
                time.sleep(max((at - datetime.now(UTC)).total_seconds(), 0.0))
            result = func()
            if inspect.isawaitable(result):
                result = self._loop.run_until_complete(result)
            future.set_result(result)
            return True

    def overtake(self):
        """Let happen what is due by now, though something else does: timers overtake the invocation that set them."""
        while True:
            with self._lock:
                if not self._due or self._due[0][0] > self._now:
                    return
                _, _, func, future = heapq.heappop(self._due)
                if not future.set_running_or_notify_cancel():
                    continue
            result = func()
            # Its own loop: that of `step` runs already.
            future.set_result(asyncio.run(result) if inspect.iscoroutine(result) else result)

    # ------------------------------------------------------------------------------------------------------- clock

    def now(self):
        """The time; no two readings of virtual time are equal."""
        if self.is_real:
            return datetime.now(UTC)
        with self._lock:
            self._now += TICK
            return self._now

    def elapse(self, span):
        """Let time pass without anything happening that is due meanwhile."""
        with self._lock:
            self._now += span

    def arm(self, wake):
        """Seconds until then."""
        return max((wake - self.now()).total_seconds(), 0.0)

    # --------------------------------------------------------------------------------------------------- scheduler

    def call_later(self, func, delay=0, count=1, completion_event=None):
        """Have `func` called in so many seconds of virtual time."""
        assert count == 1
        future = Future()
        at = self.now() + timedelta(seconds=delay)
        with self._lock:
            heapq.heappush(self._due, (at, next(self._order), func, future))
        return future

    def create_event(self):
        """What is set at the end of an execution; nobody waits for it."""
        return threading.Event()
