"""The Redis store keeps every rule of the SPI, on Redis and on Valkey."""

import itertools

import pytest

from perdure.backends.redis import Location, RedisStore
from perdure.testing.conformance import *  # noqa: F403
from perdure.testing.conformance import Subject
from tests.redis_clock import CLOCK, Clock
from tests.servers import with_options


@pytest.fixture(params=["redis_server", "valkey_server"])
def new_subject(request):
    server = request.getfixturevalue(request.param)
    with server.namespace() as url:
        namespace = Location.parse(url).namespace
        numbers = itertools.count(1)
        clocks = []

        def make():
            place = Location.parse(with_options(url, namespace=f"{namespace}.{next(numbers)}"))
            clocks.append(Clock(place))
            return Subject(open=lambda: RedisStore(place, clock=CLOCK), advance=clocks[-1].advance)

        yield make
        for clock in clocks:
            clock.close()
