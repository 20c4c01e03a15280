"""
What AWS keeps to itself: starting, describing, completing, stopping executions, over any store.

All methods are coroutines and run on the loop that opened the store.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Protocol

import attrs

from perdure.codec import instant
from perdure.duration import DAY_SECONDS, DEFAULT_RETENTION_DAYS
from perdure.errors import (
    CallbackClosedError,
    CallbackNotFoundError,
    ExecutionAlreadyStartedError,
    ExecutionConflictError,
    ExecutionNotFoundError,
)
from perdure.journal import history
from perdure.journal.entry import FORMAT, Ended, Entry, Outcome, Paused, Resumed, Started, encode
from perdure.journal.fold import Execution
from perdure.model import ErrorObject, ExecutionStatus
from perdure.nonce import nonce, tag
from perdure.service import reading
from perdure.service.agenda import Agenda
from perdure.service.callback_id import CallbackId
from perdure.service.carrier import Carrier, new_execution
from perdure.service.clock import StoreClock
from perdure.service.committer import Committer
from perdure.service.crash_policy import CrashPolicy
from perdure.service.ending import Endings
from perdure.service.folds import Folds
from perdure.service.ownership import Ownership
from perdure.service.patience import patiently
from perdure.service.request import check_error, check_reason, failure, success
from perdure.service.target import LATEST, FunctionIdentifier, Registry
from perdure.storage import (
    MICROSECONDS,
    Answer,
    Created,
    Draft,
    Exists,
    Lease,
    Leases,
    Outdated,
    Refused,
    Row,
    SignalKind,
    Signalled,
)
from perdure.types import DurableExecutionArn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from perdure.model import Event
    from perdure.service.request import StartRequest
    from perdure.storage import Claim, Function, Header, New, Query, Store


class LocalOwner(Protocol):
    """A worker of this process, ready to own what is started here."""

    def offer(self, function: str, version: str) -> Claim | None:
        """A claim for one execution of this function, or None if it does not run it or has no slot free."""

    def adopt(self, header: Header, execution: Execution) -> None:
        """Run what its offer has made it own."""

    def withdraw(self, claim: Claim) -> None:
        """The offer was not needed."""


@attrs.frozen
class Start:
    """
    What starting came to.

    Attributes:
        header: The execution's.
        is_new: It was begun by this call; else one of that name was there already, with the same input.
        is_registered: A worker has registered the function.
    """

    header: Header
    is_new: bool
    is_registered: bool


@attrs.frozen
class Plan:
    """
    What starting is to create.

    Attributes:
        started: What its first entry says.
        new: The execution.
        is_registered: A worker has registered the function.
    """

    started: Started
    new: New
    is_registered: bool

    def begun(self, answer: Created | Exists) -> Start:
        """
        What came of it.

        Raises:
            ExecutionAlreadyStartedError: The name is taken by one with another input.
        """
        is_new = isinstance(answer, Created)
        if not is_new and answer.header.digest != self.new.digest:
            raise ExecutionAlreadyStartedError(
                f"an execution {self.new.name!r} of {self.new.function!r} was started with another input; "
                "choose another name, or the same input"
            )
        return Start(answer.header, is_new=is_new, is_registered=self.is_registered)

    def again(self, store: Store) -> Plan:
        """The same under another id."""
        return attrs.evolve(self, new=attrs.evolve(self.new, id=store.new_id(self.new.function, self.new.name)))


class Service:
    """
    The durable execution service over one store.

    Attributes:
        local: The worker of this process that takes what is started here, or None.
    """

    def __init__(self, store: Store, crash_policy: CrashPolicy | None = None) -> None:
        self.store = store
        self.crash_policy = crash_policy or CrashPolicy()
        self.clock = StoreClock()
        self.agenda = Agenda(store, self.clock)
        self.committer = Committer(store, self.agenda.learn)
        self.registry = Registry(store)
        self.carrier = Carrier(self)
        self.endings = Endings(store)
        self.folds = Folds(store)
        self.local: LocalOwner | None = None

    async def close(self) -> None:
        """Finish what is under way; the store stays open."""
        await self.carrier.close()

    @staticmethod
    def arn(function: str, version: str, name: str, id: str) -> str:
        """The ARN of an execution."""
        return str(DurableExecutionArn(function, version, name, id))

    def own(self, header: Header, execution: Execution | None = None) -> Ownership:
        """The owner's side of a claimed execution; `execution` if its fold is known already."""
        return Ownership(self, header, execution)

    # -------------------------------------------------------------------------------------------------- starting

    async def start(self, request: StartRequest) -> Start:
        """
        Begin an execution, or find the one of that name that was begun with the same input (protocol.md §13).

        Raises:
            ExecutionAlreadyStartedError: The name is taken by one with another input.
            InvalidParameterValueError: The function identifier is malformed.
        """
        plan = await self.plan(request)
        while True:
            answer = await self._create(plan)
            if isinstance(answer, (Created, Exists)):
                return plan.begun(answer)
            # The name's last execution is past its retention, or its id was just purged: make room, try again.
            await self.purge()
            plan = plan.again(self.store)

    async def plan(self, request: StartRequest) -> Plan:
        """What starting is to create. Raises InvalidParameterValueError: The function identifier is malformed."""
        identifier = FunctionIdentifier.parse(request.function)
        function = await self.registry.find(identifier)
        timeout, retention = _spans(request, function)
        started = Started(
            name=request.name or nonce(),
            function=identifier.name,
            version=identifier.qualifier or (function.version if function else LATEST),
            input=request.input,
            execution_timeout=None if timeout is None else timeout // MICROSECONDS,
            retention_days=retention // (DAY_SECONDS * MICROSECONDS),
            tenant_id=request.tenant_id,
        )
        id = self.store.new_id(started.function, started.name)
        return Plan(started, new_execution(id, started, timeout, retention), is_registered=function is not None)

    async def _create(self, plan: Plan) -> Created | Exists | Outdated | Answer:
        started, new = plan.started, plan.new
        local, asked = self.local, time.monotonic_ns()
        claim = local.offer(started.function, started.version) if local else None
        try:
            answer = await patiently(lambda: self.store.create(new, claim))
        except BaseException:
            if local and claim:
                local.withdraw(claim)
            raise
        header = None
        if isinstance(answer, Created):
            header = answer.header
            self.clock.read(answer.now, asked)
            self.agenda.expect_end(header)
        if header and local and claim and (header.owner, header.token) == (claim.owner, claim.token):
            local.adopt(header, _folded(header, new.draft, started))
            return answer
        if local and claim:
            local.withdraw(claim)
        if header and local and header.length == 1:
            # Whoever claims it here soon need not read it.
            self.folds.keep(_folded(header, new.draft, started))
        return answer

    # ---------------------------------------------------------------------------------------------------- reading

    async def leases(self) -> Leases:
        """The owners that live, each with what it holds in all shards, the eldest first."""
        store = self.store
        found = await asyncio.gather(*[patiently(partial(store.leases, shard)) for shard in range(store.shards)])
        merged: dict[str, Lease] = {}
        for lease in (lease for answer in found for lease in answer.leases):
            known = merged.setdefault(lease.owner, lease)
            if known is not lease:
                merged[lease.owner] = _joined(known, lease)
        leases = sorted(merged.values(), key=lambda lease: (lease.since, lease.owner))
        return Leases(tuple(leases), max(answer.now for answer in found))

    async def describe(self, id: str) -> Header:
        """
        The header of an execution.

        Raises:
            ExecutionNotFoundError: There is none.
        """
        header = await self.find(id)
        if header is None:
            raise ExecutionNotFoundError(f"no execution has the id {id!r}; its retention may be over")
        return header

    async def find(self, id: str) -> Header | None:
        """The header of an execution, or None if there is none."""
        return await patiently(lambda: self.store.describe(id))

    async def load(self, id: str) -> Execution:
        """The fold of an execution's journal."""
        return await reading.load(self.store, id)

    async def history(self, id: str, *, include_data: bool = True) -> list[Event]:
        """All events of an execution (protocol.md §12)."""
        return history.events(id, await reading.rows(self.store, id), include_data=include_data)

    async def list(self, query: Query) -> list[Header]:
        """Executions, newest first unless asked otherwise."""
        return await patiently(lambda: self.store.list(query))

    # -------------------------------------------------------------------------------------------------- signalling

    async def stop(self, id: str, error: ErrorObject | None = None) -> datetime:
        """End an execution as STOPPED; returns when it ended, also if that was earlier and otherwise."""
        check_error(error)
        ended = Ended(status=ExecutionStatus.STOPPED, error=error)
        answer = await self._signal(id, SignalKind.STOP, Entry(ended=ended))
        if answer.header.ended is None:
            raise ExecutionConflictError(f"execution {id!r} could not be stopped in status {answer.header.status!r}")
        if not isinstance(answer, Refused) and answer.header.parent is not None:
            self.carrier.carry_rest_soon(answer.header)
        return instant(answer.header.ended)

    async def pause(
        self, id: str, reason: str | None = None, *, timeout_paused: bool = True, client_token: str | None = None
    ) -> None:
        """
        Begin no invocation of an execution until it is resumed; one that runs ends with its next checkpoint.

        Args:
            id: Which one.
            reason: Recorded in the history.
            timeout_paused: The clock of its execution timeout stands still.
            client_token: The same again succeeds without effect, as long as the execution is kept.

        Raises:
            ExecutionConflictError: It has ended, or is paused already.
            ExecutionNotFoundError: There is none.
            ValidationError: The reason is too long.
        """
        check_reason(reason)
        paused = Paused(reason=reason, execution_timeout_paused=timeout_paused)
        answer = await self._signal(id, SignalKind.PAUSE, Entry(paused=paused), client_token, timeout_paused)
        if isinstance(answer, Refused):
            status = answer.header.status
            standing = f"has ended as {status.value}" if status.is_end else "is paused already"
            raise ExecutionConflictError(f"execution {id!r} {standing}; only a running one can be paused")

    async def resume(self, id: str, reason: str | None = None, *, client_token: str | None = None) -> None:
        """
        Let a quarantined or paused execution go on, its crashes forgotten.

        Args:
            id: Which one.
            reason: Recorded in the history.
            client_token: As for `pause`.

        Raises:
            ExecutionConflictError: It is neither.
            ExecutionNotFoundError: There is none.
            ValidationError: The reason is too long.
        """
        check_reason(reason)
        answer = await self._signal(id, SignalKind.RESUME, Entry(resumed=Resumed(reason=reason)), client_token)
        if isinstance(answer, Refused):
            raise ExecutionConflictError(
                f"execution {id!r} is neither quarantined nor paused; there is nothing to resume"
            )
        self.agenda.expect_end(answer.header)

    async def delete(self, id: str) -> None:
        """
        Have an execution that has ended removed with all its data, by the next purge after its effects are settled.

        Raises:
            ExecutionConflictError: It has not ended.
            ExecutionNotFoundError: There is none.
        """
        if isinstance(await self._signal(id, SignalKind.DELETE, Entry()), Refused):
            raise ExecutionConflictError(f"execution {id!r} has not ended; stop it first")

    async def _signal(
        self, id: str, kind: SignalKind, entry: Entry, client_token: str | None = None, keep_timeout: bool = True
    ) -> Signalled | Refused:
        draft = draft_of(entry)
        # The kinds share the keys of an execution.
        key = nonce() if client_token is None else f"{kind.value}:{client_token}"
        answer = await patiently(lambda: self.store.signal(id, kind, draft, key, keep_timeout))
        if isinstance(answer, Answer):
            raise ExecutionNotFoundError(f"no execution has the id {id!r}; its retention may be over")
        return answer

    async def succeed_callback(self, callback_id: str, result: str | None) -> None:
        """Complete a callback; raises CallbackNotFoundError, CallbackClosedError or ValidationError."""
        await self._complete(callback_id, success(result))

    async def fail_callback(self, callback_id: str, error: ErrorObject | None) -> None:
        """Fail a callback; raises as `succeed_callback`."""
        await self._complete(callback_id, failure(error))

    async def heartbeat_callback(self, callback_id: str) -> None:
        """Restart a callback's heartbeat timer; raises as `succeed_callback`."""
        callback = CallbackId.parse(callback_id)
        check_delivery(callback, await patiently(lambda: self.store.heartbeat(callback.await_id, callback.secret)))

    async def _complete(self, callback_id: str, outcome: Outcome) -> None:
        callback = CallbackId.parse(callback_id)
        draft, key = draft_of(Entry(outcome=outcome)), nonce()
        answer = await patiently(lambda: self.store.deliver(callback.await_id, callback.secret, draft, key))
        check_delivery(callback, answer)

    async def purge(self, limit: int = 100) -> int:
        """Remove what is deleted or past its retention; returns how many executions."""
        purged = 0
        for shard in range(self.store.shards):
            purged += await _repeat(lambda shard=shard: self.store.purge(limit, shard), limit)  # type: ignore[misc]
        return purged


