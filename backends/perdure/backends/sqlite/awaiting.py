"""Verbs of awaits: deliver, heartbeat, expire."""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING

import attrs

from perdure.backends.sqlite.transaction import AWAIT, EXECUTION
from perdure.storage import Answer, Draft, Status, Swept

if TYPE_CHECKING:
    from perdure.backends.sqlite.record import Execution
    from perdure.backends.sqlite.transaction import Transaction
    from perdure.storage import Timeouts


@attrs.frozen
class Await:
    """A row of the table of awaits."""

    id: str
    secret: str
    expires: int | None
    heartbeat: int | None
    heartbeat_due: int | None
    closed_by: str | None
    timed_out: int

    @property
    def execution(self) -> str:
        """The id of its execution."""
        return self.id.partition("/")[0]

    @property
    def operation(self) -> str:
        """The id of its operation."""
        return self.id.partition("/")[2]

    @property
    def due(self) -> int | None:
        """When it times out."""
        return min((instant for instant in (self.expires, self.heartbeat_due) if instant is not None), default=None)

    @property
    def lacks_heartbeat(self) -> bool:
        """Whether it is the heartbeat that times out first."""
        return self.heartbeat_due is not None and (self.expires is None or self.heartbeat_due < self.expires)

    def refusal(self, execution: Execution, now: int) -> Answer | None:
        """Why it can neither be completed nor kept alive, or None."""
        if self.timed_out:
            return Answer.EXPIRED
        if self.closed_by is not None or execution.is_ended:
            return Answer.CLOSED
        return Answer.EXPIRED if self.due is not None and self.due <= now else None


def _find(work: Transaction, await_id: str, secret: str) -> tuple[Await, Execution] | None:
    row = work.row(AWAIT["find"], await_id)
    if row is None:
        return None
    found = Await(*row)
    execution = work.find(found.execution)
    if execution is None or not hmac.compare_digest(found.secret.encode(), secret.encode()):
        return None
    return found, execution


def deliver(work: Transaction, await_id: str, secret: str, draft: Draft, nonce: str) -> Answer:
    """Complete an await from outside, and wake its execution."""
    match _find(work, await_id, secret):
        case None:
            return Answer.UNKNOWN
        case found, execution:
            pass
    if found.closed_by == nonce:
        return Answer.DELIVERED
    refusal = found.refusal(execution, work.now)
    if refusal is not None:
        return refusal
    work.run(AWAIT["close"], nonce, await_id)
    work.intrude(execution, draft, found.operation)
    return Answer.DELIVERED


def heartbeat(work: Transaction, await_id: str, secret: str) -> Answer:
    """Restart an await's heartbeat timer."""
    match _find(work, await_id, secret):
        case None:
            return Answer.UNKNOWN
        case found, execution:
            pass
    refusal = found.refusal(execution, work.now)
    if refusal is not None:
        return refusal
    if found.heartbeat is not None:
        beaten = attrs.evolve(found, heartbeat_due=work.now + found.heartbeat)
        work.run(AWAIT["beat"], beaten.heartbeat_due, beaten.due, await_id)
    return Answer.OK


def peek(work: Transaction) -> Swept | None:
    """The answer of `expire` where no deadline has passed, or None."""
    instant = _next(work)
    return Swept(0, instant) if instant is None or instant > work.now else None


def _next(work: Transaction) -> int | None:
    rows = work.rows(AWAIT["first"]) + work.rows(EXECUTION["first_deadline"])
    return min((instant for (instant,) in rows), default=None)


def expire(work: Transaction, limit: int, timeouts: Timeouts) -> Swept:
    """Turn deadlines that have passed into entries, of awaits first."""
    count = 0
    for row in work.rows(AWAIT["overdue"], work.now, limit):
        found = Await(*row)
        execution = work.find(found.execution)
        work.run(AWAIT["time_out"], found.id)
        if execution is not None:
            body = timeouts.heartbeat if found.lacks_heartbeat else timeouts.callback
            work.intrude(execution, _draft(body, timeouts), found.operation)
            count += 1
    for execution in work.executions(EXECUTION["overdue"], work.now, limit - count):
        work.end(execution, _draft(timeouts.execution, timeouts), Status.TIMED_OUT)
        if execution.settled < execution.effect_last:
            execution.effect_due = work.now
            work.save(execution)
        count += 1
    return Swept(count, _next(work))


def _draft(body: bytes, timeouts: Timeouts) -> Draft:
    return Draft(body, secrets.token_hex(8), timeouts.format)
