"""What a client is answered, whatever the backend."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import attrs

from perdure.errors import ExecutionFailedError, InvalidStateError, ResultTimeoutError, UnregisteredFunctionWarning
from perdure.model import ErrorObject
from perdure.values import load

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from perdure.durable import DurableFunction
    from perdure.model import ExecutionStatus

Cursor = tuple[int, str] | str
"""Where a list goes on; what it is, is the backend's affair."""


@attrs.frozen(kw_only=True)
class ExecutionReference:
    """
    Which execution.

    Attributes:
        id: The last part of the ARN.
        name: Unique per function.
        function, version: What it runs.
    """

    arn: str
    id: str
    name: str
    function: str
    version: str


@attrs.frozen(kw_only=True)
class ExecutionSummary(ExecutionReference):
    """
    One execution in a list; instants are aware datetimes.

    Attributes:
        quarantined: Too many of its invocations in a row died; it waits to be resumed.
        due: When it will be looked at next, or None; in the past: no worker runs its function in its version.
    """

    status: ExecutionStatus
    started: datetime
    ended: datetime | None
    quarantined: bool = False
    due: datetime | None = None


@attrs.frozen(kw_only=True)
class PauseDescription:
    """
    A pause that is in force.

    Attributes:
        requested: When it was asked for.
        reason: As it was given.
        timeout_paused: The execution timeout is extended by the paused time.
    """

    requested: datetime
    reason: str | None
    timeout_paused: bool


@attrs.frozen(kw_only=True)
class ExecutionDescription(ExecutionSummary):
    """
    One execution, as GetDurableExecution shows it.

    Attributes:
        input, result: JSON text; result only when SUCCEEDED.
        error: When it ended otherwise.
        execution_timeout: Seconds, or None; `deadline`: when that falls.
        retention_days: After its end; None if the backend does not tell.
        pause: While it is PAUSING or PAUSED.
        crashes: Invocations in a row that did not end cleanly.
        owner: The worker that runs it, or None.
    """

    input: str
    result: str | None
    error: ErrorObject | None
    execution_timeout: int | None
    deadline: datetime | None
    retention_days: int | None
    pause: PauseDescription | None = None
    crashes: int = 0
    owner: str | None = None


@attrs.frozen(kw_only=True)
class WorkerDescription:
    """
    A worker whose lease lives, with what it holds; instants are aware datetimes.

    Attributes:
        owner: Its id, new with every start.
        host, pid: Where its process runs; None if its id does not tell.
        since: When it came; `renewed`: when it last gave a sign; `until`: how long it is believed alive without one.
        age: How long ago it last gave a sign, by the store's clock.
        held: Ids of the executions it owns.
    """

    owner: str
    host: str | None
    pid: int | None
    since: datetime
    renewed: datetime
    until: datetime
    age: timedelta
    held: tuple[str, ...]


@attrs.frozen
class Listing:
    """A page of executions; `next_cursor` continues it, None ends it."""

    items: list[ExecutionSummary]
    next_cursor: Cursor | None


@attrs.frozen
class Begun:
    """
    What a start came to.

    Attributes:
        execution: The one that was begun, or was there already.
        is_registered: Something is there that can run it.
    """

    execution: ExecutionReference
    is_registered: bool = True


def begun(start: Begun) -> ExecutionReference:
    """What was started; warns, in the caller's thread, if no worker can run it yet."""
    execution = start.execution
    if not start.is_registered:
        function = f"{execution.function}:{execution.version}"
        warnings.warn(
            f"no worker has registered {function!r} yet; the execution stays due until one does",
            UnregisteredFunctionWarning,
            stacklevel=3,
        )
    return execution


def value(result: str | None, execution: ExecutionReference, function: DurableFunction[Any, Any] | str) -> Any:
    """What the workflow returned, structured as its annotation says."""
    annotation = None if isinstance(function, str) else function.output_type
    return load(result, annotation, f"the result of execution {execution.name!r}")


def failure(execution: ExecutionReference, status: str, error: ErrorObject | None) -> ExecutionFailedError:
    """The error of one whose result was asked for, and that ended otherwise than SUCCEEDED."""
    error = error or ErrorObject()
    told = f": {error.type}: {error.message}" if error.type else f": {error.message}" if error.message else ""
    return ExecutionFailedError(
        f"execution {execution.name!r} of {execution.function!r} ended as {status}{told}",
        status,
        error.type,
        error.message,
        error.data,
        error.stack_trace,
    )


def not_in_time(execution: ExecutionReference, timeout: float | None) -> ResultTimeoutError:
    """The error of a wait that was too short."""
    return ResultTimeoutError(f"execution {execution.id!r} has not ended within {timeout} s; it goes on")


def closed_meanwhile(execution: ExecutionReference) -> InvalidStateError:
    """The error of a wait that closing the client has ended."""
    return InvalidStateError(f"the client was closed while it waited for execution {execution.id!r}, which goes on")
