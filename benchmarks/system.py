"""
What a system under test provides.

This and everything that a cell loads beside the system itself needs the standard library only: peers are measured
in environments of their own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from benchmarks.tally import STEPS

if TYPE_CHECKING:
    from collections.abc import Mapping

CONCURRENCY = 32
"""How many workflows a worker runs at once, in every system."""
SHORT_LEASE = 3.0
"""Seconds after which W4's dead worker is given up where nothing but a lease tells."""
PATIENCE = 120.0
"""Seconds that any one workflow may take."""

SAME = "the same as without -async"
"""Why a workload skips a variant that has it in common with another one."""


class Place(NamedTuple):
    """
    Where a cell's data lie, and nobody else's.

    Attributes:
        folder: On a disk.
        url: Of a database or a key space; empty where none is needed.
        tag: Unique to the cell.
    """

    folder: str
    url: str
    tag: str


class System(ABC):
    """
    An engine in this process, and how to put work to it.

    `start` and `result` know these kinds of workflow, `event` being a dict:

    * `chain` {steps}: so many trivial steps, one after the other; returns the sum of their numbers
    * `fan` {width}: so many branches of one trivial step at once; returns how many there were
    * `gather` {width}: so many trivial steps at once, without branches; for `async def` only
    * `nap` {seconds, trace}: a step that returns the time and leaves a byte in the file `trace`, if there is one; a
      durable sleep; returns both times
    * `hold` {steps, folder}: as `chain`, along a `Trail`
    * `pause` {steps, seconds}: as `chain`, each step waiting for something outside

    Attributes:
        packages: Distributions whose versions are reported.
        cold: Code that W7 times: what a program needs that starts and runs workflows. `thin`: what the author of a
            workflow needs, or empty.
        is_async: Whether `begin`, `end`, `start`, `result` and `recover` are coroutine functions.
        lease: Seconds a worker is believed alive without a sign, or None for the system's own default.
        has_worker: Whether `begin` starts a worker; else the workload has workers of its own.
    """

    packages: ClassVar[tuple[str, ...]] = ()
    cold: str = "pass"
    thin: str = ""
    is_async: bool = False
    lease: float | None = None
    has_worker: bool = True

    def __init__(self, variant: str, place: Place) -> None:
        self.variant = variant
        self.place = place

    @property
    def skips(self) -> Mapping[str, str]:
        """Why a workload has no meaning here."""
        return {}

    @property
    def sizes(self) -> Mapping[str, Mapping[str, float]]:
        """Other sizes of a workload than the usual ones."""
        return {}

    @property
    def notes(self) -> Mapping[str, str]:
        """What must be known to read a figure."""
        return {}

    def prepare(self) -> None:  # noqa: B027 - most need nothing
        """Make tables and queues in the fresh place, outside of what is timed."""

    @abstractmethod
    def begin(self) -> Any:
        """Start the engine."""

    @abstractmethod
    def end(self) -> Any:
        """Stop it."""

    @abstractmethod
    def start(self, kind: str, event: dict[str, Any], key: str) -> Any:
        """Begin a workflow; returns its handle."""

    @abstractmethod
    def result(self, handle: Any) -> Any:
        """Wait for its end and return what it returned."""

    def offer(self, kind: str, event: dict[str, Any], key: str) -> Any:
        """W4's first process: as `start`."""
        return self.start(kind, event, key)

    @abstractmethod
    def recover(self, key: str) -> Any:
        """W4's second process, after `begin`: wait until that workflow is complete, and return what it returned."""

    def known_dead(self) -> float | None:
        """W4's second process: when it began to free what the first one held, if that can be told."""
        return None

    def workers(self) -> list[int]:
        """Processes other than this one that run workflows."""
        return []

    def steps(self) -> int:
        """How many step bodies have run."""
        return STEPS.read()

    def recorded(self, handle: Any) -> Any:
        """How many steps the store has recorded of a workflow that ended, or None if that cannot be told."""
        return None

    def claims(self, count: int) -> list[float]:
        """Seconds that each of so many claims took which found nothing due; empty if that has no meaning."""
        return []
