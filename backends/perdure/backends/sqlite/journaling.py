"""Verbs that make executions and write their journals: create, commit, entries."""

from __future__ import annotations

import sqlite3
from functools import cache
from typing import TYPE_CHECKING, Any

from perdure.backends.sqlite.lifecycle import LIFECYCLE
from perdure.backends.sqlite.record import Execution
from perdure.backends.sqlite.transaction import AWAIT, EXECUTION, JOURNAL
from perdure.storage import (
    Answer,
    Committed,
    Created,
    End,
    Exists,
    HintKind,
    Keep,
    OpenInvocation,
    Outdated,
    Page,
    Row,
    Suspend,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.backends.sqlite.leasing import Leasing
    from perdure.backends.sqlite.transaction import Transaction
    from perdure.storage import Claim, Commit, CommitAnswer, Draft, New, OpenAwait


MANY = 64 if sqlite3.sqlite_version_info >= (3, 33) else 1
"""How many commits one statement writes at most; older versions of SQLite know no `UPDATE … FROM`."""


def create(work: Transaction, leasing: Leasing, new: New, claim: Claim | None) -> Created | Exists | Outdated | Answer:
    """Begin an execution, due at once or owned from the start."""
    if work.row(LIFECYCLE["is_taken"], new.id, new.function, new.name) and (taken := _taken(work, new)) is not None:
        return taken
    execution = Execution.begin(new, work.now)
    if claim is not None and leasing.extend(work, claim.owner):
        execution.take(claim.owner, claim.token, work.now)
    else:
        work.hint(HintKind.DUE, execution)
    work.insert(execution, new.draft)
    return Created(execution.header(), work.now)


def _taken(work: Transaction, new: New) -> Created | Exists | Outdated | Answer | None:
    """The answer where there is something of this id or name already."""
    if work.row(LIFECYCLE["is_buried"], new.id):
        return Answer.GONE
    known = work.find(new.id)
    if known is not None:
        return Created(known.header(), work.now)
    for other in work.executions(EXECUTION["by_name"], new.function, new.name):
        is_over = other.removal is not None and other.removal <= work.now
        return Outdated(other.header()) if is_over else Exists(other.header())
    return None


def commit(work: Transaction, batch: Sequence[Commit]) -> list[CommitAnswer]:
    """Append for several executions, each fenced on its own."""
    common = [(member, member.draft) for member in batch if member.draft is not None and _goes_on(member)]
    answers: dict[str, CommitAnswer] = {}
    for start in range(0, len(common), MANY):
        answers |= _extend(work, common[start : start + MANY])
    return [answers.get(member.id) or _commit(work, member) for member in batch]


def commit_once(work: Transaction, commit: Commit) -> CommitAnswer:
    """The same for one that was never sent before: what would be a repetition has another write's number."""
    execution = work.find(commit.id)
    if execution is None or execution.seq >= commit.seq:
        return Answer.FENCED
    return _commit(work, commit)


def _goes_on(commit: Commit) -> bool:
    return isinstance(commit.then, Keep) and not (commit.opens or commit.effects or commit.reopen)


def _extend(work: Transaction, commits: Sequence[tuple[Commit, Draft]]) -> dict[str, CommitAnswer]:
    """
    The common commits, of owners that go on and have seen everything; no answers where one is not of these.

    Two statements write all of them, since each hands the interpreter to other threads and waits to get it back. They
    fence by what `_commit` looks at. If that has to answer, what they have written is a repetition to it.
    """
    heads: list[Any] = []
    rows: list[Any] = []
    answers: dict[str, CommitAnswer] = {}
    for commit, draft in commits:
        tip, length, at = commit.tip, commit.seen + 1, max(work.now, commit.tip.at)
        heads += (commit.id, commit.seq, at, length, draft.tag, draft.format, commit.token, tip.at, tip.tag)
        rows += (commit.id, length, at, draft.tag, draft.body)
        answers[commit.id] = Committed(length, at, work.now)
    extend, append = _extension(len(commits))
    written = work.run(extend, *heads), work.add_rows(append, *rows)
    return answers if written == (len(commits), len(commits)) else {}


@cache
def _extension(count: int) -> tuple[str, str]:
    """The statements for so many: of the execution's row, and of the journal's."""
    heads, rows = (", ".join([f"({', '.join('?' * width)})"] * count) for width in (9, 5))
    extend = EXECUTION["extend"] if count == 1 else EXECUTION["extend_all"].replace("{heads}", heads)
    return extend, JOURNAL["append_seen"].replace("{rows}", rows)


def _commit(work: Transaction, commit: Commit) -> CommitAnswer:
    execution = work.find(commit.id)
    if execution is None or execution.token is None or execution.token != commit.token:
        return Answer.FENCED
    if commit.seq == execution.seq > 0:
        return Committed(execution.seq_length, execution.seq_at, work.now)
    if execution.owner is None or commit.seq != execution.seq + 1 or work.tip(execution, commit.seen) != commit.tip:
        return Answer.FENCED
    has_unseen = execution.length > commit.seen
    if commit.draft is None:
        at = max(work.now, execution.tip_at)
    else:
        at = work.append(execution, commit.draft, seen=commit.seen)
    execution.seq, execution.seq_at, execution.seq_length = commit.seq, at, execution.length
    if commit.reopen:
        execution.invocation_id, execution.invocation_at = commit.token, at
        execution.crashes += 1
    if commit.effects:
        execution.arm_effects(at)
    for opened in commit.opens:
        _open_await(work, execution, opened, at)
    if isinstance(commit.then, Suspend):
        _suspend(execution, commit, commit.then, at, due_now=work.now if has_unseen else None)
    elif isinstance(commit.then, End):
        execution.finish(commit.then.status, at)
    work.save(execution)
    return Committed(execution.length, at, work.now)


def _suspend(execution: Execution, commit: Commit, then: Suspend, at: int, *, due_now: int | None) -> None:
    execution.wake = None
    if then.wake_at is not None:
        execution.wake_at(then.wake_at)
    if then.wake_after is not None:
        execution.wake_at(at + then.wake_after)
    if due_now is not None:
        execution.wake_at(due_now)
    if then.quarantine:
        execution.quarantined, execution.wake = 1, None
    execution.owner = None
    if commit.draft is not None:
        execution.close_invocation()
        if then.clean:
            execution.crashes = 0
    elif execution.invocation_id == commit.token:
        # Nothing was told of the invocation: it never was. One that somebody else left open still has to be told of.
        execution.close_invocation()


def _open_await(work: Transaction, execution: Execution, opened: OpenAwait, at: int) -> None:
    expires = None if opened.timeout is None else at + opened.timeout
    beat = None if opened.heartbeat is None else at + opened.heartbeat
    due = min((instant for instant in (expires, beat) if instant is not None), default=None)
    id = f"{execution.id}/{opened.operation}"
    work.run(AWAIT["open"], id, opened.secret, expires, opened.heartbeat, beat, due)


def entries(work: Transaction, id: str, after: int, max_bytes: int) -> Page | Answer:
    """Rows behind index `after`."""
    rows: list[Row] = []
    size = 0
    cursor = work.connection.execute(JOURNAL["entries"], (id, after))
    for index, at, tag, seen, invocation_id, invocation_at, operation, body in cursor:
        size += len(body)
        if rows and size > max_bytes:
            cursor.close()
            return Page(tuple(rows), more=True)
        invocation = None if invocation_id is None else OpenInvocation(invocation_id, invocation_at)
        rows.append(Row(index=index, at=at, tag=tag, seen=seen, invocation=invocation, operation=operation, body=body))
    if not rows and not work.row(JOURNAL["exists"], id):
        return Answer.UNKNOWN
    return Page(tuple(rows), more=False)
