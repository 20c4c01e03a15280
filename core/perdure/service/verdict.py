"""What an invocation's output makes of its execution (protocol.md §4.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.journal.entry import Ended
from perdure.model import ErrorObject, ExecutionStatus, InvocationStatus

if TYPE_CHECKING:
    from perdure.journal.fold import Execution
    from perdure.model import InvocationOutput

CHILD_PAYLOAD_LIMIT = 1_048_576
"""UTF-8 bytes of the result of an execution that another one waits for."""


def verdict(execution: Execution, output: InvocationOutput) -> Ended:
    """How an execution ends by an output that is not PENDING; one that is not allowed fails it."""
    if execution.outcome is not None:
        return Ended(status=execution.outcome.status)
    if output.status is InvocationStatus.FAILED:
        if output.result is not None:
            return _refused("Cannot provide a Result for FAILED status.")
        return Ended(status=ExecutionStatus.FAILED, error=output.error)
    if output.error is not None:
        return _refused("Cannot provide an Error for SUCCEEDED status.")
    if execution.parent is not None:
        size = len((output.result or "").encode("utf-8", "surrogatepass"))
        if size > CHILD_PAYLOAD_LIMIT:
            return _refused(
                f"Execution output payload size must be less than or equal to {CHILD_PAYLOAD_LIMIT} bytes. "
                f"{execution.function!r} was invoked, and its result has {size}; "
                "store it elsewhere and return a reference to it"
            )
    return Ended(status=ExecutionStatus.SUCCEEDED, result=output.result)


def _refused(message: str) -> Ended:
    return Ended(status=ExecutionStatus.FAILED, error=ErrorObject(message, "InvalidParameterValueException"))
