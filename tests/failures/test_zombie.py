"""Workers that stand still past their lease and then go on as if nothing had happened."""

from __future__ import annotations

import time

import pytest

from tests.failures import flows, oracle
from tests.failures.fleet import wait_until
from tests.failures.load import Load, show, size

pytestmark = pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")

LEASE = 1.5
WORKERS = 3
CROWD = 30


def test_zombies_are_fenced(served):
    """SIGSTOP past the lease, SIGCONT: who is woken learns that others own its work, and nothing it writes counts."""
    book, standing, until, stops = served.book(), None, 0.0, 0
    wanted = size(share=0.02, least=2)
    with served.client() as client, served.fleet(book, lease=LEASE) as fleet:
        # Long enough for the next owner to be at it when the zombie wakes.
        load = Load(client, book, pause=1.0)
        for _ in range(WORKERS):
            fleet.add()

        def trouble() -> bool:
            """Stop who is at work, and wake him after his lease; True when that happened often enough."""
            nonlocal standing, until, stops
            load.answer()
            if standing is not None:
                if time.monotonic() > until:
                    standing.go_on()
                    standing = None
                return False
            if stops == wanted:
                return True
            if load.is_over() or len(load.running) < CROWD:
                load.start(5)
            if busy := [member for member in fleet.members if member.pid == book.last.pid]:
                (standing,), until = busy, time.monotonic() + 1.6 * LEASE
                standing.stop()
                stops += 1
            return False

        wait_until(trouble, "all stood still, and went on", 600)
        load.finish(120)
        wait_until(book.fences, "somebody learned that he had lost his work")
        fleet.drain()
        load.check_runs()
        oracle.check(client)
        show(
            f"{served.kind}: {len(load.handles)} workflows, {stops} stops, {len(book.fences())} fences, "
            f"{len(book.repeated())} repeated"
        )


def test_a_zombie_ends_its_step_before_the_next_owner_does(served):
    """What it brings is refused, while the next owner is in the midst of the same step; that one's result counts."""
    book, go, colours = served.book(), served.folder / "go", (flows.stations, flows.stations_async)
    event = {"log": str(book.path), "hold": 1, "go": str(go), "steps": 3, "once": False}

    def runs() -> list[int]:
        book.read()
        return [len(book.runs[n, "s1", 1]) for n in range(len(colours))]

    with served.client() as client, served.fleet(book, lease=30) as fleet:
        zombie = fleet.add("--lease", "1")
        handles = [client.start(function, {**event, "n": n}) for n, function in enumerate(colours)]
        wait_until(lambda: runs() == [1, 1], "it is in the step")
        fleet.add().wait_for()
        zombie.stop()
        wait_until(lambda: runs() == [2, 2], "the next owner is in the step")
        go.with_name(f"go-{zombie.pid}").touch()
        zombie.go_on()
        wait_until(lambda: any(sign["pid"] == zombie.pid for sign in book.fences()), "the zombie learns of it")
        assert [handle.describe().status.value for handle in handles] == ["RUNNING", "RUNNING"]
        go.touch()
        assert [handle.result(timeout=30) for handle in handles] == [[0, 1, 2]] * 2
        fleet.drain()
        ran = {body: [run.pid == zombie.pid for run in each] for body, each in book.runs.items()}
        expected = {"s0": [True], "s1": [True, False], "s2": [False]}
        assert ran == {(n, step, 1): each for n in range(len(colours)) for step, each in expected.items()}
        oracle.check(client, len(colours))
