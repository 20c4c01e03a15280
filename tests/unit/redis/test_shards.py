"""A store of several shards: the state machine, and what only several shards can show."""

import itertools
from typing import ClassVar

import pytest

from perdure.backends.redis import Location, RedisStore
from perdure.testing.conformance import Subject, machine, twin
from tests.redis_clock import CLOCK, Clock
from tests.servers import with_options
from tests.spread import ShardedMemory, Spread

SHARDS = 4


@pytest.fixture
def sharded(valkey_server):
    """Makes a URL of a store in several shards."""
    with valkey_server.namespace() as url:
        namespace, numbers = Location.parse(url).namespace, itertools.count(1)
        yield lambda: with_options(url, namespace=f"{namespace}.{next(numbers)}", shards=SHARDS)


@pytest.fixture
def new_subject(sharded, monkeypatch):
    clocks = []

    def make():
        place = Location.parse(sharded())
        clocks.append(Clock(place))
        store = RedisStore(place, clock=CLOCK)
        monkeypatch.setattr(
            twin, "MemoryStore", lambda clock: Spread(ShardedMemory(clock, SHARDS, store.shard_of), SHARDS)
        )
        return Subject(open=lambda: Spread(store, SHARDS), advance=clocks[-1].advance)

    yield make
    for clock in clocks:
        clock.close()


class TestStateMachine(machine.TestStateMachine):
    """Each shard does what a memory store of its own does, and what spans shards is never lost."""

    examples: ClassVar[int] = max(1, machine.TestStateMachine.examples // 2)
