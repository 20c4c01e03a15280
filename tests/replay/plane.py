"""
A durable execution service in memory, for tests of the kernel: the port over the real journal.

Time is virtual: it moves only when a test says so. Requests are counted and kept.
"""

from __future__ import annotations

import itertools
import threading
import time
from datetime import UTC, datetime, timedelta
from math import inf
from typing import TYPE_CHECKING, Any

from perdure.engine.invocation import Invocation
from perdure.engine.settings import Settings
from perdure.errors import StaleTokenError
from perdure.journal.entry import Ended, Entry, InvocationEnd, Outcome, Started, Target
from perdure.journal.fold import Execution
from perdure.journal.history import Chronicle
from perdure.journal.transitions import validate
from perdure.model import (
    CheckpointAnswer,
    ErrorObject,
    ExecutionStatus,
    InvocationInput,
    InvocationOutput,
    InvocationStatus,
    Operation,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
    StatePage,
)
from perdure.storage import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perdure.durable import DurableFunction
    from perdure.engine.threads import Threads

EXECUTION = "e-1"
START = datetime(2026, 1, 1, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Plane:
    """
    One execution and its service.

    Attributes:
        requests: The updates of every checkpoint that was accepted.
        execution: The fold of the journal.
        history: Its events.
        before: Called with the updates of every checkpoint before it takes effect.
        after: Called after it has, before the answer is given.
        withdraw: Answer the next checkpoint without a token.
        page_size: Operations per page, of the input and of answers; None for all.
    """

    def __init__(
        self, input: str = "{}", *, name: str = "o-17", page_size: int | None = None, now: datetime = START
    ) -> None:
        self.execution = Execution(EXECUTION)
        self.history = Chronicle()
        self.arn = f"arn:perdure:lambda:local:000000000000:function:f:$LATEST/durable-execution/{name}/{EXECUTION}"
        self.requests: list[list[OperationUpdate]] = []
        self.before: Callable[[Sequence[OperationUpdate]], object] = lambda _: None
        self.after: Callable[[Sequence[OperationUpdate]], object] = lambda _: None
        self.withdraw = False
        self.page_size = page_size
        self.now = now
        self.invocations = 0
        self._lock = threading.RLock()
        self._turn = 0
        self._told: set[str] = set()
        self._seen = 0
        self._open: datetime | None = None
        self._pages: dict[str, list[Operation]] = {}
        self._markers = itertools.count(1)
        self._append(Entry(started=Started(name=name, function="f", version="$LATEST", input=input)))

    # --------------------------------------------------------------------------------------------------- the port

    def checkpoint(self, token: str, updates: Sequence[OperationUpdate]) -> CheckpointAnswer:
        self.before(updates)
        with self._lock:
            if token != self.token or self._open is None:
                raise StaleTokenError
            validate(self.execution, list(updates))
            self.requests.append(list(updates))
            self._record(updates)
            self._turn += 1
            self.after(updates)
            changed = [each for each in self.execution.operations.values() if each.operation_id in self._told]
            self._told.clear()
            self._seen = self.execution.length
            page, marker = self._page(changed)
            ended = self.execution.outcome is not None
            return CheckpointAnswer(None if self.withdraw or ended else self.token, page, marker)

    def state(self, token: str, marker: str) -> StatePage:
        with self._lock:
            if token != self.token:
                raise StaleTokenError
            return StatePage(*self._page(self._pages.pop(marker)))

    @property
    def token(self) -> str:
        return f"{self.invocations}/{self._turn}"

    # ----------------------------------------------------------------------------------------------- the service

    def begin(self) -> InvocationInput:
        """Begin an invocation."""
        with self._lock:
            if self._open is not None:
                self.crash()
            self._fire()
            self.invocations += 1
            self._turn = 0
            self._open = self.now
            self._told.clear()
            self._seen = self.execution.length
            page, marker = self._page(self.execution.needed_operations())
            return InvocationInput(
                durable_execution_arn=self.arn, checkpoint_token=self.token, operations=page, next_marker=marker
            )

    def finish(self, output: InvocationOutput) -> None:
        """End an invocation well."""
        with self._lock:
            ended = None
            if output.status is InvocationStatus.PENDING:
                assert self.execution.outstanding or self.execution.has_news or self.withdraw, "nothing is outstanding"
            elif self.execution.outcome is not None:
                ended = self.execution.outcome
            else:
                status = ExecutionStatus[output.status.name]
                ended = Ended(status=status, result=output.result, error=output.error)
            self._append(Entry(invocation=self._end(), ended=ended), seen=self._seen)
            self._open = None

    def crash(self, error: BaseException | None = None) -> None:
        """End an invocation uncleanly."""
        with self._lock:
            recorded = ErrorObject.from_exception(error) if error else ErrorObject("gone", "Runtime.ExitError")
            self._append(Entry(crashed=self._end(recorded)))
            self._open = None

    def complete(self, name: str, result: str | None = None, error: ErrorObject | None = None) -> None:
        """Complete a callback or an invoke from outside."""
        status = OperationStatus.FAILED if error else OperationStatus.SUCCEEDED
        self.deliver(name, Outcome(status=status, result=result, error=error))

    def deliver(self, name: str, outcome: Outcome) -> None:
        """The outcome of an operation that something outside completes; of the first such that is open, if any is."""
        with self._lock:
            open_ones = (each for each in self.execution.open_awaits() if each.name == name)
            operation = next(open_ones, None) or self.operation(name)
            self._append(Entry(outcome=outcome), operation=operation.operation_id)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self.now += timedelta(seconds=seconds)

    def advance_to_next(self) -> bool:
        """Let time pass until something is due; False if nothing ever will be."""
        with self._lock:
            due = self.execution.next_due()
            if due is None:
                return False
            self.now = max(self.now, EPOCH + timedelta(microseconds=due))
            return True

    # --------------------------------------------------------------------------------------------------- inspection

    def operation(self, name: str) -> Operation:
        """The operation of that name."""
        with self._lock:
            return next(each for each in self.execution.operations.values() if each.name == name)

    def operations(self) -> list[Operation]:
        """All but the EXECUTION, in start order."""
        with self._lock:
            return [
                each
                for each in self.execution.operations.values()
                if each.operation_type is not OperationType.EXECUTION
            ]

    def statuses(self) -> dict[str | None, str]:
        """The status of each operation by name."""
        return {each.name: each.status.value for each in self.operations()}

    @property
    def sent(self) -> list[list[str]]:
        """The requests, as `ACTION name`."""
        return [[f"{update.action.value} {update.name}" for update in request] for request in self.requests]

    # -------------------------------------------------------------------------------------------------- internals

    def _record(self, updates: Sequence[OperationUpdate]) -> None:
        callbacks, targets = {}, {}
        for update in updates:
            if update.action is OperationAction.START and update.operation_type is OperationType.CALLBACK:
                callbacks[update.operation_id] = f"callback-{update.operation_id[:8]}"
            if update.operation_type is OperationType.CHAINED_INVOKE:
                known = update.chained_invoke_options.function_name != "missing"
                error = None if known else ErrorObject("no such function", "ResourceNotFoundException")
                targets[update.operation_id] = Target(version="1", error=error)
        fired = self.execution.due(self._micros())
        if updates or fired:
            entry = Entry(updates=tuple(updates), callbacks=callbacks, targets=targets, fired=fired)
            self._append(entry, seen=self._seen)

    def _fire(self) -> None:
        if fired := self.execution.due(self._micros()):
            self._append(Entry(fired=fired))

    def _append(self, entry: Entry, *, seen: int | None = None, operation: str | None = None) -> None:
        row = Row(index=self.execution.length + 1, at=self._micros(), tag="t", seen=seen, operation=operation, body=b"")
        self._told |= self.execution.apply(row, entry, self.history)

    def _end(self, error: ErrorObject | None = None) -> InvocationEnd:
        return InvocationEnd(request_id=str(self.invocations), start_timestamp=self._open or self.now, error=error)

    def _page(self, operations: Sequence[Operation]) -> tuple[tuple[Operation, ...], str | None]:
        size = self.page_size or len(operations) or 1
        page, rest = tuple(operations[:size]), list(operations[size:])
        if not rest:
            return page, None
        marker = f"m{next(self._markers)}"
        self._pages[marker] = rest
        return page, marker

    def _micros(self) -> int:
        return (self.now - EPOCH) // timedelta(microseconds=1)


class AsyncPlane:
    """The same service, awaited."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane

    async def checkpoint(self, token: str, updates: Sequence[OperationUpdate]) -> CheckpointAnswer:
        return self.plane.checkpoint(token, updates)

    async def state(self, token: str, marker: str) -> StatePage:
        return self.plane.state(token, marker)


def wait_until(predicate: Callable[[], object], description: str) -> None:
    """Until the predicate holds; fails with the description after ten seconds."""
    deadline = time.monotonic() + 10
    while not predicate():
        assert time.monotonic() < deadline, description
        time.sleep(0.002)


def settings(plane: Plane, **members: Any) -> Settings:
    """Settings whose clock is the plane's; how long a body takes decides nothing, unless a test says so."""
    return Settings(**{"now": lambda: plane.now, "flush_age": inf, **members})


def invoke(
    function: DurableFunction[Any, Any], plane: Plane, *, threads: Threads | None = None, **members: Any
) -> InvocationOutput:
    """
    One invocation of a `def` workflow, begun and ended at the plane.

    Raises:
        BaseException: It ended uncleanly; the plane has noted that.
    """
    invocation = Invocation(function, plane.begin(), settings=settings(plane, **members), threads=threads)
    try:
        output = invocation.run(plane)
    except BaseException as error:
        # A process that dies takes its threads along; here they are still about to begin what the next one records.
        invocation.join(1.0)
        plane.crash(error)
        raise
    plane.finish(output)
    return output


def execute(
    function: DurableFunction[Any, Any],
    plane: Plane,
    *,
    pending: Callable[[int], object] = lambda _: None,
    limit: int = 50,
    **members: Any,
) -> InvocationOutput:
    """
    Invocations of a `def` workflow until the execution has ended, time skipping to what is due next.

    Args:
        pending: Called with the number of each invocation that ended as PENDING; may complete callbacks.
        limit: Of invocations.
    """
    for _ in range(limit):
        output = invoke(function, plane, **members)
        if output.status is not InvocationStatus.PENDING:
            return output
        pending(plane.invocations)
        if not plane.execution.has_news:
            assert plane.advance_to_next(), f"nothing will ever happen: {plane.statuses()}"
    raise AssertionError(f"no end after {limit} invocations: {plane.statuses()}")
