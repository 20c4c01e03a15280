"""W1–W3, W5, W6, W12: what an engine does while nothing fails."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

from benchmarks.meter import WrongResultError, expect, expect_recorded, expect_values, measured, percentile
from benchmarks.system import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.load import Ended
    from benchmarks.meter import Cell, Metrics


def latency(cell: Cell) -> Metrics:
    """W1: workflows of one step, one after the other."""
    sizes = cell.sizes
    event = {"steps": sizes["steps"]}
    cell.load.sequence("chain", event, sizes["warm"])
    number = sizes["n"]
    cost = measured(cell, number, number * sizes["steps"], lambda: cell.load.sequence("chain", event, number))
    _check_chain(cell, cost.ended)
    return {**_spread(cost.ended), **cost.metrics}


def throughput(cell: Cell) -> Metrics:
    """W2: workflows of three steps in a closed loop."""
    sizes = cell.sizes
    event, number, clients = {"steps": sizes["steps"]}, sizes["n"], sizes["clients"]
    cell.load.loop("chain", event, sizes["warm"], sizes["warm"])
    cost = measured(cell, number, number * sizes["steps"], lambda: cell.load.loop("chain", event, number, clients))
    _check_chain(cell, cost.ended)
    rates = {"workflows_s": number / cost.wall, "steps_s": number * sizes["steps"] / cost.wall}
    return {**rates, **_spread(cost.ended), **cost.metrics}


def succession(cell: Cell) -> Metrics:
    """W3: many steps in one workflow."""
    sizes = cell.sizes
    steps, number = sizes["steps"], sizes["n"]
    event = {"steps": steps}
    cell.load.sequence("chain", {"steps": min(steps, 20)}, sizes["warm"])
    cost = measured(cell, number, number * steps, lambda: cell.load.sequence("chain", event, number))
    _check_chain(cell, cost.ended)
    total = statistics.median(each.seconds for each in cost.ended)
    return {"steps_s": steps / total, "total_ms": total * 1e3, **cost.metrics}


def evenness(cell: Cell) -> Metrics:
    """W12: what the last steps of a long workflow take, beside its first ones."""
    system, load, sizes = cell.system, cell.load, cell.sizes
    steps, window, early = sizes["steps"], sizes["window"], sizes["early"]
    load.sequence("chain", {"steps": min(steps, 20)}, sizes["warm"])
    ran = system.steps()
    (handle,) = load.launch("chain", {"steps": steps}, 1)
    at = [_when(cell, ran + mark) for mark in (early, early + window, steps - window, steps)]
    expect(load.call(system.result, handle), sum(range(steps)), "a workflow's result")
    first, last = (at[1] - at[0]) / window, (at[3] - at[2]) / window
    return {"ratio": last / first, "early_us": first * 1e6, "late_us": last * 1e6}


def _when(cell: Cell, ran: int) -> float:
    until = time.perf_counter() + PATIENCE
    while cell.system.steps() < ran:
        if time.perf_counter() > until:
            raise WrongResultError(f"the steps did not become {ran} within {PATIENCE:.0f} s")
        cell.load.idle(0.001)
    return time.perf_counter()


def fan(cell: Cell) -> Metrics:
    """W5: many branches of one workflow at once; for `async def` also as many steps without branches."""
    metrics = _fan(cell, "fan")
    if "gather" not in cell.system.skips and cell.system.is_async:
        gathered = _fan(cell, "gather")
        metrics |= {"gather_ms": gathered["total_ms"], "gather_cpu_ms_per_workflow": gathered["cpu_ms_per_workflow"]}
    return metrics


def lateness(cell: Cell) -> Metrics:
    """W6: how late workflows go on that slept at once."""
    sizes = cell.sizes
    number, seconds = sizes["n"], sizes["seconds"]
    event: dict[str, Any] = {"seconds": seconds, "trace": ""}
    cell.load.sequence("nap", event, sizes["warm"])
    cost = measured(cell, number, number, lambda: cell.load.loop("nap", event, number, number))
    late = [(after - before - seconds) * 1e3 for before, after in (each.value for each in cost.ended)]
    seen = [(each.at - each.value[0] - seconds) * 1e3 for each in cost.ended]
    # The step's own time lies before the sleep begins, by what it takes to record the step.
    expect(min(late) > 0, True, f"sleeps of {seconds} s that lasted at least that, {min(late):.2f} ms being the least")
    return {
        "p50_ms": percentile(late, 50),
        "p95_ms": percentile(late, 95),
        "most_ms": max(late),
        "seen_p50_ms": percentile(seen, 50),
        **cost.metrics,
    }


def _fan(cell: Cell, kind: str) -> Metrics:
    sizes = cell.sizes
    width, number = sizes["width"], sizes["n"]
    event = {"width": width}
    cell.load.sequence(kind, {"width": min(width, 10)}, sizes["warm"])
    cost = measured(cell, number, number * width, lambda: cell.load.sequence(kind, event, number))
    expect_values(cost.ended, width)
    expect_recorded(cell, cost.ended, width)
    total = statistics.median(each.seconds for each in cost.ended)
    return {"total_ms": total * 1e3, "branches_s": width / total, **cost.metrics}


def _check_chain(cell: Cell, ended: Sequence[Ended]) -> None:
    steps = cell.sizes["steps"]
    expect_values(ended, sum(range(steps)))
    expect_recorded(cell, ended, steps)


def _spread(ended: Sequence[Ended]) -> Metrics:
    spans = [each.seconds * 1e3 for each in ended]
    return {"p50_ms": percentile(spans, 50), "p95_ms": percentile(spans, 95)}
