"""A row of the table of executions, and what the verbs do to it."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Self

import attrs

from perdure.storage import EFFECT_GRACE, Header, OpenInvocation, Status, Tip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.storage import Draft, New


@attrs.define(eq=False)
class Execution:
    """One row, column by column; flags are 0 or 1. Each transaction reads its own, changes and saves it."""

    number: int | None
    id: str
    function: str
    version: str
    name: str
    digest: str
    created: int
    timeout: int | None
    retention: int
    parent: str | None
    status: str = "RUNNING"
    deleting: int = 0
    ended: int | None = None
    deadline: int | None = None
    time_left: int | None = None
    paused: int = 0
    owner: str | None = None
    token: str | None = None
    seq: int = 0
    seq_at: int = 0
    seq_length: int = 0
    length: int = 0
    tip_at: int = 0
    tip_tag: str = ""
    wake: int | None = None
    invocation_id: str | None = None
    invocation_at: int | None = None
    crashes: int = 0
    quarantined: int = 0
    format: int = 0
    effect_last: int = 0
    settled: int = 0
    effect_due: int | None = None
    epoch: int = 0
    removal: int | None = None

    @classmethod
    def begin(cls, new: New, now: int) -> Self:
        """The row of a new execution, before its first entry."""
        return cls(
            None,
            new.id,
            new.function,
            new.version,
            new.name,
            new.digest,
            created=now,
            timeout=new.timeout,
            retention=new.retention,
            parent=new.parent,
            wake=now,
            deadline=None if new.timeout is None else now + new.timeout,
        )

    @property
    def is_ended(self) -> bool:
        """Whether it is over."""
        return self.status != "RUNNING"

    @property
    def tip(self) -> Tip:
        """Of the journal."""
        return Tip(self.tip_at, self.tip_tag)

    @property
    def invocation(self) -> OpenInvocation | None:
        """The one that is open."""
        return None if self.invocation_id is None else OpenInvocation(self.invocation_id, self.invocation_at or 0)

    @property
    def due(self) -> int | None:
        """When a claim may take it, or None."""
        return None if self.owner is not None or self.paused or self.quarantined else self.wake

    def grow(self, now: int, draft: Draft) -> None:
        """Have a row more in the journal."""
        self.length += 1
        self.tip_at, self.tip_tag = max(now, self.tip_at), draft.tag
        self.format = max(self.format, draft.format)

    def wake_at(self, at: int) -> None:
        """Be due at that time if not before."""
        if self.wake is None or at < self.wake:
            self.wake = at

    def stir(self, at: int) -> None:
        """Something arrived from outside: due at once, unless an owner will find it anyway."""
        if self.owner is None and not self.quarantined:
            self.wake_at(at)

    def arm_effects(self, at: int) -> None:
        """The last row asks for something elsewhere."""
        self.effect_last, self.effect_due = self.length, at + EFFECT_GRACE

    def settle_through(self, through: int) -> None:
        """Effects are carried out through that row."""
        self.settled = max(self.settled, through)
        if self.settled >= self.effect_last:
            self.effect_due = None

    def take(self, owner: str, token: str, now: int) -> None:
        """Become this owner's."""
        self.owner, self.token, self.wake = owner, token, None
        if self.invocation_id is None:
            self.invocation_id, self.invocation_at = token, now

    def close_invocation(self) -> None:
        """No invocation is open any more."""
        self.invocation_id = self.invocation_at = None

    def finish(self, status: Status, at: int) -> None:
        """End; a parent must be told."""
        self.status, self.ended = status.value, at
        self.paused = 0
        self.time_left = self.deadline = self.wake = self.owner = None
        self.close_invocation()
        if self.parent is not None:
            self.arm_effects(at)

    def date_removal(self) -> None:
        """Determine when `purge` may remove it."""
        if self.ended is None or self.settled < self.effect_last:
            self.removal = None
        else:
            self.removal = self.ended + (0 if self.deleting else self.retention)

    def header(self) -> Header:
        """As callers see it."""
        return Header(
            id=self.id,
            function=self.function,
            version=self.version,
            name=self.name,
            digest=self.digest,
            status=Status(self.status),
            deleting=bool(self.deleting),
            created=self.created,
            ended=self.ended,
            timeout=self.timeout,
            deadline=self.deadline,
            left=self.time_left,
            retention=self.retention,
            paused=bool(self.paused),
            owner=self.owner,
            token=self.token,
            seq=self.seq,
            seq_at=self.seq_at,
            seq_length=self.seq_length,
            length=self.length,
            tip=self.tip,
            wake=self.wake,
            invocation=self.invocation,
            crashes=self.crashes,
            quarantined=bool(self.quarantined),
            format=self.format,
            parent=self.parent,
            effect_last=self.effect_last,
            settled=self.settled,
            effect_due=self.effect_due,
            epoch=self.epoch,
        )


COLUMNS: Sequence[str] = tuple(field.name for field in attrs.fields(Execution))
values_of: attrgetter[tuple[Any, ...]] = attrgetter(*COLUMNS)
"""All columns of a row, in order."""
