"""A server of a store, and the lanes to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from perdure.backends.redis.lane import Lane
from perdure.backends.redis.server import CONFIG, INFO, Server, parse_info
from perdure.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio.connection import AbstractConnection

    from perdure.backends.redis.lane import Counter
    from perdure.backends.redis.location import Location
    from perdure.backends.redis.script import Library

Address = tuple[str, int] | str


class Node:
    """
    A server.

    Attributes:
        replid: The history it is on, as last heard; empty before.
        main, bulk: Its lanes, the second one for what is large, so that it holds up nothing small.
    """

    def __init__(
        self, address: Address, location: Location, library: Library, counter: Counter, lost: Callable[[Node], None]
    ) -> None:
        self.address = address
        self.place = address if isinstance(address, str) else f"{address[0]}:{address[1]}"
        self.replid = ""
        self.server: Server | None = None
        self._location = location
        self._library = library
        self._lost = lost
        # A key of one of the node's shards, for the seal.
        self._own_key = ""
        self.main = self._lane(self._greet, counter)
        self.bulk = self._lane(self._greet_again, counter)

    def _lane(self, greet: Callable[[Lane], Any], counter: Counter) -> Lane:
        return Lane(
            self.connection,
            greet,
            self._drop,
            place=self.place,
            timeout=self._location.timeout,
            connect_timeout=self._location.connect_timeout,
            counter=counter,
        )

    def connection(self) -> AbstractConnection:
        """A new connection to it, not connected yet."""
        location = self._location
        options: dict[str, Any] = {
            "db": location.db,
            "username": location.username,
            "password": location.password,
            "client_name": location.client_name,
            "socket_connect_timeout": location.connect_timeout,
            "socket_timeout": None,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        }
        if isinstance(self.address, str):
            return UnixDomainSocketConnection(path=self.address, **options)
        options |= {"host": self.address[0], "port": self.address[1], "socket_keepalive": True}
        return Connection(**options) if location.ssl is None else SSLConnection(**location.ssl, **options)

    def keep(self, key: str) -> None:
        """Learn the name of a key that is kept here."""
        self._own_key = key
        self._seal()

    def _seal(self) -> None:
        seal = self.server.seal(self._location) if self.server and self._own_key else None
        self.main.seal = self.bulk.seal = None if seal is None else (seal, f"{self._own_key}:seal")

    async def _greet(self, lane: Lane) -> None:
        lane.seal = None
        loads = [("SCRIPT", "LOAD", script.text) for script in self._library]
        info, config, *_ = await lane.exchange([INFO, CONFIG, *loads])
        if isinstance(info, ResponseError):
            raise info
        is_new = self.server is None
        self.server = Server.read(info, config)
        self.server.check(self._location, self.place)
        if is_new:
            self.server.warn(self._location, self.place)
        self.replid = self.server.replid
        self._seal()

    async def _greet_again(self, lane: Lane) -> None:
        await self.main.ready()
        seal, lane.seal = lane.seal, None
        (info,) = await lane.exchange([("INFO", "replication")])
        lane.seal = seal
        if isinstance(info, ResponseError):
            raise info
        self.hear(info)
        if parse_info(info).get("role") != "master":
            raise StoreUnavailableError(f"{self.place} leads to a replica now, and only a master takes writes")

    def hear(self, info: bytes) -> None:
        """Take note of the history it is on, from `INFO replication`."""
        self.replid = parse_info(info).get("master_replid", self.replid)

    def _drop(self, lane: Lane) -> None:
        # Both lanes are to lead to the same server, whoever stands behind the address now.
        error = ConnectionResetError("the other connection to it was lost")
        for other in (self.main, self.bulk):
            if other is not lane:
                other.drop(error)
        self._lost(self)

    async def close(self) -> None:
        """Let go of the connections."""
        await self.main.close()
        await self.bulk.close()
