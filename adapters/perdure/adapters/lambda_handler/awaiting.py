"""One invocation of an `async def` workflow: it runs on the process's host loop, threads ask the service."""

from __future__ import annotations

from contextvars import Context, copy_context
from typing import TYPE_CHECKING, TypeVar

from perdure.engine.hosting import concluded, linger
from perdure.engine.threads import shared_threads
from perdure.portal import Promise, host_portal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perdure.adapters.lambda_handler.allowance import Allowance
    from perdure.adapters.lambda_handler.plane import LambdaPlane
    from perdure.engine.invocation import Invocation
    from perdure.model import CheckpointAnswer, InvocationOutput, OperationUpdate, StatePage

T = TypeVar("T")

LONGEST_PAUSE = 0.05
"""Seconds between two looks whether the last body has ended."""


class AwaitingLambdaPlane:
    """The service for one invocation of an `async def` workflow."""

    def __init__(self, plane: LambdaPlane) -> None:
        self._plane = plane

    async def checkpoint(self, token: str, updates: Sequence[OperationUpdate]) -> CheckpointAnswer:
        """As `AsyncControlPlane.checkpoint`."""
        return await _in_thread(lambda: self._plane.checkpoint(token, updates))

    async def state(self, token: str, marker: str) -> StatePage:
        """As `AsyncControlPlane.state`."""
        return await _in_thread(lambda: self._plane.state(token, marker))


async def _in_thread(call: Callable[[], T]) -> T:
    promise: Promise[T] = Promise()

    def work() -> None:
        try:
            promise.set_result(call())
        except BaseException as error:  # noqa: BLE001 - whoever waits is told
            promise.set_exception(error)

    shared_threads().senders.submit(work)
    return await promise


def run(invocation: Invocation, plane: LambdaPlane, allowance: Allowance, *, observed: bool) -> InvocationOutput:
    """
    Run an invocation and wait until nothing of it runs any more, or time is up.

    The loop lives as long as the process: what step bodies keep that belongs to a loop is good in the next invocation.
    """
    work = _outcome(invocation, AwaitingLambdaPlane(plane), allowance)
    # What the caller has in its context variables is for observers, as the span is in which it calls.
    variables = copy_context() if observed else Context()
    ended = variables.run(host_portal().call, work)
    if isinstance(ended, BaseException):
        raise ended
    return ended


async def _outcome(
    invocation: Invocation, plane: AwaitingLambdaPlane, allowance: Allowance
) -> InvocationOutput | BaseException:
    try:
        return await concluded(invocation, plane)
    finally:
        await linger(invocation, longest_pause=LONGEST_PAUSE, has_waited_enough=lambda: allowance.is_over)
