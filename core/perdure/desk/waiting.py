"""Waiting for a result where the caller is, its thread or its loop."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from perdure.desk.answer import not_in_time
from perdure.portal import Promise, Reply, store_portal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perdure.desk.answer import ExecutionReference
    from perdure.desk.port import Desk
    from perdure.portal import Waiter


class Teller(Protocol):
    """What a `Desk` may be besides: one that need not be asked for every result."""

    def listen(self, execution: ExecutionReference, waiter: Waiter[str | None]) -> Callable[[], None] | None:
        """
        Have somebody told what `result` would answer, or raise; called in any thread, and done at once.

        Returns:
            What ends that, to be called in any thread too; None where `result` has to be asked.
        """
        ...


def blocking_result(desk: Desk, execution: ExecutionReference, timeout: float | None) -> str | None:
    """As `Desk.result`, for a thread that waits."""
    reply: Reply[str | None] = Reply()
    leave = _listen(desk, execution, reply)
    if leave is None:
        return store_portal().call(desk.result(execution, timeout))
    with _until_told(execution, timeout, leave):
        return reply.wait(timeout)


async def awaited_result(desk: Desk, execution: ExecutionReference, timeout: float | None) -> str | None:
    """As `Desk.result`, on any loop."""
    promise: Promise[str | None] = Promise()
    leave = _listen(desk, execution, promise)
    if leave is None:
        return await store_portal().ask(desk.result(execution, timeout))
    with _until_told(execution, timeout, leave):
        async with asyncio.timeout(timeout):
            return await promise


@contextmanager
def _until_told(execution: ExecutionReference, timeout: float | None, leave: Callable[[], None]) -> Iterator[None]:
    """Around the wait of somebody who listens: who does not wait to the end leaves."""
    try:
        yield
    except TimeoutError:
        leave()
        raise not_in_time(execution, timeout) from None
    except BaseException:
        leave()
        raise


def _listen(
    desk: Desk | Teller, execution: ExecutionReference, waiter: Waiter[str | None]
) -> Callable[[], None] | None:
    # Of the desk itself: what stands for one, and answers to everything, may have to be asked.
    return desk.listen(execution, waiter) if hasattr(type(desk), "listen") else None  # type: ignore[union-attr]
