from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from perdure.backends.sqlite import SqliteStore
from perdure.testing.memory import MemoryStore
from tests.scenarios.colour import Colour
from tests.scenarios.stage import SkippingClock, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STORES = ["memory", "sqlite"]


@pytest.fixture(params=STORES)
def make_store(request: pytest.FixtureRequest, tmp_path) -> Callable[[SkippingClock], Any]:
    if request.param == "memory":
        return MemoryStore
    # No scenario loses power, and hundreds of them would wait for the disk.
    return lambda clock: SqliteStore(tmp_path / "scenario.db", synchronous="normal", clock=clock)


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
