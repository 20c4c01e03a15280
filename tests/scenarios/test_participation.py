"""Starting executions and completing callbacks within an application's own transaction."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest

from perdure.client import AsyncClient, Client
from perdure.errors import (
    CallbackClosedError,
    CallbackNotFoundError,
    ExecutionAlreadyStartedError,
    ExecutionConflictError,
    ExecutionNotFoundError,
    StepError,
    TransactionMisuseError,
    TransactionsUnsupportedError,
    ValidationError,
)
from perdure.service.callback_id import CallbackId
from perdure.testing.memory import MemoryStore
from tests.scenarios.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

UNKNOWN = str(CallbackId.mint("nobody", "nothing"))

pytestmark = pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")


@pytest.fixture
def stage(colour, books) -> Iterator[Stage]:
    stage = Stage(colour, books.make_store)
    try:
        books.make_table()
        yield stage
    finally:
        stage.close()


@contextmanager
def transaction(books):
    """A transaction of an application that has written something; rolled back unless committed."""
    with closing(books.connect()) as connection:
        connection.execute(books.insert, ("written",))
        yield connection
        connection.rollback()


async def double(event, context):
    return await context.step(lambda _: event * 2)


async def called(event, context):
    return await context.wait_for_callback(lambda *_: None, name="call")


def test_a_start_comes_with_the_commit(stage, books):
    """Nobody sees the execution before, and a worker runs it as soon as it is there."""
    function = stage.durable(double)
    stage.work()
    with transaction(books) as connection:
        handle = stage.client.start(function, 21, name="one", connection=connection)
        assert stage.client.list().items == []
        with pytest.raises(ExecutionNotFoundError):
            handle.describe()
        connection.commit()
        assert handle.result(timeout=20) == 42
    assert books.texts() == ["written"]


def test_a_start_goes_with_the_rollback(stage, books):
    """What was not committed never was; its name is free."""
    function = stage.durable(double)
    with transaction(books) as connection:
        handle = stage.client.start(function, 21, name="one", connection=connection)
    with pytest.raises(ExecutionNotFoundError):
        handle.describe()
    assert books.texts() == []
    stage.work()
    assert stage.client.start(function, 4, name="one").result(timeout=20) == 8


def test_a_start_under_a_name_that_is_taken(stage, books):
    """The same input finds the execution that is there, another one is refused; the transaction is still good."""
    function = stage.durable(double)
    before = stage.client.start(function, 1, name="one")
    with transaction(books) as connection:
        assert stage.client.start(function, 1, name="one", connection=connection).id == before.id
        with pytest.raises(ExecutionAlreadyStartedError):
            stage.client.start(function, 2, name="one", connection=connection)
        connection.commit()
    assert books.texts() == ["written"]


def test_a_start_out_of_the_body_of_a_transaction(stage, books):
    """The body's own connection will do: the child is started exactly once, with the step's result."""
    function = stage.durable(double)

    def body(step, connection):
        turn = stage.ran("body")
        connection.execute(books.insert, (f"turn {turn}",))
        handle = stage.client.start(function, turn, name="child", connection=connection)
        if turn == 1:
            raise ConnectionError("again")
        return handle.id

    async def workflow(event, context):
        return await context.transaction(body)

    outcome = stage.run(workflow)
    assert books.texts() == ["turn 2"]
    child = stage.client.handle("child", function)
    assert child.id == outcome.result
    assert stage.end(child).result == 4


def test_a_start_that_would_wait_for_the_body_it_is_in(stage, books):
    """Without the body's connection it would wait for a lock that its caller holds, and is refused."""
    if not books.is_locked_by_bodies:
        pytest.skip("nobody waits for anybody")
    function = stage.durable(double)

    async def workflow(event, context):
        try:
            await context.transaction(lambda step, connection: stage.client.start(function, 1).id, name="x")
        except StepError as error:
            return str(error)

    outcome = stage.run(workflow)
    assert "connection=" in outcome.result
    assert stage.client.list(function).items == []


def test_a_callback_is_completed_by_the_commit(stage, books):
    """Before it, the callback is open; it may be completed in one transaction and rolled back in another."""
    handle = stage.start(called)
    callback_id = stage.callback_id(handle, "call create callback id")
    with transaction(books) as connection:
        stage.client.send_callback_failure(callback_id, connection=connection)
    with transaction(books) as connection:
        stage.client.send_callback_success(callback_id, "yes", connection=connection)
        assert handle.describe().ended is None
        connection.commit()
    assert stage.end(handle).result == "yes"
    with transaction(books) as connection, pytest.raises(CallbackClosedError):
        stage.client.send_callback_success(callback_id, "again", connection=connection)


def test_an_unknown_callback(stage, books):
    """Is told at once."""
    with transaction(books) as connection, pytest.raises(CallbackNotFoundError):
        stage.client.send_callback_success("nonsense", connection=connection)


def test_a_callback_fails_by_the_commit(stage, books):
    """As with success."""
    handle = stage.start(called)
    callback_id = stage.callback_id(handle, "call create callback id")
    with transaction(books) as connection:
        stage.client.send_callback_failure(callback_id, connection=connection)
        connection.commit()
    assert stage.end(handle).error is not None


