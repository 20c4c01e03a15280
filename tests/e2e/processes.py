"""Worker processes that a test starts, kills, stops and continues."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

FLOWS = Path(__file__).with_name("flows.py")


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Look again and again until something is so; a test that waits for nothing fails with `what`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds} s still not: {what}")
        time.sleep(0.002)


def lease_of(url: str) -> float:
    """
    A worker's lease, such that another one goes on soon after its death.

    Where the store sees at once that a process is dead, the lease outlives the test: only the death itself can set its
    executions free.
    """
    return 600 if url.startswith(("sqlite", "postgresql")) else 2


class WorkerProcess:
    """A worker in a process of its own, killed at the latest when the test ends."""

    def __init__(self, url: str, lease: float = 30.0, log: Path | None = None) -> None:
        self._log = log
        with (log or Path("/dev/null")).open("ab") as output:
            command = [sys.executable, str(FLOWS), url, str(lease)]
            self.process = subprocess.Popen(command, stdout=output, stderr=output)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()

    def kill(self) -> None:
        """SIGKILL, and gone."""
        self.process.kill()
        self.process.wait()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log else ""
