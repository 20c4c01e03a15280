"""A server process of one's own."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from perdure.adapters.ephemeral.failure import ServerError
from perdure.errors import InvalidStateError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

HOST = "127.0.0.1"
GUARD = Path(__file__).with_name("guard.py")
LOOK = 0.005
LAST_LINES = 5
TRIES = 3
"""A port that is free may be taken by somebody else before the server has it."""
LONGEST_FOLDER = 70
"""Bytes of the temporary folder; with a longer one the names of sockets, some 30 more, would not be allowed."""


class Server(ABC):
    """
    A server that belongs to this process, and ends with it, even if this process is killed. A context manager.

    It listens on a Unix socket that only this user can reach and, if asked to, on 127.0.0.1 with a random password.
    Linux and macOS.

    Args:
        directory: Where its data is and stays; one that goes with the server if None.
        port: None for the Unix socket alone, 0 for any free port.
        durable: Whether every commit reaches the disk. Without, commits survive the end of the server, also by `kill`,
            but not that of the machine.
        settings: Settings of the server, which come last.
        patience: Seconds it may take to start.

    Attributes:
        directory: Where its data is.
        log: The file it logs to.
        port: Where it listens on 127.0.0.1, if it does.
    """

    stops_by: ClassVar[signal.Signals] = signal.SIGTERM
    """The signal by which it ends in an orderly way, but without waiting for its clients."""

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        port: int | None = None,
        durable: bool = True,
        settings: Mapping[str, object] | None = None,
        patience: float = 60.0,
    ) -> None:
        self.durable = durable
        self.settings = dict(settings or {})
        self.port = port
        self._given = Path(directory).absolute() if directory is not None else None
        self._patience = patience
        self._room: Path | None = None
        self._leash: int | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    # ------------------------------------------------------------------------------------------------- what it offers

    @property
    @abstractmethod
    def url(self) -> str:
        """What names it as a backend: on its port if it has one, else on its socket."""

    @property
    def directory(self) -> Path:
        """Where its data is."""
        return self._given or self.room / "data"

    @property
    def log(self) -> Path:
        """The file it logs to."""
        return self.directory / "log"

    @property
    def pid(self) -> int:
        """Its process. Raises `InvalidStateError` while it does not run."""
        if self._pid is None:
            raise InvalidStateError(f"{self} does not run; start() it")
        return self._pid

    @property
    def leash(self) -> Path:
        """A named pipe; whoever has it open for writing keeps the server running."""
        return self.room / "leash"

    @property
    def room(self) -> Path:
        """The folder of its sockets, which goes with it; short, as the names of sockets have to be."""
        if self._room is None:
            raise InvalidStateError(f"{self} does not run; start() it")
        return self._room

    def __str__(self) -> str:
        return type(self).__name__

    # -------------------------------------------------------------------------------------------------- start and end

    def start(self) -> None:
        """Start it, and wait until it can be used. Raises `ServerError`."""
        if self._pid is not None:
            return
        try:
            if self._guard is None:
                self._post_guard()
            self._begin(TRIES if self.port == 0 else 1)
        except BaseException:
            self.stop()
            raise

    def _begin(self, tries: int) -> None:
        self._prepare()
        try:
            self._run()
        except ServerError:
            # One that still runs has the port itself.
            if tries == 1 or self._command("poll") is None or not is_taken(self.port):
                raise
            self.port = 0
            self._begin(tries - 1)

    def stop(self) -> None:
        """End it in an orderly way, its clients are cut off; a directory that was not given goes with it."""
        if self._guard is not None:
            self._end(self.stops_by)
            self._let_go().wait()

    def kill(self) -> None:
        """End it by SIGKILL, and wait until all of its processes are gone; `start` starts it again on the same data."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it and start it again on the same data, socket and port."""
        self._end(self.stops_by)
        self.start()

    def release(self) -> None:
        """Leave it to the other processes that hold its leash; without any, it ends."""
        if self._guard is not None:
            # It is not ours to wait for any more.
            self._let_go().returncode = 0

    def _end(self, number: signal.Signals) -> None:
        self._command({"signal": number})
        self._pid = None

    def _let_go(self) -> subprocess.Popen[bytes]:
        guard, leash = self._guard, self._leash
        if guard is None or leash is None:
            raise InvalidStateError(f"{self} does not run; start() it")
        self._guard = self._leash = self._pid = self._room = None
        os.close(leash)
        if guard.stdout is not None:
            guard.stdout.close()
        return guard

    def _post_guard(self) -> None:
        room = Path(tempfile.mkdtemp(prefix="perdure-", dir=_short_folder()))
        os.mkfifo(room / "leash", 0o600)
        # A reader has to be there before a writer may come; it becomes the guard's.
        reader = os.open(room / "leash", os.O_RDONLY | os.O_NONBLOCK)
        try:
            self._leash = os.open(room / "leash", os.O_WRONLY)
            self._guard = subprocess.Popen(  # noqa: S603 - ourselves
                [sys.executable, "-I", "-S", str(GUARD), str(room)],
                stdin=reader,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        finally:
            os.close(reader)
        self._room = room
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _command(self, command: Any) -> Any:
        if self._guard is None or self._guard.stdout is None or self._leash is None:
            raise InvalidStateError(f"{self} does not run; start() it")
        os.write(self._leash, json.dumps(command).encode() + b"\n")
        answer = self._guard.stdout.readline()
        if not answer:
            raise ServerError(f"the guard of {self} is gone, and the server with it; start another one")
        return json.loads(answer)

    def _spawn(self, how: str, argv: list[str], **more: Any) -> Any:
        task = {"argv": argv, "log": str(self.log), "environment": self._environment(), "owner": self._owner(), **more}
        return self._command({how: task})

    def _run(self) -> None:
        pid = self._spawn("start", self._argv(), orphaned=self.stops_by, pid_file=str(self._pid_file))
        if not isinstance(pid, int):
            raise ServerError(f"{self} cannot be started: {pid}")
        self._pid = pid
        limit = time.monotonic() + self._patience
        while not self._is_ready():
            if (code := self._command("poll")) is not None:
                raise ServerError(f"{self} ended with {code} as it was started: {self._last_words()}")
            if time.monotonic() > limit:
                raise ServerError(f"{self} is not ready after {self._patience} s: {self._last_words()}")
            time.sleep(LOOK)

    def _last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return " / ".join(line.strip() for line in lines[-LAST_LINES:]) or "it logged nothing"

    @property
    def _password(self) -> str:
        """What lets in over TCP."""
        return self._password_file.read_text(encoding="utf-8")

    @property
    def _password_file(self) -> Path:
        """Where a random password is kept with the data."""
        kept = self.directory / "password"
        if not kept.exists():
            kept.touch(0o600)
            kept.write_text(secrets.token_hex(16), encoding="utf-8")
        return kept

    # ---------------------------------------------------------------------------------------------------- of the kinds

    @property
    @abstractmethod
    def _pid_file(self) -> Path:
        """Where it tells its process id, to be removed when it was killed."""

    def _prepare(self) -> None:
        """Make what it needs to start, unless that is there."""
        if self.port == 0:
            self.port = free_port()

    def _environment(self) -> Mapping[str, str]:
        """What is added to the environment."""
        return {}

    def _owner(self) -> tuple[int, int] | None:
        """The user and the group it runs as, if not as ourselves."""
        return None

    @abstractmethod
    def _argv(self) -> list[str]:
        """The command line that starts it."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether it can be used."""


def _short_folder() -> str:
    folder = tempfile.gettempdir()
    return folder if len(os.fsencode(folder)) <= LONGEST_FOLDER else "/tmp"  # noqa: S108 - `mkdtemp` makes one of our own there


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def is_taken(port: int | None) -> bool:
    """Whether somebody has that port of 127.0.0.1."""
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port or 0))
        except OSError:
            return True
    return False
