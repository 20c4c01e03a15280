"""What concerns the thread that calls a blocking client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from perdure.errors import InvalidStateError
from perdure.portal import host_portal

if TYPE_CHECKING:
    from collections.abc import Coroutine

_T = TypeVar("_T")


def carried_out(work: Coroutine[Any, Any, _T]) -> _T:
    """Carry out what never waits, in the calling thread."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    work.close()
    raise RuntimeError("a blocking connection has been waited for")


def refuse_to_block() -> None:
    """
    Refuse to wait where waiting stops what is waited for.

    Raises:
        InvalidStateError: The caller runs on the loop of asynchronous workflows and step bodies.
    """
    if host_portal().is_here:
        raise InvalidStateError(
            "waiting for a result here would stop every async def workflow of this process; use AsyncClient, and await"
        )