def test_awaited(stage, books):
    """The same with an AsyncClient, on the caller's loop."""
    function = stage.durable(double)
    stage.work()

    async def start(client):
        async with books.begun() as connection:
            handle = await client.start(function, 3, connection=connection)
            with pytest.raises(ExecutionNotFoundError):
                await handle.describe()
        return await handle.result(timeout=20)

    async def complete(client, callback_id):
        async with books.begun() as connection:
            await client.send_callback_success(callback_id, "yes", connection=connection)
        async with books.begun() as connection:
            with pytest.raises(CallbackNotFoundError):
                await client.send_callback_failure(UNKNOWN, connection=connection)

    async def main(work, *arguments):
        async with AsyncClient(stage.store) as client:
            return await work(client, *arguments)

    assert asyncio.run(main(start)) == 6
    waiting = stage.start(called)
    stage.restart()
    asyncio.run(main(complete, stage.callback_id(waiting, "call create callback id")))
    assert stage.end(waiting).result == "yes"
    assert books.texts() == ["begun"] * 3


def test_one_callback_in_two_transactions(stage, books):
    """Both are told that it is open; the first to commit completes it, and the other one changes nothing."""
    if books.is_locked_by_bodies:
        pytest.skip("the second transaction waits for the first one")
    handle = stage.start(called)
    callback_id = stage.callback_id(handle, "call create callback id")
    with transaction(books) as first, transaction(books) as second:
        stage.client.send_callback_success(callback_id, "first", connection=first)
        stage.client.send_callback_success(callback_id, "second", connection=second)
        second.commit()
        assert stage.end(handle).result == "second"
        first.commit()
    assert stage.end(handle).result == "second"
    assert books.texts() == ["written"] * 2


def test_one_name_in_two_transactions(stage, books):
    """The second start waits until the first one's transaction has ended, and then finds what became of it."""
    if books.is_locked_by_bodies:
        pytest.skip("the second transaction waits for the first one anyway")
    function = stage.durable(double)
    with transaction(books) as first, transaction(books) as second:
        one = stage.client.start(function, 1, name="one", connection=first)
        threading.Timer(0.1, first.commit).start()
        assert stage.client.start(function, 1, name="one", connection=second).id == one.id


def test_a_connection_that_commits_each_statement(stage, books):
    """Has no transaction to take part in; in one that was begun explicitly it may."""
    function = stage.durable(double)
    with closing(books.connect(autocommit=True)) as connection:
        with pytest.raises(TransactionMisuseError, match="in no transaction"):
            stage.client.start(function, 1, connection=connection)
        assert stage.client.list().items == []
        connection.execute("BEGIN")
        stage.client.start(function, 1, connection=connection)
        connection.execute("COMMIT")
    assert len(stage.client.list().items) == 1


def test_a_connection_to_another_database(stage, books, other_database):
    """Is refused before anything is written to either."""
    with closing(other_database()) as other, pytest.raises(TransactionMisuseError, match="one transaction spans one"):
        stage.client.start(stage.durable(double), 1, connection=other)
    assert stage.client.list().items == []


def test_no_connection_at_all(stage, books):
    """What is none of the driver's own is refused by name."""
    with pytest.raises(ValidationError, match=r"connection= takes a (sqlite3|psycopg)\.Connection"):
        stage.client.start(stage.durable(double), 1, connection="postgresql://")


def test_an_asynchronous_connection_for_a_blocking_client(stage, books):
    """Is refused, since nobody would await it."""
    if not hasattr(books, "schema"):
        pytest.skip("there is none for SQLite")

    async def main():
        async with books.begun() as connection:
            with pytest.raises(ValidationError, match="AsyncClient"):
                stage.client.start(stage.durable(double), 1, connection=connection)

    asyncio.run(main())


def test_a_backend_without_tables():
    """Says so."""
    with (
        Client(MemoryStore()) as client,
        closing(sqlite3.connect(":memory:")) as connection,
        pytest.raises(TransactionsUnsupportedError, match="MemoryStore"),
    ):
        client.start("double", 1, connection=connection)


def test_rows_as_the_caller_has_them(stage, books):
    """A row factory of the caller's neither disturbs nor is disturbed."""
    function = stage.durable(double)
    stage.client.start(function, 1, name="one")
    with closing(books.connect()) as connection:
        connection.row_factory = books.row_factory
        assert stage.client.start(function, 1, name="one", connection=connection).name == "one"
        assert connection.execute("SELECT 'x' AS x").fetchone()["x"] == "x"


def test_an_old_name_that_is_still_to_be_removed(stage, books):
    """It cannot be removed within the transaction, and the message says what to do."""
    function = stage.durable(double, retention=1)
    assert stage.run(function, 1, name="one").result == 2
    stage.halt()
    stage.skip(3 * 86_400)
    with transaction(books) as connection, pytest.raises(ExecutionConflictError, match=r"purge\(\)"):
        stage.client.start(function, 1, name="one", connection=connection)
    stage.client.purge()
    with transaction(books) as connection:
        stage.client.start(function, 1, name="one", connection=connection)
        connection.commit()
    assert stage.client.handle("one", function).describe().ended is None


@pytest.fixture
def other_database(books, tmp_path):
    """Connects to a database that is not the store's."""
    if not hasattr(books, "schema"):
        yield lambda: sqlite3.connect(tmp_path / "other.db")
        return
    with psycopg.connect(books.url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {books.schema}_other")
    yield lambda: psycopg.connect(books.url, dbname=f"{books.schema}_other")
    with psycopg.connect(books.url, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {books.schema}_other WITH (FORCE)")
