"""W4: the worker is killed after the last step of a workflow, and a new one completes it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.meter import expect
from benchmarks.trail import Trail

if TYPE_CHECKING:
    from benchmarks.load import Load
    from benchmarks.meter import Cell, Metrics, Order
    from benchmarks.system import System

VICTIM, HEIR = "victim", "heir"


def recovery(cell: Cell) -> Metrics:
    """Two processes, one after the other; the first one is killed by its own workflow, with SIGKILL."""
    steps, trail = cell.sizes["steps"], Trail(cell.system.place.folder)
    code, log = _run(cell.order, VICTIM)
    expect(code, -signal.SIGKILL, f"end of the process that was to be killed, which said {log[-1000:]!r}")
    expect((len(trail.exits), trail.steps), (1, steps), "bodies that came to their end, and steps that ran, so far")
    code, log = _run(cell.order, HEIR)
    expect(code, 0, f"end of the process that was to recover, which said {log[-1000:]!r}")
    told = json.loads(_answer(cell.order, HEIR).read_text(encoding="utf-8"))
    expect(told["value"], sum(range(steps)), "the workflow's result")
    # A step whose record was lost with the process would run again: none was, for the last one had been answered.
    expect(trail.steps, steps, "step bodies that ran in both processes")
    return _metrics(told, trail, steps)


def play(role: str, order: Order, system: System, load: Load) -> None:
    """What each of the two processes does."""
    event = {"steps": order.sizes["steps"], "folder": system.place.folder}
    key = f"{system.place.tag}-hold"
    begun = time.time()
    load.call(system.begin)
    if role == VICTIM:
        load.call(system.offer, "hold", event, key)
        load.idle(order.sizes["limit"])
        return
    value = load.call(system.recover, key)
    told = {"begun": begun, "ended": time.time(), "value": value, "known_dead": system.known_dead()}
    _answer(order, HEIR).write_text(json.dumps(told), encoding="utf-8")


def _metrics(told: dict[str, Any], trail: Trail, steps: int) -> Metrics:
    scale = 1000 / steps
    entries, exits = trail.entries, trail.exits
    entered = max(entry for entry in entries if entry <= exits[-1])
    metrics = {
        "recover_ms": (told["ended"] - told["begun"]) * 1e3,
        "replay_ms_per_1000": (exits[-1] - entered) * 1e3 * scale,
        "detect_ms": (entries[1] - told["begun"]) * 1e3,
        "first_run_ms": (exits[0] - entries[0]) * 1e3,
        "attempts": len(entries),
    }
    if told["known_dead"] is not None:
        metrics["known_dead_ms"] = (told["ended"] - told["known_dead"]) * 1e3
    return metrics


def _run(order: Order, role: str) -> tuple[int, str]:
    folder = Path(order.place[0])
    spec, log = folder / f"{role}-order.json", folder / f"{role}.log"
    spec.write_text(json.dumps({**order._asdict(), "role": role}), encoding="utf-8")
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.cell", str(spec)],
            stdout=file,
            stderr=subprocess.STDOUT,
            timeout=order.sizes["limit"],
            check=False,
        )
    return done.returncode, log.read_text(encoding="utf-8")


def _answer(order: Order, role: str) -> Path:
    return Path(order.place[0]) / f"{role}.json"
