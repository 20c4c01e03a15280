"""What holds after every test: workers and clients leave nothing behind."""

from __future__ import annotations

import asyncio
import threading
import time
from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from perdure.engine import settings
from perdure.portal import store_portal
from perdure.service import connection
from tests import servers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OURS = ("perdure-sqlite",)
"""Names of the threads that belong to an open store; those of pools end by themselves."""
PATIENCE = 5.0


async def _tasks() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


def _left_open() -> set[object]:
    """Open connections, threads of open stores, and what is under way on the store's loop."""
    threads = {thread for thread in threading.enumerate() if thread.name.startswith(OURS)}
    portal = store_portal()
    return {*connection._shared, *threads, *(portal.call(_tasks()) if portal._loop else ())}


@pytest.fixture(autouse=True)
def _nothing_is_left_open() -> Iterator[None]:
    """Fails a test that leaves a connection, a store's thread or a task on the store's loop behind."""
    before = _left_open()
    yield
    deadline = time.monotonic() + PATIENCE
    while left := _left_open() - before:
        assert time.monotonic() < deadline, f"left open: {left}"
        time.sleep(0.01)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is recorded only because a body takes long: what is counted does not depend on how fast a machine is."""
    monkeypatch.setattr(settings, "FLUSH_AGE", inf)


# ------------------------------------------------------------------------------------------------------------- servers


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """The folder of this test run, common to all of its processes."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if hasattr(request.config, "workerinput") else own


@pytest.fixture(scope="session")
def postgres_server(run_folder: Path) -> Iterator[servers.Postgres]:
    """The run's PostgreSQL."""
    with servers.shared("postgres", run_folder) as server:
        yield from _closed(servers.Postgres(server))


@pytest.fixture(scope="session")
def redis_server(run_folder: Path) -> Iterator[servers.Redis]:
    """The run's Redis."""
    with servers.shared("redis", run_folder) as server:
        yield from _closed(servers.Redis(server))


@pytest.fixture(scope="session")
def valkey_server(run_folder: Path) -> Iterator[servers.Redis]:
    """The run's Valkey."""
    with servers.shared("valkey", run_folder) as server:
        yield from _closed(servers.Redis(server))


def _closed(found: Any) -> Iterator[Any]:
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def postgres_url(postgres_server: servers.Postgres) -> Iterator[str]:
    """The URL of a schema of this test's own, which is dropped after it."""
    with postgres_server.schema() as url:
        yield url


@pytest.fixture
def redis_url(redis_server: servers.Redis) -> Iterator[str]:
    """The URL of a namespace of this test's own, whose keys are deleted after it."""
    with redis_server.namespace() as url:
        yield url


@pytest.fixture
def valkey_url(valkey_server: servers.Redis) -> Iterator[str]:
    """As `redis_url`, on Valkey and in several shards."""
    with valkey_server.namespace(shards=4) as url:
        yield url
