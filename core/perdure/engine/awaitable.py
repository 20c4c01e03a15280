"""How a `def` workflow waits for a step body that is asynchronous."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.portal import host_portal

if TYPE_CHECKING:
    from collections.abc import Awaitable


def awaited(awaitable: Awaitable[Any]) -> Any:
    """Await it on the process's loop for asynchronous bodies; the calling thread waits."""
    value, error = host_portal().call(_outcome(awaitable))
    if error is not None:
        raise error
    return value


async def _outcome(awaitable: Awaitable[Any]) -> tuple[Any, BaseException | None]:
    try:
        return await awaitable, None
    except BaseException as error:  # noqa: BLE001 - an exit must end the caller, not the loop
        return None, error
