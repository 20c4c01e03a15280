"""One invocation of an `async def` workflow: it runs on the process's host loop, threads ask the service."""

from __future__ import annotations

import asyncio
import logging
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, TypeVar

from perdure.engine.threads import shared_threads
from perdure.portal import Promise, host_portal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perdure.adapters.lambda_handler.allowance import Allowance
    from perdure.adapters.lambda_handler.plane import LambdaPlane
    from perdure.engine.invocation import Invocation
    from perdure.model import CheckpointAnswer, InvocationOutput, OperationUpdate, StatePage

logger = logging.getLogger("perdure.lambda")

T = TypeVar("T")

_PAUSES = 0.001, 0.05
"""Seconds between two looks whether the last body has ended: at first, and at most."""


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
    outcome = variables.run(host_portal().call, work)
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


async def _outcome(
    invocation: Invocation, plane: AwaitingLambdaPlane, allowance: Allowance
) -> InvocationOutput | BaseException:
    try:
        return await invocation.run_async(plane)
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - an exit of user code must not end the host loop
        return error
    finally:
        pause, longest = _PAUSES
        while invocation.orphans and not allowance.is_over:
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)
        if invocation.orphans:
            logger.warning("%s bodies of steps outlive their invocation and can record nothing", invocation.orphans)
