"""The memory store keeps every rule of the SPI."""

import pytest

from perdure.testing.clock import VirtualClock
from perdure.testing.conformance import *  # noqa: F403
from perdure.testing.conformance import Subject
from perdure.testing.memory import MemoryStore


@pytest.fixture
def new_subject():
    def make():
        clock = VirtualClock()
        store = MemoryStore(clock)
        return Subject(open=lambda: store, advance=clock.advance)

    return make
