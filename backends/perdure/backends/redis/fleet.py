"""Which server keeps which shard."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from redis.crc import key_slot
from redis.exceptions import ResponseError

from perdure.backends.redis.fault import translate
from perdure.backends.redis.node import Address, Node
from perdure.errors import StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perdure.backends.redis.keyspace import Keyspace
    from perdure.backends.redis.lane import Counter
    from perdure.backends.redis.location import Location
    from perdure.backends.redis.script import Library


class Fleet:
    """
    The servers of a store: one, or the masters of a cluster.

    A single server keeps all shards. In a cluster the hash slots of the shards' keys say where they are; that is asked
    for at the beginning, when a server says that a slot is elsewhere, and when one is lost.
    """

    def __init__(self, location: Location, library: Library, counter: Counter, lost: Callable[[], None]) -> None:
        self._location = location
        self._library = library
        self._counter = counter
        self._lost = lost
        self._nodes: dict[Address, Node] = {}
        self._slots: dict[int, Node] = {}
        self._refreshing: asyncio.Task[None] | None = None
        self._is_stale = location.is_cluster
        self._keyspace: Keyspace | None = None
        self._only = None if location.is_cluster else self._node(location.path or location.nodes[0])

    def _node(self, address: Address) -> Node:
        node = self._nodes.get(address)
        if node is None:
            node = Node(address, self._location, self._library, self._counter, self._note_loss)
            self._nodes[address] = node
        return node

    def _note_loss(self, node: Node) -> None:  # noqa: ARG002 - whichever it was
        self.doubt()
        self._lost()

    @property
    def place(self) -> str:
        """As messages show it."""
        return self._location.place

    @property
    def is_cluster(self) -> bool:
        """Whether shards may be at different servers."""
        return self._only is None

    @property
    def nodes(self) -> list[Node]:
        """Those that keep shards."""
        return [self._only] if self._only else list(dict.fromkeys(self._slots.values()))

    async def open(self) -> None:
        """Connect. Raises `StoreError`."""
        if self._only is not None:
            await self._only.main.ready()
        else:
            await self.refresh()

    async def close(self) -> None:
        """Let go of all connections."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait({self._refreshing})
        for node in self._nodes.values():
            await node.close()

    def doubt(self) -> None:
        """Ask where the slots are before they are used again."""
        self._is_stale = self._location.is_cluster

    async def settle(self) -> None:
        """Ask where the slots are if that is in doubt. Raises `StoreError`."""
        if self._is_stale:
            await self.refresh()

    def keeper(self, layout_key: str) -> Node:
        """
        The server that keeps a shard, by the name of its permanent key.

        Raises:
            StoreUnavailableError: Nobody keeps it at the moment.
        """
        if self._only is not None:
            return self._only
        node = self._slots.get(key_slot(layout_key.encode()))
        if node is None:
            self._is_stale = True
            raise StoreUnavailableError(f"no node of the cluster at {self._location.place} keeps {layout_key!r} now")
        return node

    def assign(self, keyspace: Keyspace) -> None:
        """Tell each server one of the keys it keeps, now and whenever they move."""
        self._keyspace = keyspace
        for key in keyspace.layout_keys:
            with suppress(StoreUnavailableError):
                self.keeper(key).keep(key)

    def at(self, address: str) -> Node:
        """The server of a redirection, `host:port`."""
        host, _, port = address.rpartition(":")
        return self._node((host, int(port)))

    def redirect(self, layout_key: str, address: str) -> None:
        """A shard is at another server than thought."""
        if self._only is None:
            self._slots[key_slot(layout_key.encode())] = self.at(address)
            self._is_stale = True

    async def refresh(self) -> None:
        """Ask anew where the slots are, all callers together. Raises `StoreError`."""
        if self._only is not None:
            return
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._refresh())
            self._refreshing.add_done_callback(self._refreshed)
        await asyncio.shield(self._refreshing)

    def _refreshed(self, task: asyncio.Task[None]) -> None:
        self._refreshing = None
        if not task.cancelled():
            task.exception()

    async def _refresh(self) -> None:
        failure: Exception = StoreUnavailableError(f"nobody at {self._location.place} knows the cluster")
        for address in dict.fromkeys([*self._nodes, *self._location.nodes]):
            node = self._node(address)
            try:
                await node.main.ready()
                (reply,) = await node.main.exchange([("CLUSTER", "SLOTS")])
            except StoreError as error:
                failure = error if error.retryable or not self._slots else failure
                continue
            if isinstance(reply, ResponseError):
                failure = translate(reply, node.place)
                continue
            self._learn(reply, address)
            return
        raise failure

    def _learn(self, ranges: Sequence[Any], asked: Address) -> None:
        slots: dict[int, Node] = {}
        for first, last, master, *_ in ranges:
            host = master[0].decode() if master[0] else asked[0]
            node = self._node((host, master[1]))
            slots.update(dict.fromkeys(range(first, last + 1), node))
        self._slots = slots
        self._is_stale = False
        if self._keyspace is not None:
            self.assign(self._keyspace)
