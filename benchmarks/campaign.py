"""Runs cells: each in a fresh process, on fresh data, one after the other."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from benchmarks.catalogue import WORKLOADS
from benchmarks.meter import Order
from benchmarks.roster import OWN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from benchmarks.roster import Subject
    from benchmarks.servers import Servers

ROOT = Path(__file__).resolve().parents[1]
LAST_WORDS = 2000


@attrs.frozen
class Sample:
    """What one cell answered: `metrics`, or `skipped` or `error` with the reason."""

    subject: Subject
    workload: str
    answer: dict[str, Any]
    seconds: float = 0.0


@attrs.frozen(kw_only=True)
class Campaign:
    """
    What is to be measured.

    Attributes:
        subjects, workloads, repeat: Every subject under every workload, so often; repeats lie apart in time, so that a
            disturbance does not hit all of one cell.
        sizes: By workload, where they differ from the usual ones.
        folder: On a disk; whose own folder goes with each cell.
        limit: Seconds that a cell may take, or None for the workload's own.
    """

    subjects: Sequence[Subject]
    workloads: Sequence[str]
    repeat: int
    sizes: Mapping[str, Mapping[str, Any]]
    folder: Path
    limit: float | None

    def run(self, servers: Servers, tell: Callable[[Sample], None]) -> Iterator[Sample]:
        """All samples, as they are made; a cell that was skipped or has failed is not repeated."""
        absent = {subject: reason for subject in self.subjects if (reason := subject.missing())}
        given_up: set[tuple[Subject, str]] = set()
        for _ in range(self.repeat):
            for workload in self.workloads:
                for subject in self.subjects:
                    if (subject, workload) in given_up or (WORKLOADS[workload].is_own and subject.system != OWN):
                        continue
                    begun = time.perf_counter()
                    reason = absent.get(subject)
                    answer = {"skipped": reason} if reason else self._measure(subject, workload, servers)
                    sample = Sample(subject, workload, answer, time.perf_counter() - begun)
                    if "metrics" not in answer:
                        given_up.add((subject, workload))
                    tell(sample)
                    yield sample

    def _measure(self, subject: Subject, workload: str, servers: Servers) -> dict[str, Any]:
        folder = Path(tempfile.mkdtemp(prefix="cell-", dir=self.folder))
        tag = folder.name.replace("-", "_").lower()
        answer: dict[str, Any] = {}
        try:
            url = servers.fresh(subject.store, folder, tag)
            order = Order(
                system=subject.system,
                variant=subject.variant,
                workload=workload,
                sizes=dict(self.sizes.get(workload, {})),
                place=(str(folder), url, tag.replace("_", "-")),
                out=str(folder / "answer.json"),
            )
            answer = self._run(subject, order, folder)
            servers.clear(subject.store, tag)
        except Exception as error:  # noqa: BLE001 - a server that does not start, or is gone, is this cell's answer
            answer.setdefault("error", f"{type(error).__name__}: {error}")
            answer.pop("metrics", None)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return answer

    def _run(self, subject: Subject, order: Order, folder: Path) -> dict[str, Any]:
        # Not on the command line, which is seen by all: it may have a server's password.
        spec, log = folder / "order.json", folder / "log"
        spec.write_text(json.dumps(order._asdict()), encoding="utf-8")
        command = [subject.python, "-m", "benchmarks.cell", str(spec)]
        limit = self.limit or WORKLOADS[order.workload].limit
        with log.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(
                command, cwd=folder, env=_environment(), stdout=file, stderr=file, start_new_session=True
            )
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                # Its workers are of the same group.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        said = log.read_text(encoding="utf-8", errors="replace")[-LAST_WORDS:]
        if not Path(order.out).exists():
            return {"error": f"over {limit:g} s" if code is None else f"ended with {code}", "said": said}
        answer: dict[str, Any] = json.loads(Path(order.out).read_text(encoding="utf-8"))
        return {**answer, "said": said} if said else answer


def _environment() -> dict[str, str]:
    # W7 is about imports that find their bytecode.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    paths = [str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths)}
