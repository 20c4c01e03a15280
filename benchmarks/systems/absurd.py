"""
Absurd: its state machine is made of SQL functions in Postgres, its workers pull.

The variant is `postgres` for plain functions, `postgres-async` for coroutines, both with the polling they come with
(250 ms for work, 50 ms and more for results), or `postgres-tuned`: plain functions, everything polled every 2 ms.
"""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import absurdctl
import psycopg
from absurd_sdk import Absurd, AsyncAbsurd

from benchmarks.system import CONCURRENCY, PATIENCE, SAME, System
from benchmarks.tally import STEPS, step
from benchmarks.trail import Trail

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.system import Place

QUEUE, BRANCHES = "main", "branches"
QUICK_POLL = 0.002
POLLED = {"w1": {"n": 40}, "w5": {"n": 3}}


def stamp(trace: str) -> float:
    """The time, and a byte in a file."""
    STEPS.add()
    if trace:
        with open(trace, "ab", buffering=0) as file:  # noqa: PTH123 - as short as it can be
            file.write(b".")
    return time.time()


class _Absurd(System):
    packages = ("absurd-sdk", "absurdctl", "psycopg")
    cold = "import absurd_sdk"

    def prepare(self) -> None:
        """Schema and queues, as the tool of the same release makes them."""
        with psycopg.connect(self.place.url, autocommit=True) as connection:
            connection.execute(absurdctl.BUNDLED_SCHEMA_SQL)
            for queue in (QUEUE, BRANCHES):
                connection.execute("SELECT absurd.create_queue(%s)", [queue])

    @property
    def _lease(self) -> dict[str, Any]:
        return {} if self.lease is None else {"claim_timeout": int(self.lease)}

    @property
    def _ticket(self) -> Path:
        return Path(self.place.folder) / "task"


class Blocking(_Absurd):
    """Plain functions, threads."""

    def __init__(self, variant: str, place: Place) -> None:
        super().__init__(variant, place)
        self._is_tuned = variant.endswith("-tuned")
        self._workers: list[Absurd] = []

    @property
    def skips(self) -> Mapping[str, str]:
        """As `System.skips`."""
        return {"w7": "the same as without -tuned"} if self._is_tuned else {}

    @property
    def sizes(self) -> Mapping[str, Mapping[str, float]]:
        """As `System.sizes`."""
        return {} if self._is_tuned else POLLED

    @property
    def notes(self) -> Mapping[str, str]:
        """As `System.notes`."""
        return {
            "w4": "a lease of 3 s instead of its own 120 s",
            "w5": "200 child tasks in a second queue: steps of one task cannot overlap",
        }

    def begin(self) -> None:
        """As `System.begin`."""
        self._client = Absurd(self.place.url, queue_name=QUEUE)
        self._spawner = Absurd(self.place.url, queue_name=BRANCHES)
        if self.has_worker:
            for queue in (QUEUE, BRANCHES):
                self._serve(queue)

    def end(self) -> None:
        """As `System.end`."""
        for worker in self._workers:
            worker.stop_worker()

    def start(self, kind: str, event: dict[str, Any], key: str) -> Any:
        """As `System.start`."""
        return self._client.spawn(kind, event, queue=QUEUE)["task_id"]

    def offer(self, kind: str, event: dict[str, Any], key: str) -> Any:
        """As `System.offer`; its successor finds the task's id in a file."""
        task = self._client.spawn(kind, event, queue=QUEUE)["task_id"]
        self._ticket.write_text(str(task), encoding="utf-8")
        return task

    def result(self, handle: Any) -> Any:
        """As `System.result`."""
        if self._is_tuned:
            until = time.monotonic() + PATIENCE
            found = self._client.fetch_task_result(handle)
            while time.monotonic() < until and (found is None or found.state not in _ENDS):
                time.sleep(QUICK_POLL)
                found = self._client.fetch_task_result(handle)
        else:
            found = self._client.await_task_result(handle, timeout=PATIENCE)
        return _value(found)

    def recover(self, key: str) -> Any:
        """As `System.recover`."""
        return self.result(self._ticket.read_text(encoding="utf-8"))

    def _serve(self, queue: str) -> None:
        app = Absurd(self.place.url, queue_name=queue)
        (self._define if queue == QUEUE else _define_branch)(app)
        options: dict[str, Any] = {"concurrency": CONCURRENCY, **self._lease}
        if self._is_tuned:
            options["poll_interval"] = QUICK_POLL
        threading.Thread(target=app.start_worker, kwargs=options, daemon=True).start()
        self._workers.append(app)

    def _define(self, app: Absurd) -> None:
        @app.register_task("chain")
        def chain(event: Any, context: Any) -> int:
            return sum(context.step(f"step-{n}", lambda n=n: step(n)) for n in range(event["steps"]))

        @app.register_task("fan")
        def fan(event: Any, context: Any) -> int:
            tasks = [context.step(f"spawn-{n}", self._spawn) for n in range(event["width"])]
            return sum(context.await_task_result(task, queue_name=BRANCHES).result for task in tasks)

        @app.register_task("nap")
        def nap(event: Any, context: Any) -> list[float]:
            before = context.step("stamp", lambda: stamp(event["trace"]))
            context.sleep_for("nap", event["seconds"])
            return [before, time.time()]

        @app.register_task("hold")
        def hold(event: Any, context: Any) -> int:
            trail = Trail(event["folder"])
            trail.enter()
            total = sum(context.step(f"step-{n}", lambda n=n: trail.step(n)) for n in range(event["steps"]))
            trail.leave()
            return total

    def _spawn(self) -> str:
        return str(self._spawner.spawn("branch", 1, queue=BRANCHES)["task_id"])


