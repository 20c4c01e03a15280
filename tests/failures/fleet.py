"""Worker processes that a test starts, kills, stops, continues and drains."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.failures.book import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.failures.book import Book

PROGRAM = Path(__file__).with_name("flows.py")
FOREVER = 1 << 62


def wait_until(condition: Callable[[], object], what: str | Callable[[], str], seconds: float = 60) -> None:
    """Look again and again until something is so; a test that waits for nothing fails with `what`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds} s still not: {what if isinstance(what, str) else what()}")
        time.sleep(0.005)


def excerpt(output: Path) -> str:
    lines = output.read_text(errors="replace").splitlines()
    return "\n".join([line for line in lines if " INFO " not in line][-40:])


class Member:
    """One worker process."""

    def __init__(self, url: str, book: Book, output: Path, options: tuple[str, ...]) -> None:
        self._book = book
        command = [sys.executable, str(PROGRAM), url, "--log", str(book.path), *options]
        with output.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.pid = self.process.pid
        self._output = output
        self._stopped = 0

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    @property
    def is_draining(self) -> bool:
        """Whether it has said that it takes nothing more."""
        lines = self._output.read_text(errors="replace").splitlines()
        return any(f" {self.pid} " in line and "draining" in line for line in lines)

    def kill(self) -> None:
        """SIGKILL, and gone."""
        since = time.monotonic_ns()
        self.process.kill()
        self.process.wait()
        self._book.troubles.append(Trouble(self.pid, since, time.monotonic_ns(), "killed"))

    def wait_for(self) -> None:
        """Wait until it works."""

        def is_up() -> bool:
            self._book.read()
            return self.pid in self._book.up or not self.is_alive

        wait_until(is_up, "a worker works")

    def stop(self) -> None:
        """SIGSTOP, and it stands."""
        self._stopped = time.monotonic_ns()
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def go_on(self) -> None:
        """SIGCONT."""
        self._book.troubles.append(Trouble(self.pid, self._stopped, FOREVER, "stopped"))
        self.process.send_signal(signal.SIGCONT)

    def ask_to_drain(self) -> None:
        """SIGTERM, as soon as it works."""
        self.wait_for()
        self.process.send_signal(signal.SIGTERM)

    def drain(self, seconds: float = 60) -> None:
        """SIGTERM, and it ends well."""
        self.ask_to_drain()
        code = self.process.wait(seconds)
        assert code == 0, (code, excerpt(self._output))


class Fleet:
    """
    Workers on one store; a context manager that kills whoever is left.

    Args:
        url: The store's.
        book: Where everybody tells what happens.
        options: Of `flows.py`, for all.
    """

    def __init__(self, url: str, book: Book, *options: str) -> None:
        self._url = url
        self._book = book
        self._options = options
        self._output = book.path.with_suffix(".output")
        self.members: list[Member] = []
        self.losses = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            if member.is_alive:
                member.process.kill()
                member.process.wait()

    def add(self, *options: str, url: str | None = None) -> Member:
        """One more worker."""
        member = Member(url or self._url, self._book, self._output, (*self._options, *options))
        self.members.append(member)
        return member

    def replace(self, place: int) -> Member:
        """Kill one, and put another one in its place."""
        self.members[place].kill()
        self.losses += 1
        fresh = Member(self._url, self._book, self._output, self._options)
        self.members[place] = fresh
        return fresh

    def wait_for_all(self) -> None:
        """Wait until all work."""
        for member in self.members:
            member.wait_for()

    def drain(self) -> None:
        """All end, in an orderly way."""
        for member in self.members:
            member.ask_to_drain()
        for member in self.members:
            code = member.process.wait(60)
            assert code == 0, (code, self.output)
        self.members.clear()

    @property
    def output(self) -> str:
        """What all of them wrote that is not everyday business, its end."""
        return excerpt(self._output)
