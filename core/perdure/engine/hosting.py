"""What the host of an `async def` workflow's loop, or of a store's, does around an invocation."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.engine.invocation import Invocation
    from perdure.engine.port import AsyncControlPlane
    from perdure.model import InvocationOutput

FIRST_PAUSE = 0.001
"""Seconds."""


async def concluded(invocation: Invocation, plane: AsyncControlPlane) -> InvocationOutput | BaseException:
    """What `run_async` returns or raises, as a value: an exit of user code must not end the host's loop."""
    try:
        # Its coroutine is made here: one that was made before would be left over if this is cancelled unbegun.
        return await invocation.run_async(plane)
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - whoever asked decides
        return error


async def linger(
    invocation: Invocation, *, longest_pause: float, has_waited_enough: Callable[[], bool] = lambda: False
) -> None:
    """
    Wait for threads and bodies that are still in a workflow's code; they can record nothing any more.

    Args:
        invocation: Which has ended.
        longest_pause: Seconds between two looks, at most.
        has_waited_enough: Asked before each pause.
    """
    # Not with a thread that waits for them: it would keep the interpreter from ending.
    pause = FIRST_PAUSE
    while invocation.orphans and not has_waited_enough():
        await asyncio.sleep(pause)
        pause = min(2 * pause, longest_pause)
