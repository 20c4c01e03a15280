"""Verbs from outside and after the end: signal, unsettled, settle, purge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.backends.sqlite.statement import read_statements
from perdure.backends.sqlite.transaction import AWAIT, EXECUTION, JOURNAL
from perdure.storage import EFFECT_RETRY, TOMBSTONE_SPAN, Answer, Header, Refused, SignalKind, Signalled, Status, Tip

if TYPE_CHECKING:
    from perdure.backends.sqlite.record import Execution
    from perdure.backends.sqlite.transaction import Transaction
    from perdure.storage import Draft

LIFECYCLE = read_statements("lifecycle")


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


def has_unsettled(work: Transaction) -> bool:
    """Whether `unsettled` would find something."""
    return bool(work.row(EXECUTION["unsettled"], work.now, 1))


def unsettled(work: Transaction, limit: int) -> list[Header]:
    """Executions whose effects are due, hidden from other callers for a while."""
    found = work.executions(EXECUTION["unsettled"], work.now, limit)
    for execution in found:
        execution.effect_due = work.now + EFFECT_RETRY
        work.save(execution)
    return [execution.header() for execution in found]


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
    return bool(work.row(EXECUTION["removable"], work.now, 1) or work.row(LIFECYCLE["has_old_tombstones"], old))


def purge(work: Transaction, limit: int) -> int:
    """Remove what is deleted or past its retention."""
    work.run(LIFECYCLE["exhume"], work.now - TOMBSTONE_SPAN - 1)
    removable = work.rows(EXECUTION["removable"], work.now, limit)
    for number, id in removable:
        work.run(JOURNAL["delete"], number)
        work.run(AWAIT["delete"], id)
        work.run(LIFECYCLE["forget_signals"], number)
        work.run(EXECUTION["delete"], number)
        work.run(LIFECYCLE["bury"], id, work.now)
    return len(removable)
