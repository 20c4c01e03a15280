"""One request of a driver, and all pages of what the service has answered it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from perdure.errors import CheckpointError
from perdure.model import CheckpointAnswer, OperationAction

if TYPE_CHECKING:
    from perdure.engine.checkpointer import Request
    from perdure.engine.port import AsyncControlPlane, ControlPlane
    from perdure.model import InvocationInput, Operation

_LOST_CANCEL = "Cannot cancel a WAIT"


def exchange_blocking(plane: ControlPlane, request: Request) -> CheckpointAnswer:
    """
    Send a request and read all pages of its answer.

    Raises:
        CheckpointError, GetExecutionStateError: As the service has it.
    """
    try:
        answer = plane.checkpoint(*request.arguments)
    except CheckpointError as error:
        answer = plane.checkpoint(*_without_cancels(request, error).arguments)
    if not answer.next_marker or answer.token is None:
        return answer
    return CheckpointAnswer(answer.token, tuple(read_on_blocking(plane, answer.token, answer)))


async def exchange(plane: AsyncControlPlane, request: Request) -> CheckpointAnswer:
    """
    The same with a service that is awaited.

    Raises:
        CheckpointError, GetExecutionStateError: As the service has it.
    """
    try:
        answer = await plane.checkpoint(*request.arguments)
    except CheckpointError as error:
        answer = await plane.checkpoint(*_without_cancels(request, error).arguments)
    if not answer.next_marker or answer.token is None:
        return answer
    return CheckpointAnswer(answer.token, tuple(await read_on(plane, answer.token, answer)))


def read_on_blocking(plane: ControlPlane, token: str, first: CheckpointAnswer | InvocationInput) -> list[Operation]:
    """
    The operations of a first page and of those behind it.

    Raises:
        GetExecutionStateError: As the service has it.
    """
    operations, marker = list(first.operations), first.next_marker
    while marker:
        page = plane.state(token, marker)
        operations += page.operations
        marker = page.next_marker
    return operations


async def read_on(plane: AsyncControlPlane, token: str, first: CheckpointAnswer | InvocationInput) -> list[Operation]:
    """
    The same with a service that is awaited.

    Raises:
        GetExecutionStateError: As the service has it.
    """
    operations, marker = list(first.operations), first.next_marker
    while marker:
        page = await plane.state(token, marker)
        operations += page.operations
        marker = page.next_marker
    return operations


def _without_cancels(request: Request, error: CheckpointError) -> Request:
    """
    What to send instead of a request because of whose CANCELs it was refused: a wait had ended before.

    Raises:
        CheckpointError: It was refused for something else.
    """
    kept = tuple(update for update in request.updates if update.action is not OperationAction.CANCEL)
    # A client's error says more than the service has said, which is in its `error`.
    told = (error.error or {}).get("Message") or error
    if not str(told).startswith(_LOST_CANCEL) or len(kept) == len(request.updates):
        raise error
    return attrs.evolve(request, updates=kept)
