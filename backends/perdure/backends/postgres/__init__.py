"""
The PostgreSQL backend: durable executions in a schema of your database, for any number of workers on any host.

It needs `pip install 'perdure[postgres]'`. `PostgresStore.migrate()` and `migrate(url)` bring the schema to this
version and return the names of the migrations that were applied; `perdure migrate` calls the former on any store that
has it.
"""

from __future__ import annotations

from perdure.backends.postgres.location import Location
from perdure.backends.postgres.store import PostgresStore
from perdure.storage import Backend, mask

__all__ = ["PostgresStore", "backend", "migrate"]


def backend(url: str) -> Backend:
    """
    The backend of `postgresql://user:password@host:5432/database?schema=perdure`.

    Options of our own are `schema`, `migrate` (`auto` or `refuse`), `pooler` (`auto`, `transaction` or `none`),
    `notify` (`on` or `off`) and `pool_size`; all others are libpq's.

    Raises:
        BackendUrlError: The URL is malformed, or has an option that does not exist.
    """
    return Backend(url=mask(url), store=PostgresStore(Location.parse(url)))


async def migrate(url: str) -> list[str]:
    """
    Bring the schema that a URL names to this version; returns the names of the migrations that were applied.

    Raises:
        StoreError: The server cannot be reached or refuses, or a newer version of Perdure migrated the schema.
    """
    return await PostgresStore(Location.parse(url)).migrate()
