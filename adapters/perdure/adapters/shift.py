"""A worker at work: what it claims, runs, renews and lets go, between its start and its stop."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from perdure.errors import StaleTokenError, StoreError
from perdure.journal.entry import FORMAT
from perdure.nonce import nonce
from perdure.runtime import Drained, Run, registration
from perdure.service.agenda import Concern
from perdure.service.owner_id import OwnerId
from perdure.service.patience import patiently
from perdure.service.upkeep import Upkeep
from perdure.storage import (
    MICROSECONDS,
    Answer,
    Claim,
    Claimed,
    FunctionVersion,
    Hint,
    HintKind,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from perdure.durable import DurableFunction
    from perdure.journal.fold import Execution
    from perdure.service.agenda import Alarm
    from perdure.service.ownership import Ownership
    from perdure.service.service import Service
    from perdure.storage import Header, Held

logger = logging.getLogger(__name__)

CLAIM_LIMIT = 100
LONGEST_SLEEP = 5.0
SHORTEST_SLEEP, LONGEST_PAUSE = MICROSECONDS // 1000, MICROSECONDS // 4
"""
µs until a shard is asked again that has something due and gave nothing: at first, and at most. Others have it locked.
"""
RENEWALS = 3
"""How often a lease is renewed while it lasts."""
PURGE_PAUSE = 60.0
AFTER_ERROR = 1.0


@attrs.define(eq=False)
class _Incarnation:
    """One life of a worker in the eyes of the store; an owner id that was reaped never returns."""

    owner: str = attrs.field(factory=lambda: OwnerId.mint().text)
    claims: int = 0


class Shift:
    """
    A worker at work; all of it happens on the store's loop.

    A slot is taken by a running execution, and by what a claim or an offer that is on its way may bring.
    """

    def __init__(
        self,
        service: Service,
        functions: Mapping[FunctionVersion, DurableFunction[Any, Any]],
        concurrency: int,
        lease: float,
    ) -> None:
        self._service = service
        self._store = service.store
        self._functions = functions
        self._names = {function.name for function in functions}
        self._concurrency = concurrency
        self._lease = lease
        self._upkeep = Upkeep(service)
        self._incarnation = _Incarnation()
        self._birth = asyncio.Lock()
        self._runs: dict[str, Run] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._chores: set[asyncio.Task[Any]] = set()
        self._expected: dict[str, int] = {}
        self._due: list[Alarm] = []
        self._pauses: dict[int, int] = {}
        self._queue = asyncio.Lock()
        self._change = asyncio.Event()
        self._renewed = 0.0
        self._claiming: list[asyncio.Task[None]] = []
        self._routines: list[asyncio.Task[None]] = []
        self._unwatch: Callable[[], None] = lambda: None
        self._draining = self._in_hurry = False

    async def begin(self) -> None:
        """Register, free what dead processes held, start to claim."""
        await patiently(lambda: self._register(self._incarnation), self._lease)
        await patiently(self._upkeep.free_dead, self._lease)
        self._unwatch = self._store.watch(self._hear)
        if self._service.local is None:
            self._service.local = self
        self._due = self._service.agenda.open(Concern.CLAIM)
        for shard, alarm in enumerate(self._due):
            alarm.ring()
            self._claiming.append(asyncio.create_task(_forever(partial(self._claim, shard, alarm), "claiming")))
        self._routines = [
            asyncio.create_task(_forever(work, what))
            for work, what in (
                (self._renew, "renewing the lease"),
                (self._purge, "purging"),
                *self._upkeep.open(),
            )
        ]

    async def end(self, timeout: float) -> None:
        """Drain."""
        self._draining = True
        if self._service.local is self:
            self._service.local = None
        self._unwatch()
        self._service.agenda.close(self._due)
        await _cancelled(self._claiming)
        for run in self._runs.values():
            run.interrupt(Drained("the worker stops"))
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not self._in_hurry and (self._running or self._chores or self._expected):
                    self._change.clear()
                    await self._change.wait()
        if self._runs:
            logger.warning("%s executions did not end in time; they are left to their next owner", len(self._runs))
        self._upkeep.close()
        await _cancelled([*self._routines, *self._running, *self._chores])

    def hurry(self) -> None:
        """End the draining now, or as soon as it begins."""
        self._in_hurry = True
        self._change.set()

    # -------------------------------------------------------------------------------------------------- local starts

    def offer(self, function: str, version: str) -> Claim | None:
        """As `LocalOwner.offer`."""
        if self._draining or self._free < 1 or FunctionVersion(function, version) not in self._functions:
            return None
        claim = Claim(self._incarnation.owner, nonce())
        self._expected[claim.token] = 1
        return claim

    def adopt(self, header: Header, execution: Execution) -> None:
        """As `LocalOwner.adopt`."""
        self._expected.pop(header.token or "", None)
        self._run(self._service.own(header, execution))

    def withdraw(self, claim: Claim) -> None:
        """As `LocalOwner.withdraw`."""
        self._expected.pop(claim.token, None)
        self._change.set()

    # ------------------------------------------------------------------------------------------------------ claiming

    @property
    def _free(self) -> int:
        return self._concurrency - len(self._running) - sum(self._expected.values())

    async def _claim(self, shard: int, alarm: Alarm) -> None:
        """Claim what is due in a shard, as soon as something is and there are slots."""
        await alarm.wait(LONGEST_SLEEP * random.uniform(0.8, 1.2))  # noqa: S311 - spreads processes, no secret
        try:
            # Shards that have something due get slots in turn.
            async with self._queue:
                while self._free < 1:
                    self._change.clear()
                    await self._change.wait()
                # Half of the slots are left to other shards, if there are any.
                share = self._free if self._store.shards == 1 else (self._free + 1) // 2
                limit, token = min(share, CLAIM_LIMIT), nonce()
                self._expected[token] = limit
            # What a claim has taken must be known here, whatever becomes of who asked.
            alarm.set(await asyncio.shield(self._do(self._claim_some(limit, token, shard))))
        except BaseException:
            alarm.ring()
            raise

    async def _claim_some(self, limit: int, token: str, shard: int) -> int | None:
        """Claim and run what is due; returns at what instant to look again."""
        incarnation = self._incarnation
        incarnation.claims += 1
        owner, number = incarnation.owner, incarnation.claims
        functions, asked = tuple(self._functions), time.monotonic_ns()
        try:
            answer = await patiently(
                lambda: self._store.claim(owner, number, token, functions, limit, FORMAT, shard), self._lease
            )
        finally:
            del self._expected[token]
        if not isinstance(answer, Claimed):
            await self._reincarnate(incarnation)
            return 0
        self._service.clock.read(answer.now, asked)
        for header in answer.headers:
            self._service.agenda.expect_end(header)
            self._run(self._service.own(header))
        if len(answer.headers) == limit:
            return 0
        if answer.next_wake is None or answer.next_wake > answer.now or answer.headers:
            self._pauses.pop(shard, None)
        else:
            self._pauses[shard] = min(2 * self._pauses.get(shard, SHORTEST_SLEEP), LONGEST_PAUSE)
        soonest = answer.now + self._pauses.get(shard, SHORTEST_SLEEP)
        return None if answer.next_wake is None else max(answer.next_wake, soonest)

    def _run(self, ownership: Ownership) -> None:
        header = ownership.header
        run = Run(ownership, self._functions[FunctionVersion(header.function, header.version)])
        self._runs[header.id] = run
        if self._draining:
            run.interrupt(Drained("the worker stops"))
        task = asyncio.create_task(self._complete(run))
        self._running.add(task)
        task.add_done_callback(self._vacate)

    async def _complete(self, run: Run) -> None:
        try:
            await run.complete()
        finally:
            if self._runs.get(run.ownership.id) is run:
                del self._runs[run.ownership.id]
        # A body that outlives its invocation keeps its slot: threads are what slots stand for.
        await run.linger()

    def _do(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._tick_off)
        return task

    def _vacate(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._change.set()

    def _tick_off(self, task: asyncio.Task[Any]) -> None:
        self._chores.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked knows of it, or is gone
        self._change.set()

    # --------------------------------------------------------------------------------------------------------- lease

    async def _renew(self) -> None:
        incarnation, known = self._incarnation, dict(self._runs)
        asked = asyncio.get_running_loop().time()
        held: list[Held] = []
        try:
            shards = range(self._store.shards)
            for answer in await asyncio.gather(*[self._store.renew(incarnation.owner, shard) for shard in shards]):
                if isinstance(answer, Answer):
                    await self._reincarnate(incarnation)
                    return
                held += answer
        except StoreError:
            if self._renewed and asked - self._renewed > self._lease:
                # Others may run them by now: the fence keeps the journals right, but not what bodies do.
                await self._reincarnate(incarnation)
            raise
        self._renewed = asked
        if incarnation is self._incarnation:
            self._compare(held, known)
        await asyncio.sleep(self._lease / RENEWALS)

    def _compare(self, held: Sequence[Held], known: Mapping[str, Run]) -> None:
        """
        Abandon what is held no more, tell what has grown, release what nobody here knows of.

        Args:
            held: What the store answered.
            known: What ran when it was asked; what was claimed since then it need not know.
        """
        tokens = {execution.id: execution for execution in held}
        for id, run in known.items():
            execution = tokens.get(id)
            if execution is None or execution.token != run.ownership.header.token:
                run.interrupt(StaleTokenError())
            elif run.ownership.has_missed(execution.length):
                run.nudge()
        for execution in held:
            # One whose claim is on its way must not be released: its two owners would use the same numbers.
            if execution.id not in self._runs and execution.token not in self._expected and not self._draining:
                self._do(self._release(execution))

    async def _release(self, execution: Held) -> None:
        try:
            header = await self._store.describe(execution.id)
            if header is not None and header.owner and header.token == execution.token:
                await self._service.own(header).release()
        except (StoreError, StaleTokenError) as error:
            logger.info("execution %s was not released: %s", execution.id, error)

    async def _register(self, incarnation: _Incarnation) -> None:
        functions = [registration(function, version) for version, function in self._functions.items()]
        asked = asyncio.get_running_loop().time()
        await self._store.register(incarnation.owner, functions, int(self._lease * MICROSECONDS))
        self._service.registry.forget()
        self._renewed = asked

    async def _reincarnate(self, lost: _Incarnation) -> None:
        """The lease of `lost` is over: what ran under it belongs to others, or soon will."""
        async with self._birth:
            if self._incarnation is not lost:
                return
            logger.warning("the lease was lost; running executions are abandoned")
            for run in self._runs.values():
                # Where it is still ours, as in another shard, it is handed on; elsewhere that is fenced.
                run.interrupt(Drained("the lease was lost"))
            # Not known to others before it has a lease: the next claim or renewal would find it dead again.
            born = _Incarnation()
            await self._register(born)
            self._incarnation = born

    # -------------------------------------------------------------------------------------------------------- upkeep

    async def _purge(self) -> None:
        await self._upkeep.purge()
        await asyncio.sleep(PURGE_PAUSE * random.uniform(0.8, 1.2))  # noqa: S311 - spreads processes, no secret

    def _hear(self, hint: Hint) -> None:
        self._service.endings.hear(hint)
        self._upkeep.hear(hint)
        if hint.kind is HintKind.DUE:
            if hint.function is None or hint.function in self._names:
                self._service.agenda.expect(Concern.CLAIM, 0, hint.shard)
        elif hint.id in self._runs:
            # It grew, or was ended from outside.
            self._runs[hint.id].nudge()


async def _forever(work: Callable[[], Awaitable[None]], what: str) -> None:
    """One round of a routine after another: no error may end it, and none is kept quiet."""
    while True:
        try:
            await work()
        except StoreError as error:
            logger.warning("%s is put off: %s", what, error)
        except Exception:
            logger.exception("%s failed, and is tried again", what)
        else:
            continue
        await asyncio.sleep(AFTER_ERROR)


async def _cancelled(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
