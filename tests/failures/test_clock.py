"""Workers whose clocks are wrong: only the store's clock counts."""

from __future__ import annotations

import datetime as dt

import pytest

from tests.failures import flows, oracle
from tests.failures.load import Load, size

pytestmark = pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")

HOUR = 3600
LATE = 600.0
"""Seconds that a wait may take longer on a busy machine; far less than the clocks are off."""


@pytest.mark.parametrize("skews", [(HOUR,), (-HOUR,), (HOUR, -HOUR)], ids=["ahead", "behind", "both"])
def test_a_clock_that_is_off_by_an_hour(served, skews):
    """An hour ahead, or behind: waits take as long as they should, nothing is fenced, and times are the store's."""
    book, began = served.book(), dt.datetime.now(dt.UTC)
    kinds = [flows.naps, flows.naps_async, flows.stubborn, flows.call, flows.fan_async, flows.pair]
    with served.client() as client, served.fleet(book, lease=30) as fleet:
        load = Load(client, book, kinds)
        for skew in skews:
            fleet.add("--skew", str(skew))
        load.start(size(share=0.3))
        load.finish()
        fleet.drain()
        load.check_runs()
        oracle.check(client)
        assert not book.repeated()
        assert not book.fences()
        ended = dt.datetime.now(dt.UTC)
        for n, (function, handle) in load.handles.items():
            times = [event.event_timestamp for event in handle.history()]
            assert began <= times[0] <= times[-1] <= ended
            if function.name.startswith("naps"):
                (before,), (after,) = book.runs[n, "before", 1], book.runs[n, "after", 1]
                assert 1.0 <= (after.at - before.at) / 1e9 < 1.0 + LATE
