"""Workflows of all kinds, started by number, with what each has to come to."""

from __future__ import annotations

import os
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from perdure.errors import CallbackClosedError, StoreError
from perdure.model import ENDED_STATUSES
from tests.failures import flows, oracle
from tests.failures.fleet import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perdure.client import Client, Handle
    from tests.failures.book import Book

FULL = 1000


def size(full: int = FULL, share: float = 1.0, least: int = 8) -> int:
    """How many workflows a test runs: by default 60, as many as `PERDURE_TURMOIL` says otherwise."""
    wanted = int(os.environ.get("PERDURE_TURMOIL", "60"))
    return max(least, int(min(wanted, full) * share))


def show(figures: str) -> None:
    """Tell what a test has measured: `pytest -s` shows it."""
    print(figures)  # noqa: T201


EXPECTED: dict[str, Callable[[int], Any]] = {
    "chain": lambda n: [n, n + 1, n + 2],
    "naps": lambda n: [n, n],
    "stubborn": lambda n: n,
    "once": lambda _: [0, 1, 2],
    "call": lambda n: ["answer", n],
    "family": lambda n: [n * 10, n * 10 + 1, n],
    "pair": lambda n: [n * 10, n],
    "fan": lambda _: [0, 2, 4],
}
STEPS: dict[str, Sequence[tuple[str, int]]] = {
    "chain": [("s0", 1), ("s1", 1), ("s2", 1)],
    "naps": [("before", 1), ("after", 1)],
    "stubborn": [("third", 1), ("third", 2)],
    "once": [("s0", 1), ("s1", 1), ("s2", 1)],
    "call": [("submit", 1), ("after", 1)],
    "family": [("after", 1)],
    "pair": [("after", 1)],
    "fan": [(f"{letter}{item}", 1) for letter in "ab" for item in range(3)],
}
KINDS = [
    *(flows.chain, flows.chain_async, flows.naps, flows.naps_async, flows.stubborn, flows.stubborn_async),
    *(flows.once, flows.once_async, flows.call, flows.call_async, flows.family, flows.pair, flows.fan, flows.fan_async),
]
BRISK = [flows.chain, flows.chain_async, flows.once, flows.once_async, flows.pair]
"""Those that never wait for the clock."""


def kind(function: Any) -> str:
    """What a function is, whatever its colour."""
    name: str = function.name
    return name.removesuffix("_async")


class Load:
    """
    Workflows that were started, and are to end rightly whatever happens to those who run them.

    Args:
        client: Whose store they are in.
        book: Where their bodies tell of themselves.
        kinds: They are started in turn.
        pause: How long a body takes, at most (s); drawn by chance.

    Attributes:
        handles: With their functions, by number.
        running: Numbers of those that have not been seen to end.
    """

    def __init__(
        self, client: Client, book: Book, kinds: Sequence[Any] = KINDS, *, pause: float = 0.1, seed: int = 1
    ) -> None:
        self._client = client
        self._book = book
        self._kinds = kinds
        self._pause = pause
        self._chance = random.Random(seed)
        self.handles: dict[int, tuple[Any, Handle[Any]]] = {}
        self.running: set[int] = set()

    def start(self, count: int = 1) -> None:
        """Start some more."""
        for _ in range(count):
            # Numbers of their children must not meet those of others.
            n = len(self.handles) * 100 + 1
            function = self._kinds[len(self.handles) % len(self._kinds)]
            event = {"n": n, "log": str(self._book.path), "pause": self._chance.uniform(0, self._pause)}
            self.handles[n] = function, self._client.start(function, event, name=f"load-{n}")
            self.running.add(n)

    def answer(self) -> None:
        """Complete the callbacks that were asked for."""
        self._book.read()
        while self._book.callbacks:
            try:
                # A submitter that ran twice asks twice.
                with suppress(CallbackClosedError):
                    self._client.send_callback_success(self._book.callbacks[0], "answer")
            except StoreError:
                return
            self._book.callbacks.pop(0)

    def is_over(self) -> bool:
        """Whether all have ended; callbacks are answered meanwhile."""
        self.answer()
        for n in sorted(self.running):
            try:
                if self.handles[n][1].describe().status not in ENDED_STATUSES:
                    return False
            except StoreError:
                return False
            self.running.discard(n)
        return True

    def finish(self, seconds: float = 120, meanwhile: Callable[[], object] = lambda: None, total: int = 0) -> None:
        """
        Wait for the end of all, and compare their results.

        Args:
            seconds: The time that may take.
            meanwhile: Called again and again.
            total: Start more, a few at a time, until there have been so many.
        """

        def over() -> bool:
            self.start(min(10, max(0, total - len(self.handles))))
            meanwhile()
            return len(self.handles) >= total and self.is_over()

        wait_until(over, self._left, seconds)
        wait_until(lambda: oracle.all_settled(self._client), "all effects are settled")
        self.check_results()

    def check_results(self) -> None:
        """All came to what they had to."""
        for n, (function, handle) in self.handles.items():
            assert handle.result(timeout=0) == EXPECTED[kind(function)](n), f"{function.name} {n}"

    def check_runs(self) -> None:
        """
        All bodies ran; more than once only where somebody died over them, or had lost them, and never more than
        at most once if that was asked for.
        """
        self._book.read()
        for n, (function, _) in self.handles.items():
            for step, attempt in STEPS[kind(function)]:
                assert self._book.runs.get((n, step, attempt)) or kind(function) == "once", (function, n, step)
            if kind(function) == "once":
                runs = [runs for (number, *_), runs in self._book.runs.items() if number == n]
                assert all(len(each) == 1 for each in runs), f"at most once: {function.name} {n} {runs}"
        assert not (left := self._book.unexplained()), left

    def _left(self) -> str:
        told = [self._client.describe(self.handles[n][1].id) for n in sorted(self.running)[:3]]
        return f"{len(self.running)} have not ended, such as {told}"
