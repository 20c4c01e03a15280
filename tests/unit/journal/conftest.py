"""Building journals row by row, as stores and owners do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from perdure.journal.entry import Ended, Entry, InvocationEnd, Outcome, Started, Target, encode
from perdure.journal.fold import Execution
from perdure.model import (
    CallbackOptions,
    ChainedInvokeOptions,
    ContextOptions,
    ErrorObject,
    ExecutionStatus,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
    StepOptions,
    WaitOptions,
)
from perdure.storage import OpenInvocation, Row

T0 = 1_790_000_000_000_000
BEGIN = datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)
SECOND = 1_000_000


class JournalWriter:
    """A journal under construction, its fold, and short names for what goes into it."""

    def __init__(self, id: str = "exec-1") -> None:
        self.rows: list[Row] = []
        self.execution = Execution(id)
        self.changed: set[str] = set()
        self.now = T0

    def begin(self, **members: Any) -> JournalWriter:
        """The first row."""
        started = {"name": "order-17", "function": "order", "version": "3", "input": '{"card":"1"}', **members}
        self.write(Entry(started=Started(**started)))
        return self

    def write(
        self,
        entry: Entry,
        *,
        after: float = 0,
        seen: int | None = None,
        operation: str | None = None,
        invocation: OpenInvocation | None = None,
    ) -> Row:
        """The next row, `after` seconds later."""
        self.now += round(after * SECOND)
        index = len(self.rows) + 1
        row = Row(
            index=index,
            at=self.now,
            tag=f"{index:016x}",
            seen=seen,
            invocation=invocation,
            operation=operation,
            body=encode(entry),
        )
        self.rows.append(row)
        self.changed = self.execution.apply(row)
        return row

    def update(self, *updates: OperationUpdate, after: float = 0, **members: Any) -> Row:
        """A checkpoint of an owner that has seen everything."""
        return self.write(Entry(updates=updates, **members), after=after, seen=len(self.rows))

    def fire(self, *ids: str, after: float = 0) -> Row:
        """An owner's firing."""
        return self.write(Entry(fired=ids), after=after, seen=len(self.rows))

    def deliver(
        self,
        operation: str,
        status: str = "SUCCEEDED",
        result: str | None = None,
        error: ErrorObject | None = None,
        after: float = 0,
    ) -> Row:
        """An outcome from outside."""
        outcome = Outcome(status=OperationStatus(status), result=result, error=error)
        return self.write(Entry(outcome=outcome), operation=operation, after=after)

    def suspend(self, *, seen: int | None = None, cut_short: bool = False, ended: Ended | None = None) -> Row:
        """The end of an invocation that had seen everything, unless told otherwise."""
        seen = len(self.rows) if seen is None else seen
        return self.write(Entry(invocation=self.invocation(cut_short=cut_short), ended=ended), seen=seen)

    def end(self, status: str = "SUCCEEDED", result: str | None = None, error: ErrorObject | None = None) -> Row:
        """The end of an invocation, and with it of the execution."""
        return self.suspend(ended=Ended(status=ExecutionStatus(status), result=result, error=error))

    @staticmethod
    def invocation(request_id: str = "request-1", **members: Any) -> InvocationEnd:
        """An invocation that began with the execution."""
        return InvocationEnd(request_id=request_id, start_timestamp=BEGIN, **members)

    @staticmethod
    def target(**members: Any) -> Target:
        """What a chained invoke resolved to."""
        return Target(**({"version": "7", "durable_execution_arn": "arn:child"} | members))

    def __getitem__(self, id: str) -> Any:
        return self.execution.operations[id]


_OPTIONS = {
    "replay_children": ("context_options", ContextOptions),
    "delay": ("step_options", StepOptions),
    "wait": ("wait_options", WaitOptions),
    "timeouts": ("callback_options", lambda pair: CallbackOptions(*pair)),
    "function": ("chained_invoke_options", ChainedInvokeOptions),
}


def make_update(kind: str, action: str, id: str, **members: Any) -> OperationUpdate:
    """An update in short: `update("STEP", "RETRY", "s", delay=5)`."""
    for short, (name, options) in _OPTIONS.items():
        if short in members:
            members[name] = options(members.pop(short))
    return OperationUpdate(
        operation_id=id, operation_type=OperationType(kind), action=OperationAction(action), **members
    )


@pytest.fixture
def journal() -> JournalWriter:
    """A journal that has begun."""
    return JournalWriter().begin()


@pytest.fixture
def new_journal() -> type[JournalWriter]:
    """Makes empty journals."""
    return JournalWriter


@pytest.fixture
def update() -> Any:
    """Makes updates."""
    return make_update
