"""Who is there and runs what: workers as a client sees them, versions side by side, what is left alone."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import threading
from datetime import UTC, datetime, timedelta

import pytest

from perdure.adapters.worker import Worker
from perdure.backends.sqlite import SqliteStore
from perdure.client import AsyncClient, Client
from perdure.durable import Duration, durable_execution
from perdure.service.crash_policy import CrashPolicy
from perdure.service.owner_id import OwnerId
from perdure.storage import MICROSECONDS, Answer, Backend, Lease, Leases
from perdure.testing.memory import MemoryStore
from tests.e2e.processes import wait_until
from tests.scenarios.stage import SkippingClock

pytestmark = pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")

gate = threading.Event()


@pytest.fixture(autouse=True)
def _closed_gate():
    gate.clear()
    yield
    gate.set()


@pytest.fixture(params=["memory", "sqlite"])
def backend(request, tmp_path):
    if request.param == "memory":
        return Backend(url="memory://", store=MemoryStore())
    return f"sqlite:///{tmp_path / 'fleet.db'}"


@durable_execution
def held(event, context):
    return context.step(lambda _: gate.wait(20))


@durable_execution
def waits(event, context):
    context.wait(Duration.from_hours(1))


# ---------------------------------------------------------------------------------------------------------- workers


def test_workers_are_told_with_what_they_hold(backend):
    """Who it is, since when, when it last gave a sign, and what it runs; a stopped one is gone with its lease."""
    with Client(backend) as client:
        assert client.workers() == []
        before = datetime.now(UTC)
        with Worker(backend, [held], lease=6.0):
            handle = client.start(held)
            wait_until(lambda: client.workers()[0].held == (handle.id,), "it holds what was started")
            (worker,) = client.workers()
            assert (worker.pid, worker.host) == (os.getpid(), OwnerId.mint().host)
            assert before - timedelta(milliseconds=1) <= worker.since <= worker.renewed <= datetime.now(UTC)
            assert worker.until - worker.renewed == timedelta(seconds=6)
            assert timedelta() <= worker.age < timedelta(seconds=4)
            gate.set()
            assert handle.result(timeout=5) is True
            assert client.workers()[0].held == ()


def test_several_workers_are_told_apart(backend):
    """Two of one process are two, the eldest first; nobody's id is that of another."""

    async def scene():
        async with AsyncClient(backend) as client, Worker(backend, [held]), Worker(backend, [waits]):
            workers = await client.workers()
            assert len({worker.owner for worker in workers}) == 2
            assert [worker.since for worker in workers] == sorted(worker.since for worker in workers)

    asyncio.run(scene())


def test_a_worker_in_several_shards_is_one():
    """What it holds in all of them is put together; it is as alive as where it is least alive."""

    class Sharded(MemoryStore):
        shards = 2

        async def leases(self, shard=0):
            own = Lease(owner="h:7:x", since=5 - shard, renewed=10 + shard, until=20 + shard, held=(f"of {1 - shard}",))
            other = Lease(owner="other", since=1, renewed=9, until=19, held=())
            return Leases((own, other) if shard else (own,), 12)

    with Client(Backend(url="memory://", store=Sharded())) as client:
        other, worker = client.workers()
    assert (other.owner, other.host, other.pid) == ("other", None, None)
    assert (worker.owner, worker.host, worker.pid) == ("h:7:x", "h", 7)
    assert worker.held == ("of 0", "of 1")
    assert (worker.since.microsecond, worker.renewed.microsecond, worker.until.microsecond) == (4, 10, 20)
    assert worker.age == timedelta(microseconds=2)


@pytest.mark.parametrize("name", ["h.example.org", "büro pc/7", "", "x" * 300])
def test_ids_of_owners_fit_every_store(name, monkeypatch, tmp_path):
    """Whatever a machine is called: a short id of few characters, that tells host and process and is a secret."""
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    owner = OwnerId.mint()
    assert re.fullmatch(r"[A-Za-z0-9_.:-]{1,128}", owner.text)
    assert OwnerId.parse(owner.text) == owner
    assert owner.pid == os.getpid()
    assert len(owner.text.rpartition(":")[2]) * 4 >= 64
    assert OwnerId.mint() != owner


