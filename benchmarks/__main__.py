"""
The benchmark: `python -m benchmarks`, or `tox run -e bench --` with the same arguments.

Without arguments: W1–W8 on everything that is installed, three times each. Figures of one run may be compared with each
other, not with those of another machine or day. They need a folder on a disk, and a machine that does nothing else.

    python -m benchmarks --systems 'perdure:postgres*,dbos,floor' --workloads w1,w2 --json figures.json
    python -m benchmarks --systems perdure:postgres --workloads w9,w10,w11 --json figures.json --append
    python -m benchmarks --systems perdure:redis --workloads w8 --set w8.n=100000 --set w8.limit=900 --limit 1200
    python -m benchmarks --python dbos=/some/venv/bin/python --systems dbos
    python -m benchmarks --table figures.json
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.calibration import file_system
from benchmarks.campaign import Campaign, Sample
from benchmarks.catalogue import WORKLOADS
from benchmarks.report import read, results, write
from benchmarks.roster import subjects
from benchmarks.servers import Servers
from benchmarks.table import brief, tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.table:
        print(tables(read(options.table)))
        return 0
    try:
        chosen = subjects(_split(options.systems), dict(_pair(each) for each in options.python))
        workloads = _workloads(_split(options.workloads))
        sizes = _sizes(options)
    except ValueError as error:
        parser.error(str(error))
    given = {store: url for store in ("postgres", "redis", "valkey") if (url := getattr(options, store))}
    with tempfile.TemporaryDirectory(prefix="perdure-bench-", dir=options.folder, ignore_cleanup_errors=True) as place:
        folder = Path(place)
        folder.chmod(0o711)  # PostgreSQL may have to run as another user
        if file_system(place) == "tmpfs":
            print(
                f"{place} is on a tmpfs, where durability is free; name a folder on a disk: --folder", file=sys.stderr
            )
        with Servers(folder, given) as servers:
            campaign = Campaign(
                subjects=chosen,
                workloads=workloads,
                repeat=options.repeat,
                sizes=sizes,
                folder=folder,
                limit=options.limit,
            )
            return _run(campaign, servers, options)


def _run(campaign: Campaign, servers: Servers, options: argparse.Namespace) -> int:
    samples: list[Sample] = []
    for sample in campaign.run(servers, _tell):
        samples.append(sample)
        if options.json:
            write(options.json, results(samples), append=options.append or len(samples) > 1)
    found = read(options.json) if options.json else results(samples)
    print(f"\n{tables(found)}")
    return 1 if any("error" in sample.answer for sample in samples) else 0


def _tell(sample: Sample) -> None:
    answer = sample.answer
    calibration = answer.get("calibration", {})
    how = ", ".join(f"{name} {value}" for name, value in calibration.items())
    if "metrics" in answer:
        outcome = brief(sample.workload, answer["metrics"])
    else:
        outcome = f"skipped, {answer['skipped']}" if "skipped" in answer else f"FAILED, {answer['error']}"
    print(f"{sample.subject.name} {sample.workload}: {outcome}  [{sample.seconds:.1f} s; {how}]", flush=True)
    if "error" in answer:
        print(answer.get("traceback", ""), answer.get("said", ""), sep="\n", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks", description="Measure Perdure beside its peers.")
    parser.add_argument("--systems", help="such as perdure,dbos:postgres or '*:sqlite*' (default: all)")
    parser.add_argument("--workloads", help="such as w1,w2; all: W9 to W12 as well (default: w1 to w8)")
    parser.add_argument("--repeat", type=int, default=3, help="fresh processes per system and workload (default: 3)")
    parser.add_argument("--quick", action="store_true", help="smallest sizes: to see that it runs, not to measure")
    parser.add_argument(
        "--set", action="append", default=[], metavar="W.NAME=N", help="another size, such as w8.n=100000"
    )
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--append", action="store_true", help="keep the results of other cells in that file")
    parser.add_argument("--table", type=Path, help="only show the results in this file")
    parser.add_argument("--folder", help="where data lie, on a disk (default: that of temporary files)")
    parser.add_argument("--limit", type=float, help="seconds that one process may take (default: 300, w10: 3600)")
    parser.add_argument(
        "--python", action="append", default=[], metavar="SYSTEM=PATH", help="the interpreter that has a peer installed"
    )
    for store in ("postgres", "redis", "valkey"):
        name = f"PERDURE_BENCH_{store.upper()}"
        told = f"URL of a server to use instead of one of our own (default: ${name})"
        parser.add_argument(f"--{store}", default=os.environ.get(name), metavar="URL", help=told)
    return parser


def _split(text: str | None) -> list[str]:
    return text.split(",") if text else []


def _workloads(names: Sequence[str]) -> list[str]:
    if list(names) == ["all"]:
        return list(WORKLOADS)
    for name in names:
        if name not in WORKLOADS:
            raise ValueError(f"{name!r} is no workload; there are {', '.join(WORKLOADS)}")
    return list(names) or [name for name, workload in WORKLOADS.items() if not workload.is_own]


def _sizes(options: argparse.Namespace) -> Mapping[str, Mapping[str, Any]]:
    sizes: dict[str, dict[str, Any]] = {
        name: dict(workload.quick) if options.quick else {} for name, workload in WORKLOADS.items()
    }
    for each in options.set:
        where, value = _pair(each)
        name, _, size = where.partition(".")
        if name not in WORKLOADS or size not in WORKLOADS[name].sizes:
            known = {name: list(workload.sizes) for name, workload in WORKLOADS.items()}
            raise ValueError(f"{where!r} is no size; there are {known}")
        sizes[name][size] = json.loads(value)
    return sizes


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise ValueError(f"{text!r} is no pair, which looks like NAME=VALUE")
    return name, value


if __name__ == "__main__":
    sys.exit(main())
