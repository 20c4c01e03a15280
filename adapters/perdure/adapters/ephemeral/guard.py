"""
The process between a server and those who want it: it starts, stops and kills the server, and outlives its starter.

Its standard input is a named pipe, the leash, on which commands come. When the last process that holds the other end is
gone, however it went, the guard stops the server and clears away what it leaves. A program of its own, of the standard
library alone: it starts within milliseconds, and what it does between fork and exec is safe, as it has no threads.

Usage: `python -I -S guard.py ROOM < ROOM/leash`; the folder ROOM goes with the guard. Each command is a line of JSON,
and so is its answer on standard output: `{"run": …}` and `{"start": …}` with the members that `_spawn` reads,
`{"signal": n}` ends the server, `"poll"` tells whether it has ended.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

GRACE = 20.0

PR_SET_PDEATHSIG = 1
PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 1 << 2
PR_SET_CHILD_SUBREAPER = 36
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION = 0x20080522
IPC_RMID = 0

_libc = ctypes.CDLL(None)


class Guard:
    """One server process, started and ended as commanded."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._pid_file: Path | None = None
        self._orphaned = int(signal.SIGTERM)

    def obey(self, command: Any) -> Any:
        """Carry out one command; what it answers is sent back."""
        match command:
            case {"run": task}:
                return _spawn(task).wait()
            case {"start": task}:
                return self._start(task)
            case {"signal": int(number)}:
                return self.end(number)
            case _:
                return self._process.poll() if self._process else None

    def _start(self, task: dict[str, Any]) -> int:
        self._pid_file, self._orphaned = Path(task["pid_file"]), task["orphaned"]
        self._process = _spawn(task, self._orphaned)
        return self._process.pid

    def end(self, number: int | None = None) -> int | None:
        """End the server by a signal, and wait until it and all of its children are gone."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.send_signal(number or self._orphaned)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _reap()
        if self._pid_file is not None:
            _release(self._pid_file)
        return process.returncode


def _spawn(task: dict[str, Any], orphaned: int = signal.SIGKILL) -> subprocess.Popen[bytes]:
    with Path(task["log"]).open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - what our own parent asks for
            task["argv"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={**os.environ, **task["environment"]},
            preexec_fn=lambda: _become(task["owner"], orphaned),  # noqa: PLW1509 - there are no threads here
        )


def _become(owner: list[int] | None, orphaned: int) -> None:
    """
    Between fork and exec: be another user where the server refuses to be root, and end with the guard.

    The other user keeps root's reach: environments and temporary folders below `/root` are closed to all others.
    """
    if owner:
        # Else access(2), by which PostgreSQL's programs look for each other, would not know of that reach.
        _control(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
        os.setgroups([])
        os.setgid(owner[1])
        os.setuid(owner[0])
        if sys.platform == "linux":
            header = struct.pack("Ii", CAPABILITY_VERSION, 0)
            wanted = 1 << CAP_DAC_OVERRIDE
            if _libc.capset(header, struct.pack("6I", wanted, wanted, wanted, 0, 0, 0)) == 0:
                _control(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE)
    _control(PR_SET_PDEATHSIG, orphaned)


def _control(option: int, *arguments: int) -> None:
    if sys.platform == "linux":
        _libc.prctl(option, *(ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]))


def _reap() -> None:
    """Wait for what a killed server left: its children are ours now, and see by themselves that it is gone."""
    limit = time.monotonic() + GRACE
    with suppress(ChildProcessError):
        while time.monotonic() < limit:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.002)


def _release(pid_file: Path) -> None:
    """Remove a killed server's claim to be running, and the System V segment that PostgreSQL names in it."""
    with suppress(OSError, IndexError, ValueError):
        identifier = int(pid_file.read_text(encoding="utf-8").splitlines()[6].split()[1])
        _libc.shmctl(identifier, IPC_RMID, None)
    pid_file.unlink(missing_ok=True)


def _commands(leash: Path) -> Iterator[Any]:
    """What is commanded until nobody holds the leash any more."""
    os.set_blocking(0, True)
    rest = b""
    while True:
        chunk = os.read(0, 65536)
        if not chunk and _is_let_go(leash):
            return
        *lines, rest = (rest + chunk).split(b"\n")
        yield from map(json.loads, lines)


def _is_let_go(leash: Path) -> bool:
    # Nobody can take hold from here on; who did just before still holds us.
    leash.unlink(missing_ok=True)
    os.set_blocking(0, False)
    try:
        return not os.read(0, 1)
    except BlockingIOError:
        return False
    finally:
        os.set_blocking(0, True)


def main() -> None:
    """Guard until nobody is left who wants the server."""
    room = Path(sys.argv[1])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _control(PR_SET_CHILD_SUBREAPER, 1)
    guard = Guard()
    try:
        for command in _commands(room / "leash"):
            try:
                answer = guard.obey(command)
            except OSError as error:
                answer = str(error)
            # Those who share a server that another one started read no answers, and the starter may be gone.
            with suppress(BrokenPipeError):
                os.write(1, json.dumps(answer).encode() + b"\n")
    finally:
        guard.end()
        shutil.rmtree(room, ignore_errors=True)


if __name__ == "__main__":
    main()
