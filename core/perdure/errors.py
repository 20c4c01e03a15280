"""
Every exception of Perdure, and the control signals of its kernel.

Errors form one tree under `DurableExecutionsError`. The names, fields and constructors of the first half are those
of AWS's Python SDK (protocol.md §10.8), and operation errors are *recorded* under AWS's qualified names, so that an
execution begun by one SDK is finished rightly by the other.

Control signals derive from `BaseException`: ordinary handlers of user code must not swallow them.
"""

from __future__ import annotations

import time
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

AWS_EXCEPTIONS = "aws_durable_execution_sdk_python.exceptions"
STALE_TOKEN_MESSAGE = "Invalid checkpoint token"  # noqa: S105 - the wire text of protocol.md §6.1, no secret


class TerminationReason(Enum):
    """Why an invocation or execution was brought to an end."""

    UNHANDLED_ERROR = "UNHANDLED_ERROR"
    INVOCATION_ERROR = "INVOCATION_ERROR"
    EXECUTION_ERROR = "EXECUTION_ERROR"
    CHECKPOINT_FAILED = "CHECKPOINT_FAILED"
    NON_DETERMINISTIC_EXECUTION = "NON_DETERMINISTIC_EXECUTION"
    STEP_INTERRUPTED = "STEP_INTERRUPTED"
    SERIALIZATION_ERROR = "SERIALIZATION_ERROR"


class DurableExecutionsError(Exception):
    """Base of every error that Perdure raises."""

    wire_module: ClassVar[str | None] = None
    """The module a class of AWS's SDK is recorded under; of each class its own, never inherited."""

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())


