"""What any process does for all executions: fire deadlines, free what the dead held, carry out effects, purge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.journal.entry import FORMAT, Ended, Entry, Outcome, encode
from perdure.model import CallbackTimeoutType, ErrorObject, ExecutionStatus, OperationStatus
from perdure.storage import Timeouts

if TYPE_CHECKING:
    from perdure.service.service import Service

LIMIT = 100


def _timed_out(message: str, kind: CallbackTimeoutType) -> bytes:
    return encode(Entry(outcome=Outcome(status=OperationStatus.TIMED_OUT, error=ErrorObject(message, kind.value))))


TIMEOUTS = Timeouts(
    callback=_timed_out("Callback timed out", CallbackTimeoutType.TIMEOUT),
    heartbeat=_timed_out("Callback timed out on heartbeat", CallbackTimeoutType.HEARTBEAT),
    execution=encode(Entry(ended=Ended(status=ExecutionStatus.TIMED_OUT))),
    format=FORMAT,
)


class Upkeep:
    """One round of upkeep after another; several processes may do it at once."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def free_dead(self) -> int:
        """Free all that processes held which are known to be dead; returns how many executions."""
        store = self._service.store
        freed = 0
        for shard in range(store.shards):
            while (some := await store.reap(LIMIT, shard)) >= LIMIT:
                freed += some
            freed += some
        return freed

    async def run(self) -> bool:
        """What is due now, a bounded amount of each; returns whether there may be more."""
        store = self._service.store
        expired = [await store.expire(LIMIT, TIMEOUTS, shard) for shard in range(store.shards)]
        await self.free_dead()
        is_more = await self._service.carrier.carry_due(LIMIT)
        return is_more or max(expired) >= LIMIT

    async def purge(self) -> int:
        """Remove what is past its retention; returns how many executions."""
        return await self._service.purge(LIMIT)
