"""
The worker: runs durable functions on a backend, as many executions at once as it has slots.

Embedded in an application (`with Worker(…)`) or as a process of its own (`perdure worker app`). Everything but user
code happens on the process's store loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Self

from perdure.adapters.shift import Shift
from perdure.durable import require_function
from perdure.errors import ValidationError
from perdure.portal import store_portal
from perdure.service.connection import Connection
from perdure.storage import FunctionVersion

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from perdure.durable import DurableFunction
    from perdure.storage import Backend, Store

logger = logging.getLogger(__name__)

_STOPPED = 0
LOOK = 0.5
"""Seconds after which a waiting main thread looks whether a signal has come that did not wake it."""


class Worker:
    """
    Runs durable functions on a backend.

    Use it in `with` or `async with`, `start` and `stop` it, or let it `run` as all that a process does.

    Args:
        backend: A URL, or what `open_backend` returned, or a store.
        functions: What `@durable_execution` returned; no two with the same name and version.
        concurrency: How many executions run at once, at most: many get more done together, a few are each sooner done.
        lease: Seconds for which this process is believed alive without a sign; renewed every third of it.
        drain_timeout: Seconds that `stop` waits for running step bodies.
    """

    def __init__(
        self,
        backend: str | Backend | Store,
        functions: Sequence[DurableFunction[Any, Any]],
        *,
        concurrency: int = 32,
        lease: float = 30.0,
        drain_timeout: float = 30.0,
    ) -> None:
        _check("concurrency", concurrency, 1)
        _check("lease", lease, 0.1)
        _check("drain_timeout", drain_timeout, 0)
        self._functions = _by_version(functions)
        self._connection = Connection(backend)
        self._concurrency = concurrency
        self._lease = lease
        self._drain_timeout = drain_timeout
        self._orders: SimpleQueue[int] = SimpleQueue()
        self._shift: Shift | None = None
        self._turn = asyncio.Lock()
        self._pid = os.getpid()

    def start(self) -> None:
        """Begin to work, in the background."""
        store_portal().call(self._start())

    def stop(self) -> None:
        """
        Drain: claim nothing more, end running invocations at their next operation, let go of everything.

        Waits for running step bodies up to `drain_timeout`; what does not end by then is left to the next owner.
        """
        self._orders.put(_STOPPED)
        store_portal().call(self._stop())

    def run(self) -> None:
        """
        Work until `stop` is called, SIGTERM or SIGINT arrives (in the main thread), then drain.

        A second signal ends the draining at once.
        """
        # Its `put` may interrupt anything, itself included; an Event's `set` in a signal handler may deadlock.
        orders = self._orders = SimpleQueue()
        previous: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                previous[number] = signal.signal(number, lambda sent, _: orders.put(sent))
        try:
            self.start()
            try:
                if sent := _next(orders):
                    logger.info("signal %s: draining; a second one ends that", sent)
            finally:
                self._drain(orders)
        finally:
            for each, handler in previous.items():
                signal.signal(each, handler)

    def _drain(self, orders: SimpleQueue[int]) -> None:
        stopping = store_portal().submit(self._stop())
        stopping.add_done_callback(lambda _: orders.put(_STOPPED))
        if _next(orders) and self._shift is not None:
            store_portal().loop.call_soon_threadsafe(self._shift.hurry)
        stopping.result()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await store_portal().ask(self._start())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._orders.put(_STOPPED)
        await store_portal().ask(self._stop())

    async def _start(self) -> None:
        self._forget_parent()
        async with self._turn:
            if self._shift is not None:
                return
            await self._connection.open()
            shift = Shift(self._connection.service, self._functions, self._concurrency, self._lease)
            try:
                await shift.begin()
            except BaseException:
                await self._connection.close()
                raise
            self._shift = shift

    async def _stop(self) -> None:
        self._forget_parent()
        async with self._turn:
            if self._shift is None:
                return
            try:
                await self._shift.end(self._drain_timeout)
            finally:
                self._shift = None
                await self._connection.close()

    def _forget_parent(self) -> None:
        """In a forked child nothing of this worker runs: it may be started here, and has nothing to stop."""
        if self._pid != os.getpid():
            self._pid, self._shift, self._turn = os.getpid(), None, asyncio.Lock()


def _next(orders: SimpleQueue[int]) -> int:
    # A signal that comes just before the wait begins, as while this thread waits for its turn, does not interrupt it.
    while True:
        with suppress(Empty):
            return orders.get(timeout=LOOK)


def _check(what: str, value: float, least: float) -> None:
    if not value >= least:
        raise ValidationError(f"{what} is at least {least}, not {value!r}")


def _by_version(
    functions: Sequence[DurableFunction[Any, Any]],
) -> dict[FunctionVersion, DurableFunction[Any, Any]]:
    found: dict[FunctionVersion, DurableFunction[Any, Any]] = {}
    for function in functions:
        require_function(function)
        version = FunctionVersion(function.name, function.version)
        if found.setdefault(version, function) is not function:
            raise ValidationError(
                f"two functions are called {version.name!r} in version {version.version!r}; give one another name="
            )
    if not found:
        raise ValidationError("a worker needs at least one function decorated with @durable_execution")
    return found
