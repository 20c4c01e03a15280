"""The connection that the body of a transaction is given: it can do everything but part its writes from the result."""

from __future__ import annotations

import re
import sqlite3
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import WeakSet

from perdure.backends.sqlite.statement import read_migrations
from perdure.transaction import misused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perdure.errors import TransactionMisuseError

_WRITES = {
    sqlite3.SQLITE_INSERT,
    sqlite3.SQLITE_UPDATE,
    sqlite3.SQLITE_DELETE,
    sqlite3.SQLITE_DROP_TABLE,
    sqlite3.SQLITE_ALTER_TABLE,
}
_QUESTIONS = {"table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo"}
"""Pragmas that change nothing though they have an argument."""


@cache
def own_tables() -> frozenset[str]:
    """The names of Perdure's tables."""
    scripts = read_migrations()
    texts = scripts.values() if isinstance(scripts, dict) else scripts
    return frozenset(re.findall(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)", "\n".join(texts)))


class GuardedConnection(sqlite3.Connection):
    """
    A connection that is in a transaction which its user cannot end.

    Attributes:
        refusal: What was refused first, or None.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.refusal: str | None = None
        self._cursors: WeakSet[sqlite3.Cursor] = WeakSet()
        self._trusted = True
        super().set_authorizer(self._authorize)

    def guard(self) -> None:
        """From now on it is in the hands of the body."""
        self._trusted = False

    @contextmanager
    def trusted(self) -> Iterator[None]:
        """Perdure's own statements."""
        before, self._trusted = self._trusted, True
        try:
            yield
        finally:
            self._trusted = before

    def take_back(self) -> None:
        """The body has returned: no statement of it is left half done, and nothing is refused any more."""
        for cursor in list(self._cursors):
            cursor.close()
        self._trusted = True
        super().set_authorizer(None)
        self.row_factory = None
        self.text_factory = str

    def misuse(self) -> TransactionMisuseError | None:
        """What the body has tried, as an error, or None."""
        return None if self.refusal is None else misused(self.refusal, "SAVEPOINT")

    def _authorize(self, action: int, first: str | None, second: str | None, _: str | None, __: str | None) -> int:
        if self._trusted:
            return sqlite3.SQLITE_OK
        refused = self._refused(action, first, second)
        if refused is None:
            return sqlite3.SQLITE_OK
        self.refusal = self.refusal or refused
        return sqlite3.SQLITE_DENY

    def _refused(self, action: int, first: str | None, second: str | None) -> str | None:
        if not self.in_transaction:
            # SQLite ends a transaction itself for some errors; what was written now would be committed at once.
            return "writing on after a statement that has rolled the transaction back"
        match action:
            case sqlite3.SQLITE_TRANSACTION:
                return str(first)
            case sqlite3.SQLITE_ATTACH | sqlite3.SQLITE_DETACH:
                return "ATTACH or DETACH"
            case sqlite3.SQLITE_PRAGMA if second is not None and first not in _QUESTIONS:
                return f"PRAGMA {first}"
        table = second if action == sqlite3.SQLITE_ALTER_TABLE else first
        return f"writing to Perdure's own table {table!r}" if action in _WRITES and table in own_tables() else None

    # ------------------------------------------------------------------------------------ what would end it, or us

    def cursor(self, *args: Any, **options: Any) -> Any:
        """As ever; those that are left open do not stand in the commit's way."""
        made = super().cursor(*args, **options)
        self._cursors.add(made)
        return made

    def execute(self, *args: Any) -> sqlite3.Cursor:
        """As ever, but by a cursor that is known."""
        made: sqlite3.Cursor = self.cursor()
        return made.execute(*args)

    def executemany(self, *args: Any) -> sqlite3.Cursor:
        """As ever, but by a cursor that is known."""
        made: sqlite3.Cursor = self.cursor()
        return made.executemany(*args)

    def commit(self) -> None:
        """Refused."""
        self._refuse("commit()")

    def rollback(self) -> None:
        """Refused."""
        self._refuse("rollback()")

    def close(self) -> None:
        """Refused."""
        self._refuse("close()")

    def executescript(self, sql_script: str, /) -> NoReturn:  # noqa: ARG002 - as inherited
        """Refused: it would commit first."""
        self._refuse("executescript(), which commits first,")

    def set_authorizer(self, authorizer_callback: Any) -> None:  # noqa: ARG002 - as inherited
        """Refused."""
        self._refuse("set_authorizer()")

    def __enter__(self) -> NoReturn:
        self._refuse("`with connection`, which commits,")

    def _refuse(self, what: str) -> NoReturn:
        self.refusal = self.refusal or what
        raise misused(self.refusal, "SAVEPOINT")

    def end(self) -> None:
        """Close it, whatever is open; what was not committed is rolled back."""
        super().close()
