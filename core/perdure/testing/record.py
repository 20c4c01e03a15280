"""What a memory store keeps of one execution, and what follows from it."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Self

import attrs

from perdure.storage import (
    EFFECT_GRACE,
    EMPTY,
    Answer,
    Draft,
    Header,
    Lease,
    Page,
    Query,
    Row,
    SignalKind,
    Status,
    Suspend,
    Tip,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perdure.storage import Commit, New, OpenAwait, Timeouts

Changes = dict[str, Any]
"""New values of a header's fields."""


@attrs.define
class Tenure:
    """An owner's lease as it is kept; a reaped one stays, marked."""

    since: int
    span: int
    until: int
    number: int = 0
    reaped: bool = False

    def told(self, owner: str, held: Iterable[Record]) -> Lease:
        """As others are told of it."""
        return Lease(
            owner=owner,
            since=self.since,
            renewed=self.until - self.span,
            until=self.until,
            held=tuple(record.header.id for record in held),
        )


@attrs.define(kw_only=True)
class Await:
    """Something outside will complete `operation`."""

    operation: str
    secret: str
    expires: int | None
    heartbeat: int | None
    heartbeat_due: int | None
    closed_by: str | None = None
    timed_out: bool = False

    @classmethod
    def begin(cls, opened: OpenAwait, at: int) -> Self:
        """One that was opened by a row of that time."""
        return cls(
            operation=opened.operation,
            secret=opened.secret,
            expires=None if opened.timeout is None else at + opened.timeout,
            heartbeat=opened.heartbeat,
            heartbeat_due=None if opened.heartbeat is None else at + opened.heartbeat,
        )

    @property
    def is_open(self) -> bool:
        """Whether it was neither completed nor timed out."""
        return self.closed_by is None and not self.timed_out

    @property
    def deadline(self) -> int | None:
        """When it times out, or None."""
        return min((due for due in (self.expires, self.heartbeat_due) if due is not None), default=None)

    @property
    def lacks_heartbeat(self) -> bool:
        """Whether it is the heartbeat that comes to its end first."""
        return self.heartbeat_due is not None and (self.expires is None or self.heartbeat_due < self.expires)


@attrs.define
class Record:
    """An execution, its journal, its awaits and the keys of its signals."""

    header: Header
    rows: list[Row] = attrs.field(factory=list)
    awaits: dict[str, Await] = attrs.field(factory=dict)
    keys: set[str] = attrs.field(factory=set)

    @classmethod
    def begin(cls, new: New, now: int) -> Self:
        """One without rows yet."""
        header = Header(
            id=new.id,
            function=new.function,
            version=new.version,
            name=new.name,
            digest=new.digest,
            created=now,
            timeout=new.timeout,
            retention=new.retention,
            length=0,
            tip=EMPTY,
            format=new.draft.format,
            parent=new.parent,
        )
        return cls(header)

    def tip(self, index: int) -> Tip | None:
        """The tip when the journal had `index` rows, or None if it never had."""
        if not 0 <= index <= len(self.rows):
            return None
        return Tip(self.rows[index - 1].at, self.rows[index - 1].tag) if index else EMPTY

    def page(self, after: int, max_bytes: int) -> Page:
        """Rows behind that index, as many as fit, but one at least."""
        rows: list[Row] = []
        size = 0
        for row in self.rows[after:]:
            size += len(row.body)
            if rows and size > max_bytes:
                break
            rows.append(row)
        return Page(tuple(rows), after + len(rows) < len(self.rows))


def due_at(header: Header) -> int | None:
    """When it is to be claimed."""
    held = header.owner is not None or header.paused or header.quarantined or header.status.is_end
    return None if held else header.wake


def over_at(header: Header) -> int | None:
    """When it may be purged, as far as is known."""
    if header.ended is None or not header.is_settled:
        return None
    return header.ended if header.deleting else header.ended + header.retention


def ending(header: Header, status: Status, at: int, length: int) -> Changes:
    """What an end changes, its row being the `length`-th."""
    changes: Changes = {
        "status": status,
        "ended": at,
        "paused": False,
        "left": None,
        "deadline": None,
        "wake": None,
        "owner": None,
        "invocation": None,
    }
    return changes | arming(at, length) if header.parent is not None else changes


def suspending(header: Header, commit: Commit, at: int, wake: int | None) -> Changes:
    """What changes when a commit of that time suspends; `wake`: when it is due anyway, or None."""
    then = commit.then
    assert isinstance(then, Suspend)
    wakes = [wake, then.wake_at, None if then.wake_after is None else at + then.wake_after]
    wake = min((instant for instant in wakes if instant is not None), default=None)
    changes: Changes = {"owner": None, "wake": None if then.quarantine else wake}
    if then.quarantine:
        changes["quarantined"] = True
    if commit.draft is None:
        # Nothing was told of the invocation: it never was, unless somebody else left it open.
        if header.invocation and header.invocation.id == commit.token:
            changes["invocation"] = None
        return changes
    changes["invocation"] = None
    if then.clean:
        changes["crashes"] = 0
    return changes


def arming(at: int, length: int) -> Changes:
    """What effects of the `length`-th row change."""
    return {"effect_last": length, "effect_due": at + EFFECT_GRACE}


def refusal_of(header: Header, pending: Await, now: int) -> Answer | None:
    """Why an await can neither be completed nor kept alive."""
    if pending.timed_out:
        return Answer.EXPIRED
    if pending.closed_by is not None or header.status.is_end:
        return Answer.CLOSED
    deadline = pending.deadline
    return Answer.EXPIRED if deadline is not None and deadline <= now else None


def allows(header: Header, kind: SignalKind) -> bool:
    """Whether a signal is accepted."""
    match kind:
        case SignalKind.DELETE:
            return header.status.is_end
        case SignalKind.PAUSE:
            return not header.status.is_end and not header.paused
        case SignalKind.RESUME:
            return not header.status.is_end and (header.paused or header.quarantined)
        case SignalKind.STOP:
            return not header.status.is_end


def answers(header: Header, query: Query) -> bool:
    """Whether an execution belongs to what a query asks for, limit aside."""
    key = (header.created, header.id)
    return (
        query.function in (None, header.function)
        and query.version in (None, header.version)
        and query.name in (None, header.name)
        and (not query.statuses or header.status in query.statuses)
        and (query.created_after is None or header.created > query.created_after)
        and (query.created_before is None or header.created < query.created_before)
        and (query.cursor is None or (key > query.cursor if query.oldest_first else key < query.cursor))
    )


def drafted(body: bytes, timeouts: Timeouts) -> Draft:
    """An entry of `expire`; the store mints its tag."""
    return Draft(body, secrets.token_hex(8), timeouts.format)
