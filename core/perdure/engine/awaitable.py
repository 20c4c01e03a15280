"""How a thread waits for step bodies that are asynchronous."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from perdure.portal import host_portal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator
    from contextlib import AbstractAsyncContextManager
    from contextvars import Context

T = TypeVar("T")


def awaited(awaitable: Awaitable[Any], variables: Context | None = None) -> Any:
    """
    Await it on the process's loop for asynchronous bodies; the calling thread waits.

    Args:
        awaitable: Anything that can be awaited.
        variables: The context variables that it sees and sets, instead of a copy of the caller's.
    """
    work = _outcome(awaitable) if variables is None else _outcome_in(awaitable, variables)
    value, error = host_portal().call(work)
    if error is not None:
        raise error
    return value


@contextmanager
def entered(manager: AbstractAsyncContextManager[T], variables: Context) -> Iterator[T]:
    """An asynchronous context manager, entered and left as `awaited` has it."""
    value = awaited(manager.__aenter__(), variables)
    try:
        yield value
    except BaseException as error:
        if not awaited(manager.__aexit__(type(error), error, error.__traceback__), variables):
            raise
    else:
        awaited(manager.__aexit__(None, None, None), variables)


async def _outcome_in(awaitable: Awaitable[Any], variables: Context) -> tuple[Any, BaseException | None]:
    import asyncio  # noqa: PLC0415 - loaded by now, and not before

    return await asyncio.create_task(_outcome(awaitable), context=variables)


async def _outcome(awaitable: Awaitable[Any]) -> tuple[Any, BaseException | None]:
    try:
        return await awaitable, None
    except BaseException as error:  # noqa: BLE001 - an exit must end the caller, not the loop
        return None, error
