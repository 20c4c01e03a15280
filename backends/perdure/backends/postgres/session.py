"""What is between this process and the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.backends.postgres.fault import UNSETTABLE, translated
from perdure.backends.postgres.pool import connect
from perdure.errors import StoreError

if TYPE_CHECKING:
    import psycopg

    from perdure.backends.postgres.location import Location

OLDEST = 140000
_SELF = """
select pg_backend_pid(), current_setting('server_version_num')::integer, pg_is_in_recovery(),
    current_setting('default_transaction_isolation')
"""


async def probe(location: Location) -> tuple[psycopg.AsyncConnection[Any], bool]:
    """
    The first connection, and whether a pooler hands its transactions to changing sessions of the server.

    A pooler gives each client a key for cancelling of its own making, so it names another process than the session is.

    Raises:
        StoreError: The server is not reached, too old, or cannot be written to.
    """
    if location.pooler == "transaction":
        connection = await connect(location, is_pooled=True)
        await _examined(connection, location)
        return connection, True
    try:
        connection = await connect(location, is_pooled=False)
    except StoreError as error:
        if location.pooler == "none" or UNSETTABLE not in str(error):
            raise
        connection = await connect(location, is_pooled=True)
        await _examined(connection, location)
        return connection, True
    pid = await _examined(connection, location)
    if location.pooler == "none" or pid == connection.pgconn.backend_pid:
        return connection, False
    connection.pgconn.finish()
    connection = await connect(location, is_pooled=True)
    return connection, True


async def _examined(connection: psycopg.AsyncConnection[Any], location: Location) -> int:
    try:
        with translated(location.place):
            cursor = await connection.execute(_SELF, prepare=False)
            row = await cursor.fetchone()
        assert row is not None  # noqa: S101 - a select without a table
        pid, *found = row
        _examine(location, *found)
    except BaseException:
        connection.pgconn.finish()
        raise
    return int(pid)


def _examine(location: Location, version: int, is_standby: bool, isolation: str) -> None:
    place = f"PostgreSQL store {location.place!r}"
    if version < OLDEST:
        raise StoreError(f"{place} is on a server of version {version // 10000}, expected 14 or newer")
    if is_standby:
        raise StoreError(
            f"{place} is on a standby, which cannot be written; name the primary, or all hosts, in the URL",
            retryable=True,
        )
    if isolation != "read committed":
        raise StoreError(
            f"{place} has default_transaction_isolation {isolation!r}, expected 'read committed'; "
            "alter role … set default_transaction_isolation = 'read committed'"
        )