def test_an_owner_id_is_a_lock_file_of_sqlite(tmp_path):
    """It is found again from the name of its file."""

    async def scene():
        store = SqliteStore(tmp_path / "store.db")
        await store.open()
        owner = OwnerId.mint().text
        assert await store.register(owner, [], 10_000_000) is Answer.OK
        assert list(store._opened.locks.leftovers()) == [owner]
        await store.close()

    asyncio.run(scene())


# --------------------------------------------------------------------------------------------------------- versions


def version_of(version, seconds=1):
    @durable_execution(name="flow", version=version)
    def flow(event, context):
        context.wait(Duration.from_seconds(seconds))
        return version

    return flow


def test_versions_run_side_by_side(backend):
    """Each execution goes on in the version it began with, also when a newer one is there."""
    old, new = version_of("1"), version_of("2")
    with Client(backend) as client:
        with Worker(backend, [old]):
            first = client.start(old)
            wait_until(lambda: len(first.operations()) > 1, "it has begun to wait")
            with Worker(backend, [new]):
                second = client.start("flow")
                assert (first.result(timeout=10), second.result(timeout=10)) == ("1", "2")
        assert (first.version, second.version) == ("1", "2")


def test_one_worker_runs_both_versions(backend):
    """A deploy that carries the old version along leaves nothing behind."""
    old, new = version_of("1"), version_of("2")
    with Client(backend) as client, Worker(backend, [old, new]):
        handles = [client.start(function) for function in (old, new, old)]
        assert [handle.result(timeout=10) for handle in handles] == ["1", "2", "1"]


@pytest.mark.parametrize("make_store", [MemoryStore, SqliteStore], ids=["memory", "sqlite"])
def test_what_no_worker_runs_stays_and_shows(make_store, tmp_path):
    """It is neither lost nor failed: listed and described as overdue, until a worker with its version comes."""
    clock = SkippingClock()
    backend = make_store(clock) if make_store is MemoryStore else make_store(tmp_path / "fleet.db", clock=clock)
    old, new = version_of("1", seconds=3600), version_of("2")
    with Client(backend) as client:
        with Worker(backend, [old]):
            handle = client.start(old)
            wait_until(lambda: handle.describe().due, "it sleeps")
        clock.skip(3600 * MICROSECONDS)
        with Worker(backend, [new]):
            due = handle.describe().due
            assert client.start(new).result(timeout=10) == "2"
            for found in (handle.describe(), *client.list("flow:1").items):
                assert (found.status.value, found.version, found.due) == ("RUNNING", "1", due)
            assert handle.describe().owner is None
            with Worker(backend, [old]):
                assert handle.result(timeout=10) == "1"


def test_what_was_never_run_stays_and_shows(backend):
    """A start for a version that nobody has yet is due from its beginning, and is run when somebody has it."""
    with Client(backend) as client, Worker(backend, [version_of("1")]):
        handle = client.start("flow", version="3")
        assert client.start("flow", version="1").result(timeout=10) == "1"
        (found,) = client.list("flow:3").items
        assert found.due == found.started
        with Worker(backend, [version_of("3")]):
            assert handle.result(timeout=10) == "3"


# ------------------------------------------------------------------------------------------------------- quarantine


def test_what_is_quarantined_shows_in_a_list():
    """Not only who asks for the very execution sees that it waits for somebody; nothing is due of it."""

    @durable_execution
    def poisonous(event, context):
        raise SystemExit

    store = MemoryStore()
    with Client(store) as client:
        client._desk.connection.service.crash_policy = CrashPolicy(limit=2, first_pause=0.0)
        with Worker(store, [poisonous, waits]):
            sound, handle = client.start(waits), client.start(poisonous)
            wait_until(lambda: handle.describe().quarantined, "it is quarantined")
            listed = {found.id: found for found in client.list().items}
            assert (listed[handle.id].quarantined, listed[handle.id].due) == (True, None)
            assert not listed[sound.id].quarantined
            client.stop(handle.id)
            assert not client.list("poisonous").items[0].quarantined
