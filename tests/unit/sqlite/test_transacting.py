"""Transactions of applications in a SQLite file: what their bodies may do, and who waits for whom."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from contextlib import closing
from contextvars import Context

import attrs
import pytest

from perdure.backends.sqlite import SqliteStore
from perdure.backends.sqlite.guarded import own_tables
from perdure.errors import StoreError, StoreUnavailableError, TransactionMisuseError
from perdure.storage import Answer, Claim, Commit, Committed, Created, Draft, Function, New, SignalKind, Tip

NEW = New(
    id="e1",
    function="f",
    version="1",
    name="one",
    digest="d",
    timeout=None,
    retention=10**12,
    draft=Draft(b"started", "t1", 1),
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


def texts(path):
    with closing(sqlite3.connect(path)) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM entry ORDER BY text")]


async def opened(path, **options):
    store = SqliteStore(path, **options)
    await store.open()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS entry (text TEXT UNIQUE)")
    return store


async def owned(store, new=NEW):
    """An execution that is owned, and the commit that its owner sends next."""
    await store.register("w", [Function(name="f", version="1", timeout=None, retention=1)], 10**9)
    answer = await store.create(new, Claim("w", "token"))
    assert isinstance(answer, Created)
    return commit_of(answer.header)


def commit_of(header, seq=1):
    return Commit(
        id=header.id,
        token="token",
        seq=seq,
        seen=header.length,
        tip=header.tip,
        draft=Draft(b"entry", f"tag{seq}", 1),
    )


def run(work, path, **options):
    """Run a coroutine function with an open store."""

    async def main():
        store = await opened(path, **options)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(main())


def in_thread(body, commit):
    """Do something with a transaction in a thread, and commit on the loop."""

    async def work(store):
        next_commit = await owned(store)
        loop = asyncio.get_running_loop()

        def transact():
            with store.transaction() as transaction:
                body(transaction.connection)
                transaction.seal()
                if not commit:
                    return None
                return asyncio.run_coroutine_threadsafe(transaction.commit(next_commit), loop).result()

        return await asyncio.to_thread(transact), await store.describe("e1")

    return work


def put(text):
    return lambda connection: connection.execute("INSERT INTO entry VALUES (?)", (text,))


def test_both_or_neither(path):
    """What the body wrote and the entry become durable together; left without a commit, neither does."""
    answer, header = run(in_thread(put("a"), commit=False), path)
    assert (answer, header.length, texts(path)) == (None, 1, [])
    path.unlink()
    answer, header = run(in_thread(put("a"), commit=True), path)
    assert isinstance(answer, Committed)
    assert (header.length, header.seq, texts(path)) == (2, 1, ["a"])


def test_on_a_loop(path):
    """The same for a coroutine."""

    async def work(store):
        commit = await owned(store)
        async with store.async_transaction() as transaction:
            transaction.connection.execute("INSERT INTO entry VALUES ('a')")
            await transaction.seal()
        async with store.async_transaction() as transaction:
            transaction.connection.execute("INSERT INTO entry VALUES ('b')")
            await transaction.seal()
            assert isinstance(await transaction.commit(commit), Committed)

    run(work, path)
    assert texts(path) == ["b"]


def test_fenced(path):
    """A commit that the fence refuses, or one under a number that was used, takes the body's writes with it."""

    async def work(store):
        commit = await owned(store)
        await store.commit([commit])
        header = await store.describe("e1")
        refused = [
            commit,
            attrs.evolve(commit_of(header, 2), token="other"),
            attrs.evolve(commit_of(header, 2), tip=Tip(1, "other")),
        ]
        stopped = commit_of(header, 2)
        for each in refused:
            async with store.async_transaction() as transaction:
                transaction.connection.execute("INSERT INTO entry VALUES ('a')")
                await transaction.seal()
                assert await transaction.commit(each) is Answer.FENCED
        await store.signal("e1", SignalKind.STOP, Draft(b"stop", "s", 1), "key")
        async with store.async_transaction() as transaction:
            transaction.connection.execute("INSERT INTO entry VALUES ('a')")
            await transaction.seal()
            assert await transaction.commit(stopped) is Answer.FENCED

    run(work, path)
    assert texts(path) == []


