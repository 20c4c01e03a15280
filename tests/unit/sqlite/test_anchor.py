"""What becomes of a store whose files are taken away, replaced, or inherited by a forked process."""

import os
import shutil
import sqlite3
from contextlib import closing

import pytest

from perdure.backends.sqlite import SqliteStore
from perdure.errors import StoreError


def files_of(path):
    return [path.with_name(path.name + end) for end in ("", "-wal", "-shm")]


def remove(path):
    for file in files_of(path):
        file.unlink()


def replace(path):
    """As a restore of a backup does."""
    backup = path.with_name("backup.db")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(backup)) as target:
        source.backup(target)
    backup.replace(path)


def replace_whole(path):
    """With its log, as a copy of a directory does."""
    folder = path.parent / "copy"
    folder.mkdir()
    for file in files_of(path):
        shutil.copy(file, folder / file.name)
    for file in files_of(path):
        (folder / file.name).replace(file)


def remove_log(path):
    files_of(path)[1].unlink()


@pytest.mark.parametrize("harm", [remove, replace, replace_whole, remove_log])
def test_files_taken_away(play, path, harm):
    """Nothing is written where nobody would find it: both who writes and who reads are told, each time."""

    async def scene(stage):
        header = await stage.create()
        harm(path)
        for _ in range(2):
            with pytest.raises(StoreError, match=r"removed or replaced .* start this process again") as told:
                await stage.create()
            assert not told.value.retryable
            with pytest.raises(StoreError, match="removed or replaced"):
                await stage.header(header.id)

    play(scene)


@pytest.mark.parametrize("harm", [replace, replace_whole])
def test_what_was_written_before_a_replacement_is_in_what_was_copied(play, path, harm):
    """Who opens the file again finds all that was acknowledged before, and goes on from there."""

    async def scene(stage):
        before = await stage.create()
        harm(path)
        with pytest.raises(StoreError):
            await stage.create()
        other = await stage.another()
        assert await other.describe(before.id) == before
        new = stage.new()
        await other.create(new, None)
        assert await other.describe(new.id) is not None

    play(scene)


def test_a_new_store_in_the_place_of_a_removed_one(play, path):
    """Who opens it makes a new file; what still has the old one open does not mix with it."""

    async def scene(stage):
        await stage.create()
        remove(path)
        other = await stage.another()
        new = stage.new()
        await other.create(new, None)
        with pytest.raises(StoreError, match="removed or replaced"):
            await stage.create()
        assert await other.describe(new.id) is not None

    play(scene)


def test_a_link_may_be_made_and_removed(play, path, tmp_path):
    """A store has one set of files, whatever paths lead to it; a link that goes elsewhere is another file."""
    link = tmp_path / "link" / "store.db"
    link.parent.mkdir()

    async def scene(stage):
        header = await stage.create()
        link.symlink_to(path)
        store = SqliteStore(link, clock=stage.store._clock)
        await store.open()
        assert store.location.owners == stage.store.location.owners
        assert await store.describe(header.id) == header
        link.unlink()
        link.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(StoreError, match="removed or replaced"):
            await store.describe(header.id)
        await store.close()
        assert await stage.header(header.id) == header

    play(scene)


# ------------------------------------------------------------------------------------------------------------- fork

FORK = """
import asyncio, os, sys
from perdure.backends.sqlite import SqliteStore
from perdure.errors import StoreError
from perdure.storage import Draft, New

def new(id):
    return New(id=id, function="f", version="1", name=id, digest="", timeout=None, retention=0,
               draft=Draft(b"{}", "t", 1))

async def child(path, inherited, parent_is_gone):
    try:
        await inherited.describe("before")
    except StoreError as error:
        print("told" if "before this process was forked" in str(error) else error, flush=True)
    await inherited.close()
    store = SqliteStore(path)
    await store.open()
    assert await store.describe("before") is not None
    for n in range(20):
        await store.create(new(f"child{n}"), None)
    os.read(parent_is_gone, 1)  # the parent has closed its store meanwhile
    for n in range(20, 40):
        await store.create(new(f"child{n}"), None)
    if await store.describe("parent") is not None:
        print("both", flush=True)
    await store.close()

async def parent(path, writing, forked):
    store = SqliteStore(path)
    await store.open()
    await store.create(new("before"), None)
    busy = [asyncio.create_task(store.create(new(f"parent{n}"), None)) for n in range(50)]
    await asyncio.sleep(0)
    return store, busy

def main():
    path = sys.argv[1]
    loop = asyncio.new_event_loop()
    reading, writing = os.pipe()
    store, busy = loop.run_until_complete(parent(path, writing, None))
    pid = os.fork()
    if not pid:
        os.close(writing)
        asyncio.run(child(path, store, reading))
        os._exit(0)
    os.close(reading)
    loop.run_until_complete(asyncio.gather(*busy))
    loop.run_until_complete(store.create(new("parent"), None))
    loop.run_until_complete(store.close())
    os.write(writing, b"x")
    _, status = os.waitpid(pid, 0)
    print("ended", status, flush=True)

main()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_fork(play, path, start_process):
    """A forked child is told that its parent's store is none of its own, and loses nothing in one it opens itself."""
    process = start_process(FORK)
    out, _ = process.communicate(timeout=60)
    assert out.split("\n")[:3] == ["told", "both", "ended 0"]

    async def scene(stage):
        ids = {"before", "parent", *(f"parent{n}" for n in range(50)), *(f"child{n}" for n in range(40))}
        found = {id for id in ids if await stage.store.describe(id) is not None}
        assert found == ids

    play(scene)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
