"""Which system calls a process and its threads make, in order: a few lines of ptrace, so that no tool is needed."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACEME, SYSCALL, SETOPTIONS, SYSCALL_INFO = 0, 24, 0x4200, 0x420E
OPTIONS = 0x1 | 0x8 | 0x100000  # good syscall stops, follow threads, kill with the tracer
EVERY_THREAD = 0x40000000
ENTRY, EXIT = 1, 2
NUMBERS = {
    "x86_64": {1: "write", 18: "pwrite64", 74: "fsync", 75: "fdatasync"},
    "aarch64": {64: "write", 68: "pwrite64", 82: "fsync", 83: "fdatasync"},
}


class _Entry(ctypes.Structure):
    _fields_ = [("nr", ctypes.c_uint64), ("args", ctypes.c_uint64 * 6)]


class _Exit(ctypes.Structure):
    _fields_ = [("rval", ctypes.c_int64), ("is_error", ctypes.c_uint8)]


class _Union(ctypes.Union):
    _fields_ = [("entry", _Entry), ("exit", _Exit)]


class _Info(ctypes.Structure):
    _fields_ = [
        ("op", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("ip", ctypes.c_uint64),
        ("sp", ctypes.c_uint64),
        ("at", _Union),
    ]


@attrs.frozen
class Call:
    """A system call on a file: its name, the file, and whether it begins (else: it has returned, without error)."""

    name: str
    file: str
    begins: bool


def _ptrace(request: int, pid: int, address: int, data: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    result: int = libc.ptrace(request, pid, address, data)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"ptrace({request}, {pid}): {os.strerror(ctypes.get_errno())}")
    return result


def trace(command: list[str]) -> Iterator[Call]:
    """The writes and syncs that a command makes, until it ends; raises if it ends with an error."""
    # Only a process that asks to be traced before it becomes another one can be followed from its first call on.
    process = subprocess.Popen(command, preexec_fn=lambda: _ptrace(TRACEME, 0, 0, None))  # noqa: PLW1509
    os.waitpid(process.pid, EVERY_THREAD)
    _ptrace(SETOPTIONS, process.pid, 0, OPTIONS)
    _ptrace(SYSCALL, process.pid, 0, None)
    numbers = NUMBERS[platform.machine()]
    open_calls: dict[int, Call] = {}
    while True:
        tid, status = os.waitpid(-1, EVERY_THREAD)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            if tid == process.pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                if process.returncode:
                    raise subprocess.CalledProcessError(process.returncode, command)
                return
            continue
        number = os.WSTOPSIG(status)
        if number == signal.SIGTRAP | 0x80:
            call = _call(tid, numbers, open_calls)
            if call is not None:
                yield call
        passed_on = 0 if number in (signal.SIGTRAP, signal.SIGTRAP | 0x80, signal.SIGSTOP) else number
        try:
            _ptrace(SYSCALL, tid, 0, passed_on)
        except ProcessLookupError:
            continue


def _call(tid: int, numbers: dict[int, str], open_calls: dict[int, Call]) -> Call | None:
    info = _Info()
    try:
        _ptrace(SYSCALL_INFO, tid, ctypes.sizeof(info), ctypes.addressof(info))
    except ProcessLookupError:
        return None
    if info.op == ENTRY and info.at.entry.nr in numbers:
        descriptor = info.at.entry.args[0]
        try:
            file = str(Path(f"/proc/{tid}/fd/{descriptor}").readlink())
        except OSError:
            return None
        open_calls[tid] = call = Call(numbers[info.at.entry.nr], file, begins=True)
        return call
    if info.op == EXIT and (begun := open_calls.pop(tid, None)) and not info.at.exit.is_error:
        return attrs.evolve(begun, begins=False)
    return None
