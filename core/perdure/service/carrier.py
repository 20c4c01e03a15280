"""
Carrying effects from one execution to another: starting children, giving their outcome to their parents.

Two executions are never written together. What an entry asks for elsewhere is carried out after it is durable, by its
owner first and by any process later, always idempotently, and then settled.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING

from perdure.codec import digest
from perdure.errors import StoreError
from perdure.journal.effects import StartChild, outcome_for_parent
from perdure.journal.entry import FORMAT, Entry, Outcome, Started, encode
from perdure.model import ErrorObject, OperationStatus
from perdure.service import reading
from perdure.service.patience import patiently
from perdure.service.target import FunctionIdentifier
from perdure.storage import MICROSECONDS, Answer, Created, Draft, Exists, New, Outdated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.journal.effects import Effect
    from perdure.journal.fold import Execution
    from perdure.service.service import Service
    from perdure.storage import Header, Tip

logger = logging.getLogger(__name__)

DEFAULT_RETENTION_DAYS = 14
DAY_SECONDS = 86_400

CHILD_IS_GONE = ErrorObject(
    "the invoked execution was removed before its outcome could be read", "ResourceNotFoundException"
)


class Carrier:
    """Carries out the effects of executions."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._tasks: set[asyncio.Task[None]] = set()

    def carry_soon(self, header: Header, execution: Execution) -> None:
        """Carry out what an owner's commit asked for, without making the owner wait."""
        pending = [effect for effect in execution.effects if effect.index > header.settled]
        task = asyncio.create_task(self._carry(header, pending, execution.length, execution.tip))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def carry_due(self, limit: int) -> int:
        """Carry out what owners left undone; returns for how many executions."""
        headers: list[Header] = []
        for shard in range(self._service.store.shards):
            headers += await self._service.store.unsettled(limit, shard)
        for header in headers:
            execution = await reading.load(self._service.store, header.id)
            pending = [effect for effect in execution.effects if effect.index > header.settled]
            await self._carry(header, pending, execution.length, execution.tip)
        return len(headers)

    async def close(self) -> None:
        """Wait for what is under way."""
        await asyncio.gather(*self._tasks)

    async def _carry(self, header: Header, effects: Sequence[Effect], through: int, tip: Tip) -> None:
        try:
            for effect in effects:
                if isinstance(effect, StartChild):
                    await self._start(header.id, effect)
                else:
                    await self._deliver(effect.await_id, effect.outcome, f"{header.id}:{effect.index}")
            store = self._service.store
            await patiently(lambda: store.settle(header.id, through, tip, header.epoch))
        except StoreError as error:
            # Nothing is lost: the effect stays due, and any process carries it out later.
            logger.warning("effects of execution %s wait for the store: %s", header.id, error)

    async def _start(self, parent: str, effect: StartChild) -> None:
        new = await self._child(parent, effect)
        store = self._service.store
        answer = await patiently(lambda: store.create(new, None))
        if answer is Answer.GONE:
            await self._deliver(new.parent or "", Outcome(status=OperationStatus.FAILED, error=CHILD_IS_GONE), new.id)
        elif isinstance(answer, Created | Exists | Outdated) and answer.header.status.is_end:
            # Begun earlier, and over: its own delivery may have been undone by a failover.
            child = await reading.load(store, answer.header.id)
            await self._deliver(new.parent or "", outcome_for_parent(child), new.id)

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
        draft = Draft(encode(Entry(outcome=outcome)), secrets.token_hex(8), FORMAT)
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
        draft=Draft(encode(Entry(started=started)), secrets.token_hex(8), FORMAT),
    )
