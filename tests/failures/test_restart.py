"""Servers that are killed under load and come back, run out of room, or are full; on data of their own."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis

from perdure.adapters.ephemeral import PostgresServer, RedisServer
from perdure.errors import StoreError
from perdure.journal.entry import Started
from perdure.service.carrier import new_execution
from tests.failures import oracle
from tests.failures.fleet import wait_until
from tests.failures.ground import Ground
from tests.failures.load import Load, show, size
from tests.servers import with_options

pytestmark = pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")

KINDS = {"postgres": PostgresServer, "redis": RedisServer}
LEASE = 30.0
WORKERS = 2
LINES = 20
"""Warnings and errors per process and outage that are no crash loop."""


@contextmanager
def served(kind, folder, directory=None, **settings):
    """A durable server of the test's own, and its ground."""
    with KINDS[kind](directory, settings=settings) as server:
        yield server, Ground(kind, options(kind, server.url), folder)


def options(kind, url):
    return with_options(url, namespace="t_restart", durability="fsync") if kind == "redis" else url


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_is_killed_again_and_again(kind, tmp_path):
    """SIGKILL under load, and it comes back with what it had promised: nothing is lost, and no body runs again."""
    with served(kind, tmp_path) as (server, ground):
        book = ground.book()
        with ground.client() as client, ground.fleet(book, lease=LEASE) as fleet:
            for _ in range(WORKERS):
                fleet.add()
            load, kills = Load(client, book), size(full=400, share=0.1, least=4)
            fleet.wait_for_all()
            load.start(10)
            starter = threading.Thread(target=start_slowly, args=(load, size(full=400)))
            starter.start()
            for _ in range(kills):
                known = book.count()
                wait_until(lambda known=known: book.count() > known + 5 or not starter.is_alive(), "the work goes on")
                server.kill()
                server.start()
            starter.join()
            load.finish(300)
            fleet.drain()
            load.check_runs()
            oracle.check(client)
            assert not book.errors()
            # That an execution has another owner may be told of one that was suspended, and the answer to that lost.
            assert not book.lost_leases()
            assert not book.repeated()
            assert len(book.signs) <= LINES * WORKERS * (kills + 1), book.signs
            show(f"{kind}: {len(load.handles)} workflows, {kills} kills of the server, {len(book.signs)} warnings")


def start_slowly(load, limit):
    """Start more, as long as the server is killed meanwhile: a start, too, survives that."""
    while len(load.handles) < limit:
        load.start(1)
        time.sleep(0.02)


def test_a_redis_that_is_full(tmp_path):
    """Without memory nothing is written, and nothing that was promised is lost; with it, all goes on."""
    with served("redis", tmp_path) as (server, ground):
        book = ground.book()
        admin = redis.Redis.from_url(server.url)
        with ground.client() as client, ground.fleet(book, lease=LEASE) as fleet:
            for _ in range(WORKERS):
                fleet.add()
            load = Load(client, book)
            fleet.wait_for_all()
            load.start(size(share=0.5))
            wait_until(lambda: book.count() >= 10, "the work has begun")
            admin.config_set("maxmemory", 1)
            with pytest.raises(StoreError, match="memory"):
                client._call(client._desk.connection.store.create(*new(client)))
            wait_until(lambda: len(book.signs) > 0 or book.read(), "a worker has noticed")
            known = book.count()
            time.sleep(1.0)
            assert book.count() <= known + 32 * WORKERS
            admin.config_set("maxmemory", 0)
            load.finish(120)
            fleet.drain()
            load.check_runs()
            oracle.check(client)
            assert not book.repeated()
        admin.close()


def new(client):
    """An execution to create, with no claim."""
    store = client._desk.connection.store
    started = Started(name="full", function="chain", version="$LATEST", input="{}", retention_days=1)
    return new_execution(store.new_id("chain", "full"), started, None, 86_400_000_000), None


@contextmanager
def small_disk(folder, size):
    """A file system of its own, of so many bytes."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can make a file system, and not everywhere")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


SIZES = {"postgres": 160 << 20, "redis": 48 << 20}


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_is_full(kind, tmp_path):
    """No room on the server's disk: what was promised stays, and with room again all goes on."""
    with small_disk(tmp_path / "disk", SIZES[kind]) as disk, served(kind, tmp_path, disk / "data") as (server, ground):
        book = ground.book()
        with ground.client() as client, ground.fleet(book, lease=LEASE) as fleet:
            for _ in range(WORKERS):
                fleet.add()
            load = Load(client, book)
            fleet.wait_for_all()
            load.start(size(share=0.5))
            wait_until(lambda: book.count() >= 10, "the work has begun")
            with filled(disk):
                wait_until(lambda: book.read() or book.signs or load.is_over(), "a worker has noticed")
                time.sleep(1.0)
            if not is_alive(server):
                # It may give up rather than promise what it cannot keep; somebody starts it again.
                server.kill()
                server.start()
            load.finish(120)
            fleet.drain()
            load.check_runs()
            oracle.check(client)
            show(f"{kind}: {len(load.handles)} workflows, {len(book.signs)} warnings, {len(book.repeated())} repeated")


@contextmanager
def filled(disk: Path):
    """No byte is left."""
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"0" * 65536)
    with suppress(OSError), ballast.open("ab", buffering=0) as file:
        while True:
            file.write(b"0")
    try:
        yield
    finally:
        ballast.unlink()


def is_alive(server):
    try:
        return " Z " not in Path(f"/proc/{server.pid}/stat").read_text()
    except OSError:
        return False
