"""Workflows that `test_lambda_hosting.py` packs: a file is told of each time that a step runs, and in which process."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perdure.durable import DurableContext, StepContext, durable_execution

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.durable import AsyncDurableContext

STEPS = ("first", "second", "third")


def runs() -> Path:
    """The file that is told."""
    return Path(os.environ["PERDURE_RUNS"])


def body(event: dict[str, Any], name: str) -> Callable[[StepContext], str]:
    """The function of a step; the one that is to get stuck does not return the first time it runs."""

    def run(context: StepContext) -> str:
        with runs().open("a+", encoding="utf-8") as file:
            file.seek(0)
            is_first = f"{event['order']} {name} " not in file.read()
            file.write(f"{event['order']} {name} {os.getpid()}\n")
        if is_first and name == event.get("stuck"):
            signal.pause()
        context.logger.info("ran %s", name, extra={"order": event["order"]})
        return name

    return run


@durable_execution
def flow(event: dict[str, Any], context: DurableContext) -> list[str]:
    context.logger.info("order %s", event["order"])
    return [context.step(body(event, name), name=name) for name in STEPS]


@durable_execution
async def async_flow(event: dict[str, Any], context: AsyncDurableContext) -> list[str]:
    context.logger.info("order %s", event["order"])
    return [await context.step(body(event, name), name=name) for name in STEPS]
