"""The SQLite store keeps every rule of the SPI."""

import itertools

import pytest

from perdure.backends.sqlite import SqliteStore
from perdure.testing.clock import VirtualClock
from perdure.testing.conformance import *  # noqa: F403
from perdure.testing.conformance import Subject


@pytest.fixture
def new_subject(tmp_path):
    numbers = itertools.count(1)

    def make():
        clock, path = VirtualClock(), tmp_path / f"{next(numbers)}.db"
        # Nothing here loses power; without the sync of every commit the kit takes a fraction of the time.
        return Subject(open=lambda: SqliteStore(path, synchronous="normal", clock=clock), advance=clock.advance)

    return make
