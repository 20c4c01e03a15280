"""
What a journal says of its execution: the fold of its rows.

The fold is total: what lost a race folds to nothing — an outcome for an operation that has one, a firing before its
time by the row's own clock, an update that is illegal where it stands, anything behind the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.journal.entry import decode
from perdure.journal.timers import Timers
from perdure.journal.turn import Turn
from perdure.model import ENDED_STATUSES, TERMINAL_STATUSES, ExecutionStatus
from perdure.storage import EMPTY, Tip

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from perdure.journal.effects import Effect
    from perdure.journal.entry import Ended, Entry, Paused
    from perdure.journal.turn import Observer
    from perdure.model import ErrorObject, Operation, OperationType
    from perdure.storage import Row


class Execution:
    """
    An execution as its journal has it so far; `apply` carries it on by a row.

    Attributes:
        id: Its id; name, function, version, input, parent, tenant_id, execution_timeout, retention_days, id_scheme:
            as `perdure.journal.entry.Started` has them; empty until then.
        status: RUNNING or how it ended; `paused`: the pause that is in force, or None, and `paused_at`.
        started, ended: When, or None.
        result, error: How it ended.
        outcome: What an EXECUTION update recorded, in force once the execution ends.
        operations: By id, in start order, the EXECUTION operation first.
        ends: How many operations have ended.
        length, tip: Of the journal.
        news: Rows that brought something which no invocation that ended well had been told of.
        brought: The operations that such rows changed, by their row.
        invocations: How many have ended; `crashes`: how many of the last ones in a row not well, and `idle`: how many
            with nothing left that could lead to another one.
        effects: What is to be done to other executions, in the order of the rows.
    """

    def __init__(self, id: str) -> None:
        self.id = id
        self.name = self.function = self.version = self.input = self.id_scheme = ""
        self.parent: str | None = None
        self.tenant_id: str | None = None
        self.execution_timeout: int | None = None
        self.retention_days: int | None = None
        self.status = ExecutionStatus.RUNNING
        self.paused: Paused | None = None
        self.paused_at: datetime | None = None
        self.started: datetime | None = None
        self.ended: datetime | None = None
        self.result: str | None = None
        self.error: ErrorObject | None = None
        self.outcome: Ended | None = None
        self.operations: dict[str, Operation] = {}
        self.ends = 0
        self.length = 0
        self.tip: Tip = EMPTY
        self.news: list[int] = []
        self.brought: dict[int, set[str]] = {}
        self.invocations = 0
        self.crashes = self.idle = 0
        self.effects: list[Effect] = []
        self.timers = Timers()
        self.awaits: dict[str, OperationType] = {}
        self._order: dict[str, int] = {}

    # -------------------------------------------------------------------------------------------------- questions

    @property
    def has_news(self) -> bool:
        """Whether the handler has something it was not told of (spi.md, rules 2 and 8)."""
        return bool(self.news)

    @property
    def updated(self) -> tuple[str, ...]:
        """Ids of the operations that have changed since the last invocation that ended well, in start order."""
        changed = {id for row in self.news for id in self.brought.get(row, ())} - {self.id}
        return tuple(sorted(changed, key=self._order.__getitem__))

    @property
    def outstanding(self) -> int:
        """How many operations PENDING may wait for: pending steps, open waits, callbacks and invokes."""
        return len(self.timers) + len(self.awaits)

    def next_due(self) -> int | None:
        """When time alone changes an operation, at the earliest (µs); None: never."""
        return self.timers.next()

    def due(self, now: int) -> tuple[str, ...]:
        """The operations whose time has come by `now` (µs), the earliest first."""
        found = self.timers.all_due(now)
        if not found:
            return ()
        return tuple(id for _, id in sorted(found, key=lambda timer: (timer[0], self._order[timer[1]])))

    def open_awaits(self) -> tuple[Operation, ...]:
        """The callbacks and chained invokes that something outside will complete, in start order."""
        return tuple(self.operations[id] for id in self.awaits)

    def start_order(self, id: str) -> int:
        """The place of an operation among all, from 0."""
        return self._order[id]

    def needed_operations(self) -> list[Operation]:
        """All operations that replay may look at: not those below contexts that only their result is needed of."""
        hidden: set[str] = set()
        needed: list[Operation] = []
        for operation in self.operations.values():
            if operation.parent_id in hidden:
                hidden.add(operation.operation_id)
                continue
            needed.append(operation)
            details = operation.context_details
            if details is not None and not details.replay_children and operation.status in TERMINAL_STATUSES:
                hidden.add(operation.operation_id)
        return needed

    # ---------------------------------------------------------------------------------------------------- folding

    def apply(self, row: Row, entry: Entry | None = None, observer: Observer | None = None) -> set[str]:
        """
        Fold the next row.

        Args:
            row: The one behind the last; one that was folded already changes nothing.
            entry: Its decoded body, if that is at hand.
            observer: Told what took effect.

        Returns:
            Ids of the operations that changed.

        Raises:
            ValueError: Rows in between are missing.
            SchemaVersionError: The entry is in a newer format.
        """
        if row.index <= self.length:
            return set()
        if row.index != self.length + 1:
            raise ValueError(f"execution {self.id!r} is folded up to row {self.length}, and was given row {row.index}")
        if entry is None:
            entry = decode(row.body)
        self.length = row.index
        self.tip = Tip(row.at, row.tag)
        if self.status in ENDED_STATUSES:
            return set()
        turn = Turn(self, row, observer)
        turn.take(entry)
        if self.news and self.news[-1] == row.index:
            self.brought[row.index] = turn.changed
        return turn.changed

    def place(self, operation: Operation) -> None:
        """Take in what an operation has become."""
        if operation.operation_id not in self.operations:
            self._order[operation.operation_id] = len(self._order)
        self.operations[operation.operation_id] = operation

    def close(self) -> None:
        """Forget what could still have happened; operations stay as they are."""
        self.timers, self.awaits = Timers(), {}


def fold(execution_id: str, rows: Iterable[Row]) -> Execution:
    """The execution that these rows, all from the first, make."""
    execution = Execution(execution_id)
    for row in rows:
        execution.apply(row)
    return execution
