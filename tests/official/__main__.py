"""
AWS's conformance suite on Perdure: `python -m tests.official`, or `tox run -e aws-conformance`.

Without arguments: all requirements of the installed suite, for `def` and for `async def` handlers. The exit code is 1
if one fails, and 2 if one has no handler.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from tests.official.bodies import Bodies
from tests.official.cloud import Cloud
from tests.official.handlers import Catalogue, MissingHandlersError
from tests.official.judge import Judge, Verdict, hasten, requirements
from tests.official.names import SCRATCH
from tests.official.report import Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aws_durable_execution_conformance_tests.extensions import RequirementCase

PACKAGES = {"def": "tests.official.blocking", "async": "tests.official.awaited"}


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for."""
    options = parser().parse_args(arguments)
    cases = chosen(options.suite, options.only)
    colours = list(PACKAGES) if options.colour == "both" else [options.colour]
    catalogues = {colour: Catalogue.of(PACKAGES[colour]) for colour in colours}
    try:
        for catalogue in catalogues.values():
            catalogue.expect(cases)
    except MissingHandlersError as missing:
        print(missing, file=sys.stderr)
        return 2
    folder = Path(options.out or tempfile.mkdtemp(prefix="aws-conformance-"))
    hasten()
    began = time.monotonic()
    with ExitStack() as stack:
        judges = {
            colour: stack.enter_context(judged(catalogue, cases, folder / colour, options.processes))
            for colour, catalogue in catalogues.items()
        }
        verdicts = run(judges, cases, options.workers)
        bodies = {colour: Bodies(judge.cloud) for colour, judge in judges.items()}
        faults = [f"{colour}, {fault}" for colour, found in bodies.items() for fault in found.faults()]
    report = Report(verdicts, time.monotonic() - began)
    for line in [*report.lines(), *body_lines(bodies, faults)]:
        print(line)
    failed = bool(report.failed or faults)
    if options.out or failed:
        print(f"histories and logs: {folder}")
    else:
        shutil.rmtree(folder)
    if options.json:
        report.write_json(options.json)
    if options.junit:
        report.write_junit(options.junit)
    return int(failed)


def body_lines(bodies: dict[str, Bodies], faults: list[str]) -> Iterator[str]:
    """What the suite does not look at: how often bodies ran."""
    for colour, found in bodies.items():
        yield f"bodies ({colour}): {found.count} ran"
    yield "each attempt of a step, submitter or check ran once" if not faults else "ran otherwise than recorded:"
    yield from (f"    {fault}" for fault in faults)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser("python -m tests.official", description=__doc__)
    made.add_argument("--colour", choices=[*PACKAGES, "both"], default="both", help="which handlers")
    made.add_argument("--suite", nargs="+", default=[], help="suites, such as step parallel")
    made.add_argument("--only", nargs="+", default=[], metavar="ID", help="requirements, such as 1-11 4-5")
    made.add_argument("--workers", type=int, default=24, help="requirements judged at once")
    made.add_argument("--processes", type=int, default=4, help="processes that run the functions, for each colour")
    made.add_argument("--out", type=Path, help="folder for histories and logs; else they are kept after failures only")
    made.add_argument("--json", type=Path, help="file for a report in JSON")
    made.add_argument("--junit", type=Path, help="file for a report in JUnit's XML")
    return made


def chosen(suites: list[str], only: list[str]) -> dict[str, RequirementCase]:
    """The requirements a run is about, in the order of their numbers."""
    found = requirements()
    unknown = {*only} - {*found} | {*suites} - {case.suite.name for case in found.values()}
    if unknown:
        raise SystemExit(f"the suite has no {', '.join(sorted(unknown))}")
    numbers = sorted(found, key=lambda number: [int(part) for part in number.split("-")])
    return {
        number: found[number]
        for number in numbers
        if (not only or number in only) and (not suites or found[number].suite.name in suites)
    }


@contextmanager
def judged(catalogue: Catalogue, cases: dict[str, RequirementCase], folder: Path, processes: int) -> Iterator[Judge]:
    """A judge of a catalogue's handlers, with a cloud of its own."""
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    deployed = catalogue.functions(cases, environment={SCRATCH: str(scratch)})
    with (
        Cloud(deployed, folder / "cloud", limit=processes) as cloud,
        closing(Judge(cloud, folder / "histories")) as judge,
    ):
        yield judge


def run(judges: dict[str, Judge], cases: dict[str, RequirementCase], workers: int) -> dict[str, list[Verdict]]:
    """All verdicts; whatever the package prints goes nowhere."""
    pool = ThreadPoolExecutor(workers)
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            ahead = {
                (colour, number): pool.submit(judge.judge, case)
                for number, case in cases.items()
                for colour, judge in judges.items()
            }
            return {colour: [ahead[colour, number].result() for number in cases] for colour in judges}
    finally:
        # Whoever interrupts the run does not want the rest of it.
        pool.shutdown(wait=False, cancel_futures=True)


if __name__ == "__main__":
    # A plain kill ends the processes that were started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
