"""
First figures of Perdure, printed by one run: `python benchmarks/figures.py [--backend URL]`.

Medians over repeated runs; the machine's noise is the difference between columns. Nothing here is a test.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from perdure.adapters.worker import Worker
from perdure.client import AsyncClient, Client
from perdure.durable import AsyncDurableContext, DurableContext, durable_execution

STEPS = 1_000
WORKFLOWS = 500
CONCURRENCY = 32


@durable_execution
def one_step(event: Any, context: DurableContext) -> int:
    return context.step(lambda _: 1, name="one")


@durable_execution
def three_steps(event: Any, context: DurableContext) -> int:
    return sum(context.step(lambda _, n=n: n, name=f"step-{n}") for n in range(3))


@durable_execution
async def three_steps_async(event: Any, context: AsyncDurableContext) -> int:
    total = 0
    for n in range(3):
        total += await context.step(lambda _, n=n: n, name=f"step-{n}")
    return total


@durable_execution
def many_steps(event: int, context: DurableContext) -> int:
    return sum(context.step(lambda _: 1) for _ in range(event))


@durable_execution
async def many_steps_async(event: int, context: AsyncDurableContext) -> int:
    async def body(_: Any) -> int:
        return 1

    total = 0
    for _ in range(event):
        total += await context.step(body)
    return total


FUNCTIONS = [one_step, three_steps, three_steps_async, many_steps, many_steps_async]


def timed(repeats: int, run: Any) -> tuple[float, float, float]:
    spans = []
    for _ in range(repeats):
        begun = time.perf_counter()
        run()
        spans.append(time.perf_counter() - begun)
    return min(spans), statistics.median(spans), max(spans)


def show(what: str, spans: tuple[float, float, float], unit: str, of: int = 1) -> None:
    least, median, most = spans
    rate = f"  {of / median:10,.0f} {unit}/s" if of > 1 else ""
    print(f"{what:46s} median {median * 1e3:9.2f} ms  (min {least * 1e3:.2f}, max {most * 1e3:.2f}){rate}")


def many(url: str, function: Any) -> None:
    async def start_all() -> None:
        limit = asyncio.Semaphore(CONCURRENCY)

        async def one(client: AsyncClient) -> None:
            async with limit:
                handle = await client.start(function)
                await handle.result()

        async with AsyncClient(url) as client:
            await asyncio.gather(*(one(client) for _ in range(WORKFLOWS)))

    asyncio.run(start_all())


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--backend")
    with tempfile.TemporaryDirectory() as place:
        url = arguments.parse_args().backend or f"sqlite:///{Path(place) / 'figures.db'}"
        with Worker(url, FUNCTIONS, concurrency=CONCURRENCY), Client(url) as client:
            client.start(one_step).result()
            show("start -> result, one step", timed(100, lambda: client.start(one_step).result()), "")
            for function in (three_steps, three_steps_async):
                spans = timed(3, lambda function=function: many(url, function))
                show(f"{WORKFLOWS} x {function.name}, {CONCURRENCY} at once", spans, "workflows", WORKFLOWS)
            for function in (many_steps, many_steps_async):
                spans = timed(3, lambda function=function: client.start(function, STEPS).result())
                show(f"{STEPS} steps in one workflow, {function.name}", spans, "steps", STEPS)
    command = [sys.executable, "-c", "import perdure.durable"]
    bare = timed(9, lambda: subprocess.run([sys.executable, "-c", ""], check=True))
    show("import perdure.durable (whole process)", timed(9, lambda: subprocess.run(command, check=True)), "")
    show("  of which bare interpreter", bare, "")


if __name__ == "__main__":
    main()
