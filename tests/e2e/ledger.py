"""
Worker processes that die young: `python ledger.py URL INSERT`.

Each line on the standard input has another worker forked, whose process id is answered in a line. Its workflows keep a
ledger: every transactional step writes one row with a random text, which is its result too.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import psycopg

from perdure.adapters.worker import Worker
from perdure.durable import AsyncDurableContext, DurableContext, durable_execution

if TYPE_CHECKING:
    from collections.abc import Callable

INSERT = sys.argv[2] if len(sys.argv) > 2 else ""
LONGEST_BODY = 0.004


def entry(execution: str, step: str) -> Callable[..., str]:
    def body(_: Any, connection: Any) -> str:
        text = secrets.token_hex(8)
        connection.execute(INSERT, (execution, step, text))
        time.sleep(random.uniform(0, LONGEST_BODY))
        return text

    return body


def entry_async(execution: str, step: str) -> Callable[..., Any]:
    async def body(_: Any, connection: Any) -> str:
        text = secrets.token_hex(8)
        written = connection.execute(INSERT, (execution, step, text))
        if isinstance(connection, psycopg.AsyncConnection):
            await written
        await asyncio.sleep(random.uniform(0, LONGEST_BODY))
        return text

    return body


@durable_execution
def keep(event: Any, context: DurableContext) -> dict[str, str]:
    id = context.execution_id
    texts = {"a": context.transaction(entry(id, "a"), name="a")}
    context.step(lambda _: None, name="between")
    branches = [
        lambda branch: branch.transaction(entry(id, "b"), name="b"),
        lambda branch: branch.transaction(entry_async(id, "c"), name="c"),
        lambda branch: branch.step(lambda _: "", name="beside"),
    ]
    b, c, _ = context.parallel(branches).get_results()
    return {**texts, "b": b, "c": c, "d": context.transaction(entry_async(id, "d"), name="d")}


@durable_execution
async def keep_async(event: Any, context: AsyncDurableContext) -> dict[str, str]:
    id = context.execution_id
    a = await context.transaction(entry_async(id, "a"), name="a")
    b, c, _ = await asyncio.gather(
        context.transaction(entry(id, "b"), name="b"),
        context.transaction(entry_async(id, "c"), name="c"),
        context.step(lambda _: "", name="beside"),
    )
    return {"a": a, "b": b, "c": c, "d": await context.transaction(entry(id, "d"), name="d")}


def nurse(url: str) -> None:
    # Forked out of a process that has imported everything and started nothing, a worker is there in no time.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in sys.stdin:
        child = os.fork()
        if not child:
            sys.stdin.close()
            Worker(url, [keep, keep_async], lease=600, concurrency=8).run()
            os._exit(0)
        print(child, flush=True)  # noqa: T201


if __name__ == "__main__":
    nurse(sys.argv[1])
