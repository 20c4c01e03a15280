"""
Patience: a step that fails at first and is tried again, and a poll that goes on until a parcel has arrived.

Between two attempts nothing runs and nothing is held: the execution lies in the store, here an SQLite file, and is due
at a time.
"""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

from perdure.adapters.worker import Worker
from perdure.client import Client
from perdure.config import JitterStrategy, StepConfig
from perdure.durable import DurableContext, Duration, durable_execution
from perdure.retries import RetryStrategyConfig, create_retry_strategy
from perdure.types import StepContext, WaitForConditionCheckContext
from perdure.waits import WaitForConditionConfig, WaitStrategyConfig, create_wait_strategy

calls = itertools.count(1)

SOON = create_retry_strategy(
    RetryStrategyConfig(max_attempts=5, initial_delay=Duration.from_seconds(1), jitter_strategy=JitterStrategy.NONE)
)
UNTIL_ARRIVED = create_wait_strategy(
    WaitStrategyConfig[dict[str, Any]](
        should_continue_polling=lambda parcel: parcel["place"] != "home",
        initial_delay=Duration.from_seconds(1),
        jitter_strategy=JitterStrategy.NONE,
    )
)


def book(_: StepContext) -> str:
    if next(calls) == 1:
        raise ConnectionError("the carrier does not answer")
    return "parcel-7"


def look(parcel: dict[str, Any], _: WaitForConditionCheckContext) -> dict[str, Any]:
    return {**parcel, "place": "home" if parcel["place"] == "road" else "road"}


@durable_execution
def deliver(event: dict[str, Any], context: DurableContext) -> dict[str, Any]:
    number = context.step(book, name="book", config=StepConfig(retry_strategy=SOON))
    seen = context.wait_for_condition(
        look,
        WaitForConditionConfig(UNTIL_ARRIVED, initial_state={"number": number, "place": event["from"]}),
        name="arrival",
    )
    return {"parcel": seen}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder).as_posix()}/perdure.db"
        with Worker(url, [deliver]), Client(url) as client:
            handle = client.start(deliver, {"from": "shop"})
            print(handle.result(timeout=60))
            for operation in handle.operations():
                if operation.attempt:
                    print(operation.name, "took", operation.attempt, "attempts")


if __name__ == "__main__":
    main()
