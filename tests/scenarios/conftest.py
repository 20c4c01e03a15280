from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from perdure.backends.sqlite import SqliteStore
from perdure.testing.memory import MemoryStore
from tests.scenarios.books import PostgresBooks, SqliteBooks
from tests.scenarios.colour import Colour
from tests.scenarios.places import PostgresPlace, redis_store
from tests.scenarios.stage import SkippingClock, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STORES = ["memory", "sqlite", "postgres", "redis", "valkey"]


@pytest.fixture(scope="session")
def postgres_place(postgres_server) -> Iterator[PostgresPlace]:
    with postgres_server.schema() as url:
        place = PostgresPlace(url, postgres_server)
        yield place
        place.close()


@pytest.fixture(params=STORES)
def make_store(request: pytest.FixtureRequest, tmp_path) -> Iterator[Callable[[SkippingClock], Any]]:
    """What makes the store of a stage; that of Valkey has several shards."""
    if request.param == "memory":
        yield MemoryStore
    elif request.param == "sqlite":
        # No scenario loses power, and hundreds of them would wait for the disk.
        yield lambda clock: SqliteStore(tmp_path / "scenario.db", synchronous="normal", clock=clock)
    elif request.param == "postgres":
        with request.getfixturevalue("postgres_place").store() as make:
            yield make
    else:
        with redis_store(request.getfixturevalue(f"{request.param}_url")) as make:
            yield make


@pytest.fixture(params=["sqlite", "postgres"])
def books(request: pytest.FixtureRequest, tmp_path) -> Iterator[SqliteBooks | PostgresBooks]:
    """An application's table in the database of a store; `books.make_store` makes the store."""
    if request.param == "sqlite":
        yield SqliteBooks(tmp_path / "scenario.db")
    else:
        place = request.getfixturevalue("postgres_place")
        with place.store() as make:
            books = PostgresBooks(place._server.server.url, place._schema, make)
            yield books
            books.drop_table()


@pytest.fixture(params=list(Colour), ids=str)
def colour(request: pytest.FixtureRequest) -> Colour:
    return request.param


@pytest.fixture
def stage(colour, make_store) -> Iterator[Stage]:
    """A stage in every colour on every store; a test that sets `colour` itself has it in that one only."""
    stage = Stage(colour, make_store)
    try:
        yield stage
    finally:
        stage.close()
