"""
A service, a store in memory and one worker in virtual time.

One thing happens after the other: the worker runs one execution at a time up to its suspension, and time stands still
meanwhile, so that nothing is sent for having waited too long, however slow the machine is. Only where nothing can run
does it pass, by leaps to the next instant at which something is due.
"""

from __future__ import annotations

import asyncio
import copy
import time
from math import inf
from typing import TYPE_CHECKING, Any, cast

import attrs

from perdure.desk.answer import ExecutionReference
from perdure.errors import ResultTimeoutError, StaleTokenError
from perdure.journal.entry import FORMAT
from perdure.model import OperationSubType, OperationType
from perdure.nonce import nonce
from perdure.runtime import Run, registration
from perdure.service.clock import StoreClock
from perdure.service.crash_policy import CrashPolicy
from perdure.service.service import Service
from perdure.service.upkeep import TIMEOUTS
from perdure.storage import MICROSECONDS, Claimed, FunctionVersion, HintKind, Query, Status
from perdure.testing.clock import VirtualClock
from perdure.testing.lifeline import Lifeline
from perdure.testing.memory import MemoryStore
from perdure.testing.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perdure.durable import DurableFunction
    from perdure.journal.fold import Execution
    from perdure.model import Event, Operation
    from perdure.service.ownership import Ownership
    from perdure.service.request import StartRequest
    from perdure.storage import Header, Hint, Store
    from perdure.testing.lifeline import Crash

LEASE = 10**9 * MICROSECONDS
"""Nobody is believed dead for having waited long in virtual time."""
LIMIT = 100


