"""Workers killed at random moments: nothing is lost, and nothing runs again but what they died over."""

from __future__ import annotations

import random
import time

import pytest

from tests.failures import oracle
from tests.failures.load import Load, show, size

pytestmark = pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")

WORKERS = 3


def test_workers_die_at_random(ground):
    """kill -9 again and again, under workflows of all kinds: all end rightly, and each kill costs one run at most."""
    chance, book, next_kill = random.Random(1), ground.book(), 0.0
    with ground.client() as client, ground.fleet(book, "--crash-pause", "0.3") as fleet:
        load = Load(client, book)
        for _ in range(WORKERS):
            fleet.add()

        def trouble() -> None:
            nonlocal next_kill
            if time.monotonic() >= next_kill and book.count():
                fleet.replace(chance.randrange(WORKERS))
                next_kill = time.monotonic() + chance.uniform(0.1, 0.9)

        load.finish(600, meanwhile=trouble, total=size())
        fleet.drain()
        load.check_runs()
        oracle.check(client)
        assert fleet.losses >= 2
        show(f"{ground.kind}: {len(load.handles)} workflows, {fleet.losses} kills, {len(book.repeated())} repeated")
