"""
The threads of a process that run user code, and the one that sends what nobody waits for.

Executions, branches and bodies have pools of their own: in a shared one, executions that wait for their branches
would take every thread and wait for ever.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

EXECUTIONS = 1024
BRANCHES = 1024
BODIES = 256
SENDERS = 16
IDLE_SECONDS = 10.0

FLUSH_INTERVAL = 0.05


class Pool:
    """
    Daemon threads: as many as there is work, at most `cap`; one that finds none for a while ends.

    Work is taken in the order in which it was submitted. It must not raise. However much is submitted, one thread at
    a time is called to it, which calls the next before it begins: a crowd of them would only wait for the interpreter.
    """

    def __init__(self, name: str, cap: int, idle_seconds: float = IDLE_SECONDS, *, helped: bool = False) -> None:
        """
        Args:
            name: Of the threads.
            cap: Of how many there may be.
            idle_seconds: After which one that finds no work ends.
            helped: Whoever submits does the work itself while the pool is saturated.
        """
        self._name = name
        self._cap = cap
        self._idle_seconds = idle_seconds
        self._helped = helped
        self._changed = threading.Condition(threading.Lock())
        self._queue: deque[Callable[[], object]] = deque()
        self._idle = self._threads = 0
        self._is_called = self._starved = False

    def submit(self, work: Callable[[], object]) -> None:
        """Have a thread do `work`, now or when one is free."""
        with self._changed:
            self._queue.append(work)
            is_new = self._call()
        if is_new:
            self._start()

    @property
    def saturated(self) -> bool:
        """Whether work is queued that no thread is free to take."""
        with self._changed:
            return len(self._queue) > self._idle and (self._threads >= self._cap or self._starved)

    def lose(self) -> None:
        """The calling thread, one of this pool, will not come back: another may take its place."""
        with self._changed:
            self._threads -= 1
            is_new = self._call()
        if is_new:
            self._start()

    def _call(self) -> bool:
        """Call a thread to what is queued, unless one is on its way; whether it is yet to be started."""
        if self._is_called or not self._queue:
            return False
        if self._idle:
            self._is_called = True
            self._changed.notify()
            return False
        if self._threads >= self._cap:
            return False
        self._is_called = True
        self._threads += 1
        return True

    def _start(self) -> None:
        try:
            threading.Thread(target=self._serve, name=self._name, daemon=True).start()
            self._starved = False
        except RuntimeError:
            # The system has no more threads: what is queued waits for those there are.
            with self._changed:
                self._is_called = False
                self._threads -= 1
                self._starved = True
                if not self._threads and not self._helped:
                    self._queue.clear()
                    raise

    def _serve(self) -> None:
        _own.pool = self
        with self._changed:
            self._is_called = False
        while (work := self._next()) is not None:
            work()
            del work

    def _next(self) -> Callable[[], object] | None:
        with self._changed:
            self._idle += 1
            while not self._queue:
                is_called = self._changed.wait(self._idle_seconds)
                # Also if time is up: it may have been called at that very moment, and then nobody else is.
                self._is_called = False
                if not is_called and not self._queue:
                    self._idle -= 1
                    self._threads -= 1
                    return None
            self._idle -= 1
            work = self._queue.popleft()
            is_new = self._call()
        if is_new:
            self._start()
        return work


_own = threading.local()


def park() -> NoReturn:
    """Give up the calling thread: whatever it is in the middle of never goes on."""
    pool: Pool | None = getattr(_own, "pool", None)
    if pool is not None:
        pool.lose()
    while True:
        time.sleep(3600)


class Flushable(Protocol):
    """Something with updates that nobody waits for."""

    def flush(self) -> None:
        """Send those that have been queued for too long. Called by the flusher's thread; must not block."""
        ...


class Flusher:
    """
    One thread per process that looks after all running invocations, so that nothing is armed per step.

    It exists while there are invocations, and for a while after.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._members: set[Flushable] = set()
        self._running = False

    def add(self, member: Flushable) -> None:
        """Look after `member` from now on."""
        with self._lock:
            self._members.add(member)
            if self._running:
                return
            self._running = True
        try:
            threading.Thread(target=self._scan, name="perdure-flusher", daemon=True).start()
        except RuntimeError:  # the system has no more of them
            with self._lock:
                self._running = False
                self._members.discard(member)
            raise

    def discard(self, member: Flushable) -> None:
        """Look after it no more."""
        with self._lock:
            self._members.discard(member)

    def _scan(self) -> None:
        deadline = time.monotonic() + IDLE_SECONDS
        while True:
            with self._lock:
                members = tuple(self._members)
                if not members and time.monotonic() > deadline:
                    self._running = False
                    return
            if members:
                deadline = time.monotonic() + IDLE_SECONDS
            for member in members:
                with suppress(RuntimeError):  # there is no thread to send with; another round comes
                    member.flush()
            time.sleep(FLUSH_INTERVAL)


class Threads:
    """
    The pools of a process.

    Attributes:
        executions: Run the workflows' own bodies.
        branches: Run branches of parallel and map.
        bodies: Run the `def` bodies of steps of `async def` workflows.
        senders: Send what the flusher finds.
        flusher: Finds what has waited too long.
    """

    def __init__(self, *, executions: int = EXECUTIONS, branches: int = BRANCHES) -> None:
        """
        Args:
            executions: How many workflows run at a time; more are queued.
            branches: How many branches run at a time in all executions; at the cap, a batch runs its branches one by
                one on the thread that called it.
        """
        self.executions = Pool("perdure-execution", executions)
        self.branches = Pool("perdure-branch", branches, helped=True)
        self.bodies = Pool("perdure-body", BODIES)
        self.senders = Pool("perdure-sender", SENDERS)
        self.flusher = Flusher()


_shared: Threads | None = None
_lock = threading.Lock()


def shared_threads() -> Threads:
    """The pools that invocations use unless they are given others."""
    global _shared  # noqa: PLW0603 - made once per process, and again in a forked child
    with _lock:
        if _shared is None:
            _shared = Threads()
        return _shared


def _forget() -> None:
    global _shared, _lock
    _shared, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
