"""A cluster of masters on this machine."""

from __future__ import annotations

import time
from contextlib import ExitStack
from secrets import token_hex
from typing import TYPE_CHECKING, Self

import redis

from perdure.adapters.ephemeral import ServerError

if TYPE_CHECKING:
    from perdure.adapters.ephemeral import RedisServer

SLOTS = 16_384
PATIENCE = 30.0
SETTINGS = {
    "cluster-enabled": "yes",
    "cluster-node-timeout": 2000,
    "cluster-announce-ip": "127.0.0.1",
    "cluster-announce-hostname": "",
}
PORTS = 40_000
"""The port of the cluster's bus is the server's plus 10,000."""


class Cluster:
    """Masters that share all slots; `kind` says what they are."""

    def __init__(self, kind: type[RedisServer], size: int = 3) -> None:
        self._kind, self._size = kind, size
        self.password = token_hex(8)
        self._stack = ExitStack()
        self.servers: list[RedisServer] = []
        self.clients: list[redis.Redis] = []

    def __enter__(self) -> Self:
        with self._stack as stack:
            while len(self.servers) < self._size:
                server = stack.enter_context(self._begun())
                self.servers.append(server)
                client = stack.enter_context(redis.Redis.from_url(server.url))
                client.config_set("requirepass", self.password)
                client.execute_command("AUTH", self.password)
                client.connection_pool.connection_kwargs["password"] = self.password
                self.clients.append(client)
            self._join()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def _begun(self, tries: int = 3) -> RedisServer:
        server = self._kind(port=free_port(), durable=False, settings=SETTINGS)
        try:
            server.start()
        except ServerError:
            # Somebody else has taken one of its ports meanwhile.
            if tries == 1:
                raise
            return self._begun(tries - 1)
        return server

    def _join(self) -> None:
        first, *others = self.clients
        share = SLOTS // self._size
        for number, client in enumerate(self.clients):
            end = SLOTS - 1 if number == self._size - 1 else (number + 1) * share - 1
            client.execute_command("CLUSTER ADDSLOTSRANGE", number * share, end)
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for client in others:
            host, port = place_of(client)
            first.execute_command("CLUSTER MEET", host, port)
        until(lambda: all(self._agrees(client) for client in self.clients), "the cluster is whole")

    def _agrees(self, client: redis.Redis) -> bool:
        info = client.execute_command("CLUSTER INFO")
        said = info if isinstance(info, dict) else dict(line.split(":") for line in info.decode().split())
        return said["cluster_state"] == "ok" and int(said["cluster_known_nodes"]) == self._size

    @property
    def url(self) -> str:
        """The URL of a new namespace."""
        nodes = ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:2])
        return f"redis+cluster://:{self.password}@{nodes}?namespace=t_{token_hex(6)}"

    def keeper(self, slot: int) -> int:
        """Which of the servers has a slot."""
        for first, last, (_, port, *_), *_ in self.clients[0].execute_command("CLUSTER SLOTS", NEVER_DECODE=True):
            if first <= slot <= last:
                return [server.port for server in self.servers].index(port)
        raise AssertionError(slot)

    def begin_move(self, slot: int, to: int) -> None:
        """Begin to move a slot to another server: keys may be there or here from now on."""
        source = self.keeper(slot)
        self.clients[to].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", self.id_of(source))
        self.clients[source].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", self.id_of(to))

    def keys_in(self, slot: int) -> list[bytes]:
        """The keys of a slot that are still where it is moved from."""
        return self.clients[self.keeper(slot)].execute_command("CLUSTER GETKEYSINSLOT", slot, 100_000)

    def move_keys(self, slot: int, to: int, keys: list[bytes]) -> None:
        """Move some of the keys of a slot."""
        self.clients[self.keeper(slot)].execute_command(
            "MIGRATE", "127.0.0.1", self.servers[to].port, "", 0, 5000, "AUTH", self.password, "KEYS", *keys
        )

    def end_move(self, slot: int, to: int) -> None:
        """The slot belongs to the other server from now on."""
        for number in (to, *(other for other in range(self._size) if other != to)):
            self.clients[number].execute_command("CLUSTER SETSLOT", slot, "NODE", self.id_of(to))

    def id_of(self, number: int) -> str:
        """The id of a server within the cluster."""
        found: bytes = self.clients[number].execute_command("CLUSTER MYID")
        return found.decode()


def free_port() -> int:
    """One below those that the system gives to clients, so that the bus finds its own free too."""
    import random  # noqa: PLC0415
    import socket  # noqa: PLC0415

    while True:
        port = random.randrange(12_000, 22_000)
        with socket.socket() as one, socket.socket() as two:
            try:
                one.bind(("127.0.0.1", port))
                two.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port


def place_of(client: redis.Redis) -> tuple[str, int]:
    """Where it is connected to."""
    options = client.connection_pool.connection_kwargs
    return options["host"], options["port"]


def until(holds, what: str) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.02)
