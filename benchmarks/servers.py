"""The servers that systems run on: one of each kind for a campaign, fresh data for every cell."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redis
from psycopg import sql

from perdure.adapters.ephemeral import PostgresServer, RedisServer, ValkeyServer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from perdure.adapters.ephemeral import Server

# Durable as users have them: PostgreSQL syncs every commit, Redis once a second.
KINDS: Mapping[str, tuple[type[Server], bool]] = {
    "postgres": (PostgresServer, True),
    "redis": (RedisServer, False),
    "valkey": (ValkeyServer, False),
}


class Servers:
    """
    Starts servers when they are first needed, stops them at the end; a context manager.

    Args:
        folder: Where their data lie.
        given: URLs of servers to use instead, by store. In PostgreSQL a database is made for each cell; in Redis the
            URL's database must be empty, and is emptied for each cell.
    """

    def __init__(self, folder: Path, given: Mapping[str, str]) -> None:
        self._folder = folder
        self._urls = dict(given)
        self._given = set(given)
        self._running = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._running.close()

    def fresh(self, store: str, folder: Path, tag: str) -> str:
        """
        The URL of an empty store.

        Raises:
            PerdureError: The server cannot be started.
            ValueError: A Redis that was given is not empty.
        """
        if store == "memory":
            return "memory://"
        if store == "sqlite":
            return f"sqlite:///{folder / 'store.db'}"
        url = self._url(store)
        if store == "postgres":
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(tag)))
            return _with_database(url, tag)
        with _redis(url) as client:
            client.flushdb()
        return url

    def clear(self, store: str, tag: str) -> None:
        """Remove what a cell has left."""
        if store == "postgres" and store in self._urls:
            with psycopg.connect(self._urls[store], autocommit=True) as connection:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(tag)))
        elif store in KINDS and store in self._urls:
            with _redis(self._urls[store]) as client:
                client.flushdb()

    def _url(self, store: str) -> str:
        if store in self._given and store != "postgres":
            with _redis(self._urls[store]) as client:
                if count := client.dbsize():
                    raise ValueError(f"the database of {store} has {count} keys; give an empty one, for it is emptied")
            self._given.discard(store)
        if store not in self._urls:
            kind, is_durable = KINDS[store]
            server = self._running.enter_context(kind(self._folder / store, port=0, durable=is_durable))
            self._urls[store] = server.url
        return self._urls[store]


def _redis(url: str) -> Any:
    return redis.Redis.from_url(url)


def _with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
