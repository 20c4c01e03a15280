"""Where a store is kept, and how: `postgresql://user@host/database?schema=perdure`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import attrs
from psycopg import Error
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from perdure.errors import BackendUrlError
from perdure.storage import mask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FORM = "postgresql://user:password@host:5432/database?schema=perdure"
SCHEMA = "perdure"
POOL_SIZE = 8

_DEFAULTS = {
    "application_name": "perdure",
    "connect_timeout": "10",
    # A server that is cut off is noticed within half a minute.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
    # Of several hosts, the one that is no standby.
    "target_session_attrs": "read-write",
}
_SESSION = {
    "statement_timeout": "60s",
    # What somebody else keeps locked for longer is tried again by itself, so that others go on.
    "lock_timeout": "250ms",
    "idle_in_transaction_session_timeout": "60s",
}
"""Settings of our sessions that the URL's `options` may change."""
_FIXED = {
    "default_transaction_isolation": "read committed",
    "search_path": "",
    # Every statement finds few rows, one by one, by an index. Plans are made once, perhaps for tables still empty.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


@attrs.frozen(kw_only=True)
class Location:
    """
    A schema in a database, and our own options.

    Attributes:
        url: As it may be shown.
        parameters: Of the connection, as libpq names them.
        schema: Of the tables.
        migrate: `auto`: a store that is opened brings the schema to this version; `refuse`: it raises.
        pooler: `transaction`: statements of one session may come to several of the server's; `none`: they do not;
            `auto`: to be found out.
        notify: Whether processes tell each other what happens; without, they find out later.
        pool_size: How many connections there are at most, besides one that listens and one that watches a neighbour.
    """

    url: str
    parameters: Mapping[str, str] = attrs.field(repr=False)
    schema: str = SCHEMA
    migrate: str = "auto"
    pooler: str = "auto"
    notify: bool = True
    pool_size: int = POOL_SIZE

    @classmethod
    def parse(cls, url: str) -> Location:
        """
        Read a URL.

        Raises:
            BackendUrlError: It is malformed, or has an option that does not exist.
        """
        shown = mask(url)
        place, _, query = url.partition("?")
        scheme, separator, _ = place.partition("://")
        if scheme not in {"postgresql", "postgres"} or not separator:
            raise BackendUrlError(f"{shown!r} is no URL of a PostgreSQL store, which looks like {FORM}")
        own: dict[str, Any] = {}
        rest: dict[str, str] = {}
        for part in query.split("&") if query else []:
            # As libpq reads it: a plus sign is no space.
            name, value = (unquote(word) for word in part.partition("=")[::2])
            if name in _OPTIONS:
                own[name] = _OPTIONS[name](name, value)
            elif name in _CONNECTION_OPTIONS:
                rest[name] = value
            else:
                raise BackendUrlError(
                    f"a PostgreSQL store has no option {name!r}; it has {', '.join(_OPTIONS)}, and those that libpq "
                    "has for connections, such as sslmode, application_name or connect_timeout"
                )
        try:
            options = "&".join(f"{name}={quote(value, safe='')}" for name, value in rest.items())
            parameters = conninfo_to_dict(f"{place}?{options}" if rest else place)
        except Error:
            # Not with the reason: libpq's words may quote a part of the password.
            raise BackendUrlError(
                f"{shown!r} is malformed; it should look like {FORM}, with special characters of names and passwords "
                "percent-encoded"
            ) from None
        return cls(url=shown, parameters={name: str(value) for name, value in parameters.items()}, **own)

    @property
    def place(self) -> str:
        """Where it is, as messages name it."""
        host = self.parameters.get("host") or self.parameters.get("hostaddr") or "the local host"
        return f"{host}/{self.parameters.get('dbname', '')} schema {self.schema}"

    def connection(self, *, sets_session: bool) -> dict[str, str]:
        """
        The arguments of a connection.

        Args:
            sets_session: Whether the session's settings go with it, which no pooler forwards.
        """
        arguments = _DEFAULTS | dict(self.parameters)
        if sets_session:
            parts = [_settings(_SESSION), arguments.get("options", ""), _settings(_FIXED)]
            arguments["options"] = " ".join(part for part in parts if part)
        return arguments


def _settings(settings: Mapping[str, str]) -> str:
    return " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in settings.items())


def _schema(name: str, value: str) -> str:
    if not _NAME.fullmatch(value) or value.startswith("pg_"):
        raise BackendUrlError(
            f"option {name} is {value!r}, expected letters, digits and underscores, at most 63, not pg_ first"
        )
    return value


def _choice(*choices: str) -> Callable[[str, str], str]:
    def read(name: str, value: str) -> str:
        if value not in choices:
            raise BackendUrlError(f"option {name} is {value!r}, expected one of {', '.join(choices)}")
        return value

    return read


def _switch(name: str, value: str) -> bool:
    return _choice("on", "off")(name, value) == "on"


def _size(name: str, value: str) -> int:
    if not value.isascii() or not value.isdigit() or int(value) < 1:
        raise BackendUrlError(f"option {name} is {value!r}, expected a number of connections from 1")
    return int(value)


_OPTIONS: dict[str, Callable[[str, str], object]] = {
    "schema": _schema,
    "migrate": _choice("auto", "refuse"),
    "pooler": _choice("auto", "transaction", "none"),
    "notify": _switch,
    "pool_size": _size,
}
_CONNECTION_OPTIONS = {option.keyword.decode() for option in Conninfo.get_defaults()}
