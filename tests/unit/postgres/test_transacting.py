"""Transactions of applications on PostgreSQL: what their bodies may do, and what is left of them."""

from __future__ import annotations

import asyncio

import attrs
import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.sql import SQL

from perdure.backends.postgres import PostgresStore
from perdure.backends.postgres.guarded import ending
from perdure.backends.postgres.location import POOL_SIZE
from perdure.errors import StoreUnavailableError, TransactionMisuseError
from perdure.storage import (
    Answer,
    Claim,
    Commit,
    Committed,
    Created,
    Draft,
    Function,
    New,
    OpenAwait,
    Rejected,
    SignalKind,
    Tip,
)

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


@attrs.frozen
class Books:
    """The table `entry` in a store's schema."""

    url: str

    @property
    def location(self):
        return PostgresStore(self.url).location

    @property
    def entry(self):
        return f"{self.location.schema}.entry"

    @property
    def insert(self):
        return f"INSERT INTO {self.entry} VALUES (%s)"

    def connect(self):
        return psycopg.connect(**self.location.connection(sets_session=False), autocommit=True)

    def texts(self):
        with self.connect() as connection:
            return [text for (text,) in connection.execute(f"SELECT text FROM {self.entry} ORDER BY text")]


@pytest.fixture
def books(postgres_server):
    with postgres_server.schema() as url:
        yield Books(url)


def run(books, work):
    """Run a coroutine function with an open store and the commit that an owner of an execution sends next."""

    async def main():
        store = PostgresStore(books.url)
        await store.open()
        try:
            with books.connect() as connection:
                connection.execute(
                    f"CREATE TABLE IF NOT EXISTS {books.entry} "
                    "(text text UNIQUE DEFERRABLE INITIALLY DEFERRED CHECK (text <> 'wrong'))"
                )
            await store.register("w", [Function(name="f", version="1", timeout=None, retention=1)], 10**9)
            answer = await store.create(NEW, Claim("w", "token"))
            assert isinstance(answer, Created)
            return await work(store, commit_of(answer.header))
        finally:
            await store.close()

    return asyncio.run(main())


def commit_of(header, seq=1):
    return Commit(
        id=header.id,
        token="token",
        seq=seq,
        seen=header.length,
        tip=header.tip,
        draft=Draft(b"entry", f"tag{seq}", 1),
    )


def transacted(body):
    """Do something with the connection of a thread, and commit on the loop."""

    async def work(store, commit):
        loop = asyncio.get_running_loop()

        def transact():
            with store.transaction() as transaction:
                body(transaction.connection)
                transaction.seal()
                return asyncio.run_coroutine_threadsafe(transaction.commit(commit), loop).result()

        return await asyncio.to_thread(transact)

    return work


def awaited(body):
    """The same with the connection of a coroutine."""

    async def work(store, commit):
        async with store.async_transaction() as transaction:
            await body(transaction.connection)
            await transaction.seal()
            return await transaction.commit(commit)

    return work


ENDINGS = [
    "COMMIT",
    "commit work",
    " \n END",
    "ROLLBACK",
    "rollback and chain",
    "ABORT",
    "BEGIN",
    "START   TRANSACTION",
    "PREPARE TRANSACTION 'x'",
    "select 1; commit",
    "/* a */ -- b\n commit",
    "select ';', $$ it's $$; END;",
]
HARMLESS = [
    "SELECT 1",
    "ROLLBACK TO SAVEPOINT a",
    "rollback work to a",
    "SAVEPOINT a; RELEASE a",
    "PREPARE x AS SELECT 1",
    "INSERT INTO entry VALUES ('a; commit')",
    "select $x$ ; commit $x$",
    'SELECT 1 AS "; commit"',
    "select 1 -- ; commit",
    "SELECT E'it\\'s; commit'",
    "UPDATE a SET begin = 1, commit = 2",
    "DO $$ BEGIN PERFORM 1; END $$",
]


@pytest.mark.parametrize("sql", ENDINGS)
def test_statements_that_end_a_transaction(sql):
    """Are found among others, behind comments and beside literals."""
    assert ending(sql)


@pytest.mark.parametrize("sql", HARMLESS)
def test_statements_that_do_not(sql):
    """Savepoints, literals and comments are none."""
    assert ending(sql) is None


def test_both_or_neither(books):
    """What the body wrote and the entry become durable together, on connections of both kinds."""
    assert isinstance(run(books, transacted(lambda c: c.execute(books.insert, ("a",)))), Committed)

    async def body(connection):
        await connection.execute(books.insert, ("b",))
        raise ValueError("no")

    async def work(store, _):
        with pytest.raises(ValueError, match="no"):
            await awaited(body)(store, None)
        return await store.describe("e1")

    assert run(books, work).length == 2
    assert books.texts() == ["a"]


