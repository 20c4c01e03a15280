"""
The vocabulary of the wire: operations, updates and executions, as protocol.md §5 has them.

All values are immutable. Instants are aware datetimes in UTC, payloads are strings whose content only serializers
and user code know. `perdure.codec` turns these classes into wire JSON and back.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, NoReturn

import attrs

from perdure.errors import DurableOperationError, SerDesError, wire_name
from perdure.value import Value

if TYPE_CHECKING:
    import builtins
    from collections.abc import Mapping
    from datetime import datetime


class _Unique(Enum):
    """Members are hashed by identity, which they are compared by: hashing their names is slow."""

    __hash__ = object.__hash__


class OperationAction(_Unique):
    """What an update does to its operation."""

    START = "START"
    SUCCEED = "SUCCEED"
    FAIL = "FAIL"
    RETRY = "RETRY"
    CANCEL = "CANCEL"


class OperationStatus(_Unique):
    """Where an operation stands (protocol.md §7)."""

    STARTED = "STARTED"
    PENDING = "PENDING"
    READY = "READY"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"
    STOPPED = "STOPPED"


TERMINAL_STATUSES = frozenset(
    {
        OperationStatus.SUCCEEDED,
        OperationStatus.FAILED,
        OperationStatus.CANCELLED,
        OperationStatus.TIMED_OUT,
        OperationStatus.STOPPED,
    }
)
_ENDS = tuple(sorted(TERMINAL_STATUSES, key=lambda status: status is not OperationStatus.SUCCEEDED))
# The same to search by identity, the common one first.


class OperationType(_Unique):
    """The six kinds of operation on the wire."""

    EXECUTION = "EXECUTION"
    CONTEXT = "CONTEXT"
    STEP = "STEP"
    WAIT = "WAIT"
    CALLBACK = "CALLBACK"
    CHAINED_INVOKE = "CHAINED_INVOKE"


class OperationSubType(StrEnum):
    """The sub types this library records for its own operations (protocol.md §1)."""

    STEP = "Step"
    WAIT = "Wait"
    CALLBACK = "Callback"
    RUN_IN_CHILD_CONTEXT = "RunInChildContext"
    MAP = "Map"
    MAP_ITERATION = "MapIteration"
    PARALLEL = "Parallel"
    PARALLEL_BRANCH = "ParallelBranch"
    WAIT_FOR_CALLBACK = "WaitForCallback"
    WAIT_FOR_CONDITION = "WaitForCondition"
    CHAINED_INVOKE = "ChainedInvoke"


class CallbackTimeoutType(Enum):
    """Error types of a callback that timed out."""

    TIMEOUT = "Callback.Timeout"
    HEARTBEAT = "Callback.Heartbeat"


class InvocationStatus(Enum):
    """How an invocation of a handler ended (protocol.md §4.2)."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    PENDING = "PENDING"


