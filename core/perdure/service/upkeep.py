"""What any process does for all executions: fire deadlines, free what the dead held, carry out effects, purge."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING

from perdure.journal.entry import FORMAT, Ended, Entry, Outcome, encode
from perdure.model import CallbackTimeoutType, ErrorObject, ExecutionStatus, OperationStatus
from perdure.service.agenda import Concern
from perdure.storage import MICROSECONDS, HintKind, Timeouts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from perdure.service.agenda import Alarm
    from perdure.service.service import Service
    from perdure.storage import Hint, Swept

LIMIT = 100
FALLBACK = 5.0
"""Seconds after which a shard is looked at though nothing is known to be due: others may have made it so."""
RUMOUR = MICROSECONDS
"""How soon (µs) to look when others are known to have done something, but not what."""
FIRST_PAUSE, LONGEST_PAUSE = MICROSECONDS // 500, MICROSECONDS // 4
"""
µs until the store is asked again that names an instant which has passed here, and found nothing: at first, and
at most. Its clock is behind, or somebody else has locked what is due.
"""


def _timed_out(message: str, kind: CallbackTimeoutType) -> bytes:
    return encode(Entry(outcome=Outcome(status=OperationStatus.TIMED_OUT, error=ErrorObject(message, kind.value))))


TIMEOUTS = Timeouts(
    callback=_timed_out("Callback timed out", CallbackTimeoutType.TIMEOUT),
    heartbeat=_timed_out("Callback timed out on heartbeat", CallbackTimeoutType.HEARTBEAT),
    execution=encode(Entry(ended=Ended(status=ExecutionStatus.TIMED_OUT))),
    format=FORMAT,
)


class Upkeep:
    """One process's part in it; several processes may do it at once."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._alarms: dict[Concern, list[Alarm]] = {}

    def open(self) -> list[tuple[Callable[[], Awaitable[None]], str]]:
        """Listen for what is to be done; returns what has to run all the time, each to be begun again if it fails."""
        routines: list[tuple[Callable[[], Awaitable[None]], str]] = []
        for concern, work in (
            (Concern.DEADLINE, self._expire),
            (Concern.LEASE, self._reap),
            (Concern.EFFECT, self._carry),
        ):
            alarms = self._alarms[concern] = self._service.agenda.open(concern)
            for shard, alarm in enumerate(alarms):
                alarm.ring()
                routines.append((partial(self._attend, alarm, partial(work, shard)), f"upkeep of {concern.value}"))
        return routines

    def close(self) -> None:
        """Undo `open`."""
        for alarms in self._alarms.values():
            self._service.agenda.close(alarms)
        self._alarms.clear()

    def hear(self, hint: Hint) -> None:
        """A hint may be about something to do."""
        agenda = self._service.agenda
        if hint.kind is HintKind.DIED:
            agenda.expect(Concern.LEASE, 0, hint.shard)
        elif hint.kind is HintKind.DUE and hint.id is None:
            # Somebody else wrote something: there may be deadlines that nobody here knows of.
            soon = self._service.clock.now() + RUMOUR
            agenda.expect(Concern.DEADLINE, soon, hint.shard)
            agenda.expect(Concern.EFFECT, soon, hint.shard)

    async def free_dead(self) -> int:
        """Free all that processes held which are known to be dead; returns how many executions."""
        return sum(await asyncio.gather(*[self._free(shard) for shard in range(self._service.store.shards)]))

    async def _free(self, shard: int) -> int:
        freed = 0
        while (swept := await self._service.store.reap(LIMIT, shard)).count >= LIMIT:
            freed += swept.count
        return freed + swept.count

    async def run(self) -> bool:
        """What is due now, a bounded amount of each; returns whether there may be more."""
        is_more = False
        for work in (self._expire, self._reap, self._carry):
            swept = await asyncio.gather(*[work(shard) for shard in range(self._service.store.shards)])
            is_more = is_more or any(some.count >= LIMIT for some in swept)
        return is_more

    async def purge(self) -> int:
        """Remove what is past its retention; returns how many executions."""
        return await self._service.purge(LIMIT)

    async def _attend(self, alarm: Alarm, work: Callable[[], Awaitable[Swept]]) -> None:
        """Do one kind of work on one shard whenever there is some."""
        pause = 0
        while True:
            await alarm.wait(FALLBACK * random.uniform(0.8, 1.2))  # noqa: S311 - spreads processes, no secret
            try:
                swept = await work()
            except BaseException:
                alarm.ring()
                raise
            now = self._service.clock.now()
            is_overdue = swept.next is not None and swept.next <= now
            pause = min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE) if is_overdue and not swept.count else 0
            if swept.count >= LIMIT:
                alarm.ring()
            else:
                alarm.set(now + pause if is_overdue else swept.next)

    async def _expire(self, shard: int) -> Swept:
        swept = await self._service.store.expire(LIMIT, TIMEOUTS, shard)
        if swept.count:
            # What has ended has a parent, perhaps, who learns of it from whoever comes first.
            self._service.agenda.expect(Concern.EFFECT, 0, shard)
        return swept

    async def _reap(self, shard: int) -> Swept:
        swept = await self._service.store.reap(LIMIT, shard)
        if swept.count:
            # They may have left effects undone, too; and hints that something is due get lost.
            self._service.agenda.expect(Concern.EFFECT, 0, shard)
            self._service.agenda.expect(Concern.CLAIM, 0, shard)
        return swept

    async def _carry(self, shard: int) -> Swept:
        return await self._service.carrier.carry_due(LIMIT, shard)
