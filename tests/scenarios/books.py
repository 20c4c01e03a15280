"""An application's own table beside the journal, and bodies that write to it."""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
from contextlib import asynccontextmanager, closing
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row

from perdure.backends.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.scenarios.stage import SkippingClock, Stage


class BodyKind(StrEnum):
    PLAIN = "plain"
    COROUTINE = "coroutine"


class SqliteBooks:
    """The table `entry(text)` in the file of a SQLite store."""

    insert = "INSERT INTO entry (text) VALUES (?)"
    is_locked_by_bodies = True
    row_factory = sqlite3.Row

    def __init__(self, path: Path) -> None:
        self.path = path

    def make_store(self, clock: SkippingClock) -> SqliteStore:
        return SqliteStore(self.path, synchronous="normal", clock=clock)

    def connect(self, *, autocommit: bool = False) -> sqlite3.Connection:
        """A connection as an application makes it."""
        return sqlite3.connect(self.path, timeout=20, isolation_level=None if autocommit else "")

    @asynccontextmanager
    async def begun(self) -> AsyncIterator[sqlite3.Connection]:
        """A transaction of an application on a loop, which has written something; committed in the end."""
        with closing(self.connect()) as connection, connection:
            connection.execute(self.insert, ("begun",))
            yield connection

    def make_table(self) -> None:
        with closing(self.connect()) as connection, connection:
            connection.execute("CREATE TABLE entry (text TEXT)")

    def texts(self) -> list[str]:
        """What is in it, as everybody sees it."""
        with closing(self.connect()) as connection:
            return [text for (text,) in connection.execute("SELECT text FROM entry ORDER BY text")]


class PostgresBooks:
    """The table `entry` in the schema of a PostgreSQL store."""

    is_locked_by_bodies = False
    row_factory = staticmethod(dict_row)

    def __init__(self, url: str, schema: str, make_store: Callable[[SkippingClock], Any]) -> None:
        self.url = url
        self.make_store = make_store
        self.schema = schema
        self.insert = f"INSERT INTO {schema}.entry (text) VALUES (%s)"

    def connect(self, *, autocommit: bool = False) -> psycopg.Connection[Any]:
        """A connection as an application makes it."""
        return psycopg.connect(self.url, application_name=self.schema, autocommit=autocommit)

    @asynccontextmanager
    async def begun(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A transaction of an application on a loop, which has written something; committed in the end."""
        async with await psycopg.AsyncConnection.connect(self.url, application_name=self.schema) as connection:
            await connection.execute(self.insert, ("begun",))
            yield connection

    def make_table(self) -> None:
        with self.connect() as connection:
            connection.execute(f"CREATE TABLE {self.schema}.entry (text TEXT)")

    def drop_table(self) -> None:
        with self.connect() as connection:
            connection.execute("SET lock_timeout = '5s'")
            connection.execute(f"DROP TABLE IF EXISTS {self.schema}.entry")

    def texts(self) -> list[str]:
        """What is in it, as everybody sees it."""
        with self.connect() as connection:
            return [text for (text,) in connection.execute(f"SELECT text FROM {self.schema}.entry ORDER BY text")]


class Clerk:
    """Makes bodies of transactions that write to the books, and counts their runs."""

    def __init__(self, stage: Stage, books: Any, kind: BodyKind) -> None:
        self._stage = stage
        self._books = books
        self._kind = kind

    def writes(self, text: str, *outcomes: Any, then: Callable[..., object] = lambda *_: None) -> Callable[..., Any]:
        """
        A body that writes `text`, and then returns or raises one outcome after another, the last one again and again.

        Args:
            text: What it writes, and what its runs are counted under.
            outcomes: `text` if there is none.
            then: Called in between with the step's context and the connection; not on a loop.
        """
        insert = self._books.insert

        def outcome() -> Any:
            turn = self._stage.ran(text)
            found = outcomes[min(turn, len(outcomes)) - 1] if outcomes else text
            if isinstance(found, BaseException):
                raise found
            return found

        def plain(step: Any, connection: Any) -> Any:
            connection.execute(insert, (text,))
            then(step, connection)
            return outcome()

        async def coroutine(step: Any, connection: Any) -> Any:
            written = connection.execute(insert, (text,))
            if inspect.isawaitable(written):
                await written
            await asyncio.to_thread(then, step, connection)
            return outcome()

        return plain if self._kind is BodyKind.PLAIN else coroutine
