"""URLs of SQLite stores, and places that cannot be used."""

import asyncio
import sqlite3
import sys
import tempfile
from pathlib import Path

import pytest

from perdure.backends.sqlite import SqliteStore, backend
from perdure.backends.sqlite.location import Location
from perdure.errors import BackendUrlError, StoreError


def opening_of(path):
    async def scene():
        store = SqliteStore(path)
        await store.open()
        await store.close()

    asyncio.run(scene())


def test_relative_path(tmp_path, monkeypatch):
    """Three slashes lead to a file below the directory the process was in when it read the URL."""
    monkeypatch.chdir(tmp_path)
    assert Location.parse("sqlite:///data/x.db").path == tmp_path / "data" / "x.db"


def test_absolute_path():
    """Four slashes lead to an absolute path, percent signs decoded."""
    assert Location.parse("sqlite:////var/lib/my%20store.db").path == Path("/var/lib/my store.db")


def test_options():
    """Options set durability and patience; durability is full unless told otherwise."""
    location = Location.parse("sqlite:////x.db?synchronous=NORMAL&busy_timeout=2.5")
    assert (location.synchronous, location.busy_timeout) == ("normal", 2.5)
    assert Location.parse("sqlite:////x.db").synchronous == "full"


def test_backend_keeps_the_url():
    """A backend says by which URL it was opened, and has a store."""
    made = backend("sqlite:////x.db?synchronous=normal")
    assert made.url == "sqlite:////x.db?synchronous=normal"
    assert isinstance(made.store, SqliteStore)
    assert made.store.location.synchronous == "normal"


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("postgresql:///x.db", "sqlite:///relative.db"),
        ("sqlite:x.db", "sqlite:///relative.db"),
        ("sqlite://x.db", "three slashes"),
        ("sqlite:///", "memory://"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite:////x.db?sync=full", "synchronous, busy_timeout"),
        ("sqlite:////x.db?synchronous=off", "full, normal"),
        ("sqlite:////x.db?busy_timeout=soon", "number of seconds"),
        ("sqlite:////x.db?busy_timeout=-1", "number of seconds"),
        ("sqlite:////x.db?busy_timeout=nan", "number of seconds"),
    ],
)
def test_wrong_urls(url, remedy):
    """A URL that cannot be meant is refused with what to write instead."""
    with pytest.raises(BackendUrlError, match=remedy):
        backend(url)


def test_missing_directory(tmp_path):
    """A store is not put into a directory that does not exist."""
    with pytest.raises(BackendUrlError, match=r"'.*/missing' of the SQLite store does not exist; create it"):
        opening_of(tmp_path / "missing" / "x.db")


def test_directory_as_file(tmp_path):
    """A directory is no store."""
    with pytest.raises(BackendUrlError, match="is a directory, expected a SQLite file"):
        opening_of(tmp_path)


def test_not_a_database(path):
    """A file of another kind is refused and left as it is."""
    path.write_bytes(b"not a database, but long enough for SQLite to look at its header" * 100)
    with pytest.raises(BackendUrlError, match="file is not a database"):
        opening_of(path)
    assert path.read_bytes().startswith(b"not a database")


def test_database_of_another_application(path):
    """A database with tables of its own is refused and left as it is."""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE customer (id)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(BackendUrlError, match="another application; give Perdure a file of its own"):
        opening_of(path)
    assert path.read_bytes() == before


_OPEN_AS_NOBODY = """
import asyncio, os, sys
from perdure.backends.sqlite import SqliteStore
if os.geteuid() == 0:
    os.setgroups([])
    os.setuid(65534)
try:
    asyncio.run(SqliteStore(sys.argv[1]).open())
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs permissions of Unix")
@pytest.mark.parametrize(("closed", "message"), [("file", "cannot be read and written"), ("directory", "not writable")])
def test_read_only(tmp_path, start_process, path, closed, message):
    """A file or directory without write permission is refused with the remedy."""
    opening_of(path)
    # Nobody else may look into pytest's folders; how many there are depends on who runs it.
    for place in tmp_path.parents[: len(tmp_path.parents) - len(Path(tempfile.gettempdir()).parents) - 1]:
        place.chmod(0o711)
    tmp_path.chmod(0o777)
    path.chmod(0o666)
    (path if closed == "file" else tmp_path).chmod(0o444 if closed == "file" else 0o555)
    output, _ = start_process(_OPEN_AS_NOBODY).communicate()
    tmp_path.chmod(0o755)
    assert output.startswith("BackendUrlError")
    assert message in output
    assert "correct" in output


def test_use_before_open(tmp_path):
    """A store that was not opened, or is closed, says so."""

    async def scene():
        store = SqliteStore(tmp_path / "x.db")
        with pytest.raises(StoreError, match="is not open; await its open"):
            await store.describe("x")
        await store.open()
        assert await store.describe("x") is None
        await store.close()
        with pytest.raises(StoreError, match="is not open"):
            await store.describe("x")

    asyncio.run(scene())
