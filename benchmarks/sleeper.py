"""W8: what many sleeping workflows cost the worker that nobody needs for an hour."""

from __future__ import annotations

import gc
import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.load import LAUNCHERS
from benchmarks.meter import WrongResultError, expect
from benchmarks.process import cpu_seconds, resident_mb, threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.load import Load
    from benchmarks.meter import Cell, Metrics

CLAIMS = 200
CHUNK = 1000


def sleepers(cell: Cell) -> Metrics:
    """Memory, threads and CPU time of the worker, and what claiming costs beside so many that are not due."""
    system, load, sizes = cell.system, cell.load, cell.sizes
    number, trace = sizes["n"], Path(system.place.folder) / "asleep"
    load.sequence("chain", {"steps": 1}, sizes["warm"])
    before = _claim_ms(cell)
    # What the first busy moment costs for good, threads and caches, is no sleeper's.
    load.loop("chain", {"steps": 1}, sizes["burst"], LAUNCHERS)
    gc.collect()
    pids = system.workers() or [os.getpid()]
    base, begun = _sum(resident_mb, pids), time.perf_counter()
    event: dict[str, Any] = {"seconds": sizes["seconds"], "trace": str(trace)}
    started = _launch(load, event, number)
    submitted = time.perf_counter() - begun
    _await_sleep(cell, trace)
    asleep = time.perf_counter() - begun
    expect(started, number, "workflows started")
    load.idle(sizes["settle"])
    gc.collect()
    resident = _sum(resident_mb, pids)
    metrics = _idle(cell, pids)
    expect(_fallen(trace), number, "workflows asleep")
    metrics |= {
        "kb_per_workflow": (resident - base) * 1024 / number,
        "rss_mb": resident,
        "threads": _sum(threads, pids),
        "submit_s": submitted,
        "all_asleep_s": asleep,
    }
    if before is not None and (after := _claim_ms(cell)) is not None:
        metrics |= {"claim_before_ms": before, "claim_ms": after, "claim_ratio": after / before}
    return metrics


def _launch(load: Load, event: dict[str, Any], number: int) -> int:
    """Start them; their handles are dropped, being the client's and not what a sleeper costs the worker."""
    return sum(len(load.launch("nap", event, min(CHUNK, number - done))) for done in range(0, number, CHUNK))


def _await_sleep(cell: Cell, trace: Path) -> None:
    until = time.monotonic() + cell.sizes["limit"]
    while _fallen(trace) < cell.sizes["n"]:
        if time.monotonic() > until:
            raise WrongResultError(f"{_fallen(trace)} of {cell.sizes['n']} fell asleep within {cell.sizes['limit']} s")
        cell.load.idle(0.05)


def _idle(cell: Cell, pids: Sequence[int]) -> Metrics:
    """CPU and server work per second while all sleep."""
    counters, cpu, begun = cell.gauge.read(), _sum(cpu_seconds, pids), time.perf_counter()
    cell.load.idle(cell.sizes["idle"])
    span = time.perf_counter() - begun
    metrics = {"idle_cpu_percent": (_sum(cpu_seconds, pids) - cpu) / span * 100}
    spent = {name: after - counters[name] for name, after in cell.gauge.read().items()}
    return metrics | {f"idle_{name}_per_s": value / span for name, value in spent.items()}


def _claim_ms(cell: Cell) -> float | None:
    spans = cell.system.claims(CLAIMS)
    return statistics.median(spans) * 1e3 if spans else None


def _fallen(trace: Path) -> int:
    return trace.stat().st_size if trace.exists() else 0


def _sum(measure: Any, pids: Sequence[int]) -> float:
    return float(sum(measure(pid) for pid in pids))
