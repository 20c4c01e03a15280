"""
DBOS Transact, a library inside the process; it begins workflows in the process that starts them.

The variant is `postgres` or `sqlite`, with `-async` for coroutine workflows, or `postgres-queue` for work that goes
through a queue with its usual polling, as a process that runs no workflows would hand it over.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from dbos import DBOS, SetWorkflowID

from benchmarks.system import SAME, System
from benchmarks.tally import STEPS, step
from benchmarks.trail import Trail

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.system import Place

QUEUE = "jobs"
ONE_PATH = "the queue is measured by W1 and W2 only"


def stamp(trace: str) -> float:
    """The time, and a byte in a file."""
    STEPS.add()
    if trace:
        with open(trace, "ab", buffering=0) as file:  # noqa: PTH123 - as short as it can be
            file.write(b".")
    return time.time()


def _blocking_kinds() -> dict[str, Callable[..., Any]]:
    """Made once an engine is configured: DBOS registers them globally."""
    one, stamped = DBOS.step(name="one")(step), DBOS.step(name="stamp")(stamp)

    @DBOS.step()
    def left(folder: str, number: int) -> int:
        return Trail(folder).step(number)

    @DBOS.workflow()
    def chain(event: dict[str, Any]) -> int:
        return sum(one(number) for number in range(event["steps"]))

    @DBOS.workflow()
    def branch() -> int:
        return one(1)

    @DBOS.workflow()
    def fan(event: dict[str, Any]) -> int:
        handles = [DBOS.start_workflow(branch) for _ in range(event["width"])]
        return sum(handle.get_result() for handle in handles)

    @DBOS.workflow()
    def nap(event: dict[str, Any]) -> list[float]:
        before = stamped(event["trace"])
        DBOS.sleep(event["seconds"])
        return [before, time.time()]

    @DBOS.workflow()
    def hold(event: dict[str, Any]) -> int:
        trail = Trail(event["folder"])
        trail.enter()
        total = sum(left(event["folder"], number) for number in range(event["steps"]))
        trail.leave()
        return total

    return {"chain": chain, "fan": fan, "nap": nap, "hold": hold}


def _awaited_kinds() -> dict[str, Callable[..., Any]]:
    @DBOS.step()
    async def one(number: int) -> int:
        return step(number)

    @DBOS.step()
    async def stamped(trace: str) -> float:
        return stamp(trace)

    @DBOS.step()
    async def left(folder: str, number: int) -> int:
        return Trail(folder).step(number)

    @DBOS.workflow()
    async def chain(event: dict[str, Any]) -> int:
        total = 0
        for number in range(event["steps"]):
            total += await one(number)
        return total

    @DBOS.workflow()
    async def fan(event: dict[str, Any]) -> int:
        return sum(await asyncio.gather(*(one(1) for _ in range(event["width"]))))

    @DBOS.workflow()
    async def nap(event: dict[str, Any]) -> list[float]:
        before = await stamped(event["trace"])
        await DBOS.sleep_async(event["seconds"])
        return [before, time.time()]

    @DBOS.workflow()
    async def hold(event: dict[str, Any]) -> int:
        trail = Trail(event["folder"])
        trail.enter()
        total = 0
        for number in range(event["steps"]):
            total += await left(event["folder"], number)
        trail.leave()
        return total

    return {"chain": chain, "fan": fan, "nap": nap, "hold": hold}


class _Dbos(System):
    packages = ("dbos", "SQLAlchemy", "psycopg")
    cold = "import dbos"

    @property
    def skips(self) -> Mapping[str, str]:
        """As `System.skips`."""
        if self._is_queued:
            return dict.fromkeys(("w3", "w4", "w5", "w6", "w7", "w8"), ONE_PATH)
        return {"gather": "W5 is made of steps alone already", "w7": SAME} if self.is_async else {}

    @property
    def sizes(self) -> Mapping[str, Mapping[str, float]]:
        """As `System.sizes`."""
        return {"w1": {"n": 10, "warm": 1}, "w2": {"n": 200, "warm": 1}} if self._is_queued else {}

    @property
    def _is_queued(self) -> bool:
        return self.variant.endswith("-queue")

    def _launch(self, kinds: Callable[[], dict[str, Callable[..., Any]]]) -> None:
        DBOS(
            config={
                "name": "bench",
                "system_database_url": self.place.url,
                "log_level": "ERROR",
                "application_version": "1",
                "executor_id": "local",
            }
        )
        self._kinds = kinds()
        DBOS.launch()
        if self._is_queued:
            DBOS.register_queue(QUEUE)


class Blocking(_Dbos):
    """Plain functions."""

    @property
    def notes(self) -> Mapping[str, str]:
        """As `System.notes`."""
        return {"w5": "200 child workflows of one step: plain steps cannot overlap in one workflow"}

    def begin(self) -> None:
        """As `System.begin`."""
        self._launch(_blocking_kinds)

    def end(self) -> None:
        """As `System.end`."""
        DBOS.destroy(workflow_completion_timeout_sec=0)

    def start(self, kind: str, event: dict[str, Any], key: str) -> Any:
        """As `System.start`."""
        with SetWorkflowID(key):
            if self._is_queued:
                return DBOS.enqueue_workflow(QUEUE, self._kinds[kind], event)
            return DBOS.start_workflow(self._kinds[kind], event)

    def result(self, handle: Any) -> Any:
        """As `System.result`."""
        return handle.get_result()

    def recorded(self, handle: Any) -> Any:
        """As `System.recorded`."""
        return _steps(DBOS.list_workflow_steps(handle.get_workflow_id()))

    def recover(self, key: str) -> Any:
        """As `System.recover`: launching has begun to."""
        return DBOS.retrieve_workflow(key).get_result()


class Awaiting(_Dbos):
    """Coroutine functions."""

    is_async = True

    @property
    def notes(self) -> Mapping[str, str]:
        """As `System.notes`."""
        return {"w5": "asyncio.gather over 200 steps of one workflow"}

    async def begin(self) -> None:
        """As `System.begin`."""
        self._launch(_awaited_kinds)

    async def end(self) -> None:
        """As `System.end`."""
        DBOS.destroy(workflow_completion_timeout_sec=0)

    async def start(self, kind: str, event: dict[str, Any], key: str) -> Any:
        """As `System.start`."""
        with SetWorkflowID(key):
            return await DBOS.start_workflow_async(self._kinds[kind], event)

    async def result(self, handle: Any) -> Any:
        """As `System.result`."""
        return await handle.get_result()

    async def recorded(self, handle: Any) -> Any:
        """As `System.recorded`."""
        return _steps(await DBOS.list_workflow_steps_async(handle.get_workflow_id()))

    async def recover(self, key: str) -> Any:
        """As `System.recover`: launching has begun to."""
        handle: Any = await DBOS.retrieve_workflow_async(key)
        return await handle.get_result()


def system(variant: str, place: Place) -> System:
    """The system of a variant."""
    return (Awaiting if variant.endswith("-async") else Blocking)(variant, place)


def _steps(recorded: Any) -> int | None:
    """How many are steps of our own; None where a workflow is made of other workflows."""
    own = [each for each in recorded if each["function_name"].endswith("one")]
    return len(own) if len(own) == len(recorded) else None
