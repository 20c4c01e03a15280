"""A schema for a test, and what acts on it."""

import asyncio
import subprocess
import sys

import psycopg
import pytest

from perdure.backends.postgres import PostgresStore
from perdure.backends.postgres.location import Location
from perdure.backends.postgres.statement import qualify
from perdure.testing.conformance.stage import Stage
from tests.servers import with_options

LOCKS_ARE_WAITED_FOR = {"options": "-c%20lock_timeout%3D60s"}
"""For a test whose statements have to wait for a lock, however long it takes the others."""


async def no_advance(span):
    raise AssertionError("the server's clock goes by itself")


async def until(predicate):
    """Wait until something is so."""
    async with asyncio.timeout(30):
        while not predicate():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.002)


@pytest.fixture
def play(postgres_url):
    """Run a coroutine function over a stage whose stores are openings of one schema."""

    def run(scene, **options):
        url = with_options(postgres_url, **options) if options else postgres_url

        async def over_stage():
            async with Stage(lambda: PostgresStore(url), no_advance) as stage:
                return await scene(stage)

        return asyncio.run(over_stage())

    return run


@pytest.fixture
def database(postgres_url):
    """A blocking connection that commits every statement, and is not counted among those of the test."""
    location = Location.parse(postgres_url)
    parameters = dict(location.parameters) | {"application_name": "looker-on"}
    with psycopg.connect(**parameters, autocommit=True) as connection:

        def query(text, *values):
            cursor = connection.execute(qualify(text, location.schema), values or None)
            return cursor.fetchall() if cursor.description else None

        yield query


@pytest.fixture
def start_process(postgres_url):
    """Start a program with the URL as its first argument; killed at the latest when the test ends."""
    started = []

    def start(program, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", program, postgres_url, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
