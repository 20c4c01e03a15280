"""Suite `wait`: what a wait takes and how it is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.durable import Duration, durable_execution

if TYPE_CHECKING:
    from perdure.durable import AsyncDurableContext


@durable_execution
async def basic(_: None, context: AsyncDurableContext) -> str:
    """A wait."""
    await context.wait(Duration.from_seconds(2))
    return "waited"


@durable_execution
async def named(_: None, context: AsyncDurableContext) -> str:
    """A wait with a name."""
    await context.wait(Duration.from_seconds(2), name="custom_wait_name")
    return "waited"


@durable_execution
async def one_after_another(_: None, context: AsyncDurableContext) -> dict[str, int]:
    """Two waits, each of which suspends."""
    await context.wait(Duration.from_seconds(2), name="wait-1")
    await context.wait(Duration.from_seconds(2), name="wait-2")
    return {"completedWaits": 2}


@durable_execution
async def minutes(_: None, context: AsyncDurableContext) -> None:
    """A wait of a minute."""
    await context.wait(Duration.from_minutes(1))


@durable_execution
async def hours(_: None, context: AsyncDurableContext) -> None:
    """A wait of an hour."""
    await context.wait(Duration.from_hours(1))


REQUIREMENTS = {
    "2-1": basic,
    "2-2": named,
    "2-3": one_after_another,
    "2-4": minutes,
    "2-5": hours,
}
