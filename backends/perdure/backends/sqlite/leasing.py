"""Verbs of owners and of what they own: register, claim, renew, reap."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import attrs

from perdure import storage
from perdure.backends.sqlite.owner import Owner
from perdure.backends.sqlite.statement import read_statements
from perdure.backends.sqlite.transaction import EXECUTION
from perdure.storage import Answer, Claimed, Function, Held, Leases, Swept

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.backends.sqlite.owner import OwnerLocks
    from perdure.backends.sqlite.record import Execution
    from perdure.backends.sqlite.transaction import Transaction
    from perdure.storage import FunctionVersion, Header

LEASE = read_statements("lease")
REGISTRY = read_statements("registry")

Due = list[tuple[int, str]]


@cache
def _of_many(name: str, count: int) -> str:
    return EXECUTION[name].replace("{ids}", ", ".join("?" * count))


@attrs.frozen
class Lease:
    """A row of the table of leases."""

    owner: str
    span: int
    until: int
    number: int
    locked: int
    reaped: int


@attrs.frozen(kw_only=True)
class ClaimRequest:
    """The arguments of a claim."""

    owner: str
    number: int
    token: str
    functions: tuple[FunctionVersion, ...]
    limit: int
    format: int


class Leasing:
    """
    These verbs, over the owners that this opening of the store has registered.

    A claim that finds nothing and a renewal cost no write while two thirds of the lease remain: what they change, the
    lease's end and the last claim number, is kept in memory until something is written anyway. Nobody else may use
    the owner's id, and other processes see the lease end early by a third of its span at most, which its owner's next
    renewal prevents. An owner that was registered elsewhere always takes the way through the database.
    """

    def __init__(self, locks: OwnerLocks) -> None:
        self._locks = locks
        self._owners: dict[str, Owner] = {}

    # --------------------------------------------------------------------------------------------------- register

    def register(self, work: Transaction, owner: str, functions: Sequence[Function], span: int) -> Answer:
        """Make or extend a lease, and upsert functions."""
        lease = self._lease(work, owner)
        if lease is not None and lease.reaped:
            return Answer.LEASE_LOST
        # Before the row is there, or a prober could find it with its file still free.
        locked = self._locks.acquire(owner) or (lease is not None and bool(lease.locked))
        if self._locks.is_held(owner):
            self._owners.setdefault(owner, Owner()).until = 0
        work.run(LEASE["register"], owner, work.now, span, work.now + span, int(locked))
        for function in functions:
            work.run(
                REGISTRY["register"], function.name, function.version, function.timeout, function.retention, work.now
            )
        return Answer.OK

    def functions(self, work: Transaction, name: str) -> list[Function]:
        """All versions of a function, latest registration last."""
        return [
            Function(name=name, version=version, timeout=timeout, retention=retention, registered=registered)
            for name, version, timeout, retention, registered in work.rows(REGISTRY["versions"], name)
        ]

    def extend(self, work: Transaction, owner: str) -> bool:
        """Extend a lease, or answer that it is lost."""
        lease = self._lease(work, owner)
        if lease is None or lease.reaped:
            return False
        known = self._owners.get(owner)
        if known is not None and self._is_fresh(lease, work.now):
            known.until = max(known.until, work.now + lease.span)
        else:
            self._write_lease(work, lease, lease.number)
        return True

    # ------------------------------------------------------------------------------------------------------ claim

    def peek(self, work: Transaction, request: ClaimRequest) -> Claimed | Answer | None:
        """The answer to a claim that needs no write, or None."""
        lease = self._lease(work, request.owner)
        if lease is None or lease.reaped:
            self.bury([request.owner])
            return Answer.LEASE_LOST
        known = self._owners.get(request.owner)
        if known is None or not self._is_fresh(lease, work.now):
            return None
        if request.number <= max(lease.number, known.number):
            claimed = self._claimed(work, request)
        else:
            due = self._due(work, request)
            if due and request.limit and due[0][0] <= work.now:
                return None
            claimed = Claimed((), work.now, due[0][0] if due else None)
            known.number = request.number
        known.until = max(known.until, work.now + lease.span)
        return claimed

    def claim(self, work: Transaction, request: ClaimRequest) -> Claimed | Answer:
        """Own what is due."""
        lease = self._lease(work, request.owner)
        if lease is None or lease.reaped:
            self.bury([request.owner])
            return Answer.LEASE_LOST
        known = self._owners.get(request.owner, Owner())
        last = max(lease.number, known.number)
        self._write_lease(work, lease, max(last, request.number))
        if request.number <= last:
            return self._claimed(work, request)
        due = self._due(work, request)
        taken = [id for wake, id in due[: request.limit] if wake <= work.now]
        left = due[len(taken) :]
        headers = self._take(work, request, taken) if taken else ()
        return Claimed(headers, work.now, left[0][0] if left else None)

    @staticmethod
    def _take(work: Transaction, request: ClaimRequest, ids: Sequence[str]) -> tuple[Header, ...]:
        """All by one statement: each hands the interpreter to other threads, and waits to get it back."""
        owner, token = request.owner, request.token
        found = {execution.id: execution for execution in work.executions(_of_many("by_ids", len(ids)), *ids)}
        work.run(_of_many("take", len(ids)), owner, token, work.now, token, *ids)
        for execution in found.values():
            execution.take(owner, token, work.now)
        return tuple(found[id].header() for id in ids)

    def _claimed(self, work: Transaction, request: ClaimRequest) -> Claimed:
        held = work.executions(EXECUTION["held_under_token"], request.owner, request.token)
        due = self._due(work, attrs.evolve(request, limit=0))
        return Claimed(tuple(execution.header() for execution in held), work.now, due[0][0] if due else None)

    def _due(self, work: Transaction, request: ClaimRequest) -> Due:
        # One more than may be taken, of each function: the first that is left tells the next wake.
        rows: Due = []
        for function in dict.fromkeys(request.functions):
            rows += work.rows(EXECUTION["due"], function.name, function.version, request.format, request.limit + 1)
        return sorted(rows)

    # ------------------------------------------------------------------------------------------------------ renew

    def peek_held(self, work: Transaction, owner: str) -> list[Held] | Answer | None:
        """The answer to a renewal that needs no write, or None."""
        lease = self._lease(work, owner)
        if lease is None or lease.reaped:
            self.bury([owner])
            return Answer.LEASE_LOST
        known = self._owners.get(owner)
        if known is None or not self._is_fresh(lease, work.now):
            return None
        known.until = max(known.until, work.now + lease.span)
        return self._held(work, owner)

    def renew(self, work: Transaction, owner: str) -> list[Held] | Answer:
        """Extend the lease and list what is held."""
        return self._held(work, owner) if self.extend(work, owner) else Answer.LEASE_LOST

    def _held(self, work: Transaction, owner: str) -> list[Held]:
        return [Held(*row) for row in work.rows(EXECUTION["held_briefly"], owner)]

    # ------------------------------------------------------------------------------------------------------- reap

    def peek_dead(self, work: Transaction) -> Swept | None:
        """The answer of `reap` where nobody is dead and nothing is owned by the dead, or None."""
        if self._dead(work) or work.row(EXECUTION["orphans"]):
            return None
        return Swept(0, self._next_lapse(work))

    def reap(self, work: Transaction, limit: int) -> tuple[Swept, list[str]]:
        """Free what dead owners held; how many executions, and the owners that are reaped by this."""
        for owner, known in list(self._owners.items()):
            work.run(LEASE["prolong"], known.until, known.number, owner)
        dead = self._dead(work)
        for owner in dead:
            work.run(LEASE["reap"], work.now, owner)
        freed = 0
        for (owner,) in work.rows(EXECUTION["orphans"]):
            for execution in work.executions(EXECUTION["of_owner"], owner, limit - freed):
                self._free(work, execution)
                freed += 1
        return Swept(freed, work.now if work.row(EXECUTION["orphans"]) else self._next_lapse(work)), dead

    def leases(self, work: Transaction) -> Leases:
        """The leases that live, and what their owners hold."""
        return Leases(tuple(self._told(work, *row) for row in work.rows(LEASE["living"])), work.now)

    def _told(self, work: Transaction, owner: str, since: int, span: int, until: int) -> storage.Lease:
        until = self._until(owner, until)
        held = tuple(id for (id,) in work.rows(EXECUTION["ids_of_owner"], owner))
        return storage.Lease(owner=owner, since=since, renewed=until - span, until=until, held=held)

    def _next_lapse(self, work: Transaction) -> int | None:
        return min((self._until(owner, until) for owner, _, _, until in work.rows(LEASE["living"])), default=None)

    def _until(self, owner: str, until: int) -> int:
        known = self._owners.get(owner)
        return until if known is None else max(until, known.until)

    def bury(self, owners: Sequence[str]) -> None:
        """Owners are reaped, durably: forget them, and remove their files."""
        for owner in owners:
            self._owners.pop(owner, None)
            self._locks.remove(owner)

    def sweep(self, work: Transaction) -> list[str]:
        """Owners that left a file behind and have no lease any more."""
        leases = {owner: self._lease(work, owner) for owner in self._locks.leftovers()}
        return [owner for owner, lease in leases.items() if lease is None or lease.reaped]

    def dead_peers(self, work: Transaction) -> list[str]:
        """Owners of other processes that died, by their locks."""
        return [owner for (owner,) in work.rows(LEASE["locked"]) if self._locks.is_dead(owner)]

    def _dead(self, work: Transaction) -> list[str]:
        lapsed = [owner for (owner,) in work.rows(LEASE["lapsed"], work.now) if not self._lives(owner, work.now)]
        return list(dict.fromkeys(lapsed + self.dead_peers(work)))

    def _lives(self, owner: str, now: int) -> bool:
        known = self._owners.get(owner)
        return known is not None and known.until > now

    def _free(self, work: Transaction, execution: Execution) -> None:
        execution.owner, execution.wake = None, work.now
        work.save(execution)

    # ----------------------------------------------------------------------------------------------------- leases

    def _lease(self, work: Transaction, owner: str) -> Lease | None:
        row = work.row(LEASE["find"], owner)
        return None if row is None else Lease(*row)

    def _is_fresh(self, lease: Lease, now: int) -> bool:
        return 3 * (lease.until - now) >= 2 * lease.span

    def _write_lease(self, work: Transaction, lease: Lease, number: int) -> None:
        work.run(LEASE["extend"], work.now + lease.span, number, lease.owner)