def _define_branch(app: Absurd) -> None:
    @app.register_task("branch")
    def branch(event: Any, context: Any) -> Any:
        return context.step("one", lambda: step(1))


class Awaiting(_Absurd):
    """Coroutines on one event loop."""

    is_async = True

    @property
    def skips(self) -> Mapping[str, str]:
        """As `System.skips`."""
        return {"gather": "W5 is made of steps alone already", "w4": SAME, "w7": SAME}

    @property
    def sizes(self) -> Mapping[str, Mapping[str, float]]:
        """As `System.sizes`."""
        return {"w1": POLLED["w1"]}

    @property
    def notes(self) -> Mapping[str, str]:
        """As `System.notes`."""
        return {"w5": "asyncio.gather over 200 steps of one task, on one connection"}

    async def begin(self) -> None:
        """As `System.begin`."""
        self._client = AsyncAbsurd(self.place.url, queue_name=QUEUE)
        self._worker = AsyncAbsurd(self.place.url, queue_name=QUEUE)
        _define_awaited(self._worker)
        self._working = asyncio.ensure_future(self._worker.start_worker(concurrency=CONCURRENCY, **self._lease))

    async def end(self) -> None:
        """As `System.end`."""
        self._worker.stop_worker()
        self._working.cancel()

    async def start(self, kind: str, event: dict[str, Any], key: str) -> Any:
        """As `System.start`."""
        return (await self._client.spawn(kind, event, queue=QUEUE))["task_id"]

    async def result(self, handle: Any) -> Any:
        """As `System.result`."""
        return _value(await self._client.await_task_result(handle, timeout=PATIENCE))

    async def recover(self, key: str) -> Any:
        """As `System.recover`."""
        return await self.result(self._ticket.read_text(encoding="utf-8"))


def _define_awaited(app: AsyncAbsurd) -> None:
    @app.register_task("chain")
    async def chain(event: Any, context: Any) -> int:
        total = 0
        for n in range(event["steps"]):
            total += await context.step(f"step-{n}", _numbered(n))
        return total

    @app.register_task("fan")
    async def fan(event: Any, context: Any) -> int:
        return sum(await asyncio.gather(*(context.step(f"one-{n}", _numbered(1)) for n in range(event["width"]))))

    @app.register_task("nap")
    async def nap(event: Any, context: Any) -> list[float]:
        async def stamped() -> float:
            return stamp(event["trace"])

        before = await context.step("stamp", stamped)
        await context.sleep_for("nap", event["seconds"])
        return [before, time.time()]


def _numbered(number: int) -> Any:
    async def body() -> int:
        return step(number)

    return body


_ENDS = ("completed", "failed", "cancelled")


def _value(found: Any) -> Any:
    if found is None or found.state != "completed":
        raise RuntimeError(f"the task is {found!r}, expected it completed")
    return found.result


def system(variant: str, place: Place) -> System:
    """The system of a variant."""
    return (Awaiting if variant.endswith("-async") else Blocking)(variant, place)