def _rebuild(
    error_type: type[DurableExecutionsError], args: tuple[object, ...], state: dict[str, object]
) -> DurableExecutionsError:
    error = error_type.__new__(error_type, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def wire_name(error_type: type[BaseException]) -> str:
    """
    The name under which an exception class is recorded: module-qualified, built-ins bare.

    Classes that AWS's SDK has too are recorded under AWS's module, ours under our own.
    """
    module = error_type.__module__
    if issubclass(error_type, DurableExecutionsError) and "wire_module" in vars(error_type):
        module = error_type.wire_module or module
    return error_type.__qualname__ if module == "builtins" else f"{module}.{error_type.__qualname__}"


class PluginLoadError(DurableExecutionsError):
    """An instrumentation plugin could not be loaded."""


class ValidationError(DurableExecutionsError):
    """An operation was called with arguments it does not accept; nothing was recorded."""


class InvalidStateError(DurableExecutionsError):
    """An object was asked for something its state does not allow."""


class UnrecoverableError(DurableExecutionsError):
    """Base of the errors that end an invocation or an execution."""

    def __init__(self, message: str, termination_reason: TerminationReason) -> None:
        super().__init__(message)
        self.termination_reason = termination_reason


class ExecutionError(UnrecoverableError):
    """Ends the execution as FAILED, without a retry."""

    def __init__(self, message: str, termination_reason: TerminationReason = TerminationReason.EXECUTION_ERROR) -> None:
        super().__init__(message, termination_reason)


class InvocationError(UnrecoverableError):
    """Ends the invocation uncleanly, so that the service invokes again."""

    def __init__(
        self, message: str, termination_reason: TerminationReason = TerminationReason.INVOCATION_ERROR
    ) -> None:
        super().__init__(message, termination_reason)

    def is_retryable(self) -> bool:
        """Whether another invocation may succeed."""
        return True


class OutOfTimeError(InvocationError):
    """Too little of an invocation's time is left to begin another step; the next invocation goes on."""


class DurableApiErrorCategory(Enum):
    """What a failed call of the service means for the execution (protocol.md §6.4)."""

    INVOCATION = "INVOCATION"
    EXECUTION = "EXECUTION"


CheckpointErrorCategory = DurableApiErrorCategory


class BotoClientError(InvocationError):
    """
    A call of the durable execution service failed.

    `error_category` INVOCATION: the invocation ends uncleanly and is repeated. EXECUTION: the execution fails.
    """

    default_reason: ClassVar[TerminationReason] = TerminationReason.INVOCATION_ERROR

    def __init__(
        self,
        message: str,
        error_category: DurableApiErrorCategory = DurableApiErrorCategory.INVOCATION,
        error: Mapping[str, object] | None = None,
        response_metadata: Mapping[str, object] | None = None,
        termination_reason: TerminationReason | None = None,
    ) -> None:
        super().__init__(message, termination_reason or self.default_reason)
        self.error_category = error_category
        self.error = error
        self.response_metadata = response_metadata

    def is_retryable(self) -> bool:
        """Whether the service may accept the call of a later invocation."""
        return self.error_category is DurableApiErrorCategory.INVOCATION

    is_retriable = is_retryable


class CheckpointError(BotoClientError):
    """A checkpoint was not accepted."""

    default_reason = TerminationReason.CHECKPOINT_FAILED


class GetExecutionStateError(BotoClientError):
    """The recorded operations could not be read."""


class StaleTokenError(CheckpointError):
    """The caller is no longer the execution's owner: its token was replaced (protocol.md §6.1)."""

    def __init__(self, message: str = STALE_TOKEN_MESSAGE) -> None:
        super().__init__(message, DurableApiErrorCategory.INVOCATION)


class InvalidParameterValueError(CheckpointError):
    """The service refused an update; `message` is the service's own text (protocol.md §8)."""

    def __init__(self, message: str) -> None:
        super().__init__(message, DurableApiErrorCategory.EXECUTION)


class NonDeterministicExecutionError(ExecutionError):
    """The code asked for another operation than the one its journal has at that position."""

    def __init__(self, message: str, step_id: str | None = None) -> None:
        super().__init__(message, TerminationReason.NON_DETERMINISTIC_EXECUTION)
        self.step_id = step_id


class NotDurableError(DurableExecutionsError):
    """Workflow code did something that cannot be repeated on replay; the message names the durable way."""


class ContextMisuseError(DurableExecutionsError):
    """A durable context was used by another strand than the one it was given to."""


class TransactionMisuseError(ContextMisuseError):
    """A transaction's connection was used in a way that would part its writes from the recorded result."""


class TransactionsUnsupportedError(DurableExecutionsError):
    """The backend cannot commit an application's writes together with its own."""


class StepInterruptedError(InvocationError):
    """An at-most-once step was begun by an earlier invocation that did not live to record its end."""

    def __init__(self, message: str, step_id: str | None = None) -> None:
        super().__init__(message, TerminationReason.STEP_INTERRUPTED)
        self.step_id = step_id


# ------------------------------------------------------------------------------------------------ operation errors


class RecordedError(DurableExecutionsError):
    """
    An error with the members of a record (protocol.md §5.1).

    Attributes:
        message: Text of the error that escaped, or None.
        error_type: Its recorded name; the raised class's own when none is known.
        data: Payload of the error, or None.
        stack_trace: Lines of its stack trace, or None.
    """

    def __init__(
        self,
        message: str | None = None,
        error_type: str | None = None,
        data: str | None = None,
        stack_trace: list[str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.error_type = error_type or self._default_type()
        self.data = data
        self.stack_trace = stack_trace

    @classmethod
    def _default_type(cls) -> str:
        return wire_name(cls)


class DurableOperationError(RecordedError):
    """
    An operation failed; the class tells which kind of operation.

    Rebuilt from the record on the first run as on every replay, so both see the same object: `error_type` names the
    error that escaped (`ValueError`), `__cause__` is a stand-in for it with the same fields.
    """

    @classmethod
    def from_error_fields(
        cls, error_type: str | None, message: str | None, data: str | None, stack_trace: list[str] | None
    ) -> DurableOperationError:
        """The registered class named `error_type` with these fields; the base class when none is registered."""
        found = _OPERATION_ERRORS.get(error_type or "", DurableOperationError)
        return found(message=message, error_type=error_type, data=data, stack_trace=stack_trace)


class StepError(DurableOperationError):
    """A step failed, its retries exhausted."""


class InvokeError(DurableOperationError):
    """An invoked function failed, timed out, was stopped or does not exist."""


class ChildContextError(DurableOperationError):
    """A child context, or a branch of a parallel or map, failed."""


class WaitForConditionError(DurableOperationError):
    """The check of a wait_for_condition failed, or its attempts are exhausted."""


class CallbackError(DurableOperationError):
    """Base of the ways in which a callback fails."""


class CallbackExternalError(CallbackError):
    """The external system reported a failure."""


class CallbackTimeoutError(CallbackError):
    """No completion, or no heartbeat, came in time."""


class CallbackSubmitterError(CallbackError):
    """The submitter of a wait_for_callback failed."""


class SerDesError(RecordedError):
    """A value could not be serialized, or a payload not be deserialized; never retried."""

    @classmethod
    def _default_type(cls) -> str:
        # What replay can rebuild, whatever the subclass.
        return wire_name(SerDesError)


class PayloadTooLargeError(SerDesError):
    """A serialized payload is larger than the service accepts; the message names size and limit in bytes."""


class RetryableSerDesError(InvocationError):
    """A serializer failed for a passing reason: the invocation ends uncleanly and is repeated."""

    def __init__(
        self, message: str, termination_reason: TerminationReason = TerminationReason.SERIALIZATION_ERROR
    ) -> None:
        super().__init__(message, termination_reason)


_OPERATION_ERRORS: dict[str, type[DurableOperationError]] = {}


def register_operation_error(error_cls: type[DurableOperationError]) -> None:
    """Make a class with the constructor of `DurableOperationError` one that records are rebuilt as."""
    _OPERATION_ERRORS[wire_name(error_cls)] = error_cls


_AWS_OPERATION_ERRORS = (
    StepError,
    InvokeError,
    ChildContextError,
    WaitForConditionError,
    CallbackError,
    CallbackExternalError,
    CallbackTimeoutError,
    CallbackSubmitterError,
)
_AWS_ERRORS = (
    DurableExecutionsError,
    PluginLoadError,
    ValidationError,
    InvalidStateError,
    UnrecoverableError,
    ExecutionError,
    InvocationError,
    BotoClientError,
    CheckpointError,
    GetExecutionStateError,
    NonDeterministicExecutionError,
    StepInterruptedError,
    DurableOperationError,
    SerDesError,
    RetryableSerDesError,
)
for _error_type in (*_AWS_ERRORS, *_AWS_OPERATION_ERRORS):
    _error_type.wire_module = AWS_EXCEPTIONS
for _error_type in _AWS_OPERATION_ERRORS:
    register_operation_error(_error_type)


# ------------------------------------------------------------------------------------------- stores and applications


class StoreError(DurableExecutionsError):
    """A store could not do what it was asked to; `retryable` tells whether the same call may succeed later."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class StoreUnavailableError(StoreError):
    """The store does not answer, or is locked by somebody else for too long."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=True)


class BackendUrlError(StoreError):
    """A backend URL names an unknown scheme, a missing extra, an unreadable place or an unknown option."""


class SchemaVersionError(StoreError):
    """The store was written by another version of Perdure than this one can use."""


class ExecutionNotFoundError(DurableExecutionsError):
    """No execution has this ARN, id or name, or its retention is over."""


class ExecutionAlreadyStartedError(DurableExecutionsError):
    """The name is taken by an execution that was started with another input (protocol.md §13)."""


class ExecutionConflictError(DurableExecutionsError):
    """The execution's status does not allow this (protocol.md §13)."""


class FunctionNotFoundError(DurableExecutionsError):
    """No worker has registered a function of this name or version."""


class UnregisteredFunctionWarning(UserWarning):
    """A function was started that no worker has registered yet: the execution waits until one does."""


class CallbackNotFoundError(DurableExecutionsError):
    """No callback has this id."""


class CallbackClosedError(DurableExecutionsError):
    """The callback has been completed already, has timed out, or its execution has ended."""


class ExecutionFailedError(DurableExecutionsError):
    """
    An execution whose result was asked for ended otherwise than SUCCEEDED.

    Attributes:
        status: FAILED, TIMED_OUT or STOPPED.
        error_type, error_message, data, stack_trace: The execution's recorded error; each may be None.
    """

    def __init__(
        self,
        message: str,
        status: str,
        error_type: str | None = None,
        error_message: str | None = None,
        data: str | None = None,
        stack_trace: list[str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type
        self.error_message = error_message
        self.data = data
        self.stack_trace = stack_trace


class ResultTimeoutError(DurableExecutionsError, TimeoutError):
    """The execution did not end within the time its caller was ready to wait; it goes on."""


# ------------------------------------------------------------------------------------------------- control signals


class ControlSignal(BaseException):
    """Base of the signals with which the kernel unwinds user code."""


class SuspendExecution(ControlSignal):
    """Nothing can proceed now: the invocation ends as PENDING."""


class TimedSuspendExecution(SuspendExecution):
    """The same, until `scheduled_timestamp` (seconds since the epoch)."""

    def __init__(self, message: str, scheduled_timestamp: float) -> None:
        super().__init__(message)
        self.scheduled_timestamp = scheduled_timestamp

    @classmethod
    def from_delay(cls, message: str, delay_seconds: float) -> Self:
        """Until `delay_seconds` from now."""
        return cls(message, time.time() + delay_seconds)

    @classmethod
    def from_datetime(cls, message: str, datetime_timestamp: datetime) -> Self:
        """Until the given instant."""
        return cls(message, datetime_timestamp.timestamp())


class BackgroundThreadError(ControlSignal):
    """Checkpointing broke while user code ran; `source_exception` tells why."""

    def __init__(self, message: str, source_exception: Exception) -> None:
        super().__init__(message)
        self.source_exception = source_exception


class OrphanedChildException(ControlSignal):
    """The context of this strand has ended; nothing below it is recorded any more."""

    def __init__(self, message: str, operation_id: str) -> None:
        super().__init__(message)
        self.operation_id = operation_id
