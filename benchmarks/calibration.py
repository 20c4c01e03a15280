"""How fast the machine is right now, so that a disturbed sample can be told."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Any

LOOPS = 5
WRITES = 40
PAGE = 4096


def calibrate(folder: str) -> dict[str, Any]:
    """A fixed loop, a durable write of 4 KiB, the load, and the kind of file system."""
    return {
        "cpu_ms": round(statistics.median(_loop() for _ in range(LOOPS)) * 1e3, 2),
        "fsync_us": round(statistics.median(_writes(Path(folder) / "calibration")) * 1e6, 1),
        "load": round(os.getloadavg()[0], 2),
        "disk": file_system(folder),
    }


def file_system(folder: str) -> str:
    """The type of the file system that a folder is on; `tmpfs` makes every durable write look free."""
    place = str(Path(folder).resolve())
    found = ("", "unknown")
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, mount, kind, *_ = line.split()
        if (place + "/").startswith(mount.rstrip("/") + "/") and len(mount) >= len(found[0]):
            found = (mount, kind)
    return found[1]


def _loop() -> float:
    begun = time.perf_counter()
    total = 0
    for number in range(200_000):
        total += number & 7
    return time.perf_counter() - begun


def _writes(path: Path) -> list[float]:
    spans: list[float] = []
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for number in range(WRITES):
            os.pwrite(file, b"x" * PAGE, number * PAGE)
            begun = time.perf_counter()
            os.fdatasync(file)
            spans.append(time.perf_counter() - begun)
    finally:
        os.close(file)
        path.unlink()
    return spans
