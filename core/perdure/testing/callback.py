"""A callback as a test completes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from perdure.desk.wish import text
from perdure.model import ErrorObject
from perdure.portal import store_portal

if TYPE_CHECKING:
    from perdure.testing.simulation import OpenCallback, Simulation


@attrs.frozen(eq=False, repr=False)
class PendingCallback:
    """
    A callback that waits to be completed; the workflow goes on when its run does.

    All methods raise `CallbackClosedError` once it has been completed, or its time is over.
    """

    _simulation: Simulation
    _open: OpenCallback

    @property
    def id(self) -> str:
        """The callback id that the workflow handed out."""
        return self._open.id

    @property
    def name(self) -> str | None:
        """Its name, or that of its `wait_for_callback`."""
        return self._open.name

    @property
    def names(self) -> set[str | None]:
        """What it is found by."""
        return {self._open.name, self._open.own_name}

    def succeed(self, result: str | bytes | None = None) -> None:
        """Complete it; the workflow is handed this text as it is, or what its `serdes` makes of it."""
        store_portal().call(self._simulation.service.succeed_callback(self.id, text(result)))

    def fail(self, error: ErrorObject | Exception | str | None = None) -> None:
        """Let it fail."""
        if isinstance(error, Exception):
            error = ErrorObject.from_exception(error)
        elif isinstance(error, str):
            error = ErrorObject.from_message(error)
        store_portal().call(self._simulation.service.fail_callback(self.id, error))

    def heartbeat(self) -> None:
        """Tell that the work for it goes on, which restarts its heartbeat timeout."""
        store_portal().call(self._simulation.service.heartbeat_callback(self.id))

    def __repr__(self) -> str:
        return f"<PendingCallback {self.name!r}>"
