"""Who waits for something to be due, and is told of what comes sooner."""

from __future__ import annotations

import asyncio
import time

import pytest

from perdure.service.agenda import Agenda, Alarm, Concern
from perdure.service.clock import StoreClock
from perdure.storage import EMPTY, Answer, Commit, Committed, Draft, End, Keep, OpenAwait, Status, Suspend
from tests.unit.service.stage import run

NOW = 1_000_000_000
LONG = 60.0


class Shards:
    shards = 3

    def shard_of(self, id):
        return int(id[0])


@pytest.fixture
def clock():
    clock = StoreClock()
    clock.read(NOW)
    return clock


async def seconds(alarm, longest=LONG):
    began = time.monotonic()
    await alarm.wait(longest)
    return time.monotonic() - began


def test_an_alarm_wakes_at_the_earliest_instant_it_was_set_to(clock):
    """Later ones change nothing, and an instant is forgotten once it has come."""

    async def scene():
        alarm = Alarm(clock)
        alarm.set(NOW + 100_000)
        alarm.set(NOW + 50_000_000)
        alarm.set(None)
        assert await seconds(alarm) < 5
        assert clock.now() >= NOW + 100_000
        assert 0.05 < await seconds(alarm, 0.1) < 5

    run(scene())


def test_an_alarm_is_set_while_somebody_waits(clock):
    """It wakes earlier then; at once if it is rung, and also if it was before."""

    async def scene():
        alarm = Alarm(clock)
        alarm.set(NOW + 50_000_000)
        waiting = asyncio.create_task(seconds(alarm))
        await asyncio.sleep(0.01)
        alarm.ring()
        assert await waiting < 5
        alarm.ring()
        assert await seconds(alarm) < 5

    run(scene())


def test_an_alarm_without_the_time_waits_for_it():
    """As long as the store's time is not known nothing can be due; once it is, nothing is late."""

    async def scene():
        clock = StoreClock()
        alarm = Alarm(clock)
        alarm.set(NOW)
        waiting = asyncio.create_task(seconds(alarm))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        clock.read(NOW)
        assert await waiting < 5

    run(scene())


def commit(then=Keep(), opens=(), id="1x", seen=1):  # noqa: B008 - immutable
    draft = Draft(b"", "t", 1)
    return Commit(id=id, token="t", seq=1, seen=seen, tip=EMPTY, draft=draft, then=then, opens=opens)


@pytest.mark.parametrize(
    ("made", "length", "expected"),
    [
        (commit(), 2, {}),
        (commit(End(Status.SUCCEEDED)), 2, {}),
        (commit(opens=(OpenAwait(operation="a"),)), 2, {}),
        (commit(opens=(OpenAwait(operation="a", timeout=9, heartbeat=5),)), 2, {Concern.DEADLINE: NOW + 5}),
        (
            commit(opens=(OpenAwait(operation="a", timeout=9), OpenAwait(operation="b", heartbeat=7))),
            2,
            {Concern.DEADLINE: NOW + 7},
        ),
        (commit(Suspend()), 2, {}),
        (commit(Suspend(wake_at=NOW + 30)), 2, {Concern.CLAIM: NOW + 30}),
        (commit(Suspend(wake_at=NOW + 30, wake_after=20)), 2, {Concern.CLAIM: NOW + 20}),
        (commit(Suspend(wake_after=20, quarantine=True)), 2, {}),
        (commit(Suspend(wake_at=NOW + 30)), 3, {Concern.CLAIM: 0}),
    ],
)
def test_what_a_commit_brings_about(clock, made, length, expected):
    """Timeouts of awaits, the end of a sleep, and at once what its owner has not seen; in its own shard only."""
    agenda = Agenda(Shards(), clock)
    alarms = {concern: agenda.open(concern) for concern in Concern}
    agenda.learn(made, Answer.FENCED)
    agenda.learn(made, Committed(length, NOW, NOW))
    found = {
        concern: [alarm._at for alarm in opened]
        for concern, opened in alarms.items()
        if any(alarm._at is not None for alarm in opened)
    }
    assert found == {concern: [None, at, None] for concern, at in expected.items()}


def test_everybody_is_told_until_he_stops_listening(clock):
    """Two workers of one process each have their own alarms; a closed one is told nothing more."""
    agenda = Agenda(Shards(), clock)
    one, other = agenda.open(Concern.CLAIM), agenda.open(Concern.CLAIM)
    agenda.expect(Concern.CLAIM, 5)
    agenda.close(one)
    agenda.expect(Concern.CLAIM, 3, 2)
    assert [alarm._at for alarm in one] == [5, 5, 5]
    assert [alarm._at for alarm in other] == [5, 5, 3]
