"""
When there is something to be done next, as far as this process knows.

Nobody asks a store every few moments whether something is due. Whoever has to look at something sleeps until the
instant that the store named when it was last asked, or one that this process has itself brought about since; hints, and
a look now and then, tell of what others bring about.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING

from perdure.storage import MICROSECONDS, Committed, Suspend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.service.clock import StoreClock
    from perdure.storage import Commit, CommitAnswer, Header, Store

BLIND = 0.05
"""Seconds between two looks at a clock that the store has not set yet."""


class Concern(Enum):
    """What falls due."""

    CLAIM = "executions to be claimed"
    DEADLINE = "deadlines of awaits and executions"
    LEASE = "leases that run out"
    EFFECT = "effects that were left undone"


class Alarm:
    """Wakes whoever has to look at one concern of one shard."""

    def __init__(self, clock: StoreClock) -> None:
        self._clock = clock
        self._at: int | None = None
        self._sooner = asyncio.Event()

    def set(self, at: int | None) -> None:
        """Wake at that instant of the store's clock, if not before; None changes nothing."""
        if at is not None and (self._at is None or at < self._at):
            self._at = at
            self._sooner.set()

    def ring(self) -> None:
        """Wake at once."""
        self.set(0)

    async def wait(self, longest: float) -> None:
        """Wait for that instant, or so many seconds; it is forgotten then."""
        loop = asyncio.get_running_loop()
        end = loop.time() + longest
        while (pause := min(end - loop.time(), self._pause())) > 0:
            self._sooner.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._sooner.wait()
        self._at = None

    def _pause(self) -> float:
        if self._at is None or self._at <= 0:
            return float("inf") if self._at is None else 0
        now = self._clock.now()
        return (self._at - now) / MICROSECONDS if now else BLIND


class Agenda:
    """Hands what this process learns to those of its alarms that it concerns; on the store's loop."""

    def __init__(self, store: Store, clock: StoreClock) -> None:
        self._store = store
        self._clock = clock
        self._alarms: dict[Concern, list[Sequence[Alarm]]] = defaultdict(list)

    def open(self, concern: Concern) -> list[Alarm]:
        """An alarm for every shard."""
        alarms = [Alarm(self._clock) for _ in range(self._store.shards)]
        self._alarms[concern].append(alarms)
        return alarms

    def close(self, alarms: Sequence[Alarm]) -> None:
        """Nobody waits for these any more."""
        for opened in self._alarms.values():
            opened[:] = [others for others in opened if others is not alarms]

    def expect(self, concern: Concern, at: int | None, shard: int | None = None) -> None:
        """Something will be due at that instant, in that shard; in which one is unknown with None."""
        for alarms in self._alarms[concern]:
            for alarm in alarms if shard is None else alarms[shard : shard + 1]:
                alarm.set(at)

    def expect_end(self, header: Header) -> None:
        """An execution may run out of time."""
        if header.deadline is not None:
            self.expect(Concern.DEADLINE, header.deadline, self.shard_of(header.id))

    def learn(self, commit: Commit, answer: CommitAnswer) -> None:
        """What a commit of this process will bring about."""
        if not isinstance(answer, Committed):
            return
        for opened in commit.opens:
            spans = [span for span in (opened.timeout, opened.heartbeat) if span is not None]
            if spans:
                self.expect(Concern.DEADLINE, answer.at + min(spans), self.shard_of(commit.id))
        then = commit.then
        if isinstance(then, Suspend) and not then.quarantine:
            after = None if then.wake_after is None else answer.at + then.wake_after
            has_unseen = answer.length > commit.seen + (commit.draft is not None)
            for at in (then.wake_at, after, 0 if has_unseen else None):
                self.expect(Concern.CLAIM, at, self.shard_of(commit.id))

    def shard_of(self, id: str) -> int:
        """Which shard keeps an execution."""
        return self._store.shard_of(id) if self._store.shards > 1 else 0
