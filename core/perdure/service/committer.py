"""
Group commit: what all executions of a process have queued goes to the store in one call per round trip.

There is no delay timer. While one batch is on its way the next one gathers; each commit in it is fenced on its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from perdure.errors import StoreError, StoreUnavailableError
from perdure.service.patience import patiently
from perdure.storage import Answer, Commit, CommitAnswer, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from perdure.storage import Store

BATCH_BYTES = 1 << 20

_Waiting = tuple[Commit, "asyncio.Future[CommitAnswer]"]


class Committer:
    """
    Sends the commits of many executions, one batch in flight.

    Each execution has at most one commit here at a time, which its owner sees to; so a batch never holds two of one.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: deque[_Waiting] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._retries: set[asyncio.Task[None]] = set()
        self.batches = 0
        self.commits = 0

    async def commit(self, commit: Commit) -> CommitAnswer:
        """
        The store's answer to one commit, never BUSY.

        Raises:
            StoreError: The store stayed unavailable, or failed for good. Whether the commit happened is not known;
                sending the same one again is safe.
        """
        answer: asyncio.Future[CommitAnswer] = asyncio.get_running_loop().create_future()
        self._queue.append((commit, answer))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all())
        return await answer

    async def _send_all(self) -> None:
        try:
            while self._queue:
                await self._settle(list(self._take()))
        finally:
            self._sender = None

    def _take(self) -> Iterator[_Waiting]:
        size = 0
        while self._queue:
            draft = self._queue[0][0].draft
            size += len(draft.body) if draft else 0
            yield self._queue.popleft()
            if size >= BATCH_BYTES:
                return

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
                _tell(waiter, answer)

    async def _halve(self, batch: Sequence[_Waiting]) -> None:
        """One offender spoils a whole batch: halving it finds the one, and only its execution hears of it."""
        middle = len(batch) // 2
        await self._settle(batch[:middle])
        await self._settle(batch[middle:])

    def _retry(self, commit: Commit, waiter: asyncio.Future[CommitAnswer]) -> None:
        """Send one whose execution is locked again, alone, while others go on."""
        task = asyncio.create_task(self._settle_alone(commit, waiter))
        self._retries.add(task)
        task.add_done_callback(self._retries.discard)

    async def _settle_alone(self, commit: Commit, waiter: asyncio.Future[CommitAnswer]) -> None:
        async def attempt() -> CommitAnswer:
            (answer,) = await self._send([commit])
            if answer is Answer.BUSY and not waiter.done():
                raise StoreUnavailableError(f"execution {commit.id!r} stays locked by somebody else; end what holds it")
            return answer

        try:
            _tell(waiter, await patiently(attempt))
        except Exception as error:  # noqa: BLE001 - as above
            _tell(waiter, error)

    async def _send(self, commits: list[Commit]) -> list[CommitAnswer]:
        self.batches += 1
        self.commits += len(commits)
        return await patiently(lambda: self._store.commit(commits))


def _tell(waiter: asyncio.Future[CommitAnswer], outcome: CommitAnswer | Exception) -> None:
    # A waiter that was cancelled meanwhile is done already.
    if waiter.done():
        return
    if isinstance(outcome, Exception):
        waiter.set_exception(outcome)
    else:
        waiter.set_result(outcome)
