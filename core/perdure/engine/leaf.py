"""
Where the bodies of steps, submitters and checks of an `async def` workflow run: outside of the workflow's loop.

Coroutine functions run on the host's loop, everything else in a thread; an awaitable that a thread brings back is
awaited on the host's loop.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from inspect import CO_COROUTINE, isawaitable, iscoroutinefunction
from typing import TYPE_CHECKING, Any

from perdure.engine.commands import Raised, Returned
from perdure.engine.replay import Aborted
from perdure.engine.scope import ACTIVE, Leaf
from perdure.engine.threads import shared_threads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextvars import Context
    from typing import TypeAlias

    from perdure.engine.commands import Call, Outcome

    Ended: TypeAlias = Callable[[Outcome | Aborted], object]


class Bodies:
    """The bodies that one invocation has running on a host loop."""

    def __init__(self, host: asyncio.AbstractEventLoop) -> None:
        self._host = host
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, call: Call, variables: Context, ended: Ended) -> None:
        """
        Run a body; `ended` is called back on the host loop, in no task.

        It is given an `Aborted` when the body neither returned nor failed, but ended the invocation.
        """
        context = variables.copy()
        context.run(ACTIVE.set, Leaf.INSIDE)
        if is_async(call.body):
            self._await(partial(call.body, *call.args), context, ended)
        else:
            shared_threads().bodies.submit(partial(self._in_thread, call, context, ended))

    def cancel(self) -> None:
        """Nobody waits for what still runs: cancel what can be."""
        for task in self._tasks:
            task.cancel()

    async def join(self) -> None:
        """Wait until no coroutine of a body runs any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _await(self, body: Callable[[], Awaitable[Any]], context: Context, ended: Ended) -> None:
        task = self._host.create_task(_outcome(body), context=context)
        self._tasks.add(task)
        task.add_done_callback(partial(self._leave_task, ended))

    def _leave_task(self, ended: Ended, task: asyncio.Task[Outcome | Aborted]) -> None:
        self._tasks.discard(task)
        ended(Aborted(asyncio.CancelledError()) if task.cancelled() else task.result())

    def _in_thread(self, call: Call, context: Context, ended: Ended) -> None:
        outcome = context.run(_called, call)
        with suppress(RuntimeError):  # the host loop has been closed
            self._host.call_soon_threadsafe(self._returned, context, ended, outcome)

    def _returned(self, context: Context, ended: Ended, outcome: Outcome | Aborted) -> None:
        if isinstance(outcome, Returned) and isawaitable(outcome.value):
            awaitable = outcome.value
            self._await(lambda: awaitable, context, ended)
            return
        ended(outcome)


def is_async(body: Callable[..., Any]) -> bool:
    """Whether calling `body` only makes a coroutine."""
    code = getattr(body, "__code__", None)
    if code is not None and code.co_flags & CO_COROUTINE:
        return True
    return iscoroutinefunction(body) or iscoroutinefunction(getattr(body, "__call__", None))  # noqa: B004


def _called(call: Call) -> Outcome | Aborted:
    try:
        return Returned(call.body(*call.args))
    except BaseException as error:  # noqa: BLE001 - an exit must not end the pool's thread
        return _ended(error)


async def _outcome(body: Callable[[], Awaitable[Any]]) -> Outcome | Aborted:
    try:
        return Returned(await body())
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
    return Raised(error if isinstance(error, Exception) else failure(error))


def failure(error: BaseException) -> Exception:
    """The ordinary error that stands for one that is none, such as a CancelledError nobody asked for."""
    stand_in = RuntimeError(f"{type(error).__name__} was raised{f': {error}' if str(error) else ''}")
    stand_in.__cause__ = error
    return stand_in
