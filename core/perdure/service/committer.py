"""
Group commit: what all executions of a process have queued goes to the store in one call per round trip.

There is no delay timer. While one batch is on its way the next one gathers; each commit in it is fenced on its own.
Large bodies have a queue of their own, so that they take nobody's time but that of each other.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING, TypeAlias

from perdure.errors import StoreError, StoreUnavailableError
from perdure.service.patience import patiently
from perdure.storage import Answer, Commit, CommitAnswer, Rejected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from perdure.portal import Waiter
    from perdure.storage import Store

BATCH_BYTES = 1 << 20
LARGE_BYTES = 1 << 18
"""Larger bodies go alone, beside the batch that is on its way."""

Post: TypeAlias = "Callable[[Commit, Waiter[CommitAnswer]], None]"
_Waiting = tuple[Commit, "Waiter[CommitAnswer]"]


class Committer:
    """
    Sends the commits of many executions, one batch in flight, and beside it one large commit.

    Each execution has at most one commit here at a time, which its owner sees to; so a batch never holds two of one.
    """

    def __init__(self, store: Store, learn: Callable[[Commit, CommitAnswer], None] = lambda *_: None) -> None:
        self._store = store
        self._learn = learn
        # Of the store itself: what wraps one, and lets through what it does not know, must see all commits.
        self._post: Post | None = store.post if hasattr(type(store), "post") else None  # type: ignore[attr-defined]
        self._small: deque[_Waiting] = deque()
        self._large: deque[_Waiting] = deque()
        self._senders: dict[int, asyncio.Task[None]] = {}
        self._retries: set[asyncio.Task[None]] = set()
        self._counting = threading.Lock()
        self.batches = 0
        self.commits = 0

    @property
    def takes_posts(self) -> bool:
        """Whether `post` can be called: the store gathers commits itself."""
        return self._post is not None

    def post(self, commit: Commit, waiter: Waiter[CommitAnswer]) -> None:
        """One commit that brings nothing about, from any thread; it is sent once, whatever the store answers."""
        assert self._post is not None  # noqa: S101 - whoever posts has looked
        self._count(1)
        self._post(commit, waiter)

    async def commit(self, commit: Commit) -> CommitAnswer:
        """
        The store's answer to one commit, never BUSY.

        Raises:
            StoreError: The store stayed unavailable, or failed for good. Whether the commit happened is not known;
                sending the same one again is safe.
        """
        answer: asyncio.Future[CommitAnswer] = asyncio.get_running_loop().create_future()
        self.submit(commit, answer)
        return await answer

    def submit(self, commit: Commit, waiter: Waiter[CommitAnswer]) -> None:
        """The same for whoever waits elsewhere; on the store's loop."""
        queue = self._small if _size(commit) <= LARGE_BYTES else self._large
        queue.append((commit, waiter))
        if id(queue) not in self._senders:
            self._senders[id(queue)] = asyncio.create_task(self._send_all(queue))

    async def _send_all(self, queue: deque[_Waiting]) -> None:
        try:
            while queue:
                await self._settle([queue.popleft()] if queue is self._large else list(_take(queue)))
        finally:
            del self._senders[id(queue)]

    async def _settle(self, batch: Sequence[_Waiting]) -> None:
        try:
            answers = await self._send([commit for commit, _ in batch])
        except Exception as error:  # noqa: BLE001 - every waiter must learn of it, whatever it is
            if len(batch) > 1 and not isinstance(error, StoreError):
                await self._halve(batch)
                return
            for _, waiter in batch:
                _tell(waiter, error)
            return
        if len(batch) > 1 and any(isinstance(answer, Rejected) for answer in answers):
            await self._halve(batch)
            return
        for (commit, waiter), answer in zip(batch, answers, strict=True):
            if answer is Answer.BUSY:
                self._retry(commit, waiter)
            else:
                self._learn(commit, answer)
                _tell(waiter, answer)

    async def _halve(self, batch: Sequence[_Waiting]) -> None:
        """One offender spoils a whole batch: halving it finds the one, and only its execution hears of it."""
        middle = len(batch) // 2
        await self._settle(batch[:middle])
        await self._settle(batch[middle:])

    def _retry(self, commit: Commit, waiter: Waiter[CommitAnswer]) -> None:
        """Send one whose execution is locked again, alone, while others go on."""
        task = asyncio.create_task(self._settle_alone(commit, waiter))
        self._retries.add(task)
        task.add_done_callback(self._retries.discard)

    async def _settle_alone(self, commit: Commit, waiter: Waiter[CommitAnswer]) -> None:
        async def attempt() -> CommitAnswer:
            (answer,) = await self._send([commit])
            if answer is Answer.BUSY and not waiter.done():
                raise StoreUnavailableError(f"execution {commit.id!r} stays locked by somebody else; end what holds it")
            return answer

        try:
            answer = await patiently(attempt)
            self._learn(commit, answer)
            _tell(waiter, answer)
        except Exception as error:  # noqa: BLE001 - as above
            _tell(waiter, error)

    async def _send(self, commits: list[Commit]) -> list[CommitAnswer]:
        self._count(len(commits))
        return await patiently(lambda: self._store.commit(commits))

    def _count(self, commits: int) -> None:
        with self._counting:
            self.batches += 1
            self.commits += commits


def _size(commit: Commit) -> int:
    return len(commit.draft.body) if commit.draft else 0


def _take(queue: deque[_Waiting]) -> Iterator[_Waiting]:
    size = 0
    while queue and size < BATCH_BYTES:
        size += _size(queue[0][0])
        yield queue.popleft()


def _tell(waiter: Waiter[CommitAnswer], outcome: CommitAnswer | Exception) -> None:
    # A waiter that was cancelled meanwhile is done already.
    if waiter.done():
        return
    if isinstance(outcome, Exception):
        waiter.set_exception(outcome)
    else:
        waiter.set_result(outcome)
