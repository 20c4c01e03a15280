"""The Redis backend: durable executions in a Redis or Valkey server, or a cluster."""

from __future__ import annotations

from perdure.backends.redis.location import Location
from perdure.backends.redis.store import RedisStore
from perdure.storage import Backend, mask

__all__ = ["Location", "RedisStore", "backend"]


def backend(url: str) -> Backend:
    """
    The backend of `redis://host:6379/0`, `rediss://…`, `unix:///path/to/socket` or `redis+cluster://host:6379`.

    Options are those of `Location`, and redis-py's for TLS.

    Raises:
        BackendUrlError: The URL names no place, or an option that does not exist.
    """
    return Backend(url=mask(url), store=RedisStore(Location.parse(url)))
