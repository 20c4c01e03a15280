"""Verbs from outside and after the end: signal, unsettled, settle, purge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.backends.sqlite.leasing import LEASE
from perdure.backends.sqlite.statement import read_statements
from perdure.backends.sqlite.transaction import AWAIT, EXECUTION, JOURNAL
from perdure.storage import (
    EFFECT_RETRY,
    TOMBSTONE_SPAN,
    Answer,
    Refused,
    SignalKind,
    Signalled,
    Status,
    Tip,
    Unsettled,
)

if TYPE_CHECKING:
    from perdure.backends.sqlite.record import Execution
    from perdure.backends.sqlite.transaction import Transaction
    from perdure.storage import Draft

LIFECYCLE = read_statements("lifecycle")

PURGE_ROWS = 500
"""How many rows one transaction of a purge deletes, before others may write; a long journal's are deleted at once."""


def signal(
    work: Transaction, id: str, kind: SignalKind, draft: Draft, key: str, *, keep_timeout: bool
) -> Signalled | Refused | Answer:
    """Stop, pause, resume or delete from outside."""
    execution = work.find(id)
    if execution is None:
        return Answer.UNKNOWN
    if work.row(LIFECYCLE["is_signalled"], execution.number, key):
        return Signalled(execution.header())
    if not _allows(execution, kind):
        return Refused(execution.header())
    work.run(LIFECYCLE["remember_signal"], execution.number, key)
    match kind:
        case SignalKind.STOP:
            work.end(execution, draft, Status.STOPPED)
        case SignalKind.PAUSE:
            _pause(work, execution, draft, keep_timeout=keep_timeout)
        case SignalKind.RESUME:
            _resume(work, execution, draft)
        case SignalKind.DELETE:
            execution.deleting = 1
            work.save(execution)
    return Signalled(execution.header())


def _allows(execution: Execution, kind: SignalKind) -> bool:
    if kind is SignalKind.DELETE or execution.is_ended:
        return execution.is_ended and kind is SignalKind.DELETE
    if kind is SignalKind.PAUSE:
        return not execution.paused
    return kind is SignalKind.STOP or bool(execution.paused or execution.quarantined)


def _pause(work: Transaction, execution: Execution, draft: Draft, *, keep_timeout: bool) -> None:
    execution.paused = 1
    at = work.intrude(execution, draft)
    if keep_timeout and execution.deadline is not None:
        execution.time_left, execution.deadline = max(0, execution.deadline - at), None
        work.save(execution)


def _resume(work: Transaction, execution: Execution, draft: Draft) -> None:
    execution.paused = execution.quarantined = execution.crashes = 0
    at = work.intrude(execution, draft)
    if execution.time_left is not None:
        execution.deadline, execution.time_left = at + execution.time_left, None
        work.save(execution)


def peek_unsettled(work: Transaction) -> Unsettled | None:
    """The answer of `unsettled` where no effect is due, or None."""
    instant = _next_effect(work)
    return Unsettled((), instant) if instant is None or instant > work.now else None


def _next_effect(work: Transaction) -> int | None:
    row = work.row(EXECUTION["first_effect"])
    return None if row is None else row[0]


def unsettled(work: Transaction, limit: int) -> Unsettled:
    """Executions whose effects are due, hidden from other callers for a while."""
    found = work.executions(EXECUTION["unsettled"], work.now, limit)
    for execution in found:
        execution.effect_due = work.now + EFFECT_RETRY
        work.save(execution)
    return Unsettled(tuple(execution.header() for execution in found), _next_effect(work))


def settle(work: Transaction, id: str, through: int, tip: Tip, epoch: int) -> Answer:
    """Effects through that row are carried out."""
    execution = work.find(id)
    if execution is None:
        return Answer.UNKNOWN
    if work.tip(execution, through) != tip or execution.epoch != epoch:
        return Answer.FENCED
    execution.settle_through(through)
    work.save(execution)
    return Answer.OK


def has_removable(work: Transaction) -> bool:
    """Whether `purge` would do something."""
    old = work.now - TOMBSTONE_SPAN - 1
    return bool(
        work.row(EXECUTION["removable"], work.now, 1)
        or work.row(LIFECYCLE["has_old_tombstones"], old)
        or work.row(LEASE["has_old"], old)
    )


def purge(work: Transaction, limit: int) -> int:
    """Remove some of what is deleted or past its retention, and what is remembered of the dead for long enough."""
    old = work.now - TOMBSTONE_SPAN - 1
    work.run(LIFECYCLE["exhume"], old, PURGE_ROWS)
    # Whoever comes with one of these owner ids after so long is answered LEASE_LOST like any that never registered.
    work.run(LEASE["forget"], old)
    count = rows = 0
    for number, id, length in work.rows(EXECUTION["removable"], work.now, limit):
        if rows >= PURGE_ROWS:
            break
        work.run(JOURNAL["delete"], number)
        work.run(AWAIT["delete"], id)
        work.run(LIFECYCLE["forget_signals"], number)
        work.run(EXECUTION["delete"], number)
        work.run(LIFECYCLE["bury"], id, work.now)
        count, rows = count + 1, rows + length
    return count
