"""What really happened: the file in which step bodies and workers tell it, read while it grows."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from pathlib import Path


@attrs.frozen
class Run:
    """A body that began: when (ns of the machine's monotonic clock), and in which process."""

    at: int
    pid: int


@attrs.frozen
class Trouble:
    """Something that befell a process and may make others repeat its work, from then to then."""

    pid: int
    since: int
    until: int
    kind: str

    def explains(self, first: Run, second: Run) -> bool:
        """Whether it is why a body that had begun was run again."""
        return self.pid in (first.pid, second.pid) and self.since <= second.at and self.until >= first.at


Body = tuple[int, str, int]
"""An execution's number, its step, the attempt."""


class Book:
    """
    The file, as far as it was read.

    Attributes:
        runs: Of every body, in order.
        callbacks: Ids that submitters gave away and nobody has taken yet.
        signs: What workers told of lost leases and errors.
        troubles: What tests did to processes.
        up: Processes that have begun to work.
        last: The last run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs: dict[Body, list[Run]] = defaultdict(list)
        self.callbacks: list[str] = []
        self.signs: list[dict[str, Any]] = []
        self.troubles: list[Trouble] = []
        self.up: set[int] = set()
        self.length = 0
        self.last = Run(0, 0)
        self._offset = 0
        path.touch()

    def read(self) -> None:
        """Read on."""
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        complete = data.rfind(b"\n") + 1
        self._offset += complete
        for line in data[:complete].splitlines():
            self._take(json.loads(line))

    def count(self) -> int:
        """How many bodies have begun."""
        self.read()
        return self.length

    def _take(self, told: dict[str, Any]) -> None:
        if "up" in told:
            self.up.add(told["pid"])
            return
        if "sign" in told:
            self.signs.append(told)
            return
        self.length += 1
        self.last = Run(told["at"], told["pid"])
        self.runs[told["run"], told["step"], told["attempt"]].append(self.last)
        if "callback" in told:
            self.callbacks.append(told["callback"])

    # ------------------------------------------------------------------------------------------------------ judging

    def repeated(self) -> dict[Body, list[Run]]:
        """Bodies that ran more than once."""
        self.read()
        return {body: runs for body, runs in self.runs.items() if len(runs) > 1}

    def unexplained(self) -> list[str]:
        """Runs that should not have been: no trouble of their process, nor a lease that it lost, is why."""
        troubles = [*self.troubles, *self._losses()]
        found = []
        for body, runs in self.repeated().items():
            runs.sort(key=lambda run: run.at)
            for first, second in pairwise(runs):
                if not any(trouble.explains(first, second) for trouble in troubles):
                    found.append(f"{body} ran at {first} and again at {second}")
        return found

    def fences(self) -> list[dict[str, Any]]:
        """Where a worker learned that something was no longer its own."""
        self.read()
        return [sign for sign in self.signs if "another owner" in sign["sign"] or "lease was lost" in sign["sign"]]

    def lost_leases(self) -> list[dict[str, Any]]:
        """Where a worker learned that its lease was lost, and with it all that it owned."""
        return [sign for sign in self.fences() if "lease was lost" in sign["sign"]]

    def errors(self) -> list[dict[str, Any]]:
        """What workers told as an error."""
        self.read()
        return [sign for sign in self.signs if sign["level"] in ("ERROR", "CRITICAL")]

    def _losses(self) -> list[Trouble]:
        # A process learns of a loss after it; whatever it had begun by then may have been repeated.
        return [Trouble(sign["pid"], 0, sign["at"], "fence") for sign in self.fences()]
