"""What the service has told one invocation, as far as its output depends on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.errors import InvocationError
from perdure.model import InvocationOutput, InvocationStatus, OperationStatus, OperationType

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from perdure.model import CheckpointAnswer, InvocationInput, Operation, OperationUpdate

_WAITING = {
    OperationType.STEP: OperationStatus.PENDING,
    OperationType.WAIT: OperationStatus.STARTED,
    OperationType.CALLBACK: OperationStatus.STARTED,
    OperationType.CHAINED_INVOKE: OperationStatus.STARTED,
}


class Account:
    """
    What the service has told one invocation.

    Attributes:
        arn: Of the execution.
        is_withdrawn: Whether it may checkpoint no more, though its execution has not ended (protocol.md §6.3).
    """

    def __init__(self, input: InvocationInput) -> None:
        self.arn = input.durable_execution_arn
        self.is_withdrawn = False
        self._outstanding: set[str] = set()
        self.told(input.operations)

    def told(self, operations: Iterable[Operation]) -> None:
        """The service has sent these."""
        for operation in operations:
            if _WAITING.get(operation.operation_type) is operation.status:
                self._outstanding.add(operation.operation_id)
            else:
                self._outstanding.discard(operation.operation_id)

    def answered(self, updates: Sequence[OperationUpdate], answer: CheckpointAnswer) -> None:
        """The service has accepted these updates."""
        self.told(answer.operations)
        if answer.token is None:
            self.is_withdrawn = not updates or updates[-1].operation_type is not OperationType.EXECUTION

    def checked(self, output: InvocationOutput) -> InvocationOutput:
        """
        The output that the service accepts.

        Raises:
            InvocationError: It is PENDING, and nothing would ever lead to another invocation.
        """
        if self.is_withdrawn:
            return InvocationOutput(status=InvocationStatus.PENDING)
        if output.status is InvocationStatus.PENDING and not self._outstanding:
            raise InvocationError(
                f"the invocation of {self.arn!r} waits for something, and no operation of it is outstanding; "
                "the service is to invoke again"
            )
        return output
