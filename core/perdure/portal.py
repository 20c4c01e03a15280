"""Event loops in threads of their own, and the bridges to them."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from concurrent.futures import Future

_T = TypeVar("_T")


class Portal:
    """
    An event loop that runs in a daemon thread of its own, started when first used.

    A process has two: `store_portal()` does store I/O, commits and lease renewals, and user code never runs there;
    `host_portal()` runs the asynchronous step bodies and workflows of users.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The running loop."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                ready = threading.Event()
                self._loop.call_soon(ready.set)
                self._thread = threading.Thread(target=self._loop.run_forever, name=self._name, daemon=True)
                self._thread.start()
                ready.wait()
            return self._loop

    @property
    def is_here(self) -> bool:
        """Whether the calling thread is the loop's own."""
        return threading.current_thread() is self._thread

    def submit(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Start a coroutine there, from any thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """
        Run a coroutine there and wait for it; it is cancelled if the wait is interrupted.

        Raises:
            RuntimeError: The calling thread is the loop's own, which would wait for itself.
        """
        if self.is_here:
            work.close()
            raise RuntimeError(f"thread {self._name!r} would wait for itself for ever; await the coroutine instead")
        future = self.submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def ask(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine there and await it, from whatever loop."""
        if self.is_here:
            return await work
        return await asyncio.wrap_future(self.submit(work))


_PORTALS: dict[str, Portal] = {}
_LOCK = threading.Lock()


def _portal(name: str) -> Portal:
    with _LOCK:
        return _PORTALS.setdefault(name, Portal(name))


def store_portal() -> Portal:
    """The process's portal for store I/O."""
    return _portal("perdure-store")


def host_portal() -> Portal:
    """The process's portal for asynchronous user code."""
    return _portal("perdure-host")


def _forget() -> None:
    global _LOCK  # noqa: PLW0603 - a thread of the parent process may have held it
    # The threads of a parent process do not exist in its forked child.
    _LOCK = threading.Lock()
    _PORTALS.clear()


try:
    from os import register_at_fork
except ImportError:  # pragma: no cover - no fork, nothing to forget
    pass
else:
    register_at_fork(after_in_child=_forget)
