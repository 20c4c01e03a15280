"""A store as one process of a simulation sees it, which can be crashed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from perdure import execution_id
from perdure.storage import Answer, Committed, Created

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from perdure.storage import Claim, Commit, CommitAnswer, Draft, Exists, New, Outdated, Store, Tip
    from perdure.testing.tally import Tally


@attrs.frozen
class Crash:
    """
    Where a process crashes.

    Attributes:
        number: Of a commit, from 1.
        is_in_front: It does not become durable; else it does, and nobody is told.
    """

    number: int
    is_in_front: bool = False


class Lifeline:
    """
    Between a process and its store: once it is cut, nothing that the process does reaches the store.

    The process finds itself fenced then, which ends what it does without a trace. Ids of executions are always the
    same, so that a run can be compared with another.

    Attributes:
        is_cut: Whether the process has crashed.
    """

    def __init__(self, store: Store, tally: Tally, crash: Crash | None = None) -> None:
        """
        Args:
            store: The store itself.
            tally: Told of every commit.
            crash: Where the process crashes.
        """
        self.is_cut = False
        self.quiet: Callable[[], Awaitable[None]] | None = None
        self._store = store
        self._tally = tally
        self._crash = crash

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._store, verb)

    def cut(self) -> None:
        """The process crashes now."""
        self.is_cut = True

    def new_id(self, function: str, name: str) -> str:
        """As `Store.new_id`, but the same again for the same arguments."""
        return execution_id.derived(function, name)

    async def commit(self, batch: Sequence[Commit]) -> list[CommitAnswer]:
        """As `Store.commit`, one after the other: a crash may come between two of a batch."""
        return [await self._commit(commit) for commit in batch]

    async def _commit(self, commit: Commit) -> CommitAnswer:
        if self.quiet is not None:
            # What an earlier commit has asked for elsewhere has come to pass before this one in every run, or in none.
            await self.quiet()
        crash = self._crash
        if crash is not None and crash.is_in_front and len(self._tally.commits) + 1 == crash.number:
            self.cut()
        if self.is_cut:
            return Answer.FENCED
        (answer,) = await self._store.commit([commit])
        if isinstance(answer, Committed):
            number = self._tally.committed(commit)
            if crash is not None and not crash.is_in_front and number == crash.number:
                self.cut()
                return Answer.FENCED
        return answer

    async def create(self, new: New, claim: Claim | None) -> Created | Exists | Outdated | Answer:
        """As `Store.create`."""
        if self.is_cut:
            return Answer.GONE
        answer = await self._store.create(new, claim)
        if isinstance(answer, Created):
            self._tally.created(new)
        return answer

    async def deliver(self, await_id: str, secret: str, draft: Draft, nonce: str) -> Answer:
        """As `Store.deliver`."""
        return Answer.CLOSED if self.is_cut else await self._store.deliver(await_id, secret, draft, nonce)

    async def settle(self, id: str, through: int, tip: Tip, epoch: int) -> Answer:
        """As `Store.settle`."""
        return Answer.FENCED if self.is_cut else await self._store.settle(id, through, tip, epoch)
