"""Noticing that a server's history may have gone back, and what is to be done then (spi.md rule 13)."""

from __future__ import annotations

import asyncio
import logging
from hashlib import blake2b
from typing import TYPE_CHECKING

from perdure.backends.redis import layout
from perdure.backends.redis.wire import Call

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from perdure.backends.redis.fleet import Fleet
    from perdure.backends.redis.keyspace import Keyspace
    from perdure.backends.redis.node import Node
    from perdure.backends.redis.script import Library
    from perdure.backends.redis.wire import Wire

logger = logging.getLogger(__name__)

LOOKS = 500
"""Executions that one script looks at."""


class Watch:
    """
    Compares the history each server is on with the one that its shards were last used under.

    `master_replid` names a history; a promoted replica begins another one, and so does a server that was started
    again. What was acknowledged just before may be lost then. Ownership stays safe by tokens and tips. But effects that
    one shard counts as carried out may be missing in another: before the new history is accepted, executions that live
    anywhere and ever had effects carry them out once more. Leases are given one more span, since nobody could renew.
    """

    def __init__(self, fleet: Fleet, keyspace: Keyspace, library: Library) -> None:
        self._fleet = fleet
        self._keyspace = keyspace
        self._library = library
        self._known: dict[int, str] = {}
        self._recovering: asyncio.Task[None] | None = None
        self.wire: Wire
        self.recoveries = 0

    def check(self, shard: int, node: Node) -> Awaitable[None] | None:
        """What to await before the shard is used, or None."""
        return None if self._known.get(shard) == node.replid else self.recover()

    async def recover(self) -> None:
        """Accept the histories the servers are on, all callers together. Raises `StoreError`."""
        if self._recovering is None:
            self._recovering = asyncio.create_task(self._recover())
            self._recovering.add_done_callback(self._recovered)
        await asyncio.shield(self._recovering)

    def _recovered(self, task: asyncio.Task[None]) -> None:
        self._recovering = None
        if not task.cancelled():
            task.exception()

    async def close(self) -> None:
        """Leave it to others."""
        if self._recovering is not None:
            self._recovering.cancel()
            await asyncio.wait({self._recovering})

    async def _recover(self) -> None:
        shards = range(self._keyspace.shards)
        if any(await layout.lay(self.wire, self._keyspace)) and self._known:
            logger.error("executions are gone: a server came back without what it had")
        kept = await self._read("replid")
        current = {shard: self._fleet.keeper(self._keyspace.layout_keys[shard]).replid for shard in shards}
        # A shard that lost everything does not even know under which history it was used.
        if any(kept.values()) and kept != current:
            logger.warning("a server was started again or replaced: effects are carried out once more")
            self.recoveries += 1
            event = blake2b(repr(sorted(current.items())).encode(), digest_size=16).hexdigest()
            done = await self._read("recovered")
            await asyncio.gather(*(self._recover_shard(shard, event) for shard in shards if done[shard] != event))
        await self._write("replid", {shard: current[shard] for shard in shards if kept[shard] != current[shard]})
        self._known = current

    async def _recover_shard(self, shard: int, event: str) -> None:
        await self._run(Call(shard, self._library["prolong"], (), ("lease",)))
        functions = await self._run(Call(shard, None, ("SMEMBERS", self._keyspace.of(shard, "functions"))))
        for function in sorted(functions):
            cursor = [b"", b""]
            while True:
                keys = (f"ix:RUNNING:{function.decode()}", "effect")
                call = Call(shard, self._library["recover"], (function, *cursor, LOOKS), keys, is_bulk=True)
                *cursor, _ = await self._run(call)
                if not cursor[0]:
                    break
        await self._write("recovered", {shard: event})

    async def _run(self, call: Call) -> list[bytes]:
        reply: list[bytes] = await self.wire.run(call, is_checked=False)
        return reply

    async def _read(self, name: str) -> dict[int, str]:
        shards = range(self._keyspace.shards)
        calls = [Call(shard, None, ("GET", self._keyspace.of(shard, name))) for shard in shards]
        await self.wire.run_all(calls, is_checked=False)
        return {call.shard: (call.reply or b"").decode() for call in calls}

    async def _write(self, name: str, values: dict[int, str]) -> None:
        calls = [Call(shard, None, ("SET", self._keyspace.of(shard, name), value)) for shard, value in values.items()]
        if calls:
            await self.wire.run_all(calls, is_checked=False)
