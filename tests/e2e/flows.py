"""
Workflows of the end-to-end tests, and the worker process that runs them: `python flows.py URL LEASE`.

Every step body leaves a line in the file that the input names, written before anything is recorded: what the file says
really ran, whatever the journal says.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import time
from typing import Any

from perdure.adapters.worker import Worker
from perdure.durable import (
    AsyncDurableContext,
    BatchResult,
    DurableContext,
    MapConfig,
    NestingType,
    durable_execution,
)


def mark(path: str, line: str) -> None:
    """Append a line in one write, so that lines of several processes do not mix."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(handle, f"{line}\n".encode())
    finally:
        os.close(handle)


def body(event: dict[str, Any], n: int) -> int:
    mark(event["runs"], str(n))
    while os.path.exists(event.get("hold", "")):  # noqa: PTH110 - as small as can be
        time.sleep(0.005)
    time.sleep(event.get("pause", 0))
    return n * n


@durable_execution
def fifty(event: dict[str, Any], context: DurableContext) -> int:
    return sum(context.step(lambda _, n=n: body(event, n), name=f"step-{n}") for n in range(50))


@durable_execution
async def fifty_async(event: dict[str, Any], context: AsyncDurableContext) -> int:
    total = 0
    for n in range(50):

        async def step(_: Any, n: int = n) -> int:
            return body(event, n)

        total += await context.step(step, name=f"step-{n}")
    return total


@durable_execution
def crowd(event: dict[str, Any], context: DurableContext) -> int:
    return sum(context.step(lambda _, n=n: body(event, n), name=f"step-{n}") for n in range(4))


@durable_execution
async def crowd_async(event: dict[str, Any], context: AsyncDurableContext) -> int:
    results = [await context.step(lambda _, n=n: body(event, n), name=f"step-{n}") for n in range(4)]
    return sum(results)


@durable_execution
def row(event: dict[str, Any], context: DurableContext) -> int:
    return sum(context.step(lambda _, n=n: body(event, n), name=f"step-{n}") for n in range(event["steps"]))


@durable_execution
async def row_async(event: dict[str, Any], context: AsyncDurableContext) -> int:
    results = [await context.step(lambda _, n=n: body(event, n), name=f"step-{n}") for n in range(event["steps"])]
    return sum(results)


def piece(event: dict[str, Any], n: int) -> str:
    mark(event["runs"], f"piece-{n}")
    return str(n) * 75_000


def digest(result: BatchResult[str]) -> str:
    return hashlib.sha256(json.dumps(result.to_dict()).encode()).hexdigest()


def held(event: dict[str, Any]) -> None:
    mark(event["runs"], "held")
    while os.path.exists(event["hold"]):  # noqa: PTH110 - as small as can be
        time.sleep(0.005)


@durable_execution
def large(event: dict[str, Any], context: DurableContext) -> list[Any]:
    config: MapConfig[int] = MapConfig(nesting_type=NestingType(event["nesting"]))
    result = context.map(range(4), lambda c, n, *_: c.step(lambda _: piece(event, n)), "pieces", config)
    live = context.step(lambda _: digest(result), name="digest")
    context.step(lambda _: held(event), name="held")
    return [live, digest(result), [len(one) for one in result.get_results()]]


@durable_execution
async def large_async(event: dict[str, Any], context: AsyncDurableContext) -> list[Any]:
    config: MapConfig[int] = MapConfig(nesting_type=NestingType(event["nesting"]))

    async def item(child: AsyncDurableContext, n: int, *_: Any) -> str:
        return await child.step(lambda _: piece(event, n))

    result = await context.map(range(4), item, "pieces", config)
    live = await context.step(lambda _: digest(result), name="digest")
    await context.step(lambda _: held(event), name="held")
    return [live, digest(result), [len(one) for one in result.get_results()]]


FUNCTIONS = [fifty, fifty_async, crowd, crowd_async, row, row_async, large, large_async]

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    Worker(sys.argv[1], FUNCTIONS, lease=float(sys.argv[2])).run()
