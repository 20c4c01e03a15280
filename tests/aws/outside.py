"""What happens outside of an execution: callbacks and invokes come to their end."""

from __future__ import annotations

import attrs

from perdure.journal.entry import Outcome
from perdure.model import ErrorObject, OperationStatus

LATE = Outcome(status=OperationStatus.TIMED_OUT, error=ErrorObject("Callback timed out", "Callback.Timeout"))
QUIET = Outcome(
    status=OperationStatus.TIMED_OUT, error=ErrorObject("Callback timed out on heartbeat", "Callback.Heartbeat")
)
VOID = Outcome(status=OperationStatus.SUCCEEDED)
REFUSED = ErrorObject("no", "Their.Error", "data", ["line"])


@attrs.frozen
class Told:
    """
    Completes callbacks and invokes as soon as they are open.

    Attributes:
        results: By name: the text of a result, an error, or an `Outcome`.
    """

    results: dict[str, str | ErrorObject | Outcome]

    def __call__(self, plane):
        for operation in plane.execution.open_awaits():
            outcome = self.of(operation.name)
            if outcome is not None:
                plane.deliver(operation.name, outcome)

    def of(self, name):
        """The outcome of the operation of that name, or None: it is left open."""
        result = self.results.get((name or "").replace(" ", "_"))
        if isinstance(result, ErrorObject):
            return Outcome(status=OperationStatus.FAILED, error=result)
        if isinstance(result, str):
            return Outcome(status=OperationStatus.SUCCEEDED, result=result)
        return result


def told(**results):
    """Complete callbacks and invokes by name, with spaces as underscores."""
    return Told(results)
