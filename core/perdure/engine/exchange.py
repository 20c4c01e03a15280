"""One request of a driver, and all there is to its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from perdure.errors import CheckpointError
from perdure.model import CheckpointAnswer, OperationAction

if TYPE_CHECKING:
    from collections.abc import Generator

    from perdure.engine.checkpointer import Request
    from perdure.engine.port import AsyncControlPlane, ControlPlane
    from perdure.model import StatePage

    Question: TypeAlias = tuple[str, tuple[Any, ...]]

_LOST_CANCEL = "Cannot cancel a WAIT"


def conversation(request: Request) -> Generator[Question, Any, CheckpointAnswer]:
    """
    Send a request and read all pages of its answer.

    Yields:
        A method of the control plane and its arguments; is sent what that returns, or thrown what it raises.
    """
    try:
        answer: CheckpointAnswer = yield "checkpoint", request.arguments
    except CheckpointError as error:
        kept = tuple(update for update in request.updates if update.action is not OperationAction.CANCEL)
        # A client's error says more than the service has said, which is in its `error`.
        told = (error.error or {}).get("Message") or error
        if not str(told).startswith(_LOST_CANCEL) or len(kept) == len(request.updates):
            raise
        # The wait ended before its CANCEL arrived: the same once more, without.
        answer = yield "checkpoint", attrs.evolve(request, updates=kept).arguments
    if not answer.next_marker or answer.token is None:
        return answer
    operations = list(answer.operations)
    marker: str | None = answer.next_marker
    while marker:
        page: StatePage = yield "state", (answer.token, marker)
        operations += page.operations
        marker = page.next_marker
    return CheckpointAnswer(answer.token, tuple(operations))


def exchange_blocking(plane: ControlPlane, request: Request) -> CheckpointAnswer:
    """
    Carry out a conversation with a service that is waited for.

    Raises:
        CheckpointError, GetExecutionStateError: As the service has it.
    """
    talk = conversation(request)
    try:
        method, arguments = next(talk)
        while True:
            try:
                answer = getattr(plane, method)(*arguments)
            except Exception as error:  # noqa: BLE001 - it may know what to do
                method, arguments = talk.throw(error)
            else:
                method, arguments = talk.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def exchange(plane: AsyncControlPlane, request: Request) -> CheckpointAnswer:
    """
    The same with one that is awaited.

    Raises:
        CheckpointError, GetExecutionStateError: As the service has it.
    """
    talk = conversation(request)
    try:
        method, arguments = next(talk)
        while True:
            try:
                answer = await getattr(plane, method)(*arguments)
            except Exception as error:  # noqa: BLE001 - it may know what to do
                method, arguments = talk.throw(error)
            else:
                method, arguments = talk.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
