"""
A worker process, and what leads it: `python -m benchmarks.workman`.

The first line on its standard input is JSON: the store's URL, and the concurrency. It answers each line with one of its
own, and stops when there are no more.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple, Self

from benchmarks.watch import ClaimTime

if TYPE_CHECKING:
    from types import TracebackType


class Report(NamedTuple):
    """What a workman has done so far: step bodies, claims since the last report."""

    steps: int
    claims: list[ClaimTime]


class Workman:
    """A worker process of Perdure. Raises what `subprocess` does, and RuntimeError if it does not begin to work."""

    def __init__(self, url: str, concurrency: int) -> None:
        command = [sys.executable, "-m", "benchmarks.workman"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid
        if self._ask(json.dumps([url, concurrency])) != "ready":
            raise RuntimeError(f"the worker process ended with {self._process.wait()} before it was ready")

    def report(self) -> Report:
        """Ask it."""
        steps, claims = json.loads(self._ask("report"))
        return Report(steps, [ClaimTime(*claim) for claim in claims])

    def stop(self) -> None:
        """Have it drain, and wait for its end."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        if code := self._process.wait(60):
            raise RuntimeError(f"the worker process ended with {code}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None  # noqa: S101 - for the type checker
        assert self._process.stdout is not None  # noqa: S101
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


def main() -> None:
    from benchmarks.flows import FLOWS  # noqa: PLC0415 - those who lead it need not load Perdure
    from benchmarks.tally import STEPS  # noqa: PLC0415
    from benchmarks.watch import Watch  # noqa: PLC0415
    from perdure.adapters.worker import Worker  # noqa: PLC0415
    from perdure.storage import open_backend  # noqa: PLC0415

    url, concurrency = json.loads(sys.stdin.readline())
    store = open_backend(url).store
    assert store is not None  # noqa: S101 - for the type checker
    watch = Watch(store)
    with Worker(watch, FLOWS, concurrency=concurrency):
        print("ready", flush=True)
        for _ in sys.stdin:
            claims, watch.claims = watch.claims, []
            print(json.dumps([STEPS.read(), claims]), flush=True)


if __name__ == "__main__":
    main()
