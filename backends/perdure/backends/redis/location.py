"""Where a store is kept, and how: `redis://host:6379/0?durability=fsync`."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

from perdure.backends.redis.durability import LEVELS
from perdure.errors import BackendUrlError
from perdure.storage import mask

if TYPE_CHECKING:
    from collections.abc import Callable

NAMESPACE = "perdure"
PORT = 6379
SINGLE_SHARDS, CLUSTER_SHARDS, MOST_SHARDS = 1, 16, 4096
TIMEOUT = 5.0
"""Seconds for which a server may owe a reply, or a connection, before the store counts as unavailable."""

_SCHEMES = ("redis", "rediss", "unix", "redis+cluster")
_FORMS = "redis://host:6379/0, rediss://host:6379/0, unix:///path/to/socket or redis+cluster://host:6379"
_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@attrs.frozen(kw_only=True)
class Location:
    """
    A server or cluster, and the options of a store on it.

    Attributes:
        nodes: (host, port) of the server, or of those members of a cluster that are asked first; `path`: of its socket.
        shards: How many, or None for what is kept there or, on the first opening, the default.
        namespace: What the names of all its keys begin with.
        durability: One of `LEVELS`; `replicas`: how many must have it, for the last of them.
        notify: Whether processes tell each other what happens.
        timeout, connect_timeout: Seconds.
        ssl: Options of TLS as redis-py has them, or None without TLS.
    """

    nodes: tuple[tuple[str, int], ...] = ()
    path: str | None = None
    is_cluster: bool = False
    db: int = 0
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    client_name: str | None = None
    shards: int | None = None
    namespace: str = NAMESPACE
    durability: str = "async"
    replicas: int = 1
    notify: bool = True
    timeout: float = TIMEOUT
    connect_timeout: float = TIMEOUT
    ssl: dict[str, Any] | None = attrs.field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Location:
        """
        Read a URL.

        Raises:
            BackendUrlError: It has another scheme, no place, or an option that does not exist or cannot be.
        """
        scheme, separator, _ = url.partition("://")
        if scheme not in _SCHEMES or not separator:
            raise BackendUrlError(f"{mask(url)!r} is no URL of a Redis store, which looks like {_FORMS}")
        try:
            parts = urlsplit(url)
            options = _read_options(parse_qsl(parts.query, keep_blank_values=True))
            place = _read_socket(url, parts.path) if scheme == "unix" else _read_nodes(url, scheme, parts.netloc)
            if scheme != "unix" and (number := parts.path.strip("/")):
                place["db"] = _number("db", number, 0)
        except ValueError:
            # Not with the reason: it may quote a part of the password.
            raise BackendUrlError(
                f"{mask(url)!r} is malformed; it should look like {_FORMS}, with a number as the port and special "
                "characters of names and passwords percent-encoded"
            ) from None
        fields = _credentials(parts.netloc) | options | place
        ssl = {name: fields.pop(name) for name in list(fields) if name.startswith("ssl_")}
        if fields.pop("ssl", False) or scheme == "rediss":
            fields["ssl"] = ssl
        elif ssl:
            raise BackendUrlError(
                f"option {next(iter(ssl))} is for TLS; write rediss://, or add ssl=true for a cluster"
            )
        return cls(**fields)

    def __attrs_post_init__(self) -> None:
        if self.is_cluster and self.db:
            raise BackendUrlError(f"a cluster has database 0 only, got {self.db}; set the option namespace instead")
        if self.path is not None and self.ssl is not None:
            raise BackendUrlError("a socket has no TLS; leave out the option ssl")

    @property
    def place(self) -> str:
        """The place as messages show it."""
        return self.path or ", ".join(f"{host}:{port}" for host, port in self.nodes)

    @property
    def default_shards(self) -> int:
        """How many shards a new store is given."""
        return self.shards or (CLUSTER_SHARDS if self.is_cluster else SINGLE_SHARDS)


def _read_socket(url: str, path: str) -> dict[str, Any]:
    if not path.strip("/"):
        raise BackendUrlError(f"{mask(url)!r} names no socket; write unix:///path/to/socket")
    return {"path": unquote(path)}


def _read_nodes(url: str, scheme: str, netloc: str) -> dict[str, Any]:
    nodes = tuple(_read_node(node) for node in netloc.rpartition("@")[2].split(","))
    is_cluster = scheme == "redis+cluster"
    if len(nodes) > 1 and not is_cluster:
        raise BackendUrlError(f"{mask(url)!r} names several servers; for those of a cluster write redis+cluster://")
    return {"nodes": nodes, "is_cluster": is_cluster}


def _read_node(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    return parts.hostname or "localhost", parts.port or PORT


def _credentials(netloc: str) -> dict[str, Any]:
    user, at, _ = netloc.rpartition("@")
    if not at:
        return {}
    name, _, password = user.partition(":")
    return {"username": unquote(name) or None, "password": unquote(password) or None}


def _read_options(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    for name, _ in pairs:
        if name not in _OPTIONS:
            raise BackendUrlError(f"a Redis store has no option {name!r}; it has {', '.join(_OPTIONS)}")
    return {name: _OPTIONS[name](name, value) for name, value in pairs}


def _number(name: str, value: str, least: int, most: int | None = None) -> int:
    if not value.isdecimal() or int(value) < least or (most is not None and int(value) > most):
        bounds = f"from {least}" if most is None else f"from {least} to {most}"
        raise BackendUrlError(f"option {name} is {value!r}, expected a number {bounds}")
    return int(value)


def _seconds(name: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise BackendUrlError(f"option {name} is {value!r}, expected a number of seconds above 0")
    return seconds


def _choice(*choices: str) -> Callable[[str, str], str]:
    def read(name: str, value: str) -> str:
        if value.lower() not in choices:
            raise BackendUrlError(f"option {name} is {value!r}, expected one of {', '.join(choices)}")
        return value.lower()

    return read


def _flag(name: str, value: str) -> bool:
    return _choice("on", "off", "true", "false")(name, value) in ("on", "true")


def _text(name: str, value: str) -> str:
    if not value:
        raise BackendUrlError(f"option {name} is empty; leave it out, or give it a value")
    return value


def _namespace(name: str, value: str) -> str:
    if not _NAMESPACE.fullmatch(value):
        raise BackendUrlError(f"option {name} is {value!r}, expected up to 64 letters, digits and any of '_.-'")
    return value


_OPTIONS: dict[str, Callable[[str, str], Any]] = {
    "shards": lambda name, value: _number(name, value, 1, MOST_SHARDS),
    "namespace": _namespace,
    "durability": _choice(*LEVELS),
    "replicas": lambda name, value: _number(name, value, 1),
    "notify": _flag,
    "timeout": _seconds,
    "connect_timeout": _seconds,
    "db": lambda name, value: _number(name, value, 0),
    "username": _text,
    "password": _text,
    "client_name": _text,
    "ssl": _flag,
    "ssl_ca_certs": _text,
    "ssl_ca_path": _text,
    "ssl_certfile": _text,
    "ssl_keyfile": _text,
    "ssl_password": _text,
    "ssl_cert_reqs": _choice("required", "optional", "none"),
    "ssl_check_hostname": _flag,
    "ssl_ciphers": _text,
}
