"""
Workflows that tell what they did, and the worker process that runs them: `python flows.py URL [options]`.

Every body of a step leaves a line in a file outside the store before it does anything, and so does every sign that the
process has lost what it owned: what the file says happened, whatever a journal says.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import os
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    _parser = argparse.ArgumentParser()
    _parser.add_argument("url")
    _parser.add_argument("--log", required=True)
    _parser.add_argument("--lease", type=float, default=30.0)
    _parser.add_argument("--concurrency", type=int, default=32)
    _parser.add_argument("--drain", type=float, default=30.0)
    _parser.add_argument("--skew", type=int, default=0)
    _parser.add_argument("--version", action="append", default=[])
    _parser.add_argument("--only", action="append", default=[])
    _parser.add_argument("--crash-pause", type=float)
    _parser.add_argument("--answer-within", type=float)
    ARGUMENTS = _parser.parse_args()
    if ARGUMENTS.skew:
        # Before anything is imported that might keep a reference: this process's clock is wrong.
        _time, _time_ns = time.time, time.time_ns
        time.time = lambda: _time() + ARGUMENTS.skew
        time.time_ns = lambda: _time_ns() + ARGUMENTS.skew * 1_000_000_000

from perdure.adapters.worker import Worker
from perdure.config import StepConfig, StepSemantics
from perdure.durable import AsyncDurableContext, DurableContext, DurableFunction, Duration, StepError, durable_execution
from perdure.retries import RetryStrategyConfig, create_retry_strategy
from perdure.service import service

if TYPE_CHECKING:
    from collections.abc import Callable

SECOND = Duration.from_seconds(1)
AGAIN = create_retry_strategy(RetryStrategyConfig(max_attempts=9, initial_delay=SECOND, max_delay=SECOND))
RETRIED = StepConfig(retry_strategy=AGAIN)
ONCE = StepConfig(retry_strategy=AGAIN, step_semantics=StepSemantics.AT_MOST_ONCE_PER_RETRY)

Event = dict[str, Any]


def tell(path: str, **line: Any) -> None:
    """Append a line in one write, so that lines of several processes do not mix."""
    known = {"pid": os.getpid(), "at": time.monotonic_ns(), **line}
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(handle, f"{json.dumps(known)}\n".encode())
    finally:
        os.close(handle)


def body(event: Event, step: str, value: Any, *, failures: int = 0) -> Callable[[Any], Any]:
    """A step that tells of itself, waits and takes its time, fails at first if it shall, and returns a value."""

    def run(context: Any) -> Any:
        tell(event["log"], run=event["n"], step=step, attempt=context.attempt)
        while not os.path.exists(event.get("go", "/")):  # noqa: PTH110 - as small as can be
            time.sleep(0.01)
        time.sleep(event.get("pause", 0))
        if context.attempt <= failures:
            raise ConnectionError("try again")
        return value

    return run


def submitter(event: Event) -> Callable[[str, Any], None]:
    def submit(callback_id: str, _: Any) -> None:
        tell(event["log"], run=event["n"], step="submit", attempt=1, callback=callback_id)

    return submit


# --------------------------------------------------------------------------------------------------------- sequences


@durable_execution
def chain(event: Event, context: DurableContext) -> list[int]:
    return [context.step(body(event, f"s{k}", event["n"] + k), name=f"s{k}") for k in range(event.get("steps", 3))]


@durable_execution
async def chain_async(event: Event, context: AsyncDurableContext) -> list[int]:
    steps = range(event.get("steps", 3))
    return [await context.step(body(event, f"s{k}", event["n"] + k), name=f"s{k}") for k in steps]


@durable_execution
def naps(event: Event, context: DurableContext) -> list[int]:
    first = context.step(body(event, "before", event["n"]), name="before")
    context.wait(SECOND)
    return [first, context.step(body(event, "after", event["n"]), name="after")]


@durable_execution
async def naps_async(event: Event, context: AsyncDurableContext) -> list[int]:
    first = await context.step(body(event, "before", event["n"]), name="before")
    await context.wait(SECOND)
    return [first, await context.step(body(event, "after", event["n"]), name="after")]


@durable_execution
def stubborn(event: Event, context: DurableContext) -> int:
    return context.step(body(event, "third", event["n"], failures=1), name="third", config=RETRIED)


@durable_execution
async def stubborn_async(event: Event, context: AsyncDurableContext) -> int:
    return await context.step(body(event, "third", event["n"], failures=1), name="third", config=RETRIED)


# ---------------------------------------------------------------------------------------------------- at most once


@durable_execution
def once(event: Event, context: DurableContext) -> list[int]:
    found = []
    for k in range(3):
        try:
            found.append(context.step(body(event, f"s{k}", k), name=f"s{k}", config=ONCE))
        except StepError:
            found.append(k)
    return found


@durable_execution
async def once_async(event: Event, context: AsyncDurableContext) -> list[int]:
    found = []
    for k in range(3):
        try:
            found.append(await context.step(body(event, f"s{k}", k), name=f"s{k}", config=ONCE))
        except StepError:
            found.append(k)
    return found


# -------------------------------------------------------------------------------------------------- what goes outside


@durable_execution
def call(event: Event, context: DurableContext) -> list[Any]:
    answer = context.wait_for_callback(submitter(event), name="call")
    return [answer, context.step(body(event, "after", event["n"]), name="after")]


@durable_execution
async def call_async(event: Event, context: AsyncDurableContext) -> list[Any]:
    answer = await context.wait_for_callback(submitter(event), name="call")
    return [answer, await context.step(body(event, "after", event["n"]), name="after")]


@durable_execution
def child(event: Event, context: DurableContext) -> int:
    return context.step(body(event, "child", event["n"]), name="child")


@durable_execution
async def family(event: Event, context: AsyncDurableContext) -> list[int]:
    first = context.invoke("child", {**event, "n": event["n"] * 10})
    second = context.invoke("child", {**event, "n": event["n"] * 10 + 1})
    return [await first, await second, await context.step(body(event, "after", event["n"]), name="after")]


@durable_execution
def pair(event: Event, context: DurableContext) -> list[int]:
    kid = context.invoke("child", {**event, "n": event["n"] * 10})
    return [kid, context.step(body(event, "after", event["n"]), name="after")]


# ----------------------------------------------------------------------------------------------------------- branches


@durable_execution
def fan(event: Event, context: DurableContext) -> list[int]:
    def branch(inner: DurableContext, item: int, *_: Any) -> int:
        first: int = inner.step(body(event, f"a{item}", item), name=f"a{item}")
        if item == 1:
            inner.wait(SECOND)
        return first + inner.step(body(event, f"b{item}", item), name=f"b{item}")

    return context.map(range(3), branch, "fan").get_results()


@durable_execution
async def fan_async(event: Event, context: AsyncDurableContext) -> list[int]:
    async def branch(inner: AsyncDurableContext, item: int, *_: Any) -> int:
        first: int = await inner.step(body(event, f"a{item}", item), name=f"a{item}")
        if item == 1:
            await inner.wait(SECOND)
        return first + await inner.step(body(event, f"b{item}", item), name=f"b{item}")

    return (await context.map(range(3), branch, "fan")).get_results()


# ------------------------------------------------------------------------------------------------------ single purpose


def station(event: Event, k: int) -> Callable[[Any], int]:
    """A step at which, where it is the one to be held up, nothing goes on until a file is there, for all or for one."""

    def run(context: Any) -> int:
        tell(event["log"], run=event["n"], step=f"s{k}", attempt=context.attempt)
        signs = [event["go"], f"{event['go']}-{os.getpid()}"]
        while k == event["hold"] and not any(map(os.path.exists, signs)):
            time.sleep(0.01)
        return k

    return run


@durable_execution
def stations(event: Event, context: DurableContext) -> list[int]:
    config = ONCE if event["once"] else None
    return [context.step(station(event, k), name=f"s{k}", config=config) for k in range(event["steps"])]


@durable_execution
async def stations_async(event: Event, context: AsyncDurableContext) -> list[int]:
    config = ONCE if event["once"] else None
    return [await context.step(station(event, k), name=f"s{k}", config=config) for k in range(event["steps"])]


@durable_execution
def poison(event: Event, context: DurableContext) -> int:
    tell(event["log"], run=event["n"], step="bite", attempt=1)
    if not os.path.exists(event["antidote"]):  # noqa: PTH110 - as small as can be
        os._exit(9)
    return context.step(body(event, "cured", event["n"]), name="cured")


def versioned(version: str) -> DurableFunction[Any, Any]:
    """The function `order` as some version of an application has it: each has steps of its own."""

    def order(event: Event, context: DurableContext) -> list[str]:
        first = context.step(body(event, f"{version}-first", version), name=f"{version}-first")
        context.wait(SECOND, name=f"{version}-wait")
        return [first, context.step(body(event, f"{version}-second", version), name=f"{version}-second")]

    return durable_execution(order, name="order", version=version)


ALL: list[DurableFunction[Any, Any]] = [
    *(chain, chain_async, naps, naps_async, stubborn, stubborn_async, once, once_async, call, call_async),
    *(child, family, pair, fan, fan_async, poison, stations, stations_async),
]


class _Signs(logging.Handler):
    """Tells the file what a worker says of leases and owners it has lost, and of what went wrong."""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.levelno >= logging.WARNING or "another owner" in message:
            error = record.exc_info[1] if record.exc_info else None
            tell(ARGUMENTS.log, sign=message, level=record.levelname, error=repr(error) if error else None)


class _Told(Worker):
    """A worker that tells when it is there."""

    def start(self) -> None:
        super().start()
        tell(ARGUMENTS.log, up=True)


def main() -> None:
    faulthandler.register(signal.SIGUSR1)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(name)s %(message)s")
    logging.getLogger().addHandler(_Signs(logging.INFO))
    if ARGUMENTS.crash_pause is not None:
        policy = partial(service.CrashPolicy, first_pause=ARGUMENTS.crash_pause, factor=1.0)
        service.CrashPolicy = policy  # type: ignore[assignment, misc]
    if ARGUMENTS.answer_within is not None:
        from perdure.backends.postgres import pool  # noqa: PLC0415 - where it is installed

        pool.ANSWER = ARGUMENTS.answer_within
    functions = [function for function in ALL if not ARGUMENTS.only or function.name in ARGUMENTS.only]
    if ARGUMENTS.version:
        functions = [versioned(version) for version in ARGUMENTS.version]
    _Told(
        ARGUMENTS.url,
        functions,
        concurrency=ARGUMENTS.concurrency,
        lease=ARGUMENTS.lease,
        drain_timeout=ARGUMENTS.drain,
    ).run()


if __name__ == "__main__":
    main()
