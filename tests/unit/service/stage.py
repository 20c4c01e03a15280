"""A service over a memory store with a clock that the test moves."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

from perdure.model import (
    CallbackOptions,
    ChainedInvokeOptions,
    InvocationOutput,
    InvocationStatus,
    OperationAction,
    OperationType,
    OperationUpdate,
    StepOptions,
    WaitOptions,
)
from perdure.service.request import StartRequest
from perdure.service.service import Service
from perdure.storage import MICROSECONDS, Claimed, Function, FunctionVersion, Header
from perdure.testing.clock import VirtualClock
from perdure.testing.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from perdure.journal.fold import Execution
    from perdure.service.crash_policy import CrashPolicy
    from perdure.service.ending import Endings
    from perdure.service.ownership import Ownership

PENDING = InvocationOutput(status=InvocationStatus.PENDING)
DAY = 86_400 * MICROSECONDS


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def ending(endings: Endings, id: str) -> asyncio.Future[Execution]:
    """The execution, once it has ended; who cancels the future waits no more."""
    waiter: asyncio.Future[Execution] = asyncio.get_running_loop().create_future()
    waiter.add_done_callback(lambda told: endings.forget(id, told))
    endings.wait(id, waiter)
    return waiter


def done(result: str | None = "1") -> InvocationOutput:
    return InvocationOutput(status=InvocationStatus.SUCCEEDED, result=result)


class Stage:
    """Two workers, three functions, one store."""

    def __init__(self, policy: CrashPolicy | None = None, store_type: type[MemoryStore] = MemoryStore) -> None:
        self.clock = VirtualClock()
        self.store: Any = store_type(self.clock)
        self.service = Service(self.store, policy)
        self._numbers = itertools.count(1)

    async def open(self) -> Stage:
        await self.store.open()
        for owner in ("w1", "w2"):
            functions = [Function(name=name, version="1", timeout=None, retention=DAY) for name in ("f", "parent")]
            functions.append(Function(name="brief", version="1", timeout=60 * MICROSECONDS, retention=DAY))
            await self.store.register(owner, functions, 3600 * MICROSECONDS)
        return self

    async def start(self, function: str = "f", input: str = "{}", name: str | None = None) -> Header:
        started = await self.service.start(StartRequest(function=function, input=input, name=name))
        return started.header

    async def claim(self, owner: str = "w1", function: str = "f") -> Ownership | None:
        """Own what is due, if anything is, in a process that has not run it before."""
        number = next(self._numbers)
        versions = [FunctionVersion(function, "1")]
        answer = await self.store.claim(owner, number, f"token-{number}", versions, 1, 1)
        assert isinstance(answer, Claimed)
        self.service.clock.read(answer.now)
        for header in answer.headers:
            self.service.folds.take(header)
        return self.service.own(answer.headers[0]) if answer.headers else None

    async def owned(self, owner: str = "w1", function: str = "f") -> Ownership:
        ownership = await self.claim(owner, function)
        assert ownership is not None, "nothing is due"
        return ownership

    async def begun(
        self, owner: str = "w1", function: str = "f", *, halt: Callable[[], object] = lambda: None
    ) -> Ownership:
        ownership = await self.owned(owner, function)
        assert await ownership.begin(halt) is not None, "there was nothing to invoke for"
        return ownership

    def advance(self, seconds: float) -> None:
        self.clock.advance(int(seconds * MICROSECONDS))


def started_step(id: str = "s") -> OperationUpdate:
    return OperationUpdate(operation_id=id, operation_type=OperationType.STEP, action=OperationAction.START)


def succeeded_step(id: str = "s", payload: str = "1") -> OperationUpdate:
    return OperationUpdate(
        operation_id=id, operation_type=OperationType.STEP, action=OperationAction.SUCCEED, payload=payload
    )


def retried_step(id: str = "s", seconds: int = 5) -> OperationUpdate:
    return OperationUpdate(
        operation_id=id,
        operation_type=OperationType.STEP,
        action=OperationAction.RETRY,
        payload="1",
        step_options=StepOptions(seconds),
    )


def wait(id: str = "w", seconds: int = 10) -> OperationUpdate:
    return OperationUpdate(
        operation_id=id,
        operation_type=OperationType.WAIT,
        action=OperationAction.START,
        wait_options=WaitOptions(seconds),
    )


def callback(id: str = "c", timeout: int = 0, heartbeat: int = 0) -> OperationUpdate:
    return OperationUpdate(
        operation_id=id,
        operation_type=OperationType.CALLBACK,
        action=OperationAction.START,
        callback_options=CallbackOptions(timeout, heartbeat),
    )


def invoke(function: str, id: str = "i", payload: str = "{}") -> OperationUpdate:
    return OperationUpdate(
        operation_id=id,
        operation_type=OperationType.CHAINED_INVOKE,
        action=OperationAction.START,
        payload=payload,
        chained_invoke_options=ChainedInvokeOptions(function),
    )


def outcome_update(result: str) -> OperationUpdate:
    return OperationUpdate(
        operation_id="execution-result-1",
        operation_type=OperationType.EXECUTION,
        action=OperationAction.SUCCEED,
        payload=result,
    )
