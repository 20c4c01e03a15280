"""
Carrying effects from one execution to another: starting children, giving their outcome to their parents.

Two executions are never written together. What an entry asks for elsewhere is carried out after it is durable, by its
owner first and by any process later, always idempotently, and then settled.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import attrs

from perdure.codec import digest
from perdure.duration import DAY_SECONDS, DEFAULT_RETENTION_DAYS
from perdure.errors import ExecutionNotFoundError, StoreError
from perdure.journal.effects import StartChild, outcome_for_parent
from perdure.journal.entry import FORMAT, Entry, Outcome, Started, encode
from perdure.model import ErrorObject, OperationStatus
from perdure.nonce import tag
from perdure.service import reading
from perdure.service.agenda import Concern
from perdure.service.patience import patiently
from perdure.service.target import FunctionIdentifier
from perdure.storage import EFFECT_GRACE, EMPTY, MICROSECONDS, Answer, Created, Draft, Exists, New, Outdated, Swept

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from perdure.journal.effects import Effect
    from perdure.journal.fold import Execution
    from perdure.service.service import Service
    from perdure.storage import Header, Tip

logger = logging.getLogger(__name__)

CHILD_IS_GONE = ErrorObject(
    "the invoked execution was removed before its outcome could be read", "ResourceNotFoundException"
)
NAME_IS_TAKEN = ErrorObject(
    "another execution of the invoked function has the name that this one was to get",
    "DurableExecutionAlreadyStartedException",
)


@attrs.define(eq=False)
class Errands:
    """
    What one execution asks for elsewhere.

    Attributes:
        header: As its carrier has it; `execution`: its fold, which may grow meanwhile.
        settled: Through which row everything is carried out.
        through, tip: The row up to which effects are known here; another thread may fold further rows meanwhile.
        is_underway: Somebody is at it, and will look again when done.
    """

    header: Header
    execution: Execution
    settled: int
    through: int = 0
    tip: Tip = EMPTY
    is_underway: bool = False

    @classmethod
    def of(cls, header: Header, execution: Execution) -> Errands:
        """Those that the header does not know to be carried out."""
        errands = cls(header, execution, header.settled)
        errands.look()
        return errands

    def look(self) -> None:
        """Know the effects of all that is folded; while nobody folds."""
        self.through, self.tip = self.execution.length, self.execution.tip

    @property
    def pending(self) -> list[Effect]:
        """What is left to be carried out."""
        return [effect for effect in self.execution.effects if self.settled < effect.index <= self.through]


class Carrier:
    """Carries out the effects of executions."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._tasks: set[asyncio.Task[None]] = set()

    def carry_soon(self, errands: Errands) -> None:
        """Carry out what an owner's commit asked for, without making the owner wait."""
        if not errands.is_underway:
            self._begin(self._attempt(errands.header.id, self._carry(errands)))

    def carry_rest_soon(self, header: Header) -> None:
        """The same for an execution whose fold is not at hand."""
        self._begin(self._attempt(header.id, self._carry_rest(header)))

    async def carry_due(self, limit: int, shard: int = 0) -> Swept:
        """Carry out what was left undone; returns of how many executions, and when others will be due."""
        due = await self._service.store.unsettled(limit, shard)
        await asyncio.gather(*[self._attempt(header.id, self._carry_rest(header)) for header in due.headers])
        return Swept(len(due.headers), due.next)

    async def close(self) -> None:
        """Wait for what is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attempt(self, id: str, work: Coroutine[Any, Any, None]) -> None:
        """One execution whose effects cannot be carried out must not keep others from theirs."""
        try:
            await work
        except ExecutionNotFoundError:
            logger.info("execution %s was removed; nothing of it is left to be carried out", id)
        except StoreError as error:
            # Nothing is lost: the effect stays due, and any process carries it out later.
            logger.warning("effects of execution %s wait for the store: %s", id, error)
        except Exception:
            logger.exception("effects of execution %s are tried again later", id)
        else:
            return
        service = self._service
        service.agenda.expect(Concern.EFFECT, service.clock.now() + EFFECT_GRACE, service.agenda.shard_of(id))

    async def _carry_rest(self, header: Header) -> None:
        execution = await reading.load(self._service.store, header.id)
        await self._carry(Errands.of(header, execution))

    async def _carry(self, errands: Errands) -> None:
        header, store = errands.header, self._service.store
        errands.is_underway = True
        try:
            while True:
                through, tip = errands.through, errands.tip
                work = [self._carry_out(header, effect) for effect in errands.pending]
                for failure in await asyncio.gather(*work, return_exceptions=True):
                    if failure is not None:
                        raise failure
                await patiently(lambda: store.settle(header.id, through, tip, header.epoch))  # noqa: B023 - awaited
                errands.settled = through
                if not errands.pending:
                    return
        finally:
            errands.is_underway = False

    async def _carry_out(self, header: Header, effect: Effect) -> None:
        if isinstance(effect, StartChild):
            await self._start(header.id, effect)
        else:
            await self._deliver(effect.await_id, effect.outcome, f"{header.id}:{effect.index}")

    async def _start(self, parent: str, effect: StartChild) -> None:
        new, await_id = await self._child(parent, effect), f"{parent}/{effect.operation_id}"
        store = self._service.store
        while isinstance(answer := await patiently(lambda: store.create(new, None)), Outdated):
            await self._service.purge()
        match answer:
            case Created(header) if not header.status.is_end:
                self._service.agenda.expect_end(header)
            case Created(header):
                # Begun earlier, and over: its own delivery may have been undone by a failover.
                child = await reading.load(store, header.id)
                await self._deliver(await_id, outcome_for_parent(child), new.id)
            case Answer.GONE:
                await self._deliver(await_id, Outcome(status=OperationStatus.FAILED, error=CHILD_IS_GONE), new.id)
            case Exists():
                await self._deliver(await_id, Outcome(status=OperationStatus.FAILED, error=NAME_IS_TAKEN), new.id)

    async def _child(self, parent: str, effect: StartChild) -> New:
        store = self._service.store
        id = store.child_id(parent, effect.operation_id)
        function = await self._service.registry.find(FunctionIdentifier(effect.function, effect.version))
        timeout = function.timeout if function else None
        retention = function.retention if function else DEFAULT_RETENTION_DAYS * DAY_SECONDS * MICROSECONDS
        started = Started(
            name=id,
            function=effect.function,
            version=effect.version,
            input=effect.input or "{}",
            execution_timeout=None if timeout is None else timeout // MICROSECONDS,
            retention_days=retention // (DAY_SECONDS * MICROSECONDS),
            parent=f"{parent}/{effect.operation_id}",
            tenant_id=effect.tenant_id,
        )
        return new_execution(id, started, timeout, retention)

    async def _deliver(self, await_id: str, outcome: Outcome, nonce: str) -> None:
        draft = Draft(encode(Entry(outcome=outcome)), tag(), FORMAT)
        store = self._service.store
        # Whatever the answer: delivered, or nobody waits any more.
        await patiently(lambda: store.deliver(await_id, "", draft, nonce))


def new_execution(id: str, started: Started, timeout: int | None, retention: int) -> New:
    """An execution to be created with this first entry; spans in µs."""
    return New(
        id=id,
        function=started.function,
        version=started.version,
        name=started.name,
        digest=digest(started.input),
        timeout=timeout,
        retention=retention,
        parent=started.parent,
        draft=Draft(encode(Entry(started=started)), tag(), FORMAT),
    )
