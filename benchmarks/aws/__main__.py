"""
Perdure's handler on AWS Lambda measured beside AWS's SDK: `python -m benchmarks.aws`.

The same workflows run on both, in processes of their own: against AWS's emulator; against the least of a control plane,
which shows what is the SDK's own; and against the same taking as long as a service in the same region might. Repeats
are interleaved; figures are medians. They may be compared within one run, on a machine that does nothing else. AWS's
packages come with the group `tests`.

    python -m benchmarks.aws --repeat 30 --json figures.json
    python -m benchmarks.aws --only three,cold
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.aws.cold import cold
from benchmarks.aws.flows import ASYNC, FLOOR
from benchmarks.aws.stage import Bare, Emulated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SIDES = ["aws", "perdure", ASYNC]
ALL = [*SIDES, FLOOR]
FLOWS = {"three": ("three", None, 3), "fan50": ("fan", 50, 1225), "fan200": ("fan", 200, 19900)}
"""The workflow, its input and its result."""
PLACES: dict[str, Callable[[], Bare | Emulated]] = {
    "the emulator": lambda: Emulated(ALL),
    "a bare plane": lambda: Bare(ALL),
    "a plane 10 ms away": lambda: Bare(ALL, 0.01),
}
WARM = 5
INVOCATIONS = 100
"""After so many, memory is looked at."""

Figures = dict[str, dict[str, list[float]]]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    chosen: list[str] = options.only.split(",")
    figures: Figures = {}
    flows = [name for name in FLOWS if name in chosen]
    for name, place in PLACES.items() if flows else ():
        with place() as stage:
            _measure(figures, name, stage, flows, options.repeat)
    if "memory" in chosen:
        _memory(figures)
    if "cold" in chosen:
        figures |= cold(SIDES, options.repeat)
    print(_table(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


def _measure(figures: Figures, place: str, stage: Bare | Emulated, flows: Sequence[str], repeat: int) -> None:
    for flow in flows:
        sides = ALL if flow == "three" else SIDES
        for each in range(WARM + repeat):
            # Whoever comes first in a round does so by turns.
            turn = each % len(sides)
            for side in sides[turn:] + sides[:turn]:
                took = stage.run(side, *FLOWS[flow])
                if each >= WARM:
                    _note(figures, f"{flow} on {place}: all, ms", side, took.whole)
                    _note(figures, f"{flow} on {place}: in the handler, ms", side, took.handler)
                    _note(figures, f"{flow} on {place}: CPU, ms", side, took.busy)
                    if took.requests is not None:
                        _note(figures, f"{flow} on {place}: checkpoints", side, took.requests)


def _memory(figures: Figures) -> None:
    with Bare(SIDES) as stage:
        for number in range(INVOCATIONS):
            for side in SIDES:
                stage.run(side, *FLOWS["three"])
                if number in (0, INVOCATIONS - 1):
                    known = stage.functions[side].ask("/known")
                    _note(figures, f"memory after {number + 1} invocations, MiB", side, known["rss_mb"])


def _note(figures: Figures, what: str, side: str, value: float) -> None:
    figures.setdefault(what, {}).setdefault(side, []).append(value)


def _table(figures: Figures) -> str:
    lines = [f"{'median':<48}" + "".join(f"{side:>15}" for side in ALL) + f"{'perdure/aws':>13}"]
    for what, by_side in figures.items():
        medians = {side: statistics.median(values) for side, values in by_side.items()}
        cells = "".join(f"{medians[side]:>15.2f}" if side in medians else f"{'':>15}" for side in ALL)
        lines.append(f"{what:<48}{cells}{medians['perdure'] / medians['aws']:>13.2f}")
    return "\n".join(lines)


def _options(arguments: Sequence[str] | None) -> Any:
    parser = argparse.ArgumentParser("python -m benchmarks.aws", description="Perdure's handler beside AWS's SDK.")
    parser.add_argument("--repeat", type=int, default=20, help="of each measurement (default: 20)")
    everything = ",".join([*FLOWS, "memory", "cold"])
    parser.add_argument("--only", default=everything, help=f"some of {everything}")
    parser.add_argument("--json", type=Path, help="write all values to this file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
