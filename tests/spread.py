"""A store of several shards as one of a single shard, and the memory store in several shards to compare it with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.storage import Answer, Claimed, Leases, Swept, Unsettled
from perdure.testing.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable

ROUTED = ("create", "entries", "deliver", "heartbeat", "signal", "settle", "describe")
PASSED = ("open", "close", "new_id", "child_id", "shard_of", "register", "functions", "commit", "find", "list", "watch")


class Spread:
    """Asks one shard after the other, as long as the limit is not reached."""

    shards = 1

    def __init__(self, store: Any, shards: int) -> None:
        self.store = store
        self._shards = range(shards)

    def __getattr__(self, name: str) -> Any:
        if name in (*ROUTED, *PASSED):
            return getattr(self.store, name)
        raise AttributeError(name)

    async def claim(self, owner, number, token, functions, limit, format):
        headers, wakes, now = [], [], 0
        for shard in self._shards:
            left = limit - len(headers)
            answer = await self.store.claim(owner, number, token, functions, left, format, shard)
            if not isinstance(answer, Claimed):
                return answer
            headers += answer.headers
            wakes.append(answer.next_wake)
            now = answer.now
        return Claimed(tuple(headers), now, _least(wakes))

    async def renew(self, owner):
        answers = [await self.store.renew(owner, shard) for shard in self._shards]
        if any(answer is Answer.LEASE_LOST for answer in answers):
            return Answer.LEASE_LOST
        return [held for answer in answers for held in answer]

    async def expire(self, limit, timeouts):
        return await self._sweep(limit, lambda left, shard: self.store.expire(left, timeouts, shard))

    async def reap(self, limit):
        return await self._sweep(limit, self.store.reap)

    async def _sweep(self, limit: int, sweep: Callable[[int, int], Any]) -> Swept:
        count, nexts = 0, []
        for shard in self._shards:
            swept = await sweep(limit - count, shard)
            count += swept.count
            nexts.append(swept.next)
        return Swept(count, _least(nexts))

    async def unsettled(self, limit):
        answers = [await self.store.unsettled(limit, shard) for shard in self._shards]
        headers = sorted((header for answer in answers for header in answer.headers), key=lambda header: header.id)
        return Unsettled(tuple(headers), _least([answer.next for answer in answers]))

    async def purge(self, limit):
        return sum([await self.store.purge(limit, shard) for shard in self._shards])

    async def leases(self):
        answers = [await self.store.leases(shard) for shard in self._shards]
        return Leases(tuple(lease for answer in answers for lease in answer.leases), answers[0].now)


class ShardedMemory:
    """Memory stores, one per shard; `shard_of` says which execution is where."""

    def __init__(self, clock: Callable[[], int], shards: int, shard_of: Callable[[str], int]) -> None:
        self._stores = [MemoryStore(clock) for _ in range(shards)]
        self._shard_of = shard_of

    def __getattr__(self, name: str) -> Any:
        if name in ROUTED:
            return lambda first, *rest: getattr(self._at(getattr(first, "id", first)), name)(first, *rest)
        raise AttributeError(name)

    def _at(self, id: str) -> MemoryStore:
        return self._stores[self._shard_of(id.partition("/")[0])]

    async def register(self, owner, functions, lease):
        answers = {await store.register(owner, functions, lease) for store in self._stores}
        return Answer.LEASE_LOST if Answer.LEASE_LOST in answers else Answer.OK

    async def commit(self, batch):
        return [answer for commit in batch for answer in await self._at(commit.id).commit([commit])]

    async def list(self, query):
        found = [header for store in self._stores for header in await store.list(query)]
        found.sort(key=lambda header: (header.created, header.id), reverse=not query.oldest_first)
        return found[: query.limit]

    async def claim(self, *arguments):
        *rest, shard = arguments
        return await self._stores[shard].claim(*rest)

    async def renew(self, owner, shard):
        return await self._stores[shard].renew(owner)

    async def expire(self, limit, timeouts, shard):
        return await self._stores[shard].expire(limit, timeouts)

    async def reap(self, limit, shard):
        return await self._stores[shard].reap(limit)

    async def unsettled(self, limit, shard):
        return await self._stores[shard].unsettled(limit)

    async def purge(self, limit, shard):
        return await self._stores[shard].purge(limit)

    async def leases(self, shard):
        return await self._stores[shard].leases()


def _least(instants):
    return min((instant for instant in instants if instant is not None), default=None)