class ExecutionStatus(Enum):
    """Where an execution stands (protocol.md §13)."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    STOPPED = "STOPPED"
    PAUSING = "PAUSING"
    PAUSED = "PAUSED"
    DELETING = "DELETING"


ENDED_STATUSES = frozenset(
    {ExecutionStatus.SUCCEEDED, ExecutionStatus.FAILED, ExecutionStatus.TIMED_OUT, ExecutionStatus.STOPPED}
)


def _text(value: object) -> str | None:
    """
    What an exception says, as a plain text in characters that UTF-8 has.

    A name of a file in it may have others, an author's class may say something else than a text, or fail at it.
    """
    if value is None:
        return None
    try:
        text = str.__str__(str(value))
    except Exception as broken:  # noqa: BLE001 - such an error is to be recorded too
        return f"str() of this {type(value).__name__} raised {type(broken).__name__}"
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


@attrs.frozen(eq=False, repr=False)
class ErrorObject(Value):
    """An error as it is recorded (protocol.md §5.1); every member may be absent."""

    message: str | None = None
    type: str | None = None
    data: str | None = None
    stack_trace: list[str] | None = None

    @classmethod
    def from_exception(cls, exception: BaseException) -> ErrorObject:
        """
        The record of an exception (protocol.md §10.8).

        Data and stack trace come only from operation errors. A serializer's failure is always recorded as
        `SerDesError`, so that replay raises that.
        """
        if not isinstance(exception, (SerDesError, DurableOperationError)):
            return cls(_text(exception), wire_name(type(exception)))
        kind = SerDesError if isinstance(exception, SerDesError) else type(exception)
        trace = None if exception.stack_trace is None else [_text(line) or "" for line in exception.stack_trace]
        return cls(_text(exception.message), wire_name(kind), _text(exception.data), trace)

    @classmethod
    def from_message(cls, message: str) -> ErrorObject:
        """An error that is only a text."""
        return cls(message)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ErrorObject:
        """From the wire's members."""
        return cls(data.get("ErrorMessage"), data.get("ErrorType"), data.get("ErrorData"), data.get("StackTrace"))

    def to_dict(self) -> dict[str, Any]:
        """The wire's members, absent ones left out."""
        members = {
            "ErrorMessage": self.message,
            "ErrorType": self.type,
            "ErrorData": self.data,
            "StackTrace": self.stack_trace,
        }
        return {name: value for name, value in members.items() if value is not None}

    def to_durable_operation_error(self) -> DurableOperationError:
        """The exception this is a record of, as near as the registry of operation errors knows it."""
        return DurableOperationError.from_error_fields(self.type, self.message, self.data, self.stack_trace)

    def to_operation_error(
        self, error_type: builtins.type[DurableOperationError]
    ) -> DurableOperationError | SerDesError:
        """
        What an operation whose record has this error raises, on the first run as on replay.

        Args:
            error_type: The operation's own error class; a recorded `SerDesError` is raised as itself instead.
        """
        raised = SerDesError if self.type == wire_name(SerDesError) else error_type
        error = raised(self.message, self.type, self.data, self.stack_trace)
        error.__cause__ = self.to_durable_operation_error()
        return error

    def raise_as_operation_error(self, operation_error_cls: builtins.type[DurableOperationError]) -> NoReturn:
        """Raise `to_operation_error(operation_error_cls)`."""
        raise self.to_operation_error(operation_error_cls)


# ---------------------------------------------------------------------------------------------- updates (§5.2)


@attrs.frozen(eq=False, repr=False)
class ContextOptions(Value):
    """Options of CONTEXT SUCCEED."""

    replay_children: bool = False


@attrs.frozen(eq=False, repr=False)
class StepOptions(Value):
    """Options of STEP RETRY; whole seconds, at least 1."""

    next_attempt_delay_seconds: int


@attrs.frozen(eq=False, repr=False)
class WaitOptions(Value):
    """Options of WAIT START; whole seconds, at least 1."""

    wait_seconds: int


@attrs.frozen(eq=False, repr=False)
class CallbackOptions(Value):
    """Options of CALLBACK START; whole seconds, 0 is off."""

    timeout_seconds: int = 0
    heartbeat_timeout_seconds: int = 0


@attrs.frozen(eq=False, repr=False)
class ChainedInvokeOptions(Value):
    """Options of CHAINED_INVOKE START."""

    function_name: str
    tenant_id: str | None = None
    x_amzn_trace_id: str | None = None


@attrs.frozen(kw_only=True, eq=False, repr=False)
class OperationUpdate(Value):
    """What a handler asks the service to record about one operation (protocol.md §5.2)."""

    operation_id: str
    operation_type: OperationType
    action: OperationAction
    parent_id: str | None = None
    name: str | None = None
    sub_type: str | None = None
    payload: str | None = None
    error: ErrorObject | None = None
    context_options: ContextOptions | None = None
    step_options: StepOptions | None = None
    wait_options: WaitOptions | None = None
    callback_options: CallbackOptions | None = None
    chained_invoke_options: ChainedInvokeOptions | None = None


# ------------------------------------------------------------------------------------------- operations (§5.3)


@attrs.frozen(eq=False, repr=False)
class ExecutionDetails(Value):
    """Details of the EXECUTION operation."""

    input_payload: str | None = None


@attrs.frozen(eq=False, repr=False)
class ContextDetails(Value):
    """Details of a CONTEXT."""

    replay_children: bool = False
    result: str | None = None
    error: ErrorObject | None = None


@attrs.frozen(eq=False, repr=False)
class StepDetails(Value):
    """Details of a STEP; `attempt` counts finished attempts."""

    attempt: int = 0
    next_attempt_timestamp: datetime | None = None
    result: str | None = None
    error: ErrorObject | None = None


