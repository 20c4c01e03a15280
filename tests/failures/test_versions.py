"""Versions of a workflow side by side, and workers that make room for others in an orderly way."""

from __future__ import annotations

import pytest

from tests.failures import oracle
from tests.failures.fleet import wait_until
from tests.failures.load import Load, size

pytestmark = pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")


def results(version):
    return [version, version]


def test_two_versions_side_by_side(ground):
    """What began in a version goes on in it; without a worker for it, it waits and stays visible."""
    book, count, go = ground.book(), size(share=0.2), ground.folder / "go"
    event = {"log": str(book.path), "go": str(go)}

    def begin(client, version, first):
        numbers = range(first, first + count)
        return [client.start("order", {**event, "n": n}, name=f"order-{n}", version=version) for n in numbers]

    with ground.client() as client, ground.fleet(book, "--concurrency", str(count), lease=30) as fleet:
        old = fleet.add("--version", "1")
        first = begin(client, "1", 0)
        wait_until(lambda: book.count() >= count, "all began in version 1")
        fleet.add("--version", "2")
        # Before any of them may get on, so that none ends.
        old.ask_to_drain()
        wait_until(lambda: old.is_draining, "the old one takes nothing more")
        go.touch()
        assert old.process.wait(60) == 0
        second = begin(client, "2", 1000)
        assert [handle.result(timeout=60) for handle in second] == [results("2")] * count
        # Those that have not ended in version 1 are due by now, and nobody touches them.
        waiting = [handle for handle in first if handle.describe().status.value == "RUNNING"]
        assert waiting
        assert {handle.id for handle in waiting} <= {each.id for each in client.list("order", limit=1000).items}
        wait_until(lambda: all(handle.describe().due is not None for handle in waiting), "those wait, and are due")
        assert {handle.describe().owner for handle in waiting} == {None}
        fleet.add("--version", "1")
        assert [handle.result(timeout=60) for handle in first] == [results("1")] * count
        fleet.members.remove(old)
        fleet.drain()
        assert not book.repeated()
        assert not book.fences()
        oracle.check(client, 2 * count)


def test_a_rolling_deploy(ground):
    """Workers that are drained one after the other under load: nothing is run twice, fenced or counted as a crash."""
    book = ground.book()
    with ground.client() as client, ground.fleet(book, lease=30) as fleet:
        load = Load(client, book)
        fleet.add()
        fleet.add()
        load.start(size(share=0.5))
        for _ in range(4):
            leaving, known = fleet.members.pop(0), book.count()
            wait_until(lambda known=known: book.count() > known or load.is_over(), "the work goes on")
            fleet.add()
            leaving.drain()
            load.start(size(share=0.1))
        load.finish()
        fleet.drain()
        assert not book.repeated()
        assert not book.fences()
        assert not book.errors()
        load.check_runs()
        oracle.check(client)
        assert oracle.crashes(client) == 0