def test_fenced(books):
    """A commit that the fence refuses, or one under a number that was used, takes the body's writes with it."""

    async def work(store, commit):
        async def body(connection):
            await connection.execute(books.insert, ("a",))

        await store.commit([commit])
        header = await store.describe("e1")
        refused = [
            commit,
            attrs.evolve(commit_of(header, 2), token="other"),
            attrs.evolve(commit_of(header, 2), tip=Tip(1, "other")),
        ]
        for each in refused:
            assert await awaited(body)(store, each) is Answer.FENCED
        await store.signal("e1", SignalKind.STOP, Draft(b"stop", "s", 1), "key")
        assert await awaited(body)(store, commit_of(header, 2)) is Answer.FENCED

    run(books, work)
    assert books.texts() == []


REFUSED = {
    "COMMIT": lambda c: c.execute("COMMIT"),
    "bytes": lambda c: c.execute(b"ROLLBACK"),
    "composed": lambda c: c.execute(SQL("COMMIT")),
    "a cursor's": lambda c: c.cursor().execute("COMMIT"),
    "many": lambda c: c.cursor().executemany("COMMIT", []),
    "commit()": lambda c: c.commit(),
    "rollback()": lambda c: c.rollback(),
    "close()": lambda c: c.close(),
    "with": lambda c: c.__enter__(),
}


@pytest.mark.parametrize("act", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("swallowed", [False, True], ids=["raised", "swallowed"])
def test_what_would_part_the_writes_from_the_result(books, act, swallowed):
    """Is refused in so many words before it is sent, and nothing is committed, even if the body goes on."""

    def body(connection):
        connection.execute(books.insert, ("before",))
        try:
            act(connection)
        except TransactionMisuseError:
            if not swallowed:
                raise
        connection.execute(books.insert, ("after",))

    with pytest.raises(TransactionMisuseError, match=r"refused in the body of context\.transaction"):
        run(books, transacted(body))
    assert books.texts() == []


def test_the_same_awaited(books):
    """Coroutines are refused the same."""

    async def refused(connection):
        for act in (
            lambda: connection.execute("COMMIT"),
            connection.commit,
            connection.rollback,
            connection.close,
            connection.__aenter__,
            lambda: connection.cursor().executemany("COMMIT", []),
        ):
            with pytest.raises(TransactionMisuseError):
                await act()

    with pytest.raises(TransactionMisuseError, match="COMMIT is refused"):
        run(books, awaited(refused))


def test_a_commit_behind_the_guard(books):
    """What gets around the guard is noticed before the result is recorded."""

    def body(connection):
        connection.execute(books.insert, ("parted",))
        psycopg.Cursor(connection).execute("COMMIT")
        connection.execute(books.insert, ("later",))

    async def work(store, commit):
        with pytest.raises(TransactionMisuseError, match="ended its transaction itself"):
            await transacted(body)(store, commit)
        return await store.describe("e1")

    assert run(books, work).length == 1
    assert books.texts() == ["parted"]


def test_an_error_that_was_swallowed(books):
    """PostgreSQL takes nothing more after it, and the message tells how to contain one."""

    def body(connection):
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(books.insert, ("wrong",))

    with pytest.raises(TransactionMisuseError, match=r"connection\.transaction\(\) around"):
        run(books, transacted(body))

    def contained(connection):
        with pytest.raises(psycopg.errors.CheckViolation), connection.transaction():
            connection.execute(books.insert, ("wrong",))
        connection.execute(books.insert, ("right",))

    assert isinstance(run(books, transacted(contained)), Committed)
    assert books.texts() == ["right"]


def test_a_constraint_that_is_deferred(books):
    """Is checked while the error is still the body's own."""

    def body(connection):
        connection.execute(books.insert, ("twice",))
        connection.execute(books.insert, ("twice",))

    with pytest.raises(psycopg.errors.UniqueViolation):
        run(books, transacted(body))
    assert books.texts() == []


def test_nothing_of_one_body_is_left_for_the_next(books):
    """Settings, temporary tables, advisory locks and what was set on the connection are the body's own."""
    seen = []

    def body(connection):
        seen.append(id(connection))
        row = connection.execute("SELECT current_setting('work_mem'), to_regclass('pg_temp.mine') IS NULL").fetchone()
        locks = connection.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        )
        seen.append((*row, *locks.fetchone()))
        connection.row_factory = dict_row
        connection.execute("SET work_mem = '1234kB'")
        connection.execute("CREATE TEMP TABLE mine (n int)")
        connection.execute("SELECT pg_advisory_lock(17)")
        connection.add_notice_handler(seen.append)

    async def work(store, commit):
        def twice():
            for _ in range(2):
                with store.transaction() as transaction:
                    body(transaction.connection)
                    transaction.seal()

        await asyncio.to_thread(twice)

    run(books, work)
    assert seen[0] == seen[2], "the connection is used again"
    assert seen[1] == seen[3]
    assert seen[3][1:] == (True, 0)


