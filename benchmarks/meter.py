"""Times a piece of work, counts what it cost, and checks that it was done."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.process import cpu_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.gauge import Gauge
    from benchmarks.load import Ended, Load
    from benchmarks.system import System

Sizes = dict[str, Any]
Metrics = dict[str, float]


class WrongResultError(AssertionError):
    """What was measured was not the work that should have been done."""


class Order(NamedTuple):
    """
    What a cell's process is told to do.

    Attributes:
        system, variant, workload: What runs.
        sizes: Of the workload, where they differ from the usual ones.
        place: The fields of the cell's `Place`.
        out: The file its answer is written to.
        role: `main`, or what a cell's own child is for.
    """

    system: str
    variant: str
    workload: str
    sizes: Sizes
    place: tuple[str, str, str]
    out: str
    role: str = "main"


class Cell(NamedTuple):
    """One system under one workload, in this process."""

    system: System
    load: Load
    gauge: Gauge
    sizes: Sizes
    order: Order


class Cost(NamedTuple):
    """
    What a piece of work took.

    Attributes:
        ended: The workflows.
        wall: Seconds.
        metrics: CPU and the server's counters, per workflow.
    """

    ended: Sequence[Ended]
    wall: float
    metrics: Metrics


def measured(cell: Cell, workflows: int, steps: int, work: Callable[[], Sequence[Ended]]) -> Cost:
    """
    Do the work.

    Raises:
        WrongResultError: Not just so many workflows ended, or not just so many step bodies ran.
    """
    system, ran = cell.system, cell.system.steps()
    counters, workers = cell.gauge.read(), _workers_cpu(system)
    cpu, begun = time.process_time(), time.perf_counter()
    ended = work()
    wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
    cpu += _workers_cpu(system) - workers
    spent = {name: after - counters[name] for name, after in cell.gauge.read().items()}
    ran = system.steps() - ran
    expect(len(ended), workflows, "workflows ended")
    expect(ran, steps, "step bodies ran")
    return Cost(ended, wall, {"cpu_ms_per_workflow": cpu * 1e3 / workflows, **_per_workflow(spent, workflows)})


def expect(found: object, wanted: object, what: str) -> None:
    """Refuse a measurement of something else."""
    if found != wanted:
        raise WrongResultError(f"{what}: {found!r}, expected {wanted!r}")


def expect_values(ended: Sequence[Ended], wanted: object) -> None:
    """Every workflow returned this."""
    for each in ended:
        expect(each.value, wanted, "a workflow's result")


def expect_recorded(cell: Cell, ended: Sequence[Ended], steps: int) -> None:
    """The store has recorded so many steps of the last workflow, if it can be asked."""
    recorded = cell.load.call(cell.system.recorded, ended[-1].handle) if ended[-1].handle is not None else None
    if recorded is not None:
        expect(recorded, steps, "steps recorded of a workflow")


def percentile(values: Sequence[float], percent: float) -> float:
    """By nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(percent / 100 * (len(ordered) - 1))))]


def _workers_cpu(system: System) -> float:
    return sum(cpu_seconds(pid) for pid in system.workers() if pid != os.getpid())


def _per_workflow(spent: Mapping[str, float], workflows: int) -> Metrics:
    return {f"{name}_per_workflow": value / workflows for name, value in spent.items()}
