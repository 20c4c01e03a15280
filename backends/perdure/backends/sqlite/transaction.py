"""What the verbs use inside a transaction: executions are read, written to and saved, rows appended, hints gathered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from perdure.backends.sqlite.record import COLUMNS, Execution, values_of
from perdure.backends.sqlite.statement import read_statements
from perdure.storage import EMPTY, Hint, HintKind, Tip

if TYPE_CHECKING:
    import sqlite3

    from perdure.storage import Draft, OpenInvocation, Status

_COLUMN_LIST = ", ".join(COLUMNS)

EXECUTION = read_statements("execution", columns=_COLUMN_LIST, values=", ".join("?" * len(COLUMNS)))
JOURNAL = read_statements("journal")
AWAIT = read_statements("await")

_TURNS = {"status", "owner", "wake", "paused", "quarantined"}
"""Columns whose change may be news to listeners."""


@attrs.define(eq=False)
class Transaction:
    """
    One verb's view of the database.

    Attributes:
        connection: In a transaction; a reader's shows a snapshot and writes nothing.
        now: The store's time, read when the verb had the lock.
        hints: What listeners are told once it is durable.
        appended: How many rows it has added to journals.
        position: Of the last of them.
    """

    connection: sqlite3.Connection
    now: int
    hints: list[Hint] = attrs.field(factory=list)
    appended: int = 0
    position: int = 0
    _origins: dict[str, tuple[Any, ...]] = attrs.field(factory=dict)

    def row(self, sql: str, *values: Any) -> Any:
        """The first row of a query, or None."""
        return self.connection.execute(sql, values).fetchone()

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """All rows of a query."""
        return self.connection.execute(sql, values).fetchall()

    def run(self, sql: str, *values: Any) -> int:
        """Execute a statement for what it changes; returns how many rows."""
        return self.connection.execute(sql, values).rowcount

    # ------------------------------------------------------------------------------------------------- executions

    def find(self, id: str) -> Execution | None:
        """The execution of that id."""
        return next(iter(self.executions(EXECUTION["by_id"], id)), None)

    def executions(self, sql: str, *values: Any) -> list[Execution]:
        """What a query for executions finds."""
        found = []
        for row in self.rows(sql, *values):
            execution = Execution(*row)
            self._origins[execution.id] = row
            found.append(execution)
        return found

    def insert(self, execution: Execution, draft: Draft) -> None:
        """Add a new execution and its first row."""
        execution.grow(self.now, draft)
        execution.number = self.connection.execute(EXECUTION["insert"], values_of(execution)).lastrowid
        self._origins[execution.id] = values_of(execution)
        self._write_row(execution, draft)

    def save(self, execution: Execution) -> None:
        """Write what was changed, which leaves indexes of unchanged columns alone."""
        execution.date_removal()
        origin, values = self._origins[execution.id], values_of(execution)
        changes = {name: new for name, old, new in zip(COLUMNS, origin, values, strict=True) if old != new}
        if not changes:
            return
        self._origins[execution.id] = values
        assignments = ", ".join(f"{name} = ?" for name in changes)
        self.run(f"UPDATE execution SET {assignments} WHERE number = ?", *changes.values(), execution.number)  # noqa: S608 - our own column names
        if changes.keys() & _TURNS:
            self._announce(Execution(*origin), execution)

    def _announce(self, before: Execution, execution: Execution) -> None:
        if execution.is_ended and not before.is_ended:
            self.run(AWAIT["retire"], execution.id)
            self.hint(HintKind.ENDED, execution)
        if self._is_due(execution) and not self._is_due(before):
            self.hint(HintKind.DUE, execution)

    def _is_due(self, execution: Execution) -> bool:
        due = execution.due
        return due is not None and due <= self.now

    def hint(self, kind: HintKind, execution: Execution) -> None:
        """Tell listeners, once this is durable."""
        self.hints.append(Hint(kind, execution.id, execution.function, 0))

    # --------------------------------------------------------------------------------------------------- journals

    def append(
        self,
        execution: Execution,
        draft: Draft,
        *,
        seen: int | None = None,
        operation: str | None = None,
        invocation: OpenInvocation | None = None,
    ) -> int:
        """Add a row to a journal, and return its time; the execution is not saved yet."""
        execution.grow(self.now, draft)
        self._write_row(execution, draft, seen, operation, invocation)
        return execution.tip_at

    def _write_row(
        self,
        execution: Execution,
        draft: Draft,
        seen: int | None = None,
        operation: str | None = None,
        invocation: OpenInvocation | None = None,
    ) -> None:
        self.add_rows(
            JOURNAL["append"],
            execution.number,
            execution.length,
            execution.tip_at,
            draft.tag,
            seen,
            invocation and invocation.id,
            invocation and invocation.at,
            operation,
            draft.body,
        )

    def add_rows(self, sql: str, *values: Any) -> int:
        """Execute a statement that adds rows to journals; returns how many."""
        cursor = self.connection.execute(sql, values)
        if cursor.rowcount:
            self.appended += cursor.rowcount
            self.position = cursor.lastrowid or 0
        return cursor.rowcount

    def intrude(self, execution: Execution, draft: Draft, operation: str | None = None) -> int:
        """Append what the owner did not write, and save; an execution without owner becomes due."""
        at = self.append(execution, draft, operation=operation)
        if execution.owner is not None:
            self.hint(HintKind.GREW, execution)
        # Due by the clock, not by the row: the row may stand ahead of a clock that was set back.
        execution.stir(self.now)
        self.save(execution)
        return at

    def end(self, execution: Execution, draft: Draft, status: Status) -> None:
        """End an execution over its owner's head, and save; the row closes the invocation that is open."""
        if execution.owner is not None:
            self.hint(HintKind.GREW, execution)
        at = self.append(execution, draft, invocation=execution.invocation)
        execution.finish(status, at)
        self.save(execution)

    def tip(self, execution: Execution, index: int) -> Tip | None:
        """The tip when the journal had `index` rows, or None if it never had."""
        if index == execution.length:
            return execution.tip
        if index == 0:
            return EMPTY
        row = self.row(JOURNAL["tip"], execution.number, index)
        return None if row is None else Tip(*row)
