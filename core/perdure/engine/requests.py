"""What an `async def` workflow sends to its service."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from perdure.engine.exchange import exchange
from perdure.engine.replay import Aborted, Withdrawn

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.engine.checkpointer import Checkpointer
    from perdure.engine.port import AsyncControlPlane
    from perdure.errors import ControlSignal
    from perdure.model import CheckpointAnswer, OperationUpdate


class Requests:
    """The requests of one invocation, on the host's loop; one at a time."""

    def __init__(
        self,
        plane: AsyncControlPlane,
        checkpointer: Checkpointer,
        answered: Callable[[CheckpointAnswer | BaseException], object],
    ) -> None:
        """
        Args:
            plane: Where they are sent to.
            checkpointer: Makes them.
            answered: Called back with what came of each, in no task.
        """
        self._plane = plane
        self._checkpointer = checkpointer
        self._answered = answered
        self._task: asyncio.Task[CheckpointAnswer] | None = None

    @property
    def in_flight(self) -> bool:
        """Whether one is under way."""
        return self._task is not None

    def send(self, *, unwaited: bool = False) -> None:
        """
        Send one; there is something to send, and none is in flight.

        Args:
            unwaited: Also if nobody waits for it.
        """
        self._task = asyncio.get_running_loop().create_task(self._request(unwaited))
        self._task.add_done_callback(self._end)

    async def _request(self, unwaited: bool) -> CheckpointAnswer:
        # Taken only now, one round of the host's loop later: what bodies have ended meanwhile travels with it.
        request = self._checkpointer.take(unwaited=unwaited)
        assert request is not None  # noqa: S101 - one is waited for, none is in flight
        return await exchange(self._plane, request)

    def _end(self, task: asyncio.Task[CheckpointAnswer]) -> None:
        self._task = None
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        self._answered(task.result() if error is None else error)


async def record(plane: AsyncControlPlane, checkpointer: Checkpointer, update: OperationUpdate) -> ControlSignal | None:
    """Record the execution's own outcome, as the last update; returns why that was not possible, or None."""
    if checkpointer.signal is not None:
        return checkpointer.signal
    checkpointer.offer((update,))
    while (request := checkpointer.take()) is not None:
        try:
            checkpointer.answered(await exchange(plane, request))
        except Exception as error:  # noqa: BLE001 - why it was not possible
            checkpointer.failed(Aborted(error))
    signal = checkpointer.signal
    # No token after the last update is as it should be (protocol.md §6.3).
    return None if isinstance(signal, Withdrawn) else signal
