"""Which systems there are, on which stores, and whether they can run here."""

from __future__ import annotations

import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VARIANTS = {
    "perdure": (
        "memory",
        "memory-async",
        "sqlite",
        "sqlite-async",
        "sqlite-apart",
        "postgres",
        "postgres-async",
        "postgres-apart",
        "redis",
        "redis-async",
        "redis-apart",
        "valkey",
        "valkey-async",
    ),
    "dbos": ("postgres", "postgres-async", "postgres-queue", "sqlite", "sqlite-async"),
    "absurd": ("postgres", "postgres-async", "postgres-tuned"),
    "floor": ("sqlite", "postgres", "redis", "valkey"),
}
OWN = "perdure"
YARDSTICK = "floor"

_NEEDS = {"dbos": ("dbos",), "absurd": ("absurd_sdk", "absurdctl", "psycopg")}
_STORE_NEEDS = {"postgres": ("psycopg",), "redis": ("redis",), "valkey": ("redis",)}
_BACKENDS = {"postgres": "perdure.backends.postgres", "redis": "perdure.backends.redis"}
_PROBE = """
import importlib.util, sys
for name in sys.argv[1:]:
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        found = None
    if found is None:
        print(name)
"""


@attrs.frozen
class Subject:
    """
    One system in one variant.

    Attributes:
        system: Whose module of `benchmarks.systems` it is; `variant`: the store, and how it is used.
        python: The interpreter it runs in.
    """

    system: str
    variant: str
    python: str = sys.executable

    @property
    def name(self) -> str:
        """As on the command line."""
        return f"{self.system}:{self.variant}"

    @property
    def store(self) -> str:
        """The first word of the variant."""
        return self.variant.partition("-")[0]

    @property
    def is_async(self) -> bool:
        """Whether its workflows are `async def`."""
        return "-async" in self.variant

    def missing(self) -> str | None:
        """Why it cannot run here, or None."""
        needs = [*_NEEDS.get(self.system, ()), *(_STORE_NEEDS.get(self.store, ()) if self.system != "dbos" else ())]
        if self.system == OWN and (backend := _BACKENDS.get("redis" if self.store == "valkey" else self.store)):
            needs.append(backend)
        if not Path(self.python).exists():
            return f"there is no interpreter {self.python}"
        done = subprocess.run([self.python, "-c", _PROBE, *needs], capture_output=True, text=True, check=True)
        absent = done.stdout.split()
        return f"{', '.join(absent)} not installed for {self.python}" if absent else None


def subjects(patterns: Sequence[str], pythons: Mapping[str, str]) -> list[Subject]:
    """
    Those that any pattern names: `dbos`, `perdure:sqlite`, `*:postgres*`; all without patterns.

    Raises:
        ValueError: A pattern names none.
    """
    known = [
        Subject(system, variant, pythons.get(system, sys.executable))
        for system, variants in VARIANTS.items()
        for variant in variants
    ]
    wanted = [pattern if ":" in pattern else f"{pattern}:*" for pattern in patterns] or ["*"]
    for pattern in wanted:
        if not any(fnmatchcase(subject.name, pattern) for subject in known):
            raise ValueError(f"{pattern!r} is no system; there are {', '.join(subject.name for subject in known)}")
    return [subject for subject in known if any(fnmatchcase(subject.name, pattern) for pattern in wanted)]