class _Clock(StoreClock):
    """The store's time itself instead of an estimate."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def now(self) -> int:
        return self._clock()


class _Run(Run):
    def __init__(self, ownership: Ownership, function: DurableFunction[Any, Any]) -> None:
        super().__init__(ownership, function)
        self._settings = attrs.evolve(self._settings, flush_age=inf)


class _Service(Service):
    def __init__(self, store: Store, clock: VirtualClock, crash_policy: CrashPolicy) -> None:
        super().__init__(store, crash_policy)
        self.clock = _Clock(clock)


@attrs.frozen(kw_only=True)
class OpenCallback:
    """
    A callback that waits for its completion.

    Attributes:
        id: What completes it.
        name: Of the callback, or of its `wait_for_callback`; `own_name`: always of the callback.
        started: When it was created (µs).
    """

    id: str
    name: str | None
    own_name: str | None
    started: int


@attrs.frozen(kw_only=True)
class Record:
    """All that is known of an execution."""

    reference: ExecutionReference
    header: Header
    execution: Execution
    history: list[Event]


@attrs.define(eq=False)
class _Process:
    """
    One life of the worker.

    Attributes:
        owner: Its id; `claims`: how many it has made.
        run: What it runs now.
    """

    owner: str
    lifeline: Lifeline
    service: Service
    claims: int = 0
    run: Run | None = None


class Simulation:
    """
    All methods are coroutines of the store's loop, one at a time.

    Attributes:
        clock: The time.
        store: Where executions are kept.
        tally: What has happened.
        has_crashed: Whether the worker's process has, and was replaced by another.
    """

    def __init__(self, functions: Sequence[DurableFunction[Any, Any]], crash: Crash | None = None) -> None:
        """
        Args:
            functions: What the worker runs.
            crash: Where its first process crashes.
        """
        self.clock = VirtualClock()
        self.store = MemoryStore(self.clock)
        self.tally = Tally()
        self.has_crashed = False
        self._functions = {
            FunctionVersion(function.name, function.version): self._watched(function) for function in functions
        }
        self._next: int | None = None
        self._process = self._begin(crash)

    def _watched(self, function: DurableFunction[Any, Any]) -> DurableFunction[Any, Any]:
        watched = copy.copy(function)
        watched.observe = (*function.observe, self.tally.observe)
        return watched

    def _begin(self, crash: Crash | None = None) -> _Process:
        lifeline = Lifeline(self.store, self.tally, crash)
        # A crash that was ordered is none of those after which an execution is given up.
        policy = CrashPolicy(limit=CrashPolicy().limit + self.has_crashed)
        service = _Service(cast("Store", lifeline), self.clock, policy)
        lifeline.quiet = service.carrier.close
        return _Process(nonce(), lifeline, service)

    def redeploy(self, version: FunctionVersion, function: DurableFunction[Any, Any]) -> None:
        """Have this code run from now on where another one was; while nothing runs."""
        self._functions[version] = self._watched(function)

    @property
    def service(self) -> Service:
        """The service, as the living process has it."""
        return self._process.service

    async def start(self, request: StartRequest) -> str:
        """Begin an execution; nothing of it runs yet. Returns its id."""
        await self._register()
        id = self.tally.main = (await self.service.start(request)).header.id
        return id

    async def _register(self) -> None:
        functions = [registration(function, version) for version, function in self._functions.items()]
        await self.store.register(self._process.owner, functions, LEASE)

    # ------------------------------------------------------------------------------------------------------ working

    async def work(self, until: float) -> None:
        """
        Do all that can be done without time passing.

        Args:
            until: When to give up, on the machine's monotonic clock.

        Raises:
            ResultTimeoutError: There is more to be done.
        """
        unwatch = self.store.watch(self._hear)
        working = asyncio.create_task(self._work())
        try:
            await asyncio.wait({working}, timeout=max(0.0, until - time.monotonic()))
            if not working.done():
                # Asked before the bodies are cancelled that it tells of.
                raise ResultTimeoutError(self._still_going_on())
            working.result()
        finally:
            if not working.done():
                self._abandon()
                working.cancel()
                await asyncio.wait({working})
            unwatch()

    async def _work(self) -> None:
        while await self._turn():
            pass

    async def _turn(self) -> bool:
        """Do one thing; whether there was any."""
        service = self.service
        await service.carrier.close()
        swept = await self.store.expire(LIMIT, TIMEOUTS)
        carried = await service.carrier.carry_due(LIMIT)
        claimed = await self._claim()
        if self._process.lifeline.is_cut:
            await self._recover()
            return True
        instants = (claimed.next_wake, swept.next, carried.next)
        self._next = min((instant for instant in instants if instant is not None), default=None)
        # A workflow without a wait in it never lets go of this loop otherwise, and the time limit never strikes.
        await asyncio.sleep(0)
        return bool(swept.count or carried.count or claimed.headers)

    async def _claim(self) -> Claimed:
        """Run one execution that is due, up to its suspension."""
        process = self._process
        process.claims += 1
        answer = await self.store.claim(process.owner, process.claims, nonce(), tuple(self._functions), 1, FORMAT)
        assert isinstance(answer, Claimed)  # its lease never ends
        for header in answer.headers:
            function = self._functions[FunctionVersion(header.function, header.version)]
            process.run = _Run(process.service.own(header), function)
            await process.run.complete()
            await process.run.linger()
            process.run = None
        return answer

    def _hear(self, hint: Hint) -> None:
        run = self._process.run
        if run is not None and hint.id == run.ownership.id and hint.kind is not HintKind.DUE:
            run.nudge()

    async def _recover(self) -> None:
        """Another process takes over: no time passes, though in life a lease would have to run out."""
        self.has_crashed = True
        self.tally.recovered()
        await self.store.register(self._process.owner, (), 0)
        self._process = self._begin()
        await self._register()
        await self.store.reap(LIMIT)
        for header in await self.store.list(Query(limit=1000)):
            if not header.is_settled:
                self.service.carrier.carry_rest_soon(header)

    def _abandon(self) -> None:
        self._process.lifeline.cut()
        if self._process.run is not None:
            self._process.run.interrupt(StaleTokenError())

    def _still_going_on(self) -> str:
        passed = (self.clock() - VirtualClock()()) // MICROSECONDS
        running = self.tally.running
        if running:
            return (
                f"{', '.join(running)} has not returned in time; "
                "bodies of steps run in real time: replace what takes long by a stand-in, or give a longer timeout"
            )
        return (
            f"the workflow has not come to an end after {len(self.tally.commits)} commits and {passed} s of its own "
            "time; if it is not to end, run it by steps: start, until_blocked, advance; if its code blocks between "
            "operations, do that in a step"
        )

    # --------------------------------------------------------------------------------------------------------- time

    @property
    def next_instant(self) -> int | None:
        """When something falls due (µs), as of the last `work`; None: never."""
        return self._next

    async def pass_time(self, span: int) -> None:
        """Take the clock on by so many microseconds; deadlines strike, also of what runs."""
        self.clock.advance(max(0, span))
        await self.store.expire(LIMIT, TIMEOUTS)

    # ------------------------------------------------------------------------------------------------------- looking

    async def header(self, id: str) -> Header:
        """How an execution stands."""
        return await self.service.describe(id)

    async def record(self, id: str) -> Record:
        """All that is known of an execution."""
        header = await self.service.describe(id)
        reference = ExecutionReference(
            arn=self.service.arn(header.function, header.version, header.name, header.id),
            id=header.id,
            name=header.name,
            function=header.function,
            version=header.version,
        )
        return Record(
            reference=reference,
            header=header,
            execution=await self.service.load(id),
            history=await self.service.history(id),
        )

    async def open_callbacks(self) -> list[OpenCallback]:
        """Those of all executions that have not ended, in the order in which they were created."""
        found: list[OpenCallback] = []
        for header in await self.store.list(Query(statuses=(Status.RUNNING,), oldest_first=True, limit=1000)):
            execution = await self.service.load(header.id)
            found += [
                _callback(operation, execution.operations)
                for operation in execution.open_awaits()
                if operation.operation_type is OperationType.CALLBACK
            ]
        return sorted(found, key=lambda callback: callback.started)


def _callback(operation: Operation, operations: Mapping[str, Operation]) -> OpenCallback:
    assert operation.callback_details is not None
    assert operation.callback_details.callback_id is not None
    assert operation.start_timestamp is not None
    parent = operations.get(operation.parent_id or "")
    is_part = parent is not None and parent.sub_type == OperationSubType.WAIT_FOR_CALLBACK
    return OpenCallback(
        id=operation.callback_details.callback_id,
        name=parent.name if is_part and parent is not None else operation.name,
        own_name=operation.name,
        started=round(operation.start_timestamp.timestamp() * MICROSECONDS),
    )
