"""
Where user code of an `async def` workflow runs.

The bodies of contexts run on the workflow's own loop. Those of steps, submitters and checks run outside of it:
coroutine functions on the host's loop, everything else in a thread; an awaitable that a thread brings back is awaited
on the host's loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack
from contextvars import copy_context
from functools import partial
from inspect import CO_COROUTINE, isawaitable, iscoroutinefunction
from typing import TYPE_CHECKING, Any

import attrs

from perdure.engine.commands import Raised, Returned, stand_in
from perdure.engine.replay import Aborted
from perdure.engine.scope import ACTIVE, Leaf
from perdure.engine.threads import shared_threads
from perdure.errors import ContextMisuseError, ControlSignal

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context
    from typing import TypeAlias

    from perdure.engine.commands import Call, Outcome

    Ended: TypeAlias = Callable[[Outcome | Aborted], object]


class Bodies:
    """
    The bodies of steps, submitters and checks of one invocation.

    Attributes:
        running: How many there are.
        variables: The context variables of the invocation, for callbacks that other threads ask for.
    """

    def __init__(self, host: asyncio.AbstractEventLoop) -> None:
        self.running = 0
        self.variables = copy_context()
        self._host = host
        self._tasks: set[asyncio.Task[Any]] = set()
        self._over = False

    def start(self, call: Call, variables: Context, ended: Ended) -> None:
        """
        Run a body; `ended` is called back on the host loop, in no task.

        It is given an `Aborted` when the body neither returned nor failed, but ended the invocation.
        """
        self.running += 1
        context = variables.copy()
        context.run(ACTIVE.set, Leaf.INSIDE)
        if is_async(call.body):
            self._await(call, context, ended)
        else:
            shared_threads().bodies.submit(partial(self._in_thread, call, context, ended))

    def cancel(self) -> None:
        """Nobody waits for what still runs: cancel what can be."""
        self._over = True
        for task in self._tasks:
            task.cancel()

    def _await(self, call: Call, context: Context, ended: Ended) -> None:
        task = self._host.create_task(_outcome(call), context=context)
        self._tasks.add(task)
        task.add_done_callback(partial(self._leave_task, ended))

    def _leave_task(self, ended: Ended, task: asyncio.Task[Outcome | Aborted]) -> None:
        self._tasks.discard(task)
        self.running -= 1
        ended(Aborted(asyncio.CancelledError()) if task.cancelled() else task.result())

    def _in_thread(self, call: Call, context: Context, ended: Ended) -> None:
        watch = ExitStack()
        outcome = context.run(_called, call, watch)
        try:
            returned = partial(self._returned, call, context, ended, outcome, watch)
            self._host.call_soon_threadsafe(returned, context=self.variables)
        except RuntimeError:  # the host loop has been closed
            _discard(outcome)

    def _returned(
        self, call: Call, context: Context, ended: Ended, outcome: Outcome | Aborted, watch: ExitStack
    ) -> None:
        if not isinstance(outcome, Returned) or not isawaitable(outcome.value):
            self.running -= 1
            ended(outcome)
        elif not self._over:
            awaitable = outcome.value
            self._await(attrs.evolve(call, body=lambda *_: awaitable, watch=watch), context, ended)
        else:
            self.running -= 1
            _discard(outcome)


def is_async(body: Callable[..., Any]) -> bool:
    """Whether calling `body` only makes a coroutine."""
    code = getattr(body, "__code__", None)
    if code is not None and code.co_flags & CO_COROUTINE:
        return True
    if getattr(body, "_original_is_async", False):  # made by `durable_step` of a coroutine function
        return True
    return iscoroutinefunction(body) or iscoroutinefunction(getattr(body, "__call__", None))  # noqa: B004


def _called(call: Call, watch: ExitStack) -> Outcome | Aborted:
    """What came of calling a body; if that is an awaitable, `watch` is to be left when it has been awaited."""
    try:
        with ExitStack() as left_here:
            left_here.enter_context(call.watch)
            value = call.body(*call.args)
            if isawaitable(value):
                watch.push(left_here.pop_all().__exit__)
        return Returned(value)
    except BaseException as error:  # noqa: BLE001 - an exit must not end the pool's thread
        return _ended(error)


async def _outcome(call: Call) -> Outcome | Aborted:
    try:
        with call.watch:
            return Returned(await call.body(*call.args))
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return _ended(error)
    except BaseException as error:  # noqa: BLE001 - an exit must not end the host's loop
        return _ended(error)


def _ended(error: BaseException) -> Outcome | Aborted:
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        return Aborted(error)
    return Raised(error if isinstance(error, Exception) else stand_in(error))


def _discard(outcome: Outcome | Aborted) -> None:
    if isinstance(outcome, Returned) and isinstance(outcome.value, Coroutine):
        outcome.value.close()


async def body_of_context(call: Call, context: Any) -> Any:
    """The body of a context, which may return any awaitable."""
    with call.watch:
        outcome = call.body(context, *call.args)
        return await outcome if isawaitable(outcome) else outcome


def outcome_of_context(task: asyncio.Task[Any]) -> Outcome:
    """What came of it."""
    if task.cancelled():
        return Raised(stand_in(asyncio.CancelledError()))
    error = task.exception()
    if error is None:
        return Returned(task.result())
    if isinstance(error, ControlSignal):
        message = "a body awaited an operation of a context that has ended; await operations in their own context"
        return Raised(ContextMisuseError(message))
    return Raised(error if isinstance(error, Exception) else stand_in(error))
