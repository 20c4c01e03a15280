"""The worker of the turmoil: `python turmoil.py URL LEASE`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from perdure.adapters.worker import Worker
from perdure.config import StepConfig
from perdure.durable import AsyncDurableContext, DurableContext, Duration, durable_execution
from perdure.retries import RetryStrategyConfig, create_retry_strategy

FIRST = StepConfig(
    retry_strategy=create_retry_strategy(RetryStrategyConfig(max_attempts=9, initial_delay=Duration.from_seconds(1)))
)


@durable_execution
async def child(event: Any, context: AsyncDurableContext) -> Any:
    await context.wait(Duration.from_seconds(1))
    return await context.step(lambda _: event)


@durable_execution
def everything(event: dict[str, Any], context: DurableContext) -> list[Any]:
    def submit(callback_id: str, _: Any) -> None:
        # Renamed when complete: whoever looks finds nothing or all of it.
        path = Path(event["folder"]) / f"{event['n']}-{os.getpid()}"
        new = path.with_suffix(".new")
        new.write_text(callback_id)
        new.rename(path)

    def first(step: Any) -> str:
        if step.attempt == 1:
            raise ConnectionError("try again")
        return "awake"

    def square(branch: DurableContext, item: int, index: int, items: Any) -> int:
        branch.wait(Duration.from_seconds(1))
        return branch.step(lambda _: item * item)

    called = context.wait_for_callback(submit, name="call")
    invoked = context.invoke("child", event["n"])
    squares = context.map([0, 1, 2], square).get_results()
    return [called, invoked, squares, context.step(first, config=FIRST)]


if __name__ == "__main__":
    worker = Worker(sys.argv[1], [everything, child], lease=float(sys.argv[2]))
    worker.run()
