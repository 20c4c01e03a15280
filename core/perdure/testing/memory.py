"""
A store in the memory of one process: for tests, for trying things out, and the oracle other stores are compared with.

It keeps the rules of spi.md to the letter and nothing beyond its own lifetime. Its verbs may be called from any loop
and any thread; each is one critical section.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import attrs

from perdure import execution_id
from perdure.bell import Bell
from perdure.errors import BackendUrlError
from perdure.nonce import nonce
from perdure.storage import (
    EFFECT_RETRY,
    TOMBSTONE_SPAN,
    Answer,
    Backend,
    Claimed,
    Committed,
    Created,
    Draft,
    End,
    Exists,
    Function,
    Header,
    Held,
    Hint,
    HintKind,
    Leases,
    OpenInvocation,
    Outdated,
    Page,
    Refused,
    Row,
    SignalKind,
    Signalled,
    Status,
    Suspend,
    Swept,
    Tip,
    Unsettled,
)
from perdure.testing.clock import system_clock
from perdure.testing.record import (
    Await,
    Changes,
    Record,
    Tenure,
    allows,
    arming,
    drafted,
    ending,
    over_at,
    refusal_of,
    suspending,
)
from perdure.testing.schedule import earliest
from perdure.testing.shelf import Shelf

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perdure.storage import (
        Claim,
        Commit,
        CommitAnswer,
        FunctionVersion,
        New,
        Query,
        Timeouts,
    )
    from perdure.testing.clock import Clock


def backend(url: str) -> Backend:
    """
    The backend of `memory://`, empty and private to this opening.

    Raises:
        BackendUrlError: The URL says more than its scheme.
    """
    parts = urlsplit(url)
    if parts.netloc or parts.path.strip("/") or parts.query or parts.fragment:
        raise BackendUrlError(f"memory:// has no place and no options, got {url!r}; each opening is a store of its own")
    return Backend(url="memory://", store=MemoryStore())


class MemoryStore:
    """A store in memory; `clock` is the store's clock."""

    shards = 1

    def __init__(self, clock: Clock = system_clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._functions: dict[tuple[str, str], Function] = {}
        self._leases: dict[str, Tenure] = {}
        self._tombstones: dict[str, int] = {}
        self._bell = Bell()
        self._shelf = Shelf(self._bell)

    async def open(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """End all watching; the journals stay as long as this object."""
        self._bell.silence()

    def new_id(self, function: str, name: str) -> str:  # noqa: ARG002 - ids carry no shard here
        """A new execution id."""
        return nonce()

    def child_id(self, id: str, operation: str) -> str:
        """The id of the execution that an operation of another starts."""
        return execution_id.derived(id, operation)

    def shard_of(self, id: str) -> int:  # noqa: ARG002 - one shard
        """Always the same one."""
        return 0

    # ------------------------------------------------------------------------------------------ functions, leases

    async def register(self, owner: str, functions: Sequence[Function], lease: int) -> Answer:
        """Make or extend the lease of `owner`, and upsert functions."""
        with self._lock:
            now = self._clock()
            held = self._leases.setdefault(owner, Tenure(now, lease, now))
            if held.reaped:
                return Answer.LEASE_LOST
            held.span, held.until = lease, now + lease
            for function in functions:
                self._functions[function.name, function.version] = attrs.evolve(function, registered=now)
            return Answer.OK

    async def functions(self, name: str) -> list[Function]:
        """All registered versions of a function, latest registration last."""
        with self._lock:
            versions = [function for function in self._functions.values() if function.name == name]
        return sorted(versions, key=lambda function: (function.registered, function.version))

    async def renew(self, owner: str, shard: int = 0) -> list[Held] | Answer:  # noqa: ARG002 - one shard
        """Extend the lease and list all that is held."""
        with self._lock:
            if not self._extend_lease(owner, self._clock()):
                return Answer.LEASE_LOST
            headers = [record.header for record in self._shelf.owned_by([owner])]
            return [Held(header.id, header.token or "", header.seq, header.length) for header in headers]

    async def reap(self, limit: int, shard: int = 0) -> Swept:  # noqa: ARG002 - one shard
        """Free what is owned without a live lease."""
        with self._lock:
            now = self._clock()
            for lease in self._leases.values():
                lease.reaped = lease.reaped or lease.until <= now
            orphans = self._shelf.owned_by(owner for owner, lease in self._leases.items() if lease.reaped)
            for record in orphans[:limit]:
                self._shelf.save(record, now, owner=None, wake=now)
            if len(orphans) > limit:
                return Swept(limit, now)
            lapses = [lease.until for lease in self._leases.values() if not lease.reaped]
            return Swept(len(orphans), min(lapses, default=None))

    async def leases(self, shard: int = 0) -> Leases:  # noqa: ARG002 - one shard
        """Who is alive, since when, and what each holds."""
        with self._lock:
            living = sorted((lease.since, owner) for owner, lease in self._leases.items() if not lease.reaped)
            told = [self._leases[owner].told(owner, self._shelf.owned_by([owner])) for _, owner in living]
            return Leases(tuple(told), self._clock())

    def _extend_lease(self, owner: str, now: int) -> Tenure | None:
        lease = self._leases.get(owner)
        if lease is None or lease.reaped:
            return None
        lease.until = now + lease.span
        return lease

    # ------------------------------------------------------------------------------------------- creation, claims

    async def create(self, new: New, claim: Claim | None) -> Created | Exists | Outdated | Answer:
        """Begin an execution, due at once or owned from the start."""
        with self._lock:
            now = self._clock()
            if new.id in self._tombstones:
                return Answer.GONE
            if new.id in self._shelf.records:
                return Created(self._shelf.records[new.id].header, now)
            if other := self._shelf.names.get((new.function, new.name)):
                header = self._shelf.records[other].header
                over = over_at(header)
                return Exists(header) if over is None or over > now else Outdated(header)
            record = self._begin(new, now)
            if claim and self._extend_lease(claim.owner, now):
                self._shelf.save(record, now, **self._taken(record.header, claim.owner, claim.token, now))
            else:
                self._shelf.save(record, now, wake=now)
            return Created(record.header, now)

    def _begin(self, new: New, now: int) -> Record:
        record = Record.begin(new, now)
        self._shelf.add(record)
        changes = self._append(record, now, new.draft)
        if new.timeout is not None:
            changes["deadline"] = now + new.timeout
        self._shelf.save(record, now, **changes)
        return record

    def _taken(self, header: Header, owner: str, token: str, now: int) -> Changes:
        return {
            "owner": owner,
            "token": token,
            "wake": None,
            "invocation": header.invocation or OpenInvocation(token, now),
        }

    async def claim(
        self,
        owner: str,
        number: int,
        token: str,
        functions: Sequence[FunctionVersion],
        limit: int,
        format: int,
        shard: int = 0,  # noqa: ARG002 - one shard
    ) -> Claimed | Answer:
        """Own up to `limit` executions of these functions that are due."""
        with self._lock:
            now = self._clock()
            lease = self._extend_lease(owner, now)
            if lease is None:
                return Answer.LEASE_LOST
            queues = self._shelf.queues(functions, format)
            if self._is_spent(lease, number):
                claimed = [record for record in self._shelf.owned_by([owner]) if record.header.token == token]
            else:
                lease.number = number
                due = sorted(item for queue in queues for item in queue.due(now, limit))[:limit]
                claimed = [self._shelf.records[id] for _, id in due]
                for record in claimed:
                    self._shelf.save(record, now, **self._taken(record.header, owner, token, now))
            return Claimed(tuple(record.header for record in claimed), now, earliest(*queues))

    def _is_spent(self, lease: Tenure, number: int) -> bool:
        return number <= lease.number

    # --------------------------------------------------------------------------------------------------- journals

    async def entries(self, id: str, after: int, max_bytes: int) -> Page | Answer:
        """Rows behind index `after`."""
        with self._lock:
            record = self._shelf.records.get(id)
            return Answer.UNKNOWN if record is None else record.page(after, max_bytes)

    async def commit(self, batch: Sequence[Commit]) -> list[CommitAnswer]:
        """Append for several executions at once, each fenced on its own."""
        with self._lock:
            now = self._clock()
            return [self._commit(commit, now) for commit in batch]

    def _commit(self, commit: Commit, now: int) -> CommitAnswer:
        record = self._shelf.records.get(commit.id)
        if record is None or not self._shows_token(record.header, commit):
            return Answer.FENCED
        if self._is_repeat(record.header, commit):
            return Committed(record.header.seq_length, record.header.seq_at, now)
        if not self._may_follow(record, commit):
            return Answer.FENCED
        at = max(now, record.header.tip.at)
        changes: Changes = {}
        if commit.draft is not None:
            changes |= self._append(record, at, commit.draft, seen=commit.seen)
        length = len(record.rows)
        changes |= {"seq": commit.seq, "seq_at": at, "seq_length": length}
        if commit.reopen:
            changes |= {"invocation": OpenInvocation(commit.token, at), "crashes": record.header.crashes + 1}
        if commit.effects:
            changes |= arming(at, length)
        for opened in commit.opens:
            record.awaits[opened.operation] = pending = Await.begin(opened, at)
            self._shelf.save_await(record, pending)
        if isinstance(commit.then, Suspend):
            changes |= self._suspended(record.header, commit, at, now if self._unseen(record.header, commit) else None)
        elif isinstance(commit.then, End):
            changes |= ending(record.header, commit.then.status, at, length)
        self._shelf.save(record, now, **changes)
        return Committed(length, at, now)

    def _shows_token(self, header: Header, commit: Commit) -> bool:
        return header.token is not None and header.token == commit.token

    def _is_repeat(self, header: Header, commit: Commit) -> bool:
        return commit.seq == header.seq > 0

    def _may_follow(self, record: Record, commit: Commit) -> bool:
        header = record.header
        return header.owner is not None and commit.seq == header.seq + 1 and record.tip(commit.seen) == commit.tip

    def _unseen(self, header: Header, commit: Commit) -> bool:
        return header.length > commit.seen

    def _suspended(self, header: Header, commit: Commit, at: int, wake: int | None) -> Changes:
        return suspending(header, commit, at, wake)

    def _append(self, record: Record, now: int, draft: Draft, **stamps: Any) -> Changes:
        header = record.header
        at = max(now, header.tip.at)
        row = Row(index=header.length + 1, at=at, tag=draft.tag, body=draft.body, **stamps)
        record.rows.append(row)
        return {"length": row.index, "tip": Tip(at, draft.tag), "format": max(header.format, draft.format)}

    def _intrude(self, record: Record, now: int, draft: Draft, operation: str | None = None) -> None:
        """Append what the owner did not write; an execution without owner becomes due."""
        changes = self._append(record, now, draft, operation=operation)
        self._shelf.save(record, now, **changes)
        self._wake(record, now)
        if record.header.owner is not None:
            self._bell.ring([Hint(HintKind.GREW, record.header.id, record.header.function, 0)])

    def _wake(self, record: Record, now: int) -> None:
        header = record.header
        if header.owner is None and not header.quarantined:
            # Not the row's time: a clock that was set back must not put off what is due at once.
            self._shelf.save(record, now, wake=now if header.wake is None else min(header.wake, now))

    def _end(self, record: Record, now: int, draft: Draft, status: Status) -> None:
        """End an execution over its owner's head."""
        was_owned = record.header.owner is not None
        changes = self._append(record, now, draft, invocation=record.header.invocation)
        changes |= ending(record.header, status, changes["tip"].at, changes["length"])
        self._shelf.save(record, now, **changes)
        if was_owned:
            self._bell.ring([Hint(HintKind.GREW, record.header.id, record.header.function, 0)])

    # ----------------------------------------------------------------------------------------------------- awaits

    async def deliver(self, await_id: str, secret: str, draft: Draft, nonce: str) -> Answer:
        """Complete an await from outside, and wake its execution."""
        with self._lock:
            now = self._clock()
            found = self._shelf.find_await(await_id, secret)
            if found is None:
                return Answer.UNKNOWN
            record, pending = found
            if self._is_delivered(pending, nonce):
                return Answer.DELIVERED
            if (refusal := refusal_of(record.header, pending, now)) is not None:
                return refusal
            pending.closed_by = nonce
            self._shelf.save_await(record, pending)
            self._intrude(record, now, draft, pending.operation)
            return Answer.DELIVERED

    def _is_delivered(self, pending: Await, nonce: str) -> bool:
        return pending.closed_by == nonce

    async def heartbeat(self, await_id: str, secret: str) -> Answer:
        """Restart an await's heartbeat timer."""
        with self._lock:
            now = self._clock()
            found = self._shelf.find_await(await_id, secret)
            if found is None:
                return Answer.UNKNOWN
            record, pending = found
            if (refusal := refusal_of(record.header, pending, now)) is not None:
                return refusal
            if pending.heartbeat is not None:
                pending.heartbeat_due = now + pending.heartbeat
                self._shelf.save_await(record, pending)
            return Answer.OK

    async def expire(self, limit: int, timeouts: Timeouts, shard: int = 0) -> Swept:  # noqa: ARG002 - one shard
        """Turn deadlines that have passed into entries, of awaits first."""
        with self._lock:
            now = self._clock()
            awaits = self._shelf.awaits.due(now, limit)
            for _, await_id in awaits:
                id, _, operation = await_id.partition("/")
                record = self._shelf.records[id]
                pending = record.awaits[operation]
                pending.timed_out = True
                self._shelf.save_await(record, pending)
                body = timeouts.heartbeat if pending.lacks_heartbeat else timeouts.callback
                self._intrude(record, now, drafted(body, timeouts), operation)
            executions = self._shelf.deadlines.due(now, limit - len(awaits))
            for _, id in executions:
                self._end(
                    record := self._shelf.records[id], now, drafted(timeouts.execution, timeouts), Status.TIMED_OUT
                )
                if not record.header.is_settled:
                    self._shelf.save(record, now, effect_due=now)
            return Swept(len(awaits) + len(executions), earliest(self._shelf.awaits, self._shelf.deadlines))

    # ---------------------------------------------------------------------------------------------------- signals

    async def signal(
        self, id: str, kind: SignalKind, draft: Draft, key: str, keep_timeout: bool = True
    ) -> Signalled | Refused | Answer:
        """Stop, pause, resume or delete from outside."""
        with self._lock:
            now = self._clock()
            record = self._shelf.records.get(id)
            if record is None:
                return Answer.UNKNOWN
            if self._is_known(record, key):
                return Signalled(record.header)
            if not allows(record.header, kind):
                return Refused(record.header)
            record.keys.add(key)
            match kind:
                case SignalKind.STOP:
                    self._end(record, now, draft, Status.STOPPED)
                case SignalKind.PAUSE:
                    self._pause(record, now, draft, keep_timeout)
                case SignalKind.RESUME:
                    self._resume(record, now, draft)
                case SignalKind.DELETE:
                    self._shelf.save(record, now, deleting=True)
            return Signalled(record.header)

    def _is_known(self, record: Record, key: str) -> bool:
        return key in record.keys

    def _pause(self, record: Record, now: int, draft: Draft, keep_timeout: bool) -> None:
        self._shelf.save(record, now, paused=True)
        self._intrude(record, now, draft)
        deadline = record.header.deadline
        if keep_timeout and deadline is not None:
            self._shelf.save(record, now, left=max(0, deadline - record.header.tip.at), deadline=None)

    def _resume(self, record: Record, now: int, draft: Draft) -> None:
        self._shelf.save(record, now, paused=False, quarantined=False, crashes=0)
        self._intrude(record, now, draft)
        left = record.header.left
        if left is not None:
            self._shelf.save(record, now, left=None, deadline=record.header.tip.at + left)

    # ---------------------------------------------------------------------------------------------------- effects

    async def unsettled(self, limit: int, shard: int = 0) -> Unsettled:  # noqa: ARG002 - one shard
        """Executions whose effects are due to be carried out by anybody."""
        with self._lock:
            now = self._clock()
            records = [self._shelf.records[id] for _, id in self._shelf.effects.due(now, limit)]
            for record in records:
                self._shelf.save(record, now, effect_due=now + EFFECT_RETRY)
            return Unsettled(tuple(record.header for record in records), self._shelf.effects.first())

    async def settle(self, id: str, through: int, tip: Tip, epoch: int) -> Answer:
        """Effects through that row are carried out."""
        with self._lock:
            record = self._shelf.records.get(id)
            if record is None:
                return Answer.UNKNOWN
            header = record.header
            if record.tip(through) != tip or header.epoch != epoch:
                return Answer.FENCED
            settled = max(header.settled, through)
            due = None if settled >= header.effect_last else header.effect_due
            self._shelf.save(record, self._clock(), settled=settled, effect_due=due)
            return Answer.OK

    # ---------------------------------------------------------------------------------------- retention, read side

    async def purge(self, limit: int, shard: int = 0) -> int:  # noqa: ARG002 - one shard
        """Remove what is deleted or past its retention, once settled."""
        with self._lock:
            now = self._clock()
            forgotten = [id for id, at in self._tombstones.items() if at + TOMBSTONE_SPAN < now]
            for id in forgotten:
                del self._tombstones[id]
            purged = self._shelf.over.due(now, limit)
            for _, id in purged:
                self._shelf.remove(id)
                self._bury(id, now)
            return len(purged)

    def _bury(self, id: str, now: int) -> None:
        self._tombstones[id] = now

    async def describe(self, id: str) -> Header | None:
        """The header of an execution."""
        with self._lock:
            record = self._shelf.records.get(id)
            return record.header if record else None

    async def find(self, function: str, name: str) -> Header | None:
        """The execution of this name."""
        with self._lock:
            id = self._shelf.names.get((function, name))
            return self._shelf.records[id].header if id else None

    async def list(self, query: Query) -> list[Header]:
        """Executions by (created, id), newest first unless asked otherwise."""
        with self._lock:
            return self._shelf.find(query)

    def watch(self, listener: Callable[[Hint], None]) -> Callable[[], None]:
        """Have `listener` called, on the running loop, for every hint from now on."""
        return self._bell.add(listener)
