"""What the kernel knows of a process."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, 0 if it is gone."""
    fields = _stat(pid)
    return sum(int(field) for field in fields[11:13]) / _TICKS


def tree_cpu_seconds(pid: int) -> float:
    """CPU time of a process, its living descendants, and those that they have waited for."""
    stats = {int(entry.name): _stat(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    family, size = {pid}, 0
    while len(family) > size:
        size = len(family)
        family |= {child for child, fields in stats.items() if fields and int(fields[1]) in family}
    return sum(int(field) for member in family for field in stats.get(member, [])[11:15]) / _TICKS


def parent(pid: int) -> int:
    """The process that started it, 0 if it is gone."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MiB, 0 if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    line = next((line for line in status.splitlines() if line.startswith("VmRSS:")), "VmRSS: 0 kB")
    return int(line.split()[1]) / 1024


def threads(pid: int) -> int:
    """How many threads a process has."""
    try:
        return len(list(Path(f"/proc/{pid}/task").iterdir()))
    except OSError:
        return 0


def _stat(pid: int) -> list[str]:
    """The fields of /proc/pid/stat from the third on, which is the state."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2].split()
    except OSError:
        return []
