"""What a server says of itself, and whether a store can be kept on it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import attrs
from redis.exceptions import ResponseError

from perdure.backends.redis.durability import FSYNC, REPLICATED, Seal
from perdure.errors import StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from perdure.backends.redis.location import Location

logger = logging.getLogger(__name__)

INFO = ("INFO", "server", "replication", "memory", "persistence", "cluster")
CONFIG = ("CONFIG", "GET", "appendfsync", "no-appendfsync-on-rewrite", "min-replicas-to-write")
LEAST_REDIS, LEAST_VALKEY = (7, 0), (7, 2)
LEAST_WAITAOF = (7, 2)
EVICTS_NOTHING = "noeviction"


@attrs.frozen(kw_only=True)
class Server:
    """
    A server as it described itself when it was connected to.

    Attributes:
        replid: Names its history: another one after each start and each promotion.
        appendfsync, least_replicas: Or None where the server keeps its configuration to itself.
        rests_on_rewrite: Whether it syncs nothing while it rewrites its file.
    """

    product: str
    version: tuple[int, ...]
    mode: str
    role: str
    replid: str
    policy: str | None
    has_aof: bool
    appendfsync: str | None
    rests_on_rewrite: bool
    least_replicas: int | None

    @classmethod
    def read(cls, info: bytes, config: Any) -> Server:
        """From the replies to `INFO` and `CONFIG`."""
        said, configured = parse_info(info), _configured(config)
        is_valkey = said.get("server_name") == "valkey" or "valkey_version" in said
        version = said.get("valkey_version" if is_valkey else "redis_version", "0")
        return cls(
            product="Valkey" if is_valkey else "Redis",
            version=tuple(int(part) for part in version.split(".") if part.isdecimal()),
            mode=said.get("redis_mode") or said.get("server_mode", "standalone"),
            role=said.get("role", "master"),
            replid=said.get("master_replid", ""),
            policy=said.get("maxmemory_policy"),
            has_aof=said.get("aof_enabled") == "1",
            appendfsync=configured.get("appendfsync"),
            rests_on_rewrite=configured.get("no-appendfsync-on-rewrite") == "yes",
            least_replicas=int(configured["min-replicas-to-write"]) if "min-replicas-to-write" in configured else None,
        )

    def check(self, location: Location, place: str) -> None:
        """
        Whether a store can be kept here.

        Raises:
            StoreError: It cannot, or not now; the message says what to do.
        """
        least = LEAST_VALKEY if self.product == "Valkey" else LEAST_REDIS
        if self.version < least:
            wanted = ".".join(map(str, least))
            found = ".".join(map(str, self.version))
            raise StoreError(f"{self.product} at {place} is version {found}, expected {wanted} or newer; upgrade it")
        if self.mode == "sentinel":
            raise StoreError(f"{place} is a sentinel, expected a server; name the address that leads to the master")
        if (self.mode == "cluster") is not location.is_cluster:
            remedy = "redis://" if location.is_cluster else "redis+cluster://"
            raise StoreError(f"{place} is {'no' if location.is_cluster else 'part of a'} cluster; write {remedy}")
        if self.role != "master":
            raise StoreUnavailableError(f"{self.product} at {place} is a replica, and only a master takes writes")
        if self.policy is not None and self.policy != EVICTS_NOTHING:
            raise StoreError(
                f"{self.product} at {place} has maxmemory-policy {self.policy!r}, which throws executions away when "
                f"memory is short; set it to {EVICTS_NOTHING!r}"
            )
        self._check_disk(location, place)

    def _check_disk(self, location: Location, place: str) -> None:
        if location.durability != FSYNC:
            return
        if not self.has_aof:
            raise StoreError(f"durability=fsync needs appendonly, which is off at {place}; set appendonly to yes")
        if self.appendfsync not in ("always", None):
            raise StoreError(
                f"durability=fsync needs appendfsync always, and {place} has {self.appendfsync!r}; set it, or use "
                "another durability"
            )
        if self.rests_on_rewrite:
            raise StoreError(f"durability=fsync needs no-appendfsync-on-rewrite no, and {place} has 'yes'; set it")
        if self.appendfsync is None and self.version < LEAST_WAITAOF:
            raise StoreError(f"durability=fsync cannot be made sure of at {place}, which hides its configuration")

    def warn(self, location: Location, place: str) -> None:
        """Tell what is allowed and rarely meant."""
        if not self.has_aof:
            logger.warning("appendonly is off at %s: executions are lost when %s stops", place, self.product)
        if self.policy is None:
            logger.warning("%s hides its maxmemory-policy; make sure it is %r", place, EVICTS_NOTHING)
        if location.durability == REPLICATED and self.least_replicas is not None and not self.least_replicas:
            logger.warning("min-replicas-to-write is 0 at %s: cut off from its replicas it goes on in vain", place)
        if self.appendfsync is None and location.durability == FSYNC:
            logger.warning("%s hides its configuration: each write waits with WAITAOF; that is slow", place)

    def seal(self, location: Location) -> Seal | None:
        """What every pipeline ends with here."""
        patience = max(1, int(location.timeout * 1000))
        if location.durability == REPLICATED:
            return Seal(("WAIT", location.replicas, patience), location.replicas)
        if location.durability == FSYNC and self.appendfsync is None:
            return Seal(("WAITAOF", 1, 0, patience), 1)
        return None


def parse_info(text: bytes) -> dict[str, str]:
    """The fields of an `INFO` reply."""
    lines = text.decode("utf-8", "replace").splitlines()
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}


def _configured(reply: Any) -> dict[str, str]:
    if isinstance(reply, ResponseError):
        return {}
    texts = [text.decode() for text in reply]
    return dict(zip(texts[::2], texts[1::2], strict=True))
