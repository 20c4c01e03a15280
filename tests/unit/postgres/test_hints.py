"""What processes tell each other, and what happens when they cannot."""

import asyncio
import json

import pytest

from perdure.backends.postgres.notice import LARGEST, Notice, channel_of, split
from perdure.storage import Claim, End, Hint, HintKind, SignalKind, Status, Suspend
from perdure.testing.conformance.hinting import _Watch as Watch
from tests.unit.postgres.conftest import until


def test_notices_are_read_as_written():
    """A notice survives its payload."""
    hints = (
        Hint(HintKind.DUE, "x1", "größe", 0),
        Hint(HintKind.ENDED, "x2", None, 0),
        Hint(HintKind.DUE, None, None, 0),
    )
    for notice in (Notice("me", hints[:2]), Notice("me", has_post=True, has_owners=True), Notice("", hints[2:])):
        assert Notice.decode(notice.encode()) == notice


@pytest.mark.parametrize("payload", ["", "x", "[]", "{}", '{"from": 1, "due": [1]}', '{"from": "x", "due": 7}'])
def test_foreign_payloads(payload):
    """What somebody else sends over the channel is no notice."""
    with pytest.raises(ValueError, match=r"Expecting|no notification"):
        Notice.decode(payload)


@pytest.mark.parametrize("count", [1, 200, 400])
def test_notices_fit(count):
    """Hints are told in as few notices as hold them, each once, none too long for the server."""
    hints = [Hint(HintKind.DUE, f"{number:032}", "fünktion\"'", 0) for number in range(count)]
    notices = split("me", hints * 2)
    assert [hint for notice in notices for hint in notice.hints] == hints
    assert all(len(notice.encode().encode()) <= LARGEST for notice in notices)


def test_too_many_hints():
    """What does not fit into a few notices is told by its kinds."""
    hints = [Hint(kind, f"{number:032}", "f", 0) for number in range(2000) for kind in (HintKind.DUE, HintKind.ENDED)]
    assert split("me", hints) == [Notice("me", (Hint(HintKind.DUE), Hint(HintKind.ENDED)))]
    assert split("me", []) == []


def test_channels():
    """Every schema has a channel of its own, however long its name."""
    names = ["a", "b", "x" * 63, "x" * 62 + "y"]
    channels = {channel_of(name) for name in names}
    assert len(channels) == 4
    assert all(len(channel) <= 63 for channel in channels)


def test_other_processes_are_told(play):
    """What becomes due, ends or grows in one process is told in the others."""

    async def scene(stage):
        other = await stage.another()
        watch = Watch()
        other.watch(watch)
        header = await stage.create()
        await watch.until(lambda hint: hint.kind is HintKind.DUE and hint.id == header.id)
        theirs = await stage.owner(store=other)
        (holding,) = await theirs.claim()
        await stage.signal(holding.id, SignalKind.PAUSE)
        await watch.until(lambda hint: hint.kind is HintKind.GREW and hint.id == holding.id)
        ended = await stage.ended()
        await watch.until(lambda hint: hint.kind is HintKind.ENDED and hint.id == ended.id)

    play(scene)


def test_own_notifications_are_not_heard_twice(play):
    """A process is told directly of what it did, and once."""

    async def scene(stage):
        watch = Watch()
        stage.store.watch(watch)
        other = await stage.another()
        theirs = Watch()
        other.watch(theirs)
        header = await stage.create()
        await theirs.until(lambda hint: hint.id == header.id)
        # What the other one answers comes after all that was sent before.
        answer = await (await stage.owner(store=other)).claim()
        ended = answer[0]
        await ended.write(then=End(Status.SUCCEEDED))
        await watch.until(lambda hint: hint.kind is HintKind.ENDED)
        assert [hint.kind for hint in watch.hints if hint.id == header.id] == [HintKind.DUE, HintKind.ENDED]

    play(scene)


def test_what_needs_no_notification(play):
    """Nothing is sent for what is owned from its creation, for steps, and for growth of what is owned here."""

    async def scene(stage):
        owner = await stage.owner()
        await until(lambda: stage.store.notifications)
        before = stage.store.notifications
        holding = owner.hold(await stage.create(Claim(owner.id, stage.token())))
        for _ in range(3):
            await holding.write()
        await stage.signal(holding.id, SignalKind.PAUSE)
        await stage.signal(holding.id, SignalKind.RESUME)
        await holding.write(then=Suspend(wake_after=10**9, wake_at=None), seen=holding.seen)
        await asyncio.sleep(0.05)
        # The last one made it due: it had not seen the pause.
        assert stage.store.notifications - before <= 1

    play(scene)


def test_notifications_are_coalesced(play):
    """However much happens, few notifications are sent."""

    async def scene(stage):
        before = stage.store.notifications
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(20):
            await asyncio.gather(*(stage.create() for _ in range(10)))
        spent = loop.time() - began
        assert stage.store.notifications - before <= 2 + spent / 0.005

    play(scene)


def test_lost_connection(play, database):
    """A listener that loses its connection makes another one, and tells its process to look at everything."""

    async def scene(stage):
        watch = Watch()
        stage.store.watch(watch)
        other = await stage.another()
        schema = stage.store.location.schema
        end = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = %s"
        await asyncio.to_thread(database, end, schema)
        await watch.until(lambda hint: hint.kind is HintKind.DUE and hint.id is None)
        watch.hints.clear()
        async with asyncio.timeout(30):
            while not any(hint.id for hint in watch.hints):
                await other.create(stage.new(), None)
                await asyncio.sleep(0.02)

    play(scene)


def test_switched_off(play, database):
    """With notify=off nothing listens, nothing is sent, and one's own process is told all the same."""

    async def scene(stage):
        watch = Watch()
        stage.store.watch(watch)
        await stage.owner()
        header = await stage.create()
        await watch.until(lambda hint: hint.id == header.id)
        assert stage.store.notifications == 0
        count = "select count(*) from pg_stat_activity where application_name = %s and query ilike 'listen%%'"
        assert await asyncio.to_thread(database, count, stage.store.location.schema) == [(0,)]

    play(scene, notify="off")


def test_idle_process_is_silent(play, database):
    """A process with an owner that does nothing sends nothing."""

    async def scene(stage):
        other = await stage.another()
        await stage.owner()
        await stage.owner(store=other)
        # Each watches the other, and has told what there was to tell.
        openings = [stage.store._opened, other._opened]
        await until(lambda: all(each.sentinel._reader and not each.listener._teller for each in openings))
        await asyncio.sleep(0.1)
        schema = stage.store.location.schema
        last = "select max(query_start) from pg_stat_activity where application_name = %s"
        ((first,),) = await asyncio.to_thread(database, last, schema)
        await asyncio.sleep(0.7)
        ((second,),) = await asyncio.to_thread(database, last, schema)
        assert first == second

    play(scene)


def test_foreign_notifications_are_ignored(play, database):
    """Somebody else's notification on the channel does no harm."""

    async def scene(stage):
        watch = Watch()
        stage.store.watch(watch)
        channel = channel_of(stage.store.location.schema)
        for payload in ("nonsense", json.dumps({"from": 1, "due": 3}), json.dumps({"from": "x", "due": [["id", "f"]]})):
            await asyncio.to_thread(database, "select pg_notify(%s, %s)", channel, payload)
        await watch.until(lambda hint: hint.id == "id")
        assert len(watch.hints) == 1

    play(scene)