def test_connections_that_have_died(books):
    """Are found out when they are to be used again, and new ones are made."""

    async def work(store, commit):
        def body():
            with store.transaction() as transaction:
                return transaction.connection.execute("SELECT pg_backend_pid()").fetchone()[0]

        async def body_async():
            async with store.async_transaction() as transaction:
                cursor = await transaction.connection.execute("SELECT pg_backend_pid()")
                return (await cursor.fetchone())[0]

        pids = [await asyncio.to_thread(body), await body_async()]
        with books.connect() as connection:
            for pid in pids:
                connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        return pids, [await asyncio.to_thread(body), await body_async()]

    before, after = run(books, work)
    assert not set(before) & set(after)


def test_a_connection_that_dies_in_its_body(books):
    """The body has failed; nothing is written."""

    def body(connection):
        connection.execute(books.insert, ("a",))
        (pid,) = connection.execute("SELECT pg_backend_pid()").fetchone()
        with books.connect() as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        connection.execute("SELECT 1")

    with pytest.raises(psycopg.OperationalError):
        run(books, transacted(body))
    assert books.texts() == []


def test_a_connection_that_dies_before_its_commit(books):
    """The store error says that nobody knows; here nothing is written."""

    async def work(store, commit):
        async with store.async_transaction() as transaction:
            cursor = await transaction.connection.execute("SELECT pg_backend_pid()")
            (pid,) = await cursor.fetchone()
            await transaction.connection.execute(books.insert, ("a",))
            await transaction.seal()
            with books.connect() as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
            with pytest.raises(StoreUnavailableError):
                await transaction.commit(commit)
        return await store.describe("e1")

    assert run(books, work).length == 1
    assert books.texts() == []


def test_data_that_cannot_be_kept(books):
    """Is Rejected, with what the body wrote."""

    async def work(store, commit):
        async with store.async_transaction() as transaction:
            await transaction.connection.execute(books.insert, ("a",))
            await transaction.seal()
            return await transaction.commit(attrs.evolve(commit, draft=Draft(b"x", "nul\0", 1)))

    assert isinstance(run(books, work), Rejected)
    assert books.texts() == []


def test_as_many_as_the_pool_has(books):
    """More wait for their turn, in threads and on loops; bodies run side by side."""

    async def work(store, _):
        running, most, is_full = 0, 0, asyncio.Event()

        async def awaiting():
            nonlocal running, most
            async with store.async_transaction():
                running += 1
                most = max(most, running)
                if running == POOL_SIZE:
                    is_full.set()
                async with asyncio.timeout(30):
                    await is_full.wait()
                await asyncio.sleep(0.02)
                running -= 1

        def blocking():
            with store.transaction() as transaction:
                transaction.connection.execute("SELECT pg_sleep(0.01)")

        await asyncio.gather(*[awaiting() for _ in range(20)], *[asyncio.to_thread(blocking) for _ in range(20)])
        return most

    assert run(books, work) == POOL_SIZE


def test_those_who_listen_are_told_by_the_callers_commit(books):
    """Of an execution that is due, and of a delivery that waits in the inbox; not before, and not after a rollback."""

    async def work(store, commit):
        other = PostgresStore(books.url)
        await other.open()
        told = asyncio.Queue()
        other.watch(told.put_nowait)
        # Of growth the owner's process is told, by whichever process empties the inbox.
        store.watch(told.put_nowait)
        with psycopg.connect(**books.location.connection(sets_session=False)) as connection:
            for name in ("rolled back", "committed"):
                new = attrs.evolve(NEW, id=name.replace(" ", "-"), name=name, draft=Draft(b"started", name, 1))
                assert isinstance(await store.within(connection).create(new), Created)
                assert await other.describe(new.id) is None
                connection.commit() if name == "committed" else connection.rollback()
            async with asyncio.timeout(5):
                while (hint := await told.get()).id != "committed":
                    assert hint.id != "rolled-back"
            await store.commit([attrs.evolve(commit, opens=(OpenAwait(operation="c", secret="s"),))])
            answer = await store.within(connection).deliver("e1/c", "s", Draft(b"yes", "d", 1), "nonce")
            assert answer is Answer.DELIVERED
            assert (await store.describe("e1")).length == 2
            connection.commit()
            async with asyncio.timeout(5):
                # Either of them takes it out of the inbox; the owner's own process alone hears of it then.
                while (await store.describe("e1")).length < 3:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.005)
        await other.close()

    run(books, work)
