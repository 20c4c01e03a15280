"""What the workflow of W4 leaves in files, so that it is known whatever becomes of its process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


class Trail:
    """
    The files of one workflow that is killed once, after its last step, and completed by another process.

    Its body calls `enter`, `step` for each step, and `leave`.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._steps: int | None = None

    def enter(self) -> None:
        """An execution of the workflow's body begins."""
        self._write("enter", f"{time.time()}\n")

    def step(self, number: int) -> int:
        """A step's body runs."""
        if self._steps is None:
            self._steps = os.open(self._folder / "steps", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(self._steps, b".")
        return number

    def leave(self) -> None:
        """All steps are done: the first process that comes here is killed."""
        is_first = not self.exits
        self._write("exit", f"{time.time()}\n")
        if is_first:
            os.kill(os.getpid(), signal.SIGKILL)

    @property
    def entries(self) -> list[float]:
        """When the body began, each time."""
        return self._times("enter")

    @property
    def exits(self) -> list[float]:
        """When it was through its steps, each time."""
        return self._times("exit")

    @property
    def steps(self) -> int:
        """How many step bodies ran in all."""
        path = self._folder / "steps"
        return path.stat().st_size if path.exists() else 0

    def _write(self, name: str, text: str) -> None:
        with (self._folder / name).open("a", encoding="utf-8") as file:
            file.write(text)

    def _times(self, name: str) -> list[float]:
        path = self._folder / name
        return [float(line) for line in path.read_text(encoding="utf-8").split()] if path.exists() else []
