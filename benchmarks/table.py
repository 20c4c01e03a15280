"""Results for reading: a table per workload, Perdure's headline beside that of its peers."""

from __future__ import annotations

import os
import statistics
from typing import TYPE_CHECKING

from benchmarks.catalogue import WORKLOADS
from benchmarks.roster import OWN, VARIANTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.catalogue import Figure, Workload
    from benchmarks.report import Result

DISTURBED = 1.3
"""A calibration that took so many times the best one's time tells of a disturbed sample."""
LONGEST = 200
LEGEND = (
    "medians over repeats; spread: (most - least) / median of the headline; ×name: how many times as good as that "
    "system's best variant of the same colour, on the same store if it has that, else on postgres; "
    "!: the machine was slower than at its best during these samples"
)


def tables(results: Sequence[Result]) -> str:
    """All tables, and how to read them."""
    known = [name for name in WORKLOADS if any(result["workload"] == name for result in results)]
    best = min((loop for result in results for loop in _loops(result)), default=0.0)
    ordered = sorted(results, key=_place)
    parts = [_table(name, [result for result in ordered if result["workload"] == name], best) for name in known]
    return "\n\n".join([*parts, LEGEND])


def brief(workload: str, metrics: dict[str, float]) -> str:
    """The figures of one sample in a line."""
    shown = [figure for figure in WORKLOADS[workload].figures if figure.metric in metrics]
    return ", ".join(f"{figure.title} {metrics[figure.metric]:.{figure.digits}f}" for figure in shown)


def _table(name: str, results: Sequence[Result], best: float) -> str:
    workload = WORKLOADS[name]
    figures = [f for f in workload.figures if any(f.metric in result.get("metrics", {}) for result in results)]
    peers = [system for system in VARIANTS if system != OWN and any(_is_of(result, system) for result in results)]
    aims = ", ".join(f"{f.title} {'>' if f.is_rate else '<'} {f.aim:g}" for f in workload.figures if f.aim is not None)
    heads = [
        "system",
        *(figure.title for figure in figures),
        "spread",
        *(f"×{peer}" for peer in peers),
        "loop",
        "fsync",
    ]
    rows: list[list[str]] = []
    remarks: dict[str, list[str]] = {}
    for result in results:
        if "metrics" not in result:
            remarks.setdefault(_reason(result), []).append(result["system"])
            continue
        cells = [_cell(result, figure) for figure in figures]
        ratios = [_ratio(result, peer, results, workload) for peer in peers]
        rows.append([result["system"], *cells, _noise(result, workload), *ratios, *_calibration(result, best)])
        if "note" in result:
            remarks.setdefault(result["note"], []).append(result["system"])
    title = f"{name.upper()}  {workload.title}" + (f"  (aims: {aims})" if aims else "")
    return "\n".join([title, *_other_sizes(workload, results), *_aligned([heads, *rows]), *_grouped(remarks)])


def _other_sizes(workload: Workload, results: Sequence[Result]) -> list[str]:
    """Says so when a figure is not of what the title tells."""
    found: dict[str, list[str]] = {}
    for result in results:
        sizes = result.get("sizes") or {}
        other = {name: size for name, size in sizes.items() if size != workload.sizes[name]}
        if other and "metrics" in result:
            text = "other sizes: " + ", ".join(f"{name} = {size}" for name, size in other.items())
            found.setdefault(text, []).append(result["system"])
    return _grouped(found)


def _grouped(remarks: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"  {', '.join(systems)}: {text}" for text, systems in remarks.items()]


def _reason(result: Result) -> str:
    return f"skipped, {result['skipped']}" if "skipped" in result else f"FAILED, {str(result.get('error'))[:LONGEST]}"


def _cell(result: Result, figure: Figure) -> str:
    value = result["metrics"].get(figure.metric)
    return "-" if value is None else f"{value:,.{figure.digits}f}"


def _noise(result: Result, workload: Workload) -> str:
    samples = result["samples"][workload.figures[0].metric]
    middle = statistics.median(samples)
    return f"{(max(samples) - min(samples)) / middle:.0%}" if len(samples) > 1 and middle else "-"


def _ratio(result: Result, peer: str, results: Sequence[Result], workload: Workload) -> str:
    figure = workload.figures[0]
    if not _is_of(result, OWN):
        return ""
    own = result["metrics"][figure.metric]
    others = [value for value in _matching(result, peer, results, figure) if value > 0]
    if not others or own <= 0:
        return "-"
    ratio = own / max(others) if figure.is_rate else min(others) / own
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"  # noqa: PLR2004 - three digits are enough


def _matching(result: Result, peer: str, results: Sequence[Result], figure: Figure) -> list[float]:
    """The peer's values to compare with: of the nearest store, and of the same colour where it has both."""
    store, _, how = result["system"].partition(":")[2].partition("-")
    found = [other for other in results if _is_of(other, peer) and figure.metric in other.get("metrics", {})]
    near = [other for other in found if _store(other) == store] or [o for o in found if _store(o) == "postgres"]
    same = [other for other in near if ("-async" in other["system"]) == ("async" in how)]
    return [other["metrics"][figure.metric] for other in same or near]


def _calibration(result: Result, best: float) -> list[str]:
    loops, writes = _loops(result), [each["fsync_us"] for each in result["calibrations"]]
    is_disturbed = max(loops) > best * DISTURBED or max(_loads(result)) > (os.cpu_count() or 1)
    return [f"{statistics.median(loops):.1f} ms{'!' if is_disturbed else ''}", f"{statistics.median(writes):.0f} µs"]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        first, *rest = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  " + "  ".join([first, *rest]).rstrip())
    return lines


def _place(result: Result) -> tuple[int, int]:
    system, _, variant = result["system"].partition(":")
    return list(VARIANTS).index(system), VARIANTS[system].index(variant)


def _is_of(result: Result, system: str) -> bool:
    return bool(result["system"].startswith(f"{system}:"))


def _store(result: Result) -> str:
    return str(result["system"].partition(":")[2].partition("-")[0])


def _loops(result: Result) -> list[float]:
    return [each["cpu_ms"] for each in result["calibrations"]]


def _loads(result: Result) -> Iterable[float]:
    return [each["load"] for each in result["calibrations"]]
