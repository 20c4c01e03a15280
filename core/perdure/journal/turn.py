"""One row taking effect on an execution: protocol.md §7 as a fold, and who is told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from perdure.codec import instant
from perdure.duration import LONGEST_SECONDS
from perdure.journal.effects import DeliverResult, outcome_for_parent, start_child
from perdure.journal.entry import NOTHING_PENDING, Ended, InvocationEnd
from perdure.journal.transitions import BY_OUTCOME, BY_TIME, transition
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
from perdure.storage import MICROSECONDS

if TYPE_CHECKING:
    from datetime import datetime

    from perdure.journal.entry import Entry, Outcome, Paused, Resumed, Started, Target
    from perdure.journal.fold import Execution
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


class Turn:
    """
    One row taking effect.

    Attributes:
        changed: Ids of the operations that changed.
    """

    __slots__ = ("_at", "_execution", "_observer", "_row", "changed")

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
        due = self._row.at + min(max(seconds, 0), LONGEST_SECONDS) * MICROSECONDS
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
        status = BY_TIME[operation.operation_type]
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
        execution.idle = execution.idle + 1 if crashed and end.error == NOTHING_PENDING else 0
        if crashed:
            execution.crashes += 1
            self._tell()
        else:
            seen = self._row.seen or 0
            execution.news = [index for index in execution.news if index > seen]
            execution.brought = {index: ids for index, ids in execution.brought.items() if index > seen}
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
        self._execution.crashes = self._execution.idle = 0
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
        if ended.status is ExecutionStatus.SUCCEEDED:
            execution.result = ended.result
        else:
            execution.error = ended.error or self._default_error(ended.status)
        execution.paused = execution.paused_at = None
        execution.close()
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
