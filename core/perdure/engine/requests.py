"""What an `async def` workflow sends to its service."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from perdure.engine.exchange import exchange
from perdure.engine.port import post_of
from perdure.engine.replay import Aborted, Withdrawn
from perdure.model import OperationAction

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from perdure.engine.checkpointer import Checkpointer
    from perdure.engine.port import AsyncControlPlane
    from perdure.errors import ControlSignal
    from perdure.model import CheckpointAnswer, OperationUpdate


class Requests:
    """
    The requests of one invocation, on the host's loop; one at a time.

    Attributes:
        in_flight: Whether one is under way.
    """

    def __init__(
        self,
        plane: AsyncControlPlane,
        checkpointer: Checkpointer,
        variables: Context,
        answered: Callable[[CheckpointAnswer | BaseException], object],
    ) -> None:
        """
        Args:
            plane: Where they are sent to.
            checkpointer: Makes them.
            variables: The context variables of the invocation.
            answered: Called back with what came of each, in no task.
        """
        self._plane = plane
        self._post = post_of(plane)
        self._checkpointer = checkpointer
        self._variables = variables
        self._answered = answered
        self._host = asyncio.get_running_loop()
        self._task: asyncio.Task[CheckpointAnswer] | None = None
        self.in_flight = False

    def send(self, *, unwaited: bool = False, at_once: bool = False) -> None:
        """
        Send one; there is something to send, and none is in flight.

        Args:
            unwaited: Also if nobody waits for it.
            at_once: No body runs whose end could travel with it.
        """
        self.in_flight = True
        if at_once:
            self._begin(unwaited)
        else:
            # One round of the host's loop later: what bodies have ended meanwhile travels with it.
            self._host.call_soon(self._begin, unwaited, context=self._variables)

    def _begin(self, unwaited: bool) -> None:
        try:
            request = self._checkpointer.take(unwaited=unwaited)
            assert request is not None  # noqa: S101 - one is waited for, none is in flight
            if self._post is None or any(each.action is OperationAction.CANCEL for each in request.updates):
                self._task = self._host.create_task(exchange(self._plane, request), context=self._variables.copy())
                self._task.add_done_callback(self._leave_task, context=self._variables)
            else:
                self._post(request.token, request.updates, request.transaction, self._posted)
        except Exception as error:  # noqa: BLE001 - as if it were the answer
            self._host.call_soon(self._end, error, context=self._variables)

    def _leave_task(self, task: asyncio.Task[CheckpointAnswer]) -> None:
        self._task = None
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        self._end(task.result() if error is None else error)

    def _posted(self, outcome: CheckpointAnswer | BaseException) -> None:
        self._variables.run(self._end, outcome)

    def _end(self, outcome: CheckpointAnswer | BaseException) -> None:
        self.in_flight = False
        self._answered(outcome)


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
