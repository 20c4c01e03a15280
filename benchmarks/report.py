"""Samples become results: medians, with all samples beside them, in a JSON file that later runs add to."""

from __future__ import annotations

import json
import os
import platform
import statistics
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from benchmarks.campaign import Sample

Result = dict[str, Any]


def results(samples: Iterable[Sample]) -> list[Result]:
    """One per subject and workload, in the order of their first samples."""
    cells: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        cells.setdefault((sample.subject.name, sample.workload), []).append(sample)
    return [_result(cell) for cell in cells.values()]


def write(path: Path, found: Sequence[Result], *, append: bool) -> None:
    """Replace the file; with `append` its results of other cells stay."""
    done = {(result["system"], result["workload"]) for result in found}
    kept = [result for result in read(path) if (result["system"], result["workload"]) not in done] if append else []
    document = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "host": _host(), "results": [*kept, *found]}
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def read(path: Path) -> list[Result]:
    """The results in a file; none if there is no file."""
    if not path.exists():
        return []
    found: list[Result] = json.loads(path.read_text(encoding="utf-8"))["results"]
    return found


def _result(cell: Sequence[Sample]) -> Result:
    good = [sample.answer for sample in cell if "metrics" in sample.answer]
    last = cell[-1].answer
    result: Result = {
        "system": cell[0].subject.name,
        "workload": cell[0].workload,
        "sizes": last.get("sizes"),
        "versions": last.get("versions"),
        "calibrations": [sample.answer["calibration"] for sample in cell if "calibration" in sample.answer],
    }
    names = good[0]["metrics"] if good else {}
    values = {name: [answer["metrics"][name] for answer in good if name in answer["metrics"]] for name in names}
    if good:
        result["metrics"] = {name: statistics.median(found) for name, found in values.items()}
        result["samples"] = values
    for name in ("skipped", "error", "traceback", "note", "said"):
        if name in last:
            result[name] = last[name]
    return result


def _host() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "load": os.getloadavg(),
    }
