"""How the schema comes to be, and which one is refused."""

import asyncio

import pytest

from perdure.backends.postgres import PostgresStore, migrate
from perdure.backends.postgres.location import Location
from perdure.backends.postgres.statement import read_migrations
from perdure.errors import BackendUrlError, SchemaVersionError, StoreError, StoreUnavailableError
from tests.servers import with_options

NAMES = [name for name, _ in read_migrations()]
SHAPE = """
select table_name, column_name, data_type, is_nullable, column_default, generation_expression
from information_schema.columns where table_schema = %s order by 1, 2
"""
INDEXES = "select replace(indexdef, %s, '') from pg_indexes where schemaname = %s order by 1"


async def opened(url):
    store = PostgresStore(url)
    await store.open()
    await store.close()


def test_migrations_are_numbered():
    """Their names begin with their numbers, without a gap."""
    assert [int(name.partition("_")[0]) for name in NAMES] == list(range(1, len(NAMES) + 1))


def test_migrate_names_what_it_applies(postgres_url, database):
    """What is missing is applied, each once, and noted."""
    store = PostgresStore(postgres_url)
    assert asyncio.run(store.missing_migrations()) == NAMES
    assert asyncio.run(migrate(postgres_url)) == NAMES
    assert asyncio.run(store.missing_migrations()) == []
    assert asyncio.run(store.migrate()) == []
    assert database("select name from perdure.migration order by version") == [(name,) for name in NAMES]


def test_opening_migrates(postgres_url, database):
    """A store that is opened makes its schema; what it made is what `migrate` makes."""
    asyncio.run(opened(postgres_url))
    other = postgres_url.replace("schema=t_", "schema=t_other_")
    asyncio.run(migrate(other))
    first, second = Location.parse(postgres_url).schema, Location.parse(other).schema
    try:
        shapes = [
            [tuple(str(cell).replace(schema, "") for cell in row) for row in database(SHAPE, schema)]
            for schema in (first, second)
        ]
        indexes = [database(INDEXES, schema, schema) for schema in (first, second)]
        assert shapes[0] == shapes[1]
        assert indexes[0] == indexes[1]
        assert len(indexes[0]) > 10
    finally:
        database(f'drop schema "{second}" cascade')


def test_many_at_once(postgres_url, database):
    """Processes that open a new schema at the same time migrate it once."""

    async def all_at_once():
        await asyncio.gather(*(opened(postgres_url) for _ in range(6)))

    asyncio.run(all_at_once())
    assert database("select count(*) from perdure.migration") == [(len(NAMES),)]


def test_refused(postgres_url, database):
    """With migrate=refuse a schema that is not up to date is refused, and nothing is changed."""
    refusing = with_options(postgres_url, migrate="refuse")
    with pytest.raises(SchemaVersionError, match="perdure migrate"):
        asyncio.run(opened(refusing))
    schema = Location.parse(postgres_url).schema
    assert database("select count(*) from pg_namespace where nspname = %s", schema) == [(0,)]
    asyncio.run(migrate(postgres_url))
    asyncio.run(opened(refusing))


def test_newer(postgres_url, database):
    """A schema of a newer version of Perdure is refused, by opening and by migrating."""
    asyncio.run(migrate(postgres_url))
    database("insert into perdure.migration (version, name) values (999, '0999_later')")
    for coroutine in (opened(postgres_url), migrate(postgres_url), PostgresStore(postgres_url).missing_migrations()):
        with pytest.raises(SchemaVersionError, match="upgrade perdure here"):
            asyncio.run(coroutine)


def test_half_a_migration_is_none(postgres_url, database):
    """A migration that fails leaves nothing behind."""
    schema = Location.parse(postgres_url).schema
    database(f'create schema "{schema}"')
    database("create table perdure.lease (mine text)")
    with pytest.raises(StoreError):
        asyncio.run(migrate(postgres_url))
    tables = database("select tablename from pg_tables where schemaname = %s", schema)
    assert tables == [("lease",)]


def test_dropped_meanwhile(postgres_url, database):
    """A schema that is dropped under an open store is told with the remedy."""

    async def scene():
        store = PostgresStore(postgres_url)
        await store.open()
        try:
            await asyncio.to_thread(database, f'drop schema "{store.location.schema}" cascade')
            with pytest.raises(SchemaVersionError, match="perdure migrate"):
                await store.describe("x")
        finally:
            await store.close()

    asyncio.run(scene())


def test_missing_rights(postgres_url, database):
    """A user that may not create a schema, or not read the tables, is told what is missing."""
    location = Location.parse(postgres_url)
    user = f"{location.schema}_user"
    database(f"create role \"{user}\" login password 's3cret'")
    try:
        url = postgres_url.replace("perdure@", f"{user}:s3cret@", 1)
        assert url != postgres_url
        with pytest.raises(StoreError, match="lacks a right") as caught:
            asyncio.run(opened(url))
        assert not caught.value.retryable
        asyncio.run(migrate(postgres_url))
        with pytest.raises(StoreError, match="lacks a right"):
            asyncio.run(opened(url))
        for right in (
            f'usage on schema "{location.schema}"',
            f'select, insert, update, delete on all tables in schema "{location.schema}"',
        ):
            database(f'grant {right} to "{user}"')

        async def ask():
            store = PostgresStore(with_options(url, migrate="refuse"))
            await store.open()
            try:
                assert await store.describe("x") is None
            finally:
                await store.close()

        asyncio.run(ask())
    finally:
        database(f'drop owned by "{user}"')
        database(f'drop role "{user}"')


def test_no_such_database(postgres_url):
    """A database that does not exist is the URL's fault."""
    url = postgres_url.replace("/postgres?", "/nowhere?")
    assert url != postgres_url
    with pytest.raises(BackendUrlError, match="nowhere"):
        asyncio.run(opened(url))


def test_no_server(tmp_path):
    """A server that is not there may come: the error says so and can be retried, at once."""
    url = f"postgresql://perdure:s3cret@/postgres?host={tmp_path}"
    with pytest.raises(StoreUnavailableError, match="is the server running") as caught:
        asyncio.run(opened(url))
    assert "s3cret" not in str(caught.value)
