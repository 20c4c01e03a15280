"""
An `async def` workflow that fans out: documents are read side by side, some cannot be read, and the rest goes on.

Three ways to wait for several things at once: `map` with a limit and a policy for many alike, `asyncio.gather` for a
handful of steps, and `context.promise` where only some of them need succeed.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from perdure.adapters.worker import Worker
from perdure.batch import CompletionReason
from perdure.client import Client
from perdure.config import CompletionConfig, MapConfig, StepConfig
from perdure.durable import AsyncDurableContext, durable_execution, durable_step
from perdure.retries import RetryPresets
from perdure.types import StepContext

# ----------------------------------------------------------------------------------------- systems outside of Perdure

ARCHIVE = {
    "letter": "dear ada the engine works",
    "novel": "it was a dark and stormy night",
    "blot": "",
    "note": "buy milk",
}
on_the_glass: set[str] = set()
at_once: list[int] = []
"""How many documents lay there whenever one was put there."""


@durable_step
async def scan(_: StepContext, document: str) -> str:
    """The body of a step may do what it likes, also with time and network."""
    on_the_glass.add(document)
    at_once.append(len(on_the_glass))
    await asyncio.sleep(0.05)
    on_the_glass.discard(document)
    if not ARCHIVE[document]:
        raise ValueError(f"{document} is empty")
    return ARCHIVE[document]


@durable_step
async def count_words(_: StepContext, text: str) -> int:
    return len(text.split())


@durable_step
async def find_longest(_: StepContext, text: str) -> str:
    return max(text.split(), key=len)


@durable_step
async def reach(_: StepContext, address: str) -> str:
    if address == "east":
        raise ConnectionError(f"{address} does not answer")
    return address


@durable_step
def tell(_: StepContext, reader: str, count: int) -> str:
    """The body of a step may also be a `def`; it runs in a thread."""
    if reader == "carol":
        raise ConnectionError("mailbox full")
    return f"told {reader} of {count} documents"


# ----------------------------------------------------------------------------------------------------------- workflow

ONCE = StepConfig(retry_strategy=RetryPresets.none())


async def read(context: AsyncDurableContext, document: str, *_: object) -> dict[str, Any]:
    """One branch of the map, with a context of its own."""
    text = await context.step(scan(document), name="scan", config=ONCE)
    words, longest = await asyncio.gather(context.step(count_words(text)), context.step(find_longest(text)))
    return {"document": document, "words": words, "longest": longest}


@durable_execution
async def digest(event: dict[str, Any], context: AsyncDurableContext) -> dict[str, Any]:
    # The first that succeeds; which one that was is recorded.
    server = await context.promise.any(
        [context.step(reach(address), config=ONCE) for address in event["servers"]], name="choose server"
    )

    # Two at a time. One failure is tolerated, a second would end the map, and the others would not be begun.
    policy = MapConfig[str](
        max_concurrency=2,
        completion_config=CompletionConfig(tolerated_failure_count=1),
        item_namer=lambda document, _: document,
    )
    batch = await context.map(event["documents"], read, name="read", config=policy)
    if batch.completion_reason is CompletionReason.FAILURE_TOLERANCE_EXCEEDED:
        batch.throw_if_error()

    # All of them to their end, whatever it is.
    told = await context.promise.all_settled(
        [context.step(tell(reader, batch.success_count), config=ONCE) for reader in event["readers"]]
    )
    return {
        "server": server,
        "read": batch.get_results(),
        "unreadable": [error.message for error in batch.get_errors() if error],
        "told": [each.value or str(each.reason) for each in told],
    }


# ------------------------------------------------------------------------------------------------------------ program


def main() -> None:
    job = {"documents": list(ARCHIVE), "servers": ["east", "west"], "readers": ["bob", "carol"]}
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder).as_posix()}/perdure.db"
        with Worker(url, [digest]), Client(url) as client:
            result = client.start(digest, job).result(timeout=30)
    for key, value in result.items():
        print(f"{key}: {value}")
    print("at once, at most:", max(at_once))


if __name__ == "__main__":
    main()
