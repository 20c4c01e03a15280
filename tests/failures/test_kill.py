"""Workers killed at random moments: nothing is lost, and nothing runs again but what they died over."""

from __future__ import annotations

import random
import time
from itertools import product

import pytest

from tests.failures import flows, oracle
from tests.failures.fleet import wait_until
from tests.failures.load import Load, show, size

pytestmark = pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")

WORKERS = 3


def test_workers_die_at_random(ground):
    """kill -9 again and again, under workflows of all kinds: all end rightly, and each kill costs one run at most."""
    chance, book, next_kill = random.Random(1), ground.book(), 0.0
    with ground.client() as client, ground.fleet(book, "--crash-pause", "0.3", "--concurrency", "8") as fleet:
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


STEPS = 6


def test_a_worker_dies_in_each_step(ground):
    """Dead in the midst of a step: what is recorded does not run again, that step does, or its next attempt."""
    book, go, colours = ground.book(), ground.folder / "go", (flows.stations, flows.stations_async)
    cases = list(product(range(STEPS), (False, True), colours))
    with ground.client() as client, ground.fleet(book, "--concurrency", str(2 * len(cases))) as fleet:
        first, handles = fleet.add(), []
        for n, (hold, once, function) in enumerate(cases):
            event = {"n": n, "log": str(book.path), "hold": hold, "go": str(go), "steps": STEPS, "once": once}
            handles.append(client.start(function, event))
        wait_until(lambda: book.count() == sum(hold + 1 for hold, *_ in cases), "each is where it is held up")
        first.kill()
        go.touch()
        fleet.members[:] = []
        fleet.add()
        for n, ((hold, once, _), handle) in enumerate(zip(cases, handles, strict=True)):
            assert handle.result(timeout=60) == list(range(STEPS))
            book.read()
            runs = {body[1:]: len(each) for body, each in book.runs.items() if body[0] == n}
            again = {(f"s{hold}", 1): 1, (f"s{hold}", 2): 1} if once else {(f"s{hold}", 1): 2}
            assert runs == {(f"s{k}", 1): 1 for k in range(STEPS)} | again
        fleet.drain()
        oracle.check(client, len(cases))
