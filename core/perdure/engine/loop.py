"""
The event loop that the code of one `async def` workflow runs on.

It knows nothing but `call_soon`: no time, no sockets, no threads. An empty queue therefore means that the workflow
waits for operations and for nothing else, and everything on the loop happens in the same order on every replay.

It has no thread and never blocks. The driver enters it from callbacks of the host's loop, never inside a task of the
host: CPython 3.14 keeps one current task per thread.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
from collections import deque
from contextlib import suppress
from contextvars import copy_context
from itertools import count
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from perdure.errors import ControlSignal, NotDurableError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
    from contextvars import Context

    from perdure.engine.future import Waiter

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

SPIN_LIMIT = 100_000
"""Callbacks that one delivery may cause."""

CLOSE_LIMIT = 100
"""How often a coroutine is asked to end before it is given up."""

logger = logging.getLogger("perdure.engine")

_buried: list[object] = []
"""Coroutines that would not end. Collecting them would only make CPython ask, and complain, once more."""


class DurableTask(asyncio.Task[T]):
    """A task that sets of tasks order by number, not by address, hence alike on every replay."""

    def __init__(self, coro: Coroutine[Any, Any, T], *, loop: DurableLoop, name: str | None, context: Context) -> None:
        number = next(loop.task_numbers)
        self._number = number
        self.context = context
        super().__init__(coro, loop=loop, name=name or f"task-{number}", context=context)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class LoopFuture(asyncio.Future[T]):
    """A plain future of the loop, ordered in the same way."""

    def __init__(self, *, loop: DurableLoop) -> None:
        self._number = next(loop.future_numbers)
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class DurableLoop(asyncio.AbstractEventLoop):
    """
    An event loop of one workflow.

    What asyncio builds on tasks and futures alone works: `gather`, `shield`, `TaskGroup`, `wait`, `as_completed`,
    `Queue`, `Lock`, `Event`, `Semaphore`, `sleep(0)`, `wait_for(…, None)`, `timeout(None)`, async generators. All
    else raises `NotDurableError`, which names the durable way. Bare coroutines in a set are the one thing that is
    ordered by address: make tasks of what goes into `as_completed`.

    Attributes:
        task_numbers, future_numbers, operation_numbers: Count what has been made, each kind for itself.
    """

    def __init__(self) -> None:
        self.task_numbers = count(1)
        self.future_numbers = count(1)
        self.operation_numbers = count(1)
        self._ready: deque[asyncio.Handle | Waiter] = deque()
        self._tasks: set[DurableTask[Any]] = set()
        self._dropped_generators: list[AsyncGenerator[Any, Any]] = []
        self._closed = False
        self._inside: int | None = None
        self._outside: tuple[asyncio.AbstractEventLoop | None, Any] = None, ()

    # ------------------------------------------------------------------------------------------ for the driver

    def enter(self) -> None:
        """Be the running loop of this thread, until `leave`."""
        self._outside = asyncio._get_running_loop(), sys.get_asyncgen_hooks()  # noqa: SLF001 - made for event loops
        asyncio._set_running_loop(self)  # noqa: SLF001
        self._inside = get_ident()
        sys.set_asyncgen_hooks(firstiter=None, finalizer=self._dropped)

    def leave(self) -> None:
        """Let the loop that was running before run on."""
        self._inside = None
        host, hooks = self._outside
        asyncio._set_running_loop(host)  # noqa: SLF001
        sys.set_asyncgen_hooks(*hooks)

    def drain(self) -> None:
        """
        Run what is ready until nothing is; inside the loop.

        Raises:
            NotDurableError: The workflow spins.
            KeyboardInterrupt, SystemExit: As workflow code raised them.
        """
        ready = self._ready
        left = SPIN_LIMIT
        while ready:
            left -= 1
            if not left:
                message = (
                    f"the workflow ran {SPIN_LIMIT} callbacks without an operation being completed; "
                    "await an operation instead of spinning on sleep(0)"
                )
                raise NotDurableError(message)
            handle = ready.popleft()
            if not handle._cancelled:  # noqa: SLF001 - as asyncio's own loops do
                handle._run()  # noqa: SLF001

    def resume(self, waiter: Waiter) -> bool:
        """
        Let the task of a waiter go on after what is ready now; False if nothing goes on any more.

        Raises:
            NotDurableError: As `call_soon`.
        """
        if self._closed:
            return False
        self._check_inside()
        self._ready.append(waiter)
        return True

    def _check_inside(self) -> None:
        if self._inside != get_ident():
            raise refusal("call_soon", "from outside the workflow's own code; return a value from a step instead")

    def abandon(self, signal: ControlSignal) -> None:
        """
        End whatever is left by raising `signal` in it, the youngest task first.

        Nothing runs on this loop any more, and nothing complains of not having run.
        """
        if self._closed:
            return
        self._closed = True
        self._ready.clear()
        if self._tasks or self._dropped_generators:
            self.enter()
            try:
                self._end_all(signal)
            finally:
                self.leave()

    def _end_all(self, signal: ControlSignal) -> None:
        ended: list[DurableTask[Any]] = []
        while self._tasks:
            task = max(self._tasks, key=hash)
            self._tasks.discard(task)
            if not task.done():
                end_coroutine(task.context, task.get_coro(), signal)
                ended.append(task)
        while self._dropped_generators:
            closing = self._dropped_generators.pop().aclose()
            with suppress(BaseException):  # nobody is left to be told
                closing.send(None)
                closing.close()
        for task in ended:
            # It and the future that it waited for would keep each other.
            task.cancel()

    # ----------------------------------------------------------------------------------------- for asyncio

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """
        Run the callback after what is ready now.

        Raises:
            NotDurableError: Called by other code than this loop's own: by a thread, or by the body of a step.
        """
        handle = asyncio.Handle(callback, args, self, context)
        if self._closed:
            handle.cancel()
        else:
            self._check_inside()
            self._ready.append(handle)
        return handle

    def create_future(self) -> LoopFuture[Any]:
        """A future of this loop."""
        return LoopFuture(loop=self)

    def create_task(  # type: ignore[override]
        self,
        coro: Awaitable[T],
        *,
        name: str | None = None,
        context: Context | None = None,
        eager_start: bool | None = None,  # noqa: ARG002 - accepted, started lazily: one order on every version
    ) -> asyncio.Task[T]:
        """A task that awaits any awaitable, so also a durable future."""
        if not asyncio.iscoroutine(coro):
            if not inspect.isawaitable(coro):
                message = f"a task was asked of {coro!r}, which is no awaitable"
                raise TypeError(message)
            coro = _outcome_of(coro)
        task = DurableTask(coro, loop=self, name=name, context=copy_context() if context is None else context)
        self._tasks.add(task)
        if not self._closed:
            task.add_done_callback(self._tasks.discard, context=task.context)
        return task

    def is_running(self) -> bool:
        """Whether code of this loop runs right now."""
        return self._inside == get_ident()

    def is_closed(self) -> bool:
        """Whether its workflow's run is over."""
        return self._closed

    def get_debug(self) -> bool:
        """Never."""
        return False

    def set_debug(self, enabled: bool) -> None:
        """Has no effect."""

    def get_task_factory(self) -> None:
        """None: tasks are of the loop's own making."""

    def get_exception_handler(self) -> None:
        """None: what nobody catches is logged."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Log an error that no code of the workflow has looked at."""
        error = context.get("exception")
        if not self._closed and not isinstance(error, ControlSignal):
            logger.error("%s", context.get("message"), exc_info=error)

    default_exception_handler = call_exception_handler

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """There are no timers."""

    def _dropped(self, generator: AsyncGenerator[Any, Any]) -> None:
        # Kept until the end: when a generator is collected differs from run to run, and so would its `finally`.
        if not self._closed:
            self._dropped_generators.append(generator)


