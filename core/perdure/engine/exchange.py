"""One request of an async driver, and all there is to its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from perdure.engine.replay import Aborted, Withdrawn
from perdure.errors import InvalidParameterValueError
from perdure.model import CheckpointAnswer, OperationAction

if TYPE_CHECKING:
    from perdure.engine.checkpointer import Checkpointer, Request
    from perdure.engine.port import AsyncControlPlane
    from perdure.errors import ControlSignal
    from perdure.model import OperationUpdate

_LOST_CANCEL = "Cannot cancel a WAIT"


async def exchange(plane: AsyncControlPlane, request: Request) -> CheckpointAnswer:
    """
    Send a request and read all pages of its answer.

    Raises:
        CheckpointError, GetExecutionStateError: As the service has it.
    """
    try:
        answer = await plane.checkpoint(*request.arguments)
    except InvalidParameterValueError as error:
        kept = tuple(update for update in request.updates if update.action is not OperationAction.CANCEL)
        if not str(error).startswith(_LOST_CANCEL) or len(kept) == len(request.updates):
            raise
        # The wait ended before its CANCEL arrived: the same once more, without.
        answer = await plane.checkpoint(*attrs.evolve(request, updates=kept).arguments)
    if not answer.next_marker or answer.token is None:
        return answer
    operations = list(answer.operations)
    marker: str | None = answer.next_marker
    while marker:
        page = await plane.state(answer.token, marker)
        operations += page.operations
        marker = page.next_marker
    return CheckpointAnswer(answer.token, tuple(operations))


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
