"""Workers that stand still past their lease and then go on as if nothing had happened."""

from __future__ import annotations

import time

import pytest

from tests.failures import oracle
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
        load = Load(client, book, pause=0.3)
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