async def _outcome_of(awaitable: Awaitable[T]) -> T:
    return await awaitable


def end_coroutine(context: Context, coroutine: Any, signal: ControlSignal) -> None:
    """Raise `signal` in a coroutine until it has ended; one that will not end is given up."""
    # Not close(): before CPython 3.13 that left an async generator that awaits as it was, its `finally` not run.
    for _ in range(CLOSE_LIMIT):
        try:
            context.run(coroutine.throw, signal)
        except BaseException:  # noqa: BLE001 - the end, and nobody is left to be told how
            return
        finally:
            signal.__traceback__ = signal.__context__ = None
    logger.error("%r swallows every signal to end; it is given up and stays in memory", coroutine)
    _buried.append(coroutine)


def refusal(method: str, instead: str) -> NotDurableError:
    """The error for a method of event loops that would not give the same on replay."""
    return NotDurableError(f"workflow code called {method}() of its event loop {instead}")


_TIMING = (
    "for time, as asyncio.sleep() and timeouts do, which replay cannot repeat; "
    "use context.wait(), and context.now() for the time"
)
_RUNNING = "that its invocation drives; await instead"
_WAYS = {
    **dict.fromkeys(("time", "call_later", "call_at"), _TIMING),
    **dict.fromkeys(("run_forever", "run_until_complete", "stop", "close", "shutdown_asyncgens"), _RUNNING),
    "run_in_executor": "for a thread, whose outcome replay cannot repeat; run that code in context.step()",
    "call_soon_threadsafe": "for another thread, whose moment replay cannot repeat; run that code in context.step()",
    "set_task_factory": "to make its tasks otherwise; they are ordered for replay and stay as they are",
}
_DEFAULT_WAY = "for the outside world, which replay cannot repeat; do that in context.step()"


def _refuse(method: str) -> Callable[..., Any]:
    instead = _WAYS.get(method, _DEFAULT_WAY)

    def refused(*_: Any, **__: Any) -> Any:
        raise refusal(method, instead)

    return refused


# Whatever else this version of asyncio has, or a later one brings, is refused as well.
for _name in vars(asyncio.AbstractEventLoop):
    if not _name.startswith("__") and _name not in vars(DurableLoop):
        setattr(DurableLoop, _name, _refuse(_name))
del _name
