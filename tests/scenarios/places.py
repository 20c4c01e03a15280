"""The stores of servers on which scenarios are played, with a time that can be skipped as the stage's clock is."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import redis

from perdure.backends.postgres import PostgresStore
from perdure.backends.postgres import migrate as migrate_postgres
from perdure.backends.redis import Location, RedisStore
from perdure.backends.redis.keyspace import layout_key
from tests import servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.scenarios.stage import SkippingClock

POSTGRES_CLOCK = """
create table {schema}.skipped (span bigint);
insert into {schema}.skipped values (0);
create or replace function {schema}.clock() returns bigint language sql volatile
return (extract(epoch from clock_timestamp()) * 1000000)::bigint + (select span from {schema}.skipped);
"""
REDIS_CLOCK = """
local function clock()
  local time = call('TIME')
  return time[1] * 1000000 + time[2] + (call('GET', P .. 'skipped') or 0)
end
"""


class PostgresPlace:
    """
    One schema for all scenarios of a process, as making one takes longer than most scenarios do.

    Args:
        url: Of a schema that is there already.
        server: The server's own URL.
    """

    def __init__(self, url: str, server: servers.Postgres) -> None:
        # A third of what a scenario costs would be connections that it can do without.
        self._url = servers.with_options(url, pool_size=2)
        self._server = server
        asyncio.run(migrate_postgres(url))
        self._schema = PostgresStore(url).location.schema
        self._admin = psycopg.connect(server.server.url, autocommit=True)
        self._run(POSTGRES_CLOCK)
        tables = self._admin.execute("select tablename from pg_tables where schemaname = %s", (self._schema,))
        kept = {"skipped", "migration"}
        self._emptying = "".join(f"delete from {{schema}}.{table};" for (table,) in tables if table not in kept)

    def close(self) -> None:
        self._admin.close()

    @contextmanager
    def store(self) -> Iterator[Callable[[SkippingClock], PostgresStore]]:
        """What makes a store that is empty; whoever still uses it afterwards is in the wrong."""
        yield self._make
        self._server.expect_none(self._schema)

    def _make(self, clock: SkippingClock) -> PostgresStore:
        self._run(self._emptying)
        clock.follow = self._skip
        self._skip(0)
        return PostgresStore(self._url)

    def _skip(self, span: int) -> None:
        self._run(f"update {{schema}}.skipped set span = {span}")

    def _run(self, script: str) -> None:
        self._admin.execute(script.replace("{schema}", self._schema))


@contextmanager
def redis_store(url: str) -> Iterator[Callable[[SkippingClock], RedisStore]]:
    """What makes a store at a URL; the span that was skipped is a key of each shard."""
    place = Location.parse(url)
    keys = [f"{layout_key(place.namespace, shard)}:skipped" for shard in range(place.default_shards)]
    client = (
        redis.Redis(unix_socket_path=place.path)
        if place.path
        else redis.Redis(*place.nodes[0], password=place.password)
    )

    def make(clock: SkippingClock) -> RedisStore:
        clock.follow = lambda span: client.mset(dict.fromkeys(keys, span))
        return RedisStore(place, clock=REDIS_CLOCK)

    try:
        yield make
    finally:
        client.close()
