"""Stores whose hints are switched off: everything happens, only later."""

from __future__ import annotations

import pytest

from tests.failures import flows, oracle
from tests.failures.load import Load, size
from tests.servers import with_options

pytestmark = pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")


def test_nobody_is_told_anything(served):
    """Without notifications all workflows end: what polling finds is the truth."""
    book, url = served.book(), with_options(served.url, notify="off")
    with served.client(url) as client, served.fleet(book, url=url, lease=30) as fleet:
        load = Load(client, book)
        fleet.add()
        fleet.add()
        load.start(size(share=0.5))
        load.finish()
        fleet.drain()
        assert not book.repeated()
        load.check_runs()
        oracle.check(client)


def test_a_hint_that_gets_lost(served):
    """A worker that sleeps finds what was started meanwhile within its fallback poll."""
    book, url = served.book(), with_options(served.url, notify="off")
    with served.client(url) as client, served.fleet(book, url=url) as fleet:
        fleet.add()
        assert client.start(flows.chain, {"n": 1, "log": str(book.path)}).result(timeout=30) == [1, 2, 3]
        handle = client.start(flows.chain, {"n": 2, "log": str(book.path)})
        assert handle.result(timeout=15) == [2, 3, 4]
        fleet.drain()