@attrs.frozen(eq=False, repr=False)
class WaitDetails(Value):
    """Details of a WAIT."""

    scheduled_end_timestamp: datetime | None = None


@attrs.frozen(eq=False, repr=False)
class CallbackDetails(Value):
    """Details of a CALLBACK."""

    callback_id: str | None = None
    result: str | None = None
    error: ErrorObject | None = None


@attrs.frozen(eq=False, repr=False)
class ChainedInvokeDetails(Value):
    """Details of a CHAINED_INVOKE."""

    result: str | None = None
    error: ErrorObject | None = None


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Operation(Value):
    """
    One operation as it stands (protocol.md §5.3).

    `position` is ours, not the wire's: the how-manieth end of an operation this one's was in the journal. It orders
    the delivery of completions; None against a service that does not send it.
    """

    operation_id: str
    operation_type: OperationType
    status: OperationStatus
    start_timestamp: datetime | None = None
    end_timestamp: datetime | None = None
    parent_id: str | None = None
    name: str | None = None
    sub_type: str | None = None
    execution_details: ExecutionDetails | None = None
    context_details: ContextDetails | None = None
    step_details: StepDetails | None = None
    wait_details: WaitDetails | None = None
    callback_details: CallbackDetails | None = None
    chained_invoke_details: ChainedInvokeDetails | None = None
    position: int | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can change any more."""
        return self.status in _ENDS

    @property
    def result(self) -> str | None:
        """The recorded result, or the state of a poll, whatever the type."""
        details = self._outcome
        return details.result if details else None

    @property
    def error(self) -> ErrorObject | None:
        """The recorded error, whatever the type."""
        details = self._outcome
        return details.error if details else None

    @property
    def attempt(self) -> int:
        """How many attempts of a STEP have finished; 0 for other types."""
        return self.step_details.attempt if self.step_details else 0

    @property
    def due(self) -> datetime | None:
        """When time alone changes this operation: the end of a wait, the next attempt of a step."""
        if self.step_details is not None:
            return self.step_details.next_attempt_timestamp
        if self.wait_details is not None and not self.is_terminal:
            return self.wait_details.scheduled_end_timestamp
        return None

    @property
    def _outcome(self) -> StepDetails | ContextDetails | CallbackDetails | ChainedInvokeDetails | None:
        return self.step_details or self.context_details or self.callback_details or self.chained_invoke_details


# ------------------------------------------------------------------------------------------ invocations (§4), events


@attrs.frozen(kw_only=True, eq=False, repr=False)
class InvocationInput(Value):
    """What a handler is invoked with (protocol.md §4.1)."""

    durable_execution_arn: str
    checkpoint_token: str = attrs.field(repr=False)
    operations: tuple[Operation, ...] = ()
    next_marker: str | None = None
    updated_operation_ids: tuple[str, ...] = ()


@attrs.frozen(kw_only=True, eq=False, repr=False)
class InvocationOutput(Value):
    """What a handler answers (protocol.md §4.2)."""

    status: InvocationStatus
    result: str | None = None
    error: ErrorObject | None = None


@attrs.frozen(eq=False, repr=False)
class CheckpointAnswer(Value):
    """
    What the service answers to a checkpoint (protocol.md §6.1).

    Attributes:
        token: For the next checkpoint; None: this invocation may checkpoint no more (§6.3).
        operations: What changed since the handler was last told, in start order.
        next_marker: Where `state` continues with the new token, or None.
    """

    token: str | None = attrs.field(repr=False)
    operations: tuple[Operation, ...] = ()
    next_marker: str | None = None


@attrs.frozen(eq=False, repr=False)
class StatePage(Value):
    """One page of the recorded operations, in start order."""

    operations: tuple[Operation, ...] = ()
    next_marker: str | None = None


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Event(Value):
    """
    One event of an execution's history (protocol.md §12).

    `details` holds the members of the one details member, `<event_type>Details` on the wire, under the wire's names;
    instants in it are datetimes. Payload members are already wrapped: `{"Payload": …, "Truncated": bool}`.
    """

    event_id: int
    event_type: str
    event_timestamp: datetime
    operation_id: str | None = None
    name: str | None = None
    sub_type: str | None = None
    parent_id: str | None = None
    details: Mapping[str, Any] = attrs.field(factory=dict)
