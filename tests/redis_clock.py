"""A clock that stands still, kept in the server beside the store whose time it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import redis

from perdure.backends.redis.keyspace import layout_key
from perdure.testing.clock import VirtualClock

if TYPE_CHECKING:
    from perdure.backends.redis import Location

CLOCK = "local function clock() return tonumber(call('GET', P .. 'clock')) end"
"""Lua that reads it."""


class Clock(VirtualClock):
    """The time of all shards of a store."""

    def __init__(self, place: Location) -> None:
        super().__init__()
        if place.is_cluster:
            host, port = place.nodes[0]
            self._client = redis.RedisCluster(host, port, password=place.password)
        elif place.path is not None:
            self._client = redis.Redis(unix_socket_path=place.path, client_name=place.client_name)
        else:
            host, port = place.nodes[0]
            self._client = redis.Redis(host, port, password=place.password, client_name=place.client_name)
        self._keys = [f"{layout_key(place.namespace, shard)}:clock" for shard in range(place.default_shards)]
        self.advance(0)

    def advance(self, span: int) -> None:
        super().advance(span)
        for key in self._keys:
            self._client.set(key, self())

    def close(self) -> None:
        self._client.close()
