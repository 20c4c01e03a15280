"""Locks beside the database show at once that an owner's process is dead."""

import os
import signal
import sqlite3
import sys
from contextlib import closing

import pytest

from perdure.backends.sqlite.owner import OwnerLocks
from perdure.storage import TOMBSTONE_SPAN, Answer, Claim
from perdure.testing.conformance.stage import LEASE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no flock")

HOLD_AN_EXECUTION = """
import asyncio, sys, time
from perdure.backends.sqlite import SqliteStore
from perdure.storage import Claim, Draft, New

async def main():
    store = SqliteStore(sys.argv[1], synchronous="normal")
    await store.open()
    await store.register(sys.argv[2], [], 3600 * 10**6)
    new = New(id="x", function="order", version="1", name="n", digest="", timeout=None, retention=0,
              draft=Draft(b"{}", "t", 1))
    await store.create(new, Claim(sys.argv[2], "t0ken"))
    if len(sys.argv) > 3:
        exec(sys.argv[3])
    print("ready", flush=True)
    sys.stdin.readline()

asyncio.run(main())
"""


@pytest.fixture
def locks(tmp_path):
    return OwnerLocks(tmp_path / "owners")


@pytest.fixture
def others(tmp_path):
    """The same directory as another process has it."""
    return OwnerLocks(tmp_path / "owners")


def wait_for_ready(process):
    assert process.stdout.readline() == "ready\n"


@pytest.mark.parametrize("owner", ["worker-1", "../../etc/passwd", ".", "host:1/ä b", "w" * 5000])
def test_lock(locks, others, tmp_path, owner):
    """An owner lives as long as its lock is held, whatever its id looks like."""
    assert not others.is_dead(owner)
    assert locks.acquire(owner)
    assert not others.is_dead(owner)
    assert not others.acquire(owner)
    locks.release(owner)
    assert others.is_dead(owner)
    assert [path.parent for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "owners"]


def test_several_owners(locks, others):
    """Locks of one process are independent: opening and closing the files of one leaves the others' locks alone."""
    assert locks.acquire("a")
    assert locks.acquire("b")
    locks.release("a")
    assert others.is_dead("a")
    others.remove("a")
    assert not others.is_dead("b")
    assert not others.acquire("b")


def test_remove(locks, others, tmp_path):
    """The file of a dead owner is removed, that of a living one is not."""
    locks.acquire("dead")
    locks.acquire("alive")
    locks.release("dead")
    others.remove("dead")
    others.remove("alive")
    assert [path.name for path in (tmp_path / "owners").iterdir()] == ["alive"]
    assert not others.is_dead("dead")
    assert not others.is_dead("alive")


def test_unwritable_directory(tmp_path):
    """Where no lock file can be made the owner goes without."""
    (tmp_path / "owners").write_text("in the way")
    assert not OwnerLocks(tmp_path / "owners").acquire("a")


def test_killed_process(play, start_process):
    """What a killed process owned is free at once, long before its lease is over, and its file is gone."""
    process = start_process(HOLD_AN_EXECUTION, "w1")
    wait_for_ready(process)

    async def scene(stage):
        store = stage.store
        assert (await store.reap(10)).count == 0
        assert (await stage.header("x")).owner == "w1"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (await store.reap(10)).count == 1
        header = await stage.header("x")
        assert (header.owner, header.token) == (None, "t0ken")
        assert header.wake is not None
        assert await store.register("w1", [], LEASE) is Answer.LEASE_LOST
        assert (await store.reap(10)).count == 0
        return list(store.location.owners.iterdir())

    assert play(scene) == []


@pytest.mark.parametrize(
    "start",
    [
        "import subprocess; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid)",
        # The parent goes on once the child runs Python again: until then a fork does hold the locks.
        """
import os
read, write = os.pipe()
if child := os.fork():
    os.read(read, 1)
    print(child)
else:
    os.write(write, b"x")
    time.sleep(600)
""",
    ],
    ids=["subprocess", "fork"],
)
def test_killed_process_with_children(play, start_process, start):
    """Children that outlive a killed process do not keep its locks."""
    process = start_process(HOLD_AN_EXECUTION, "w1", start)
    child = int(process.stdout.readline())
    wait_for_ready(process)

    async def scene(stage):
        assert (await stage.store.reap(10)).count == 0
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.kill(child, 0)
        assert (await stage.store.reap(10)).count == 1

    try:
        play(scene)
    finally:
        os.kill(child, signal.SIGKILL)


def test_stopped_process(play, start_process, clock):
    """A process that hangs keeps its lock, and loses what it owns when its lease is over."""
    process = start_process(HOLD_AN_EXECUTION, "w1")
    wait_for_ready(process)

    async def scene(stage):
        assert (await stage.store.reap(10)).count == 0
        clock.advance(10**6 * 10**6 * 3600)
        assert (await stage.store.reap(10)).count == 1

    play(scene)


def test_closed_store(play):
    """Closing a store frees what its owners held, without a lease having to pass."""

    async def scene(stage):
        other = await stage.another()
        owner = await stage.owner(store=other)
        header = await stage.create(Claim(owner.id, "t0ken"))
        assert (await stage.store.reap(10)).count == 0
        await other.close()
        assert (await stage.store.reap(10)).count == 1
        assert (await stage.header(header.id)).owner is None

    play(scene)


def test_leftover_files(play, path):
    """Files of owners that nobody knows any more are removed when a store is opened, those in use are not."""

    async def scene(stage):
        leftover = OwnerLocks(stage.store.location.owners)
        leftover.acquire("gone")
        leftover.release("gone")
        owner = await stage.owner()
        await stage.another()
        return owner.id, [file.name for file in stage.store.location.owners.iterdir()]

    owner, files = play(scene)
    assert files == [owner]
    assert path.exists()


def test_lock_is_given_up_with_the_lease(play):
    """An owner that learns that it was reaped lets go of its lock, and its file is removed."""

    async def scene(stage):
        other = await stage.another()
        owner = await stage.owner()
        await stage.advance(LEASE)
        await other.reap(10)
        assert await owner.ask() is Answer.LEASE_LOST
        return list(stage.store.location.owners.iterdir())

    assert play(scene) == []


def test_reaped_leases_are_forgotten(play, clock):
    """A day after its end nothing is kept of an owner; before that, and while it lives, everything is."""

    async def scene(stage):
        store = stage.store
        dead, living = await stage.owner("dead"), await stage.owner("living", lease=10 * TOMBSTONE_SPAN)
        await stage.advance(LEASE)
        await store.reap(10)
        await stage.advance(TOMBSTONE_SPAN)
        await store.purge(10)
        assert owners_in(stage) == {"dead", "living"}
        assert await dead.register() is Answer.LEASE_LOST
        await stage.advance(1)
        await store.purge(10)
        assert owners_in(stage) == {"living"}
        assert await store.renew("dead") is Answer.LEASE_LOST
        assert await dead.ask() is Answer.LEASE_LOST
        assert await living.renew() == []

    play(scene)


def owners_in(stage):
    with closing(sqlite3.connect(stage.store.location.path)) as connection:
        return {owner for (owner,) in connection.execute("SELECT owner FROM lease")}
