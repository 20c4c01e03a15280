"""The schema and the connections behind the SQLite store."""

import asyncio
import sqlite3
from contextlib import closing

import pytest

from perdure.backends.sqlite import SqliteStore
from perdure.backends.sqlite.location import Location
from perdure.backends.sqlite.schema import APPLICATION_ID, connect
from perdure.backends.sqlite.statement import read_migrations
from perdure.errors import SchemaVersionError
from perdure.storage import Answer


def open_and_close(*paths):
    async def scene():
        stores = [SqliteStore(path) for path in paths]
        await asyncio.gather(*(store.open() for store in stores))
        for store in stores:
            await store.close()

    asyncio.run(scene())


def schema_of(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()


def pragma(connection, name):
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_new_file(path):
    """Opening makes the file with all migrations applied and marks it as Perdure's."""
    open_and_close(path)
    with closing(sqlite3.connect(path)) as connection:
        assert pragma(connection, "user_version") == len(read_migrations())
        assert pragma(connection, "application_id") == APPLICATION_ID


def test_migrations_are_idempotent(path):
    """Opening again changes nothing of the schema."""
    open_and_close(path)
    before = schema_of(path)
    open_and_close(path)
    assert before
    assert schema_of(path) == before


def test_many_open_at_once(path):
    """Stores that open a new file at the same time make one schema."""
    open_and_close(*[path] * 8)
    with closing(sqlite3.connect(path)) as connection:
        assert pragma(connection, "user_version") == len(read_migrations())


def test_newer_schema(path):
    """A file that a newer version wrote is refused, saying what to upgrade, and stays as it is."""
    open_and_close(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 999")
    with pytest.raises(SchemaVersionError, match=r"schema version 999.*upgrade perdure"):
        open_and_close(path)
    with closing(sqlite3.connect(path)) as connection:
        assert pragma(connection, "user_version") == 999


def test_a_failed_migration_leaves_nothing(path, monkeypatch):
    """A migration that fails half way is rolled back as a whole, and the next opening starts anew."""
    monkeypatch.setattr(
        "perdure.backends.sqlite.schema.read_migrations",
        lambda: {"0001_bad": "CREATE TABLE a (x);\nCREATE TABLE a (x);\n"},
    )
    with pytest.raises(sqlite3.OperationalError):
        connect(Location.of(path), writes=True)
    monkeypatch.undo()
    assert schema_of(path) == []
    open_and_close(path)
    assert schema_of(path)


@pytest.mark.parametrize(("synchronous", "level"), [("full", 2), ("normal", 1)])
def test_durability(path, synchronous, level):
    """The writer's connection has write-ahead logging and the level of durability that was asked for."""
    with closing(connect(Location.of(path, synchronous=synchronous), writes=True)) as connection:
        assert pragma(connection, "journal_mode") == "wal"
        assert pragma(connection, "synchronous") == level
        assert pragma(connection, "fullfsync") == int(synchronous == "full")


def test_reader_cannot_write(path):
    """The reader's connection refuses to change anything."""
    open_and_close(path)
    with (
        closing(connect(Location.of(path), writes=False)) as connection,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        connection.execute("DELETE FROM execution")


def test_journal_in_a_database_shell(path, play):
    """Journals can be read with plain SQL: one view shows whose, when, and the entry as text."""

    async def scene(stage):
        holding = await stage.held(name="o-17")
        await holding.write('{"format":1,"größe":2}'.encode())
        return holding.id

    id = play(scene)
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT id, function, name, ordinal, time, entry FROM history").fetchall()
    assert rows == [
        (id, "order", "o-17", 1, "2025-06-15T15:06:40.000Z", "started"),
        (id, "order", "o-17", 2, "2025-06-15T15:06:40.000Z", '{"format":1,"größe":2}'),
    ]


def test_upgrade(path, clock):
    """A file of the first version keeps everything, and who was reaped in it is so, and forgotten in time."""
    scripts = list(read_migrations().values())
    now = clock()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(scripts[0])
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
        lease = "INSERT INTO lease (owner, span, until, number, locked, reaped) VALUES (?, ?, ?, 3, 0, ?)"
        connection.execute(lease, ("alive", 10, now + 7, 0))
        connection.execute(lease, ("reaped", 10, now - 50, 1))
        connection.commit()

    async def scene():
        store = SqliteStore(path, clock=clock)
        await store.open()
        (told,) = (await store.leases()).leases
        assert (told.owner, told.since, told.renewed, told.until) == ("alive", now - 3, now - 3, now + 7)
        assert await store.register("reaped", [], 10) is Answer.LEASE_LOST
        assert await store.register("alive", [], 10) is Answer.OK
        assert (await store.claim("alive", 3, "t", [], 1, 1)).headers == ()
        await store.close()

    asyncio.run(scene())
    fresh = path.with_name("fresh.db")
    open_and_close(fresh)
    assert {row[1] for row in schema_of(path)} == {row[1] for row in schema_of(fresh)}
