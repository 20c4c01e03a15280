"""
An `async def` workflow: three suppliers are asked at once, with plain asyncio.

Operations start when they are called and may be awaited in any order. On replay their results are delivered in the
order in which they were recorded, whatever the suppliers' timing was.
"""

from __future__ import annotations

import asyncio
from typing import Any

from perdure.adapters.worker import Worker
from perdure.client import Client
from perdure.durable import AsyncDurableContext, StepContext, durable_execution, durable_step
from perdure.storage import open_backend

PRICES = {"north": 120, "south": 90, "west": 150}


@durable_step
async def asking(_: StepContext, supplier: str) -> int:
    await asyncio.sleep(PRICES[supplier] / 1000)
    return PRICES[supplier]


@durable_execution
async def best_offer(event: dict[str, Any], context: AsyncDurableContext) -> dict[str, Any]:
    prices = await asyncio.gather(*(context.step(asking(supplier)) for supplier in event["suppliers"]))
    return {"best": min(prices), "asked": len(prices)}


def main() -> None:
    backend = open_backend("memory://")
    with Worker(backend, [best_offer]), Client(backend) as client:
        print(client.start(best_offer, {"suppliers": list(PRICES)}).result(timeout=30))


if __name__ == "__main__":
    main()
