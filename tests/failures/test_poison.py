"""Workflows that kill whoever runs them, and names and ids that are used again."""

from __future__ import annotations

import pytest

from tests.failures import flows, oracle
from tests.failures.fleet import wait_until
from tests.failures.load import BRISK, Load

pytestmark = pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")

CRASHES = 5


def test_poison_is_put_aside(ground):
    """What has killed its worker five times in a row is left alone and visible, others go on; resumed, it may end."""
    book, antidote = ground.book(), ground.folder / "antidote"
    with ground.client() as client, ground.fleet(book, "--crash-pause", "0.1") as fleet:
        poison = client.start(flows.poison, {"n": 7, "log": str(book.path), "antidote": str(antidote)})
        fleet.add()

        def revive() -> None:
            if not fleet.members[-1].is_alive:
                fleet.add()

        def aside() -> bool:
            revive()
            return poison.describe().quarantined

        wait_until(aside, lambda: f"put aside: {poison.describe()}")
        assert poison.describe().crashes == CRASHES
        book.read()
        assert len(book.runs[7, "bite", 1]) == CRASHES
        # Another one may come meanwhile: it does not touch it.
        load = Load(client, book, BRISK)
        load.start(10)
        load.finish(meanwhile=revive)
        assert poison.id in {each.id for each in client.list(statuses=["RUNNING"]).items}
        book.read()
        assert len(book.runs[7, "bite", 1]) == CRASHES
        antidote.touch()
        poison_id = poison.id
        client.resume(poison_id)
        assert poison.result(timeout=30) == 7
        # Only the last one lives.
        fleet.members[:] = [member for member in fleet.members if member.is_alive]
        fleet.drain()
        oracle.check(client)
