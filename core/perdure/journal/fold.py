"""
What a journal says of its execution: the fold of its rows.

The fold is total: what lost a race folds to nothing — an outcome for an operation that has one, a firing before its
time by the row's own clock, an update that is illegal where it stands, anything behind the end.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Protocol

from perdure.codec import instant
from perdure.journal.effects import DeliverResult, outcome_for_parent, start_child
from perdure.journal.entry import Ended, InvocationEnd, decode
from perdure.journal.transitions import BY_OUTCOME, BY_TIME, LONGEST_DELAY, transition
from perdure.model import (
    ENDED_STATUSES,
    TERMINAL_STATUSES,
    CallbackDetails,
    ChainedInvokeDetails,
    ContextDetails,
    ErrorObject,
    ExecutionDetails,
    ExecutionStatus,
    Operation,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
    StepDetails,
    WaitDetails,
)
from perdure.storage import EMPTY, MICROSECONDS, Tip

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from perdure.journal.effects import Effect
    from perdure.journal.entry import Entry, Outcome, Paused, Resumed, Started, Target
    from perdure.storage import Row


class Observer(Protocol):
    """Who is told what took effect, as it does; `at` is the time of the row."""

    def started(self, at: datetime, execution: Execution) -> None:
        """The execution began."""

    def updated(self, at: datetime, operation: Operation, update: OperationUpdate, target: Target | None) -> None:
        """An update made its operation what it is now."""

    def completed(self, at: datetime, operation: Operation) -> None:
        """An operation ended by time, or from outside."""

    def invocation_ended(self, at: datetime, end: InvocationEnd) -> None:
        """An invocation ended, in whatever way."""

    def paused(self, at: datetime, paused: Paused) -> None:
        """A pause began."""

    def resumed(self, at: datetime, resumed: Resumed) -> None:
        """A pause, or a quarantine, is over."""

    def ended(self, at: datetime, execution: Execution) -> None:
        """The execution ended."""


class Timers:
    """When time alone changes which operation; the earliest is at hand without a search."""

    def __init__(self) -> None:
        self._due: dict[str, int] = {}
        # Entries of operations that are no longer waiting stay until they come to the top.
        self._heap: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._due)

    def arm(self, id: str, due: int) -> None:
        """Have `id` come due at `due` (µs)."""
        self._due[id] = due
        heapq.heappush(self._heap, (due, id))

    def disarm(self, id: str) -> None:
        """Forget `id`."""
        self._due.pop(id, None)

    def due(self, id: str) -> int | None:
        """When `id` comes due, or None."""
        return self._due.get(id)

    def next(self) -> int | None:
        """When the earliest comes due, or None."""
        heap = self._heap
        while heap and self._due.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def all_due(self, now: int) -> list[tuple[int, str]]:
        """Everything due by `now`: when and what."""
        earliest = self.next()
        if earliest is None or earliest > now:
            return []
        return [(due, id) for id, due in self._due.items() if due <= now]


class Execution:
    """
    An execution as its journal has it so far; `apply` carries it on by a row.

    Attributes:
        id: Its id; name, function, version, input, parent, tenant_id, execution_timeout, retention_days, id_scheme:
            as `perdure.journal.entry.Started` has them; empty until then.
        status: RUNNING or how it ended; `paused`: the pause that is in force, or None, and `paused_at`.
        started, ended: When, or None.
        result, error: How it ended.
        outcome: What an EXECUTION update recorded, in force once the execution ends.
        operations: By id, in start order, the EXECUTION operation first.
        ends: How many operations have ended.
        length, tip: Of the journal.
        news: Rows that brought something which no invocation that ended well had been told of.
        invocations: How many have ended; `crashes`: how many of the last ones in a row not well.
        effects: What is to be done to other executions, in the order of the rows.
    """

    def __init__(self, id: str) -> None:
        self.id = id
        self.name = self.function = self.version = self.input = self.id_scheme = ""
        self.parent: str | None = None
        self.tenant_id: str | None = None
        self.execution_timeout: int | None = None
        self.retention_days: int | None = None
        self.status = ExecutionStatus.RUNNING
        self.paused: Paused | None = None
        self.paused_at: datetime | None = None
        self.started: datetime | None = None
        self.ended: datetime | None = None
        self.result: str | None = None
        self.error: ErrorObject | None = None
        self.outcome: Ended | None = None
        self.operations: dict[str, Operation] = {}
        self.ends = 0
        self.length = 0
        self.tip: Tip = EMPTY
        self.news: list[int] = []
        self.invocations = 0
        self.crashes = 0
        self.effects: list[Effect] = []
        self.timers = Timers()
        self.awaits: dict[str, OperationType] = {}
        self._order: dict[str, int] = {}

    # -------------------------------------------------------------------------------------------------- questions

    @property
    def has_news(self) -> bool:
        """Whether the handler has something it was not told of (spi.md, rules 2 and 8)."""
        return bool(self.news)

    @property
    def outstanding(self) -> int:
        """How many operations PENDING may wait for: pending steps, open waits, callbacks and invokes."""
        return len(self.timers) + len(self.awaits)

    def next_due(self) -> int | None:
        """When time alone changes an operation, at the earliest (µs); None: never."""
        return self.timers.next()

    def due(self, now: int) -> tuple[str, ...]:
        """The operations whose time has come by `now` (µs), the earliest first."""
        found = self.timers.all_due(now)
        return tuple(id for _, id in sorted(found, key=lambda timer: (timer[0], self._order[timer[1]])))

    def open_awaits(self) -> tuple[Operation, ...]:
        """The callbacks and chained invokes that something outside will complete, in start order."""
        return tuple(self.operations[id] for id in self.awaits)

    def start_order(self, id: str) -> int:
        """The place of an operation among all, from 0."""
        return self._order[id]

    def needed_operations(self) -> list[Operation]:
        """All operations that replay may look at: not those below contexts that only their result is needed of."""
        hidden: set[str] = set()
        needed: list[Operation] = []
        for operation in self.operations.values():
            if operation.parent_id in hidden:
                hidden.add(operation.operation_id)
                continue
            needed.append(operation)
            details = operation.context_details
            if details is not None and not details.replay_children and operation.status in TERMINAL_STATUSES:
                hidden.add(operation.operation_id)
        return needed

    # ---------------------------------------------------------------------------------------------------- folding

    def apply(self, row: Row, entry: Entry | None = None, observer: Observer | None = None) -> set[str]:
        """
        Fold the next row.

        Args:
            row: The one behind the last; one that was folded already changes nothing.
            entry: Its decoded body, if that is at hand.
            observer: Told what took effect.

        Returns:
            Ids of the operations that changed.

        Raises:
            ValueError: Rows in between are missing.
            SchemaVersionError: The entry is in a newer format.
        """
        if row.index <= self.length:
            return set()
        if row.index != self.length + 1:
            raise ValueError(f"execution {self.id!r} is folded up to row {self.length}, and was given row {row.index}")
        if entry is None:
            entry = decode(row.body)
        self.length = row.index
        self.tip = Tip(row.at, row.tag)
        if self.status in ENDED_STATUSES:
            return set()
        turn = _Turn(self, row, observer)
        turn.take(entry)
        return turn.changed

    def place(self, operation: Operation) -> None:
        """Take in what an operation has become."""
        if operation.operation_id not in self.operations:
            self._order[operation.operation_id] = len(self._order)
        self.operations[operation.operation_id] = operation


def fold(execution_id: str, rows: Iterable[Row]) -> Execution:
    """The execution that these rows, all from the first, make."""
    execution = Execution(execution_id)
    for row in rows:
        execution.apply(row)
    return execution


class _Turn:
    """One row taking effect."""

    def __init__(self, execution: Execution, row: Row, observer: Observer | None) -> None:
        self.changed: set[str] = set()
        self._execution = execution
        self._row = row
        self._at = instant(row.at)
        self._observer = observer

    def take(self, entry: Entry) -> None:
        """Have the members of an entry take effect, in the order of their declaration."""
        execution = self._execution
        if entry.started is not None and execution.started is None:
            self._start(entry.started)
        if execution.started is None:
            return
        if entry.crashed is not None:
            self._end_invocation(entry.crashed, crashed=True)
        for update in entry.updates:
            self._update(update, entry)
        for id in entry.fired:
            self._fire(id)
        if entry.outcome is not None:
            self._complete(entry.outcome)
        self._take_signals(entry)

    def _take_signals(self, entry: Entry) -> None:
        if entry.paused is not None:
            self._pause(entry.paused)
        if entry.resumed is not None:
            self._resume(entry.resumed)
        if entry.invocation is not None:
            self._end_invocation(entry.invocation, crashed=False)
        if entry.ended is not None and entry.ended.status in ENDED_STATUSES:
            self._end(entry.ended)

    def _tell(self) -> None:
        news = self._execution.news
        if not news or news[-1] != self._row.index:
            news.append(self._row.index)

    # ------------------------------------------------------------------------------------------------- operations

    def _place(
        self,
        identity: Operation | OperationUpdate,
        status: OperationStatus,
        start: datetime | None,
        step: StepDetails | None = None,
        context: ContextDetails | None = None,
        wait: WaitDetails | None = None,
        callback: CallbackDetails | None = None,
        invoke: ChainedInvokeDetails | None = None,
        execution: ExecutionDetails | None = None,
    ) -> Operation:
        position = end = None
        if status in TERMINAL_STATUSES:
            self._execution.ends = position = self._execution.ends + 1
            end = self._at
        operation = Operation(
            operation_id=identity.operation_id,
            operation_type=identity.operation_type,
            status=status,
            start_timestamp=start,
            end_timestamp=end,
            parent_id=identity.parent_id,
            name=identity.name,
            sub_type=identity.sub_type,
            execution_details=execution,
            context_details=context,
            step_details=step,
            wait_details=wait,
            callback_details=callback,
            chained_invoke_details=invoke,
            position=position,
        )
        self._execution.place(operation)
        self.changed.add(identity.operation_id)
        return operation

    def _update(self, update: OperationUpdate, entry: Entry) -> None:
        execution = self._execution
        if execution.outcome is not None:
            return
        if update.operation_type is OperationType.EXECUTION:
            self._record_outcome(update)
            return
        operation = execution.operations.get(update.operation_id)
        row = transition(operation, update)
        if row is None:
            return
        identity = operation or update
        start = operation.start_timestamp if operation else self._at
        target = None
        match update.operation_type:
            case OperationType.STEP:
                placed = self._place(identity, row.after, start, step=self._step(operation, update))
            case OperationType.CONTEXT:
                placed = self._place(identity, row.after, start, context=_context(update))
            case OperationType.WAIT:
                placed = self._place(identity, row.after, start, wait=self._wait(operation, update))
            case OperationType.CALLBACK:
                callback = CallbackDetails(entry.callbacks.get(update.operation_id))
                placed = self._place(identity, row.after, start, callback=callback)
                execution.awaits[update.operation_id] = OperationType.CALLBACK
            case _:
                target = entry.targets.get(update.operation_id)
                placed = self._invoke(update, target)
        if self._observer is not None:
            self._observer.updated(self._at, placed, update, target)

    def _record_outcome(self, update: OperationUpdate) -> None:
        if update.action is OperationAction.SUCCEED:
            self._execution.outcome = Ended(status=ExecutionStatus.SUCCEEDED, result=update.payload)
        elif update.action is OperationAction.FAIL:
            self._execution.outcome = Ended(status=ExecutionStatus.FAILED, error=update.error)

    def _step(self, operation: Operation | None, update: OperationUpdate) -> StepDetails:
        before = (operation and operation.step_details) or StepDetails()
        match update.action:
            case OperationAction.START:
                # The result stays: it is the state of a poll, which an interrupted poll reads again.
                return before
            case OperationAction.SUCCEED:
                return StepDetails(before.attempt + 1, None, update.payload)
            case OperationAction.FAIL:
                return StepDetails(before.attempt + 1, None, None, update.error)
            case _:
                delay = update.step_options.next_attempt_delay_seconds if update.step_options else 0
                result = before.result if update.payload is None else update.payload
                return StepDetails(before.attempt + 1, self._arm(update.operation_id, delay), result, update.error)

    def _wait(self, operation: Operation | None, update: OperationUpdate) -> WaitDetails:
        if update.action is OperationAction.START:
            return WaitDetails(
                self._arm(update.operation_id, update.wait_options.wait_seconds if update.wait_options else 0)
            )
        self._execution.timers.disarm(update.operation_id)
        return (operation and operation.wait_details) or WaitDetails()

    def _arm(self, id: str, seconds: int) -> datetime:
        due = self._row.at + min(max(seconds, 0), LONGEST_DELAY) * MICROSECONDS
        self._execution.timers.arm(id, due)
        return instant(due)

    def _invoke(self, update: OperationUpdate, target: Target | None) -> Operation:
        execution = self._execution
        if target is not None and target.error is not None:
            details = ChainedInvokeDetails(None, target.error)
            return self._place(update, OperationStatus.FAILED, self._at, invoke=details)
        execution.awaits[update.operation_id] = OperationType.CHAINED_INVOKE
        effect = start_child(self._row.index, update, target)
        if effect is not None:
            execution.effects.append(effect)
        return self._place(update, OperationStatus.STARTED, self._at, invoke=ChainedInvokeDetails())

    def _fire(self, id: str) -> None:
        execution = self._execution
        due = execution.timers.due(id)
        if due is None or due > self._row.at:
            return
        execution.timers.disarm(id)
        operation = execution.operations[id]
        step = operation.step_details
        if step is not None:
            step = StepDetails(step.attempt, None, step.result, step.error)
        status = BY_TIME[operation.operation_type][1]
        placed = self._place(operation, status, operation.start_timestamp, step=step, wait=operation.wait_details)
        self._tell()
        if self._observer is not None and placed.is_terminal:
            self._observer.completed(self._at, placed)

    def _complete(self, outcome: Outcome) -> None:
        id = self._row.operation or ""
        kind = self._execution.awaits.get(id)
        if kind is None or outcome.status not in BY_OUTCOME[kind]:
            return
        del self._execution.awaits[id]
        operation = self._execution.operations[id]
        succeeded = outcome.status is OperationStatus.SUCCEEDED
        result, error = (outcome.result, None) if succeeded else (None, outcome.error)
        callback, invoke = operation.callback_details, operation.chained_invoke_details
        placed = self._place(
            operation,
            outcome.status,
            operation.start_timestamp,
            callback=callback and CallbackDetails(callback.callback_id, result, error),
            invoke=invoke and ChainedInvokeDetails(result, error),
        )
        self._tell()
        if self._observer is not None:
            self._observer.completed(self._at, placed)

    # ------------------------------------------------------------------------------------------ the execution itself

    def _start(self, started: Started) -> None:
        execution = self._execution
        for field in ("name", "function", "version", "input", "parent", "tenant_id", "execution_timeout"):
            setattr(execution, field, getattr(started, field))
        execution.retention_days, execution.id_scheme = started.retention_days, started.id_scheme
        execution.started = self._at
        identity = OperationUpdate(
            operation_id=execution.id,
            operation_type=OperationType.EXECUTION,
            action=OperationAction.START,
            name=started.name,
        )
        self._place(identity, OperationStatus.STARTED, self._at, execution=ExecutionDetails(started.input))
        self._tell()
        if self._observer is not None:
            self._observer.started(self._at, execution)

    def _end_invocation(self, end: InvocationEnd, *, crashed: bool) -> None:
        execution = self._execution
        execution.invocations += 1
        if crashed:
            execution.crashes += 1
            self._tell()
        else:
            seen = self._row.seen or 0
            execution.news = [index for index in execution.news if index > seen]
            if end.cut_short:
                self._tell()
            else:
                execution.crashes = 0
        if self._observer is not None:
            self._observer.invocation_ended(self._at, end)

    def _pause(self, paused: Paused) -> None:
        if self._execution.paused is None:
            self._execution.paused, self._execution.paused_at = paused, self._at
            if self._observer is not None:
                self._observer.paused(self._at, paused)

    def _resume(self, resumed: Resumed) -> None:
        self._execution.paused = self._execution.paused_at = None
        self._execution.crashes = 0
        self._tell()
        if self._observer is not None:
            self._observer.resumed(self._at, resumed)

    def _end(self, ended: Ended) -> None:
        execution = self._execution
        recorded = execution.outcome
        if recorded is not None and recorded.status is ended.status and not ended.result and ended.error is None:
            ended = recorded
        self._close_open_invocation()
        execution.status, execution.ended = ended.status, self._at
        execution.result, execution.error = ended.result, ended.error or self._default_error(ended.status)
        execution.paused = execution.paused_at = None
        execution.timers, execution.awaits = Timers(), {}
        operation = execution.operations[execution.id]
        status = OperationStatus(ended.status.value)
        self._place(operation, status, operation.start_timestamp, execution=operation.execution_details)
        if execution.parent is not None:
            outcome = outcome_for_parent(execution)
            execution.effects.append(DeliverResult(index=self._row.index, await_id=execution.parent, outcome=outcome))
        if self._observer is not None:
            self._observer.ended(self._at, execution)

    def _close_open_invocation(self) -> None:
        # A stop or an execution timeout overtook it: it has left no entry of its own.
        invocation = self._row.invocation
        if invocation is not None:
            end = InvocationEnd(request_id=invocation.id, start_timestamp=instant(invocation.at))
            self._end_invocation(end, crashed=False)

    def _default_error(self, status: ExecutionStatus) -> ErrorObject | None:
        match status:
            case ExecutionStatus.TIMED_OUT:
                return ErrorObject(f"Execution timed out after {self._execution.execution_timeout or 0} seconds.")
            case ExecutionStatus.STOPPED:
                return ErrorObject("Execution stopped by user request")
            case _:
                return None


def _context(update: OperationUpdate) -> ContextDetails:
    match update.action:
        case OperationAction.SUCCEED:
            return ContextDetails(
                bool(update.context_options and update.context_options.replay_children), update.payload
            )
        case OperationAction.FAIL:
            return ContextDetails(error=update.error)
        case _:
            return ContextDetails()
