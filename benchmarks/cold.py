"""W7: what importing costs a new interpreter."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.meter import expect

if TYPE_CHECKING:
    from benchmarks.meter import Cell, Metrics

# Reads its memory from /proc itself, so that nothing but the code in question is loaded.
_PROBE = """
import sys, time
_begun = time.perf_counter()
{code}
_seconds = time.perf_counter() - _begun
_line = next(line for line in open("/proc/self/status") if line.startswith("VmRSS:"))
print("\\ncold", _seconds * 1e3, int(_line.split()[1]) / 1024, len(sys.modules))
"""


class _Start(NamedTuple):
    wall_ms: float
    import_ms: float
    rss_mb: float
    modules: int


def cold(cell: Cell) -> Metrics:
    """All that a program needs which starts and runs workflows; and what their author needs, if that is less."""
    number = cell.sizes["n"]
    full, bare = _median(cell.system.cold, number), _median("pass", number)
    expect(full.modules > bare.modules, True, "modules that the import added")
    metrics = {
        "import_ms": full.import_ms,
        "rss_mb": full.rss_mb,
        "modules": full.modules,
        "wall_ms": full.wall_ms,
        "bare_wall_ms": bare.wall_ms,
        "bare_rss_mb": bare.rss_mb,
    }
    if cell.system.thin:
        thin = _median(cell.system.thin, number)
        metrics |= {"thin_ms": thin.import_ms, "thin_rss_mb": thin.rss_mb}
    return metrics


def _median(code: str, number: int) -> _Start:
    _once(code)  # writes the bytecode
    starts = [_once(code) for _ in range(number)]
    return _Start(*(statistics.median(values) for values in zip(*starts, strict=True)))


def _once(code: str) -> _Start:
    begun = time.perf_counter()
    # On its standard input: command lines are seen by all, and the code may name a server's password.
    done = subprocess.run(
        [sys.executable, "-"], input=_PROBE.format(code=code), capture_output=True, text=True, check=False
    )
    wall = time.perf_counter() - begun
    if done.returncode:
        raise RuntimeError(f"the import failed: {done.stderr[-1000:]}")
    _, seconds, rss, modules = done.stdout.splitlines()[-1].split()
    return _Start(wall * 1e3, float(seconds), float(rss), int(modules))
