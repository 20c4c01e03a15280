"""A transaction that somebody leaves open: what it keeps from being cleaned up makes claims slow, not stuck."""

from __future__ import annotations

import time

import pytest

from tests.failures import flows, oracle
from tests.failures.fleet import wait_until
from tests.failures.ground import Ground, session
from tests.failures.load import Load, show, size

pytestmark = pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")

RATIO = 8


def test_an_old_snapshot(postgres_url, tmp_path):
    """While an old snapshot is held, workflows go on, and not many times slower than without."""
    ground, count = Ground("postgres", postgres_url, tmp_path), size(least=100)
    book = ground.book()
    with ground.client() as client, ground.fleet(book) as fleet, session(postgres_url) as (connection, schema):
        fleet.add()
        fleet.wait_for_all()
        took = []

        def measure() -> None:
            load = Load(client, book, [flows.chain, flows.naps_async], pause=0)
            load.handles.update(done)
            began = time.monotonic()
            load.start(count)
            wait_until(load.is_over, "all ended", 120)
            took.append(time.monotonic() - began)
            done.update(load.handles)

        done: dict = {}
        measure()
        connection.execute("begin isolation level repeatable read")
        connection.execute(f'select count(*) from "{schema}".execution')
        for _ in range(2):
            measure()
        connection.execute("rollback")
        show(f"{count} workflows in {took[0]:.2f} s; with an old snapshot {[round(each, 2) for each in took[1:]]}")
        assert min(took[1:]) <= RATIO * took[0]
        fleet.drain()
        oracle.check(client, 3 * count)
        assert not book.repeated()
