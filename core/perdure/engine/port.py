"""
Where engine and service meet: two calls, shaped as protocol.md §6.

The service implements them over a store, the Lambda adapter over boto3. The port exists blocking and awaitable; an
engine driver uses the one of its own colour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from perdure.model import CheckpointAnswer, StatePage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.model import OperationUpdate

__all__ = ["AsyncControlPlane", "CheckpointAnswer", "ControlPlane", "StatePage"]


class ControlPlane(Protocol):
    """
    The durable execution service as one invocation sees it.

    Both calls raise `CheckpointError` or `GetExecutionStateError`. `is_retryable()` true: this invocation is over and
    ends uncleanly, another one follows; false: the execution fails (protocol.md §6.4).
    """

    def checkpoint(self, token: str, updates: Sequence[OperationUpdate]) -> CheckpointAnswer:
        """Record `updates` in one atomic step; without updates, ask what has become due."""
        ...

    def state(self, token: str, marker: str) -> StatePage:
        """The page of recorded operations at `marker`."""
        ...


class AsyncControlPlane(Protocol):
    """The same for the async driver; called on the host loop."""

    async def checkpoint(self, token: str, updates: Sequence[OperationUpdate]) -> CheckpointAnswer:
        """As `ControlPlane.checkpoint`."""
        ...

    async def state(self, token: str, marker: str) -> StatePage:
        """As `ControlPlane.state`."""
        ...
