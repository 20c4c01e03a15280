"""
The worker: claims executions of its functions and runs them, as many at once as it has slots.

Embedded in an application (`with Worker(…)`) or as a process of its own (`perdure worker app`). Everything but user
code happens on the process's store loop.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import attrs

from perdure.errors import StaleTokenError, StoreError, ValidationError
from perdure.journal.entry import FORMAT
from perdure.portal import store_portal
from perdure.runtime import Drained, Run
from perdure.service.connection import Connection
from perdure.service.upkeep import Upkeep
from perdure.storage import (
    MICROSECONDS,
    Answer,
    Claim,
    Claimed,
    Function,
    FunctionVersion,
    Hint,
    HintKind,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from types import FrameType, TracebackType

    from perdure.durable import DurableFunction
    from perdure.journal.fold import Execution
    from perdure.service.ownership import Ownership
    from perdure.storage import Backend, Header, Held, Store

logger = logging.getLogger(__name__)

CLAIM_LIMIT = 100
LONGEST_SLEEP = 5.0
UPKEEP_PAUSE = 0.5
PURGE_PAUSE = 60.0
DAY = 86_400


class Worker:
    """
    Runs durable functions on a backend.

    Args:
        backend: A URL, or what `open_backend` returned, or a store.
        functions: What `@durable_execution` returned; no two with the same name and version.
        concurrency: How many executions run at once, at most.
        lease: Seconds for which this process is believed alive without a sign; renewed every third of it.
        drain_timeout: Seconds that `stop` waits for running step bodies.
    """

    def __init__(
        self,
        backend: str | Backend | Store,
        functions: Sequence[DurableFunction[Any, Any]],
        *,
        concurrency: int = 32,
        lease: float = 30.0,
        drain_timeout: float = 30.0,
    ) -> None:
        if concurrency < 1:
            raise ValidationError(f"concurrency is at least 1, not {concurrency!r}")
        self._connection = Connection(backend)
        self._functions = _by_version(functions)
        self._concurrency = concurrency
        self._lease = lease
        self._drain_timeout = drain_timeout
        self._shift: _Shift | None = None
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to work, in the background."""
        self._stopped.clear()
        store_portal().call(self._start())

    def stop(self) -> None:
        """
        Drain: claim nothing more, end running invocations at their next operation, let go of everything.

        Waits for running step bodies up to `drain_timeout`; what does not end by then is left to the next owner.
        """
        self._stopped.set()
        store_portal().call(self._stop())

    def run(self) -> None:
        """Work until `stop` is called, SIGTERM or SIGINT arrives (in the main thread), then drain."""
        previous = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                previous[number] = signal.signal(number, self._on_signal)
        self.start()
        try:
            self._stopped.wait()
        finally:
            store_portal().call(self._stop())
            for number, handler in previous.items():
                signal.signal(number, handler)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        logger.info("signal %s: draining", number)
        self._stopped.set()

    async def _start(self) -> None:
        if self._shift is not None:
            return
        await self._connection.open()
        self._shift = _Shift(self._connection, self._functions, self._concurrency, self._lease)
        try:
            await self._shift.begin()
        except BaseException:
            self._shift = None
            await self._connection.close()
            raise

    async def _stop(self) -> None:
        shift, self._shift = self._shift, None
        if shift is not None:
            await shift.end(self._drain_timeout)
            await self._connection.close()


@attrs.define
class _Incarnation:
    """One life of a worker in the eyes of the store; an owner id that was reaped never returns."""

    owner: str = attrs.field(factory=lambda: secrets.token_hex(8))
    claims: int = 0


