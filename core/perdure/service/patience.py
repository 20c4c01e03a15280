"""Asking a store again that does not answer now."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from perdure.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FIRST_PAUSE = 0.01
LONGEST_PAUSE = 1.0
PATIENCE = 30.0
"""Seconds; an owner's lease is over by then."""

_T = TypeVar("_T")


async def patiently(call: Callable[[], Awaitable[_T]], patience: float = PATIENCE) -> _T:
    """
    Await `call()`, again after growing pauses while it raises a retryable `StoreError`.

    Repeating a verb of a store with the same arguments is safe, whatever became of the first call.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    pause = FIRST_PAUSE
    while True:
        try:
            return await call()
        except StoreError as error:
            if not error.retryable or loop.time() + pause >= deadline:
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
