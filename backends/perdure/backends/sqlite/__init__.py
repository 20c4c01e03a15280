"""The SQLite backend: durable executions in one file, with nothing installed and no server."""

from __future__ import annotations

from perdure.backends.sqlite.location import Location
from perdure.backends.sqlite.store import SqliteStore
from perdure.storage import Backend

__all__ = ["SqliteStore", "backend"]


def backend(url: str) -> Backend:
    """
    The backend of `sqlite:///relative.db` or `sqlite:////absolute/path.db`.

    Options are `synchronous` (`full` or `normal`) and `busy_timeout` in seconds.

    Raises:
        BackendUrlError: The URL names no file, or an option that does not exist.
    """
    location = Location.parse(url)
    store = SqliteStore(location.path, synchronous=location.synchronous, busy_timeout=location.busy_timeout)
    return Backend(url=url, store=store)
