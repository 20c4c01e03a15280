"""
The servers of a test run: one of each kind for all of its processes, started when the first test asks for it.

`PERDURE_TEST_POSTGRES`, `PERDURE_TEST_REDIS` and `PERDURE_TEST_VALKEY` name others by their URLs.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import attrs
import psycopg
import pytest
import redis

from perdure.adapters.ephemeral import PostgresServer, RedisServer, Server, ServerNotInstalledError, ValkeyServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KINDS: dict[str, type[Server]] = {"postgres": PostgresServer, "redis": RedisServer, "valkey": ValkeyServer}
PREFIX = "t_"
"""What the names of all schemas and namespaces begin with that belong to tests."""
PATIENCE = 5.0
REQUIRING = {"CI", "TOX_ENV_NAME"}
"""Where one of these is in the environment, a server that cannot be started fails tests instead of skipping them."""


@attrs.frozen
class Shared:
    """A server that other processes use too: nobody stops or kills it."""

    kind: str
    url: str
    log: Path | None = None
    pid: int | None = None
    directory: Path | None = None

    @property
    def is_ours(self) -> bool:
        """Whether this run has started it, so that there is nothing on it but what tests put there."""
        return self.pid is not None


@contextmanager
def shared(kind: str, folder: Path) -> Iterator[Shared]:
    """
    The run's server of a kind, which the first one starts and the last one ends.

    Args:
        kind: One of `KINDS`.
        folder: The folder of the test run, common to all of its processes.
    """
    if url := os.environ.get(f"PERDURE_TEST_{kind.upper()}"):
        yield Shared(kind, url)
        return
    # Whoever has the leash open keeps the server; it is closed with this process, whatever becomes of it.
    found, leash = _joined(kind, folder)
    try:
        yield found
    finally:
        os.close(leash)


def _joined(kind: str, folder: Path) -> tuple[Shared, int]:
    told = folder / f"{kind}.json"
    with (folder / f"{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            known = json.loads(told.read_text())
            leash = os.open(known.pop("leash"), os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            # Nobody has started it, or the last one has left.
            known, leash = _started(kind)
            told.write_text(json.dumps(known))
            del known["leash"]
        return Shared(kind, known["url"], Path(known["log"]), known["pid"], Path(known["directory"])), leash


def _started(kind: str) -> tuple[dict[str, Any], int]:
    server = KINDS[kind](durable=False)
    try:
        server.start()
    except ServerNotInstalledError as missing:
        if not REQUIRING.isdisjoint(os.environ):
            raise
        pytest.skip(str(missing))
    leash = os.open(server.leash, os.O_WRONLY)
    told = {"url": server.url, "log": server.log, "pid": server.pid, "directory": server.directory}
    known = {name: value if isinstance(value, int) else str(value) for name, value in told.items()}
    known["leash"] = str(server.leash)
    server.release()
    return known, leash


def with_options(url: str, **options: object) -> str:
    """A URL with further options."""
    told = "&".join(f"{name}={value}" for name, value in options.items())
    return f"{url}{'&' if '?' in url else '?'}{told}"


class Postgres:
    """Looks after the schemas of tests on a server."""

    def __init__(self, server: Shared) -> None:
        self.server = server
        self._admin = psycopg.connect(server.url, autocommit=True, options="-c lock_timeout=5s")

    def close(self) -> None:
        self._admin.close()

    @contextmanager
    def schema(self) -> Iterator[str]:
        """The URL of a schema of a test's own; whoever still uses it afterwards is in the wrong."""
        name = f"{PREFIX}{token_hex(6)}"
        yield with_options(self.server.url, schema=name, application_name=name)
        try:
            self.expect_none(name)
        finally:
            self._admin.execute(_ENDED, (name,))
            self.drop(name)
        assert not (left := self.strangers()), f"left behind: {left}"

    def expect_none(self, name: str) -> None:
        """Fail if anybody still has a connection for a schema."""
        _until_none(lambda: self.connections(name), "connections left open")

    def connections(self, name: str) -> list[str]:
        """The connections of a test, with what they do or did last."""
        return [f"{state}: {query}" for state, query in self._admin.execute(_CONNECTIONS, (name,))]

    def drop(self, name: str) -> None:
        self._admin.execute(f'drop schema if exists "{name}" cascade')

    def strangers(self) -> list[str]:
        """Schemas and tables outside of tests' schemas; they are dropped, so that one test only answers for them."""
        if not self.server.is_ours:
            return []
        found = [f"{kind} {name}" for kind, name in self._admin.execute(_STRANGERS, (f"{PREFIX}%",))]
        for one in found:
            self._admin.execute(f"drop {one} cascade")
        return found


_CONNECTIONS = "select state, query from pg_stat_activity where application_name = %s"
_ENDED = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s"
_STRANGERS = """
    select 'schema', quote_ident(nspname) from pg_namespace
    where nspname not like %s and nspname not like 'pg\\_%%' and nspname not in ('public', 'information_schema')
    union all select 'table', oid::regclass::text from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')
"""


class Redis:
    """Looks after the namespaces of tests on a server."""

    def __init__(self, server: Shared) -> None:
        self.server = server
        self._admin = redis.Redis.from_url(server.url, decode_responses=True)

    def close(self) -> None:
        self._admin.close()

    @contextmanager
    def namespace(self, **options: object) -> Iterator[str]:
        """The URL of a namespace of a test's own; whoever still uses it afterwards is in the wrong."""
        name = f"{PREFIX}{token_hex(6)}"
        yield with_options(self.server.url, namespace=name, client_name=name, **options)
        try:
            _until_none(lambda: self.connections(name), "connections left open")
        finally:
            self.drop(name)
        assert not (left := self.strange_keys()), f"keys left behind: {left}"

    def connections(self, name: str) -> list[str]:
        """The connections of a test, with what they did last."""
        return [f"{client['id']}: {client['cmd']}" for client in self._admin.client_list() if client["name"] == name]

    def drop(self, name: str) -> None:
        while keys := list(self._admin.scan_iter(match=f"*{name}*", count=1000)):
            self._admin.unlink(*keys)

    def strange_keys(self) -> list[str]:
        """Keys that belong to no test; they are deleted, so that one test only has to answer for them."""
        if not self.server.is_ours:
            return []
        found = [key for key in self._admin.scan_iter(count=1000) if f"{{{PREFIX}" not in key]
        if found:
            self._admin.unlink(*found)
        return found


def _until_none(found: Callable[[], list[str]], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while left := found():
        assert time.monotonic() < deadline, f"{what}: {left}"
        time.sleep(0.005)