async def _repeat(call: Callable[[], Awaitable[int]], limit: int) -> int:
    total = 0
    while True:
        done = await call()
        total += done
        if done < limit:
            return total


def draft_of(entry: Entry) -> Draft:
    """An entry as stores take it."""
    return Draft(encode(entry), tag(), FORMAT)


def _folded(header: Header, draft: Draft, started: Started) -> Execution:
    execution = Execution(header.id)
    row = Row(index=1, at=header.created, tag=draft.tag, body=draft.body)
    execution.apply(row, Entry(started=started))
    return execution


def _spans(request: StartRequest, function: Function | None) -> tuple[int | None, int]:
    timeout = function.timeout if function else None
    if request.execution_timeout is not None:
        timeout = request.execution_timeout * MICROSECONDS
    retention = function.retention if function else DEFAULT_RETENTION_DAYS * DAY_SECONDS * MICROSECONDS
    if request.retention_days is not None:
        retention = request.retention_days * DAY_SECONDS * MICROSECONDS
    return timeout, retention


def _joined(first: Lease, second: Lease) -> Lease:
    return Lease(
        owner=first.owner,
        since=min(first.since, second.since),
        renewed=min(first.renewed, second.renewed),
        until=min(first.until, second.until),
        held=tuple(sorted(first.held + second.held)),
    )


def check_delivery(callback: CallbackId, answer: Answer) -> None:
    """Raise what a delivery or heartbeat that was not accepted means."""
    match answer:
        case Answer.UNKNOWN:
            raise CallbackNotFoundError(
                f"no callback has this id, which names execution {callback.execution_id!r}; that may have been purged, "
                "or be in another backend"
            )
        case Answer.CLOSED:
            raise CallbackClosedError(
                f"the callback was completed already, or its execution {callback.execution_id!r} has ended; "
                "the first completion counts"
            )
        case Answer.EXPIRED:
            raise CallbackClosedError(
                f"the callback's time is over, and execution {callback.execution_id!r} goes on without it; "
                "give the callback a longer timeout, or send heartbeats"
            )
        case _:
            return
