"""Perdure's side of every kind of workflow, in both colours."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

from benchmarks.tally import STEPS, step
from benchmarks.trail import Trail
from perdure.durable import AsyncDurableContext, DurableContext, DurableFunction, Duration, durable_execution

if TYPE_CHECKING:
    from collections.abc import Callable


def stamp(trace: str) -> float:
    """The time, and a byte in a file."""
    STEPS.add()
    if trace:
        file = os.open(trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, b".")
        finally:
            os.close(file)
    return time.time()


def numbered(body: Callable[[int], int], number: int) -> Callable[[Any], int]:
    """A step's body that has no need of its context."""
    return lambda _: body(number)


@durable_execution
def chain(event: dict[str, Any], context: DurableContext) -> int:
    return sum(context.step(numbered(step, n), name=f"step-{n}") for n in range(event["steps"]))


@durable_execution
def fan(event: dict[str, Any], context: DurableContext) -> int:
    def branch(inner: DurableContext, item: int, index: int, items: Any) -> int:
        return inner.step(lambda _: step(1), name="one")

    return sum(context.map(range(event["width"]), branch, name="fan").get_results())


@durable_execution
def nap(event: dict[str, Any], context: DurableContext) -> list[float]:
    before = context.step(lambda _: stamp(event["trace"]), name="stamp")
    context.wait(Duration.from_seconds(event["seconds"]), name="nap")
    return [before, time.time()]


@durable_execution
def hold(event: dict[str, Any], context: DurableContext) -> int:
    trail = Trail(event["folder"])
    trail.enter()
    total = sum(context.step(numbered(trail.step, n), name=f"step-{n}") for n in range(event["steps"]))
    trail.leave()
    return total


@durable_execution
def pause(event: dict[str, Any], context: DurableContext) -> int:
    def outside(number: int) -> int:
        time.sleep(event["seconds"])
        return step(number)

    return sum(context.step(numbered(outside, n), name=f"step-{n}") for n in range(event["steps"]))


@durable_execution
async def chain_async(event: dict[str, Any], context: AsyncDurableContext) -> int:
    total = 0
    for n in range(event["steps"]):

        async def body(_: Any, n: int = n) -> int:
            return step(n)

        total += await context.step(body, name=f"step-{n}")
    return total


async def one(_: Any) -> int:
    return step(1)


@durable_execution
async def fan_async(event: dict[str, Any], context: AsyncDurableContext) -> int:
    async def branch(inner: AsyncDurableContext, item: int, index: int, items: Any) -> int:
        return await inner.step(one, name="one")

    return sum((await context.map(range(event["width"]), branch, name="fan")).get_results())


@durable_execution
async def gather_async(event: dict[str, Any], context: AsyncDurableContext) -> int:
    return sum(await asyncio.gather(*(context.step(one) for _ in range(event["width"]))))


@durable_execution
async def nap_async(event: dict[str, Any], context: AsyncDurableContext) -> list[float]:
    async def body(_: Any) -> float:
        return stamp(event["trace"])

    before = await context.step(body, name="stamp")
    await context.wait(Duration.from_seconds(event["seconds"]), name="nap")
    return [before, time.time()]


@durable_execution
async def hold_async(event: dict[str, Any], context: AsyncDurableContext) -> int:
    trail = Trail(event["folder"])
    trail.enter()
    total = 0
    for n in range(event["steps"]):

        async def body(_: Any, n: int = n) -> int:
            return trail.step(n)

        total += await context.step(body, name=f"step-{n}")
    trail.leave()
    return total


@durable_execution
async def pause_async(event: dict[str, Any], context: AsyncDurableContext) -> int:
    total = 0
    for n in range(event["steps"]):

        async def body(_: Any, n: int = n) -> int:
            await asyncio.sleep(event["seconds"])
            return step(n)

        total += await context.step(body, name=f"step-{n}")
    return total


FLOWS: list[DurableFunction[Any, Any]] = [
    chain,
    fan,
    nap,
    hold,
    pause,
    chain_async,
    fan_async,
    gather_async,
    nap_async,
    hold_async,
    pause_async,
]
"""All of them; a kind's `async def` is called `<kind>_async`."""
