from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from perdure.adapters import worker
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
    return lambda clock: SqliteStore(tmp_path / "scenario.db", clock=clock)


@pytest.fixture(params=list(Colour), ids=str)
def colour(request: pytest.FixtureRequest) -> Colour:
    return request.param


@pytest.fixture
def stage(colour, make_store, monkeypatch) -> Iterator[Stage]:
    """A stage in every colour on every store; a test marked with `one_colour` has it in that one only."""
    # Deadlines come from the store, which is only asked now and then; a test should not wait for that.
    monkeypatch.setattr(worker, "UPKEEP_PAUSE", 0.02)
    stage = Stage(colour, make_store)
    try:
        yield stage
    finally:
        stage.close()
