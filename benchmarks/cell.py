"""One fresh process of one measurement: `python -m benchmarks.cell FILE`, the file being an `Order` in JSON."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import math
import os
import resource
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.calibration import calibrate
from benchmarks.catalogue import WORKLOADS
from benchmarks.gauge import NoGauge, gauge_of
from benchmarks.load import load_on
from benchmarks.meter import Cell, Metrics, Order, WrongResultError
from benchmarks.recovery import play
from benchmarks.system import SHORT_LEASE, Place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.catalogue import Workload
    from benchmarks.system import System

DESCRIPTORS = 65_536


def main() -> None:
    order = Order(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    _allow_descriptors()
    workload = WORKLOADS[order.workload]
    system: System = importlib.import_module(f"benchmarks.systems.{order.system}").system(
        order.variant, Place(*order.place)
    )
    system.has_worker = workload.has_worker
    load = load_on(system)
    if order.role != "main":
        system.lease = SHORT_LEASE
        play(order.role, order, system, load)
    else:
        answer = _measure(order, workload, system)
        partial = Path(f"{order.out}.part")
        partial.write_text(json.dumps(answer), encoding="utf-8")
        partial.rename(order.out)
    sys.stdout.flush()
    # Whatever thread a system leaves behind ends with this.
    os._exit(0)


def _measure(order: Order, workload: Workload, system: System) -> dict[str, Any]:
    sizes = {**workload.sizes, **system.sizes.get(order.workload, {}), **order.sizes}
    answer: dict[str, Any] = {
        "sizes": sizes,
        "versions": _versions(system.packages),
        "calibration": calibrate(system.place.folder),
    }
    if reason := system.skips.get(order.workload):
        return {**answer, "skipped": reason}
    try:
        metrics = _run(order._replace(sizes=sizes), workload, system)
    except Exception as error:  # noqa: BLE001 - whatever a system raises is its result
        return {**answer, "error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    if note := system.notes.get(order.workload):
        answer["note"] = note
    return {**answer, "metrics": metrics}


def _run(order: Order, workload: Workload, system: System) -> Metrics:
    load = load_on(system)
    if not workload.is_timed:
        if order.workload != "w7":
            system.prepare()
        return _sound(workload, workload.run(Cell(system, load, NoGauge(), order.sizes, order)))
    system.prepare()
    load.call(system.begin)
    cell = Cell(system, load, gauge_of(system.place.url), order.sizes, order)
    metrics = _sound(workload, workload.run(cell))
    if workload.has_worker and order.workload != "w8":
        load.call(system.end)
    return metrics


def _sound(workload: Workload, metrics: Metrics) -> Metrics:
    """A headline that is nothing was not measured."""
    headline = workload.figures[0].metric
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise WrongResultError(f"{name} is {value!r}, expected a number")
    if headline not in metrics:
        raise WrongResultError(f"{headline} is missing, found {sorted(metrics)!r}")
    return metrics


def _versions(packages: tuple[str, ...]) -> Mapping[str, str]:
    found = {"python": sys.version.split()[0]}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _allow_descriptors() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, most), most))


if __name__ == "__main__":
    main()