REFUSED = {
    "COMMIT": lambda c: c.execute("COMMIT"),
    "END": lambda c: c.execute("END"),
    "ROLLBACK": lambda c: c.execute("ROLLBACK"),
    "BEGIN": lambda c: c.execute("BEGIN"),
    "ATTACH": lambda c: c.execute("ATTACH ':memory:' AS other"),
    "PRAGMA": lambda c: c.execute("PRAGMA synchronous = OFF"),
    "commit()": lambda c: c.commit(),
    "rollback()": lambda c: c.rollback(),
    "close()": lambda c: c.close(),
    "with": lambda c: c.__enter__(),
    "executescript": lambda c: c.executescript("SELECT 1"),
    "executescript of a cursor": lambda c: c.cursor().executescript("SELECT 1"),
    "isolation_level": lambda c: setattr(c, "isolation_level", None),
    "set_authorizer": lambda c: c.set_authorizer(None),
    "the class's own commit": sqlite3.Connection.commit,
    "our tables": lambda c: c.execute("DELETE FROM execution"),
    "our indexes' table": lambda c: c.execute("DROP TABLE journal"),
}


@pytest.mark.parametrize("act", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("swallowed", [False, True], ids=["raised", "swallowed"])
def test_what_would_part_the_writes_from_the_result(path, act, swallowed):
    """Is refused in so many words, and nothing is committed, even if the body goes on."""

    def body(connection):
        put("before")(connection)
        try:
            act(connection)
        except (sqlite3.DatabaseError, TransactionMisuseError):
            if not swallowed:
                raise
        put("after")(connection)

    with pytest.raises(TransactionMisuseError, match=r"refused in the body of context\.transaction"):
        run(in_thread(body, commit=True), path)
    assert texts(path) == []


def test_a_statement_that_rolls_back_by_itself(path):
    """What the body writes after it is not committed by itself."""

    def body(connection):
        put("a")(connection)
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute("INSERT OR ROLLBACK INTO entry VALUES ('a')")
        assert not connection.in_transaction
        put("b")(connection)

    with pytest.raises(TransactionMisuseError, match="rolled the transaction back"):
        run(in_thread(body, commit=True), path)
    assert texts(path) == []

    def swallows(connection):
        put("a")(connection)
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute("INSERT OR ROLLBACK INTO entry VALUES ('a')")

    path.unlink()
    with pytest.raises(TransactionMisuseError, match="rolled the transaction back"):
        run(in_thread(swallows, commit=True), path)
    assert texts(path) == []


def test_what_a_body_may_do(path):
    """Savepoints, row factories, questions about the schema, tables of its own, and cursors left open."""

    def body(connection):
        connection.row_factory = sqlite3.Row
        connection.text_factory = bytes
        connection.execute("SAVEPOINT mine")
        put("no")(connection)
        connection.execute("ROLLBACK TO mine")
        connection.execute("RELEASE mine")
        connection.execute("CREATE TABLE extra (n INTEGER PRIMARY KEY)")
        connection.executemany("INSERT INTO extra VALUES (?)", [(1,), (2,)])
        assert connection.execute("PRAGMA table_info(extra)").fetchall()
        half = connection.execute("INSERT INTO extra VALUES (3), (4) RETURNING n")
        assert half.fetchone()["n"] == 3
        body.half = half
        put("yes")(connection)

    answer, _ = run(in_thread(body, commit=True), path)
    assert isinstance(answer, Committed)
    assert texts(path) == ["yes"]


def test_own_tables():
    """The names are read from the migrations."""
    assert {"execution", "journal", "await"} <= own_tables()


def test_others_wait_for_the_body_and_it_for_nobody(path):
    """Verbs that write wait until it is over; those that read do not."""

    async def work(store):
        commit = await owned(store)
        async with store.async_transaction() as transaction:
            transaction.connection.execute("INSERT INTO entry VALUES ('a')")
            # In a context of its own: within the body it would be refused.
            others = Context().run(asyncio.ensure_future, store.heartbeat("e1/x", ""))
            assert (await store.describe("e1")).length == 1
            await transaction.seal()
            assert not others.done()
            assert isinstance(await transaction.commit(commit), Committed)
        assert (await store.describe("e1")).length == 2
        assert await others is Answer.UNKNOWN

    run(work, path)


def test_a_verb_out_of_the_body(path):
    """Would wait for the lock that its own caller holds, and is refused."""

    async def work(store):
        await owned(store)
        async with store.async_transaction():
            with pytest.raises(TransactionMisuseError, match="connection="):
                await store.heartbeat("e1/x", "")
        assert await store.heartbeat("e1/x", "") is Answer.UNKNOWN

    run(work, path)


def test_a_file_that_is_locked(path):
    """By somebody else, for longer than the store is told to wait: told as any other verb tells it."""

    async def work(store):
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailableError, match="locked"):
                async with store.async_transaction():
                    pass

            def blocking():
                with pytest.raises(StoreUnavailableError, match="locked"), store.transaction():
                    pass

            await asyncio.to_thread(blocking)

    run(work, path, busy_timeout=0.05)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child(path):
    """It is refused, and what its parent has open goes on."""

    async def work(store):
        commit = await owned(store)
        async with store.async_transaction() as transaction:
            transaction.connection.execute("INSERT INTO entry VALUES ('a')")
            child = os.fork()
            if not child:
                refused = False
                try:
                    with store.transaction():
                        pass
                except (StoreError, TransactionMisuseError):
                    refused = True
                os._exit(0 if refused else 1)
            _, status = await asyncio.to_thread(os.waitpid, child, 0)
            assert status == 0
            await transaction.seal()
            assert isinstance(await transaction.commit(commit), Committed)

    run(work, path)
    assert texts(path) == ["a"]


