"""Verbs of one kind that come at the same time share a round trip."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from perdure.backends.postgres.fault import UnstorableError
from perdure.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable, Sequence

Item = TypeVar("Item")
Item_contra = TypeVar("Item_contra", contravariant=True)
Answer = TypeVar("Answer")

GROUP = 100
"""How many are sent at once."""
BYTES = 1 << 20
"""How many bytes of bodies."""


class _Send(Protocol[Item_contra, Answer]):
    def __call__(self, batch: Sequence[Item_contra], *, waits: bool) -> Coroutine[Any, Any, list[Answer | None]]: ...


class Lane(Generic[Item, Answer]):
    """
    Sends what is waiting the moment the answer to what was sent before has come; there is no delay timer.

    Args:
        send: Sends a batch and answers it, with None where something is locked; alone and with `waits` it answers
            everything.
        key: Of two items with the same key, the second one goes with a later batch; None if all may go together.
        size: Bytes of an item.
    """

    def __init__(
        self,
        send: _Send[Item, Answer],
        key: Callable[[Item], Hashable] | None = None,
        size: Callable[[Item], int] = lambda _: 0,
    ) -> None:
        self._send = send
        self._key = key
        self._size = size
        self._queue: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._others: set[asyncio.Task[None]] = set()

    async def submit(self, item: Item) -> Answer:
        """The answer to one item."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._queue.append((item, answer))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all())
        return await answer

    async def close(self) -> None:
        """End what is under way."""
        tasks = [task for task in (self._sender, *self._others) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while self._queue:
            _tell(self._queue.popleft()[1], _closed())

    async def _send_all(self) -> None:
        try:
            while self._queue:
                await self._settle(self._take())
        finally:
            self._sender = None

    def _take(self) -> list[tuple[Item, asyncio.Future[Answer]]]:
        batch: list[tuple[Item, asyncio.Future[Answer]]] = []
        later: list[tuple[Item, asyncio.Future[Answer]]] = []
        keys: set[Hashable] = set()
        size = 0
        while self._queue and len(batch) < GROUP and size < BYTES:
            item, answer = self._queue.popleft()
            if answer.done():
                continue
            if self._key is not None:
                key = self._key(item)
                if key in keys:
                    later.append((item, answer))
                    continue
                keys.add(key)
            size += self._size(item)
            batch.append((item, answer))
        self._queue.extendleft(reversed(later))
        return batch

    async def _settle(self, batch: Sequence[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._send([item for item, _ in batch], waits=False) if batch else []
        except UnstorableError as error:
            await self._halve(batch, error)
            return
        except asyncio.CancelledError:
            for _, waiter in batch:
                _tell(waiter, _closed())
            raise
        except Exception as error:  # noqa: BLE001 - every caller must learn of it, whatever it is
            answers = [error] * len(batch)  # type: ignore[list-item]
        for (item, waiter), answer in zip(batch, answers, strict=True):
            if answer is None:
                self._settle_alone(item, waiter)
            else:
                _tell(waiter, answer)

    async def _halve(self, batch: Sequence[tuple[Item, asyncio.Future[Answer]]], error: UnstorableError) -> None:
        """One offender spoils a whole batch: halving it finds the one."""
        if len(batch) == 1:
            _tell(batch[0][1], error)
            return
        middle = len(batch) // 2
        await self._settle(batch[:middle])
        await self._settle(batch[middle:])

    def _settle_alone(self, item: Item, waiter: asyncio.Future[Answer]) -> None:
        """Something is locked: wait for it, while others go on."""

        async def settle() -> None:
            try:
                answer = None
                # What stood in the way may have gone before it could be named.
                while answer is None:
                    (answer,) = await self._send([item], waits=True)
            except asyncio.CancelledError:
                _tell(waiter, _closed())
                raise
            except Exception as error:  # noqa: BLE001 - as above
                _tell(waiter, error)
            else:
                _tell(waiter, answer)

        task = asyncio.create_task(settle())
        self._others.add(task)
        task.add_done_callback(self._others.discard)


def _closed() -> StoreError:
    return StoreError("the PostgreSQL store was closed before it was answered; open it again")


def _tell(waiter: asyncio.Future[Any], outcome: Any) -> None:
    # A waiter that was cancelled meanwhile is done already.
    if waiter.done():
        return
    if isinstance(outcome, Exception):
        waiter.set_exception(outcome)
    else:
        waiter.set_result(outcome)