class _Shift:
    """A worker at work: the tasks on the store's loop between start and stop."""

    def __init__(
        self,
        connection: Connection,
        functions: dict[FunctionVersion, DurableFunction[Any, Any]],
        concurrency: int,
        lease: float,
    ) -> None:
        self._service = connection.service
        self._store = connection.store
        self._functions = functions
        self._concurrency = concurrency
        self._lease = lease
        self._upkeep = Upkeep(self._service)
        self._incarnation = _Incarnation()
        self._runs: dict[str, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._offered: set[str] = set()
        self._wake = asyncio.Event()
        self._death = asyncio.Event()
        self._draining = False

    async def begin(self) -> None:
        """Register, free what dead processes held, start to claim."""
        await self._register()
        await self._upkeep.free_dead()
        self._unwatch = self._store.watch(self._hear)
        if self._service.local is None:
            self._service.local = self
        self._claiming = asyncio.create_task(self._claim())
        self._routines = [asyncio.create_task(routine()) for routine in (self._renew, self._maintain, self._mourn)]

    async def end(self, timeout: float) -> None:
        """Drain."""
        self._draining = True
        if self._service.local is self:
            self._service.local = None
        self._unwatch()
        await _cancelled([self._claiming])
        for run in self._runs.values():
            run.interrupt(Drained("the worker stops"))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)
        await _cancelled([*self._routines, *self._tasks])
        await self._service.close()

    # -------------------------------------------------------------------------------------------------- local starts

    def offer(self, function: str, version: str) -> Claim | None:
        """As `LocalOwner.offer`."""
        if self._draining or self._free < 1 or FunctionVersion(function, version) not in self._functions:
            return None
        claim = Claim(self._incarnation.owner, secrets.token_hex(16))
        self._offered.add(claim.token)
        return claim

    def adopt(self, header: Header, execution: Execution) -> None:
        """As `LocalOwner.adopt`."""
        self._offered.discard(header.token or "")
        self._run(self._service.own(header, execution))

    def withdraw(self, claim: Claim) -> None:
        """As `LocalOwner.withdraw`."""
        self._offered.discard(claim.token)
        self._wake.set()

    # ------------------------------------------------------------------------------------------------------ routines

    @property
    def _free(self) -> int:
        return self._concurrency - len(self._tasks) - len(self._offered)

    async def _claim(self) -> None:
        shard = 0
        while True:
            pause = LONGEST_SLEEP
            self._wake.clear()
            if (limit := min(self._free, CLAIM_LIMIT)) > 0:
                try:
                    pause = await self._claim_some(limit, shard)
                except StoreError as error:
                    logger.warning("cannot claim: %s", error)
                    pause = min(1.0, LONGEST_SLEEP)
            shard = (shard + 1) % self._store.shards
            if pause > 0:
                await _sleep(self._wake, pause)

    async def _claim_some(self, limit: int, shard: int) -> float:
        """Claim and run what is due; returns for how many seconds nothing will be without a hint."""
        incarnation = self._incarnation
        incarnation.claims += 1
        answer = await self._store.claim(
            incarnation.owner,
            incarnation.claims,
            secrets.token_hex(16),
            tuple(self._functions),
            limit,
            FORMAT,
            shard,
        )
        if not isinstance(answer, Claimed):
            await self._reincarnate(incarnation)
            return 0.0
        self._service.clock.read(answer.now)
        for header in answer.headers:
            self._run(self._service.own(header))
        if len(answer.headers) == limit:
            return 0.0
        if answer.next_wake is None:
            return LONGEST_SLEEP
        return min(max(answer.next_wake - answer.now, 1000) / MICROSECONDS, LONGEST_SLEEP)

    def _run(self, ownership: Ownership) -> None:
        header = ownership.header
        run = Run(ownership, self._functions[FunctionVersion(header.function, header.version)])
        self._runs[header.id] = run
        self._perform(self._complete(run))

    async def _complete(self, run: Run) -> None:
        try:
            await run.complete()
        finally:
            if self._runs.get(run.ownership.id) is run:
                del self._runs[run.ownership.id]
        # A body that outlives its invocation keeps its slot: threads are what slots stand for.
        await run.linger()

    def _perform(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake.set()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            incarnation = self._incarnation
            try:
                for shard in range(self._store.shards):
                    answer = await self._store.renew(incarnation.owner, shard)
                    if isinstance(answer, Answer):
                        await self._reincarnate(incarnation)
                        break
                    self._compare(answer)
            except StoreError as error:
                logger.warning("cannot renew the lease: %s", error)

    def _compare(self, held: Sequence[Held]) -> None:
        """Abandon what is held no more, tell what has grown, release what nobody here knows of."""
        tokens = {execution.id: execution for execution in held}
        for id, run in self._runs.items():
            execution = tokens.get(id)
            if execution is None or execution.token != run.ownership.header.token:
                run.interrupt(StaleTokenError())
            elif run.ownership.has_missed(execution.length):
                run.nudge()
        for execution in held:
            if execution.id not in self._runs and execution.token not in self._offered:
                self._perform(self._release(execution))

    async def _release(self, execution: Held) -> None:
        try:
            header = await self._store.describe(execution.id)
            if header is not None and header.token == execution.token and execution.id not in self._runs:
                await self._service.own(header).release()
        except (StoreError, StaleTokenError) as error:
            logger.info("execution %s was not released: %s", execution.id, error)

    async def _maintain(self) -> None:
        purged = 0.0
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._upkeep.run()
                if loop.time() - purged > PURGE_PAUSE:
                    purged = loop.time()
                    await self._upkeep.purge()
            except StoreError as error:
                logger.warning("upkeep is put off: %s", error)
            await asyncio.sleep(UPKEEP_PAUSE * random.uniform(0.8, 1.2))  # noqa: S311 - spreads processes, no secret

    async def _mourn(self) -> None:
        """Free what a process held as soon as its death is told."""
        while True:
            await self._death.wait()
            self._death.clear()
            try:
                if await self._upkeep.free_dead():
                    self._wake.set()
            except StoreError as error:
                logger.warning("what a dead process held is freed later: %s", error)

    # --------------------------------------------------------------------------------------------------------- lease

    async def _register(self) -> None:
        functions = [
            Function(
                name=version.name,
                version=version.version,
                timeout=_micros(function.timeout_seconds),
                retention=function.retention_days * DAY * MICROSECONDS,
            )
            for version, function in self._functions.items()
        ]
        while True:
            answer = await self._store.register(self._incarnation.owner, functions, int(self._lease * MICROSECONDS))
            if answer is Answer.OK:
                return
            self._incarnation = _Incarnation()

    async def _reincarnate(self, lost: _Incarnation) -> None:
        """The lease of `lost` is over: what ran under it belongs to others, or soon will."""
        if self._incarnation is not lost:
            return
        logger.warning("the lease was lost; running executions are abandoned")
        for run in self._runs.values():
            run.interrupt(StaleTokenError())
        self._incarnation = _Incarnation()
        await self._register()

    def _hear(self, hint: Hint) -> None:
        if hint.kind is HintKind.DIED:
            self._death.set()
        elif hint.kind is HintKind.DUE:
            self._wake.set()
        elif hint.kind is HintKind.GREW and hint.id in self._runs:
            self._runs[hint.id].nudge()


def _by_version(
    functions: Sequence[DurableFunction[Any, Any]],
) -> dict[FunctionVersion, DurableFunction[Any, Any]]:
    found: dict[FunctionVersion, DurableFunction[Any, Any]] = {}
    for function in functions:
        version = FunctionVersion(function.name, function.version)
        if found.setdefault(version, function) is not function:
            raise ValidationError(
                f"two functions are called {version.name!r} in version {version.version!r}; give one another name="
            )
    if not found:
        raise ValidationError("a worker needs at least one function decorated with @durable_execution")
    return found


def _micros(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * MICROSECONDS


async def _sleep(wake: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wake.wait()


async def _cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
