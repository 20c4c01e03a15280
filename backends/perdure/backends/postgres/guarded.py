"""The connection that the body of a transaction is given: it can do everything but part its writes from the result."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn

import psycopg
from psycopg.rows import tuple_row
from psycopg.sql import Composable

from perdure.transaction import misused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from perdure.errors import TransactionMisuseError

_SUSPICIOUS = re.compile(r"\b(commit|end|rollback|abort|begin|start|prepare)\b", re.IGNORECASE)
_QUOTED = re.compile(
    r"""[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*.*?\*/""", re.DOTALL
)
_ENDING = re.compile(
    r"\s*(commit|end|abort|begin|start\s+transaction|prepare\s+transaction|rollback(?!(\s+(work|transaction))?\s+to\b))\b",
    re.IGNORECASE,
)


def ending(sql: str) -> str | None:
    """The first words of a statement that ends or begins a transaction, if one is among these; savepoints are none."""
    if not _SUSPICIOUS.search(sql):
        return None
    found = (_ENDING.match(statement) for statement in _QUOTED.sub(" ", sql).split(";"))
    return next((match[1].upper() for match in found if match), None)


class _Guard:
    """
    What the connections of both kinds have in common.

    Attributes:
        refusal: What was refused first, or None.
    """

    refusal: str | None = None

    def check(self, query: Any) -> None:
        """Refuse a statement that would end the transaction."""
        if isinstance(query, Composable):
            text = query.as_string(None)
        else:
            text = query.decode("utf-8", "replace") if isinstance(query, bytes) else str(query)
        if (found := ending(text)) is not None:
            self.refuse(found)

    def refuse(self, what: str) -> NoReturn:
        """Raise, and remember."""
        self.refusal = self.refusal or what
        raise self.misuse() or AssertionError

    def misuse(self) -> TransactionMisuseError | None:
        """What the body has tried, as an error, or None."""
        return None if self.refusal is None else misused(self.refusal, "connection.transaction()")


class GuardedCursor(psycopg.Cursor[Any]):
    """A cursor that looks at statements first."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        """As ever, unless it would end the transaction."""
        _guard(self.connection).check(query)
        return super().execute(query, params, **options)

    def executemany(self, query: Any, params_seq: Any, **options: Any) -> None:
        """As ever, unless it would end the transaction."""
        _guard(self.connection).check(query)
        super().executemany(query, params_seq, **options)

    def stream(self, query: Any, params: Any = None, **options: Any) -> Iterator[Any]:
        """As ever, unless it would end the transaction."""
        _guard(self.connection).check(query)
        return super().stream(query, params, **options)


class GuardedAsyncCursor(psycopg.AsyncCursor[Any]):
    """The same, awaited."""

    async def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        """As ever, unless it would end the transaction."""
        _guard(self.connection).check(query)
        return await super().execute(query, params, **options)

    async def executemany(self, query: Any, params_seq: Any, **options: Any) -> None:
        """As ever, unless it would end the transaction."""
        _guard(self.connection).check(query)
        await super().executemany(query, params_seq, **options)

    def stream(self, query: Any, params: Any = None, **options: Any) -> AsyncIterator[Any]:
        """As ever, unless it would end the transaction."""
        _guard(self.connection).check(query)
        return super().stream(query, params, **options)


class GuardedConnection(psycopg.Connection[Any], _Guard):
    """A blocking connection that is in a transaction which its user cannot end."""

    def commit(self) -> None:
        """Refused."""
        self.refuse("commit()")

    def rollback(self) -> None:
        """Refused."""
        self.refuse("rollback()")

    def close(self) -> None:
        """Refused."""
        self.refuse("close()")

    def __enter__(self) -> NoReturn:
        self.refuse("`with connection`, which commits and closes,")

    def end(self, *, commits: bool) -> None:
        """Commit or roll back."""
        if commits:
            super().commit()
        else:
            super().rollback()


class GuardedAsyncConnection(psycopg.AsyncConnection[Any], _Guard):
    """The same, awaited."""

    async def commit(self) -> None:
        """Refused."""
        self.refuse("commit()")

    async def rollback(self) -> None:
        """Refused."""
        self.refuse("rollback()")

    async def close(self) -> None:
        """Refused."""
        self.refuse("close()")

    async def __aenter__(self) -> NoReturn:
        self.refuse("`async with connection`, which commits and closes,")

    async def end(self, *, commits: bool) -> None:
        """Commit or roll back."""
        if commits:
            await super().commit()
        else:
            await super().rollback()


def _guard(connection: Any) -> _Guard:
    assert isinstance(connection, _Guard)  # noqa: S101 - no other connection makes such cursors
    return connection


def restore(connection: GuardedConnection | GuardedAsyncConnection) -> None:
    """Take back what a body may have changed of a connection, as far as that is on this side of it."""
    connection.refusal = None
    connection.row_factory = tuple_row
    connection.prepare_threshold = None
    kept = vars(connection)
    kept["_adapters"] = None
    for handlers in ("_notice_handlers", "_notify_handlers"):
        kept[handlers].clear()
    if isinstance(connection, GuardedConnection):
        connection.cursor_factory = GuardedCursor
        connection.server_cursor_factory = psycopg.ServerCursor
    else:
        connection.cursor_factory = GuardedAsyncCursor
        connection.server_cursor_factory = psycopg.AsyncServerCursor
