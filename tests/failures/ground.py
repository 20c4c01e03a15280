"""Where a failure is played: a store of a test's own, and how it is reached."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import attrs
import psycopg

from perdure.client import Client
from tests.failures.book import Book
from tests.failures.fleet import Fleet
from tests.failures.proxy import HOST, Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.failures.proxy import Address


@attrs.frozen
class Ground:
    """
    A store for one test.

    Attributes:
        kind: sqlite, postgres or redis.
        url: Of a schema, namespace or file that belongs to the test.
        folder: For what is told outside.
    """

    kind: str
    url: str
    folder: Path

    @property
    def lease(self) -> float:
        """Seconds for a lease, where a death is to be noticed soon: only Redis has nothing but the lease to tell it."""
        return 2.0 if self.kind == "redis" else 30.0

    def book(self) -> Book:
        """Where all that happens is told."""
        return Book(self.folder / "book")

    def fleet(self, book: Book, *options: str, url: str | None = None, lease: float | None = None) -> Fleet:
        """Workers here."""
        return Fleet(url or self.url, book, "--lease", str(lease or self.lease), *options)

    @contextmanager
    def client(self, url: str | None = None) -> Iterator[Client]:
        """A client here."""
        with Client(url or self.url) as client:
            yield client

    @contextmanager
    def proxy(self, seed: int = 0) -> Iterator[tuple[Proxy, str]]:
        """A proxy before the server, and the store's URL through it."""
        with Proxy(self.upstream, seed) as proxy:
            yield proxy, through(self.url, proxy.port)

    @property
    def upstream(self) -> Address:
        """Where the server listens."""
        return upstream(self.url)


def upstream(url: str) -> Address:
    """Where the server of a URL listens."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    if parts.scheme == "unix":
        return Path(parts.path)
    port = parts.port or (6379 if parts.scheme.startswith("redis") else 5432)
    host = parts.hostname or options.get("host", HOST)
    return Path(host, f".s.PGSQL.{port}") if host.startswith("/") else (host, port)


def through(url: str, port: int) -> str:
    """The URL that leads to the same place by a port of this machine."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    options.pop("host", None)
    options.pop("port", None)
    scheme, path = ("redis", "/0") if parts.scheme == "unix" else (parts.scheme, parts.path)
    user = parts.netloc.rpartition("@")[0]
    place = f"{user}@{HOST}:{port}" if user else f"{HOST}:{port}"
    return urlunsplit((scheme, place, path, urlencode(options, quote_via=quote), ""))


@contextmanager
def session(url: str) -> Iterator[tuple[psycopg.Connection[Any], str]]:
    """A plain connection to a PostgreSQL store's database, and the store's schema."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    schema = options.pop("schema")
    options.pop("notify", None)
    place = urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(options, quote_via=quote), ""))
    with psycopg.connect(place, autocommit=True) as connection:
        yield connection, schema
