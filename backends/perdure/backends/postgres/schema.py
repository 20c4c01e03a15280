"""The schema's version, and how it is brought to this one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg.sql import SQL, Identifier

from perdure.backends.postgres.fault import translated
from perdure.backends.postgres.record import Call, key_of
from perdure.backends.postgres.statement import Statement, qualify, read_migrations
from perdure.errors import SchemaVersionError

if TYPE_CHECKING:
    import psycopg

    from perdure.backends.postgres.location import Location

# Not by `to_regclass`, which may not know what another session has committed since this transaction began.
_EXISTS = """
select exists (
    select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = %(schema)s and c.relname = 'migration'
)
"""
_HAS_SCHEMA = "select exists (select from pg_catalog.pg_namespace n where n.nspname = %(schema)s)"
_VERSION = "select coalesce(max(version), 0) from perdure.migration"
_TABLE = """
create table if not exists perdure.migration (
    version integer primary key,
    name text not null,
    at timestamptz not null default clock_timestamp()
)
"""
_BIRTH = "select extract(epoch from at)::text from perdure.migration where version = 1"
_NOTE = "insert into perdure.migration (version, name) values (%(version)s, %(name)s)"


def known(schema: str) -> Call[bool]:
    """Whether a database has the schema."""
    return Call(Statement.of(_EXISTS), {"schema": schema}, lambda rows: bool(rows[0][0]))


def birth(schema: str) -> Call[str]:
    """When the schema was made, to the microsecond; it tells one from all others, wherever they are."""
    return Call(Statement.of(qualify(_BIRTH, schema)), {}, lambda rows: str(rows[0][0]) if rows else "")


async def check(connection: psycopg.AsyncConnection[Any], location: Location) -> None:
    """
    See that the schema is of this version, or bring it there where that is allowed.

    Raises:
        SchemaVersionError: It is newer, or older and may not be changed.
    """
    names = await missing(connection, location)
    if names and location.migrate == "refuse":
        raise SchemaVersionError(
            f"PostgreSQL store {location.place!r} lacks the migrations {', '.join(names)}; "
            "run perdure migrate, or open it with migrate=auto"
        )
    if names:
        await migrate(connection, location)


async def missing(connection: psycopg.AsyncConnection[Any], location: Location) -> list[str]:
    """
    The names of migrations that are still to be applied.

    Raises:
        SchemaVersionError: A newer version of Perdure wrote the schema.
    """
    with translated(location.place):
        version = await _version(connection, location)
    migrations = read_migrations()
    if version > len(migrations):
        raise SchemaVersionError(
            f"PostgreSQL store {location.place!r} has schema version {version}, and this version of Perdure knows "
            f"those up to {len(migrations)}; upgrade perdure here to the version that migrated it"
        )
    return [name for name, _ in migrations[version:]]


async def migrate(connection: psycopg.AsyncConnection[Any], location: Location) -> list[str]:
    """
    Apply what is missing, each migration in a transaction of its own; the answer names them.

    Raises:
        SchemaVersionError: A newer version of Perdure wrote the schema.
    """
    applied: list[str] = []
    with translated(location.place):
        while True:
            async with connection.transaction():
                # Another process may be at it, and take its time.
                await connection.execute("set local lock_timeout = 0; set local statement_timeout = 0", prepare=False)
                await connection.execute(
                    "select pg_advisory_xact_lock(%(key)s)", {"key": key_of(location.schema, "migrate")}
                )
                name = await _apply_next(connection, location)
            if name is None:
                return applied
            applied.append(name)


async def _apply_next(connection: psycopg.AsyncConnection[Any], location: Location) -> str | None:
    names = await missing(connection, location)
    if not names:
        return None
    migrations = read_migrations()
    version = len(migrations) - len(names)
    name, script = migrations[version]
    if version == 0:
        await _make_schema(connection, location.schema)
        await connection.execute(qualify(_TABLE, location.schema))
    await connection.execute(qualify(script, location.schema), prepare=False)
    await connection.execute(qualify(_NOTE, location.schema), {"version": version + 1, "name": name})
    return name


async def _make_schema(connection: psycopg.AsyncConnection[Any], schema: str) -> None:
    # Not `if not exists`, which asks for the right to create schemas where nothing is to be created.
    cursor = await connection.execute(_HAS_SCHEMA, {"schema": schema})
    if await cursor.fetchone() == (False,):
        await connection.execute(SQL("create schema {}").format(Identifier(schema)))


async def _version(connection: psycopg.AsyncConnection[Any], location: Location) -> int:
    cursor = await connection.execute(_EXISTS, {"schema": location.schema})
    if await cursor.fetchone() != (True,):
        return 0
    cursor = await connection.execute(qualify(_VERSION, location.schema))
    row = await cursor.fetchone()
    return row[0] if row else 0
