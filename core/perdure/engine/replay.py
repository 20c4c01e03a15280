"""
What one invocation replays over: the recorded operations, and the signals that stop its strands.

A *strand* is one line of execution: the workflow's own body, or one run of a branch of a batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.engine.commands import UNWATCHED
from perdure.errors import ControlSignal, OrphanedChildException, SuspendExecution
from perdure.model import OperationType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from datetime import datetime

    from perdure.engine.ids import Identity
    from perdure.engine.observation import Observation
    from perdure.engine.settings import Settings
    from perdure.model import Operation

__all__ = ["Aborted", "Orphaned", "Records", "Replay", "Run", "Suspended", "Withdrawn"]


_ENDED_OUTSIDE = frozenset({OperationType.WAIT, OperationType.CALLBACK, OperationType.CHAINED_INVOKE})


# -------------------------------------------------------------------------------------------------------- signals

Orphaned = OrphanedChildException


class Suspended(SuspendExecution):
    """
    A strand can do nothing until something changes.

    Attributes:
        blocked: The versions that its blocked operations had when it looked at them, by id.
        until: When time alone changes one of them, or None.
    """

    def __init__(self, blocked: Mapping[str, int], until: datetime | None = None) -> None:
        super().__init__("nothing can proceed before something outside changes")
        self.blocked = dict(blocked)
        self.until = until


class Withdrawn(SuspendExecution):
    """The service gave no further token: what is recorded stays, the invocation ends as PENDING (protocol.md §6.3)."""

    def __init__(self) -> None:
        super().__init__("the service accepts no further checkpoint of this invocation")


class Aborted(ControlSignal):
    """
    The invocation is over because of `reason`.

    An `ExecutionError`, or an `InvocationError` that is not retryable, fails the execution; anything else (fenced,
    draining, KeyboardInterrupt, SystemExit) ends only the invocation, uncleanly.
    """

    def __init__(self, reason: BaseException) -> None:
        super().__init__(f"the invocation is over: {reason!r}")
        self.reason = reason


class Run:
    """
    One run of a strand; it carries the control signal that has stopped it.

    Signals are sticky: whatever user code swallows, the next call on the run, or on a run below it, raises the signal
    again, and what the body returns in the end is ignored.

    Attributes:
        parent: The run that spawned this branch; None for the workflow's own.
        signal: What stopped this run itself, or None.
        raised: How often user code was given the signal.
        frozen: Whether it may go over what is recorded, and no further; so may the runs below it.
    """

    __slots__ = ("frozen", "parent", "raised", "signal")

    def __init__(self, parent: Run | None = None, *, frozen: bool = False) -> None:
        self.parent = parent
        self.frozen: bool = frozen or (parent is not None and parent.frozen)
        self.signal: ControlSignal | None = None
        self.raised = 0

    def stop(self, signal: ControlSignal) -> None:
        """Make `signal` stick; the first one stays."""
        if self.signal is None:
            self.signal = signal

    @property
    def sticky(self) -> ControlSignal | None:
        """The signal that has stopped this run, or one above it."""
        run: Run | None = self
        while run is not None:
            if run.signal is not None:
                return run.signal
            run = run.parent
        return None


# -------------------------------------------------------------------------------------------------------- records


class Records:
    """
    The operations the invocation has been told of.

    Each has a version that grows whenever the service tells of it, so that "has it changed since" can be asked.
    """

    __slots__ = ("_operations", "_order", "_versions", "get")

    def __init__(self, operations: Iterable[Operation] = ()) -> None:
        self._operations: dict[str, Operation] = {}
        self._order: dict[str, int] = {}
        self._versions: dict[str, int] = {}
        self.get = self._operations.get
        self.update(operations)

    def __contains__(self, operation_id: object) -> bool:
        return operation_id in self._operations

    def __getitem__(self, operation_id: str) -> Operation:
        return self._operations[operation_id]

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._operations.values())

    def __len__(self) -> int:
        return len(self._operations)

    def update(self, operations: Iterable[Operation]) -> None:
        """Take in what the service told."""
        versions = self._versions
        for operation in operations:
            operation_id = operation.operation_id
            if operation_id not in self._operations:
                self._order[operation_id] = len(self._order)
            self._operations[operation_id] = operation
            versions[operation_id] = versions.get(operation_id, 0) + 1

    def snapshot(self) -> dict[str, Operation]:
        """All of them by id, in start order, as they are now."""
        return dict(self._operations)

    def version(self, operation_id: str) -> int:
        """How often the service has told of this operation; 0 for an unknown one."""
        return self._versions.get(operation_id, 0)

    def delivery_key(self, operation: Operation) -> tuple[int, bool, int]:
        """
        Orders ended operations as their ends came about, the same in every invocation.

        Our service sends the position in the journal; against AWS it is the end in milliseconds. Within one of them
        come first those ends that this library has recorded, all told of in one answer; what something outside has
        ended may be told of only later. Then it is the start order.
        """
        if operation.position is not None:
            return operation.position, False, 0
        end = operation.end_timestamp
        milliseconds = int(end.timestamp() * 1000) if end is not None else 0
        from_outside = operation.operation_type in _ENDED_OUTSIDE
        return milliseconds, from_outside, self._order.get(operation.operation_id, len(self._order))

    def any_terminal(self, operation_ids: Iterable[str]) -> bool:
        """Whether one of these operations has ended."""
        for each in operation_ids:
            record = self.get(each)
            if record is not None and record.is_terminal:
                return True
        return False

    @property
    def awaits_outside(self) -> bool:
        """Whether something outside has yet to end an operation."""
        return any(each.operation_type in _ENDED_OUTSIDE and not each.is_terminal for each in self)

    def changed(self, blocked: Mapping[str, int]) -> bool:
        """Whether any of these operations has another version now."""
        return any(self.version(operation_id) != version for operation_id, version in blocked.items())


class Replay:
    """
    What the operations of one invocation share, whatever the colour of its workflow.

    Attributes:
        arn: Of the execution.
        execution_id, execution_name: Last and last but one part of the ARN.
        records: What has been recorded.
        settings: Limits and clock.
        started: When the execution began.
        execution: Its own record.
        observation: Tells whoever watches the invocation; None if nobody does.
    """

    __slots__ = ("arn", "execution", "execution_id", "execution_name", "observation", "records", "settings", "started")

    def __init__(
        self, arn: str, records: Records, settings: Settings, started: datetime, execution: Operation | None = None
    ) -> None:
        self.arn = arn
        parts = arn.split("/")
        self.execution_id = parts[-1]
        self.execution_name = parts[-2] if len(parts) > 1 else arn
        self.records = records
        self.settings = settings
        self.started = started
        self.execution = execution
        self.observation: Observation | None = None

    @property
    def replaying(self) -> bool:
        """Whether anything besides the execution itself has been recorded (protocol.md §10.1)."""
        return any(record.operation_type is not OperationType.EXECUTION for record in self.records)

    def record(self, identity: Identity) -> Operation | None:
        """
        The record of an operation, None if it has none.

        Raises:
            NonDeterministicExecutionError: The record belongs to another operation.
        """
        record = self.records.get(identity.operation_id)
        if record is not None:
            if not identity.matches(record):
                identity.refuse(record, self.execution_name)
            if self.observation is not None and record.is_terminal:
                self.observation.ended(record.operation_id)
        return record

    def ended(self, identity: Identity) -> None:
        """The end of an operation has been recorded; its outcome is used without a look at the record."""
        if self.observation is not None:
            self.observation.ended(identity.operation_id)

    def watch(
        self, identity: Identity, attempt: int | None, *, again: bool = False, at_most_once: bool = False
    ) -> AbstractContextManager[object]:
        """
        What is to be around a body.

        Args:
            identity: Of its operation.
            attempt: From 1; None for a context that was begun before.
            again: It runs over what is recorded, for a result that was too large to record.
            at_most_once: Of a step that repeats no attempt which may have been begun.
        """
        if self.observation is None:
            return UNWATCHED
        return self.observation.watch(identity, attempt, again=again, at_most_once=at_most_once)