def test_many_threads(path):
    """Each gets its turn, threads and tasks alike."""

    async def work(store):
        def blocking(n):
            with store.transaction() as transaction:
                transaction.connection.execute("CREATE TABLE IF NOT EXISTS turn (n)")
                counted.append(n)

        async def awaiting(n):
            async with store.async_transaction():
                counted.append(n)

        counted = []
        threads = [asyncio.to_thread(blocking, n) for n in range(5)]
        await asyncio.gather(*threads, *[awaiting(n) for n in range(5, 10)])
        assert sorted(counted) == list(range(10))

    run(work, path)


def test_listeners_are_told(path):
    """Of what has become due or grown by the commit, in this process and in others."""

    async def work(store):
        commit = await owned(store)
        other = SqliteStore(path)
        await other.open()
        told, told_other = asyncio.Event(), asyncio.Event()
        store.watch(lambda _: told.set())
        other.watch(lambda hint: told_other.set() if hint.id == "e1" else None)
        # What is written before its first look at the file, it tells of without an id.
        while other._opened.writer._version is None:  # noqa: ASYNC110 - the watcher is another thread
            await asyncio.sleep(0.005)
        async with store.async_transaction() as transaction:
            await transaction.seal()
            await transaction.commit(commit)
        async with asyncio.timeout(5):
            await told.wait()
            await told_other.wait()
        await other.close()

    run(work, path)


def test_left_while_the_commit_is_under_way(path):
    """A body that is let go meanwhile rolls back only what the commit has not made durable."""

    async def work(store):
        commit = await owned(store)
        async with store.async_transaction() as transaction:
            transaction.connection.execute("INSERT INTO entry VALUES ('a')")
            await transaction.seal()
            task = asyncio.create_task(transaction.commit(commit))
            await asyncio.sleep(0)
            task.cancel()
        header = await store.describe("e1")
        assert (header.length == 2) == (texts(path) == ["a"])

    before = threading.active_count()
    for _ in range(20):
        run(work, path)
        path.unlink()
    assert threading.active_count() < before + 20
