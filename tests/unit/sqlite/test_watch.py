"""Hints, from other processes too."""

import asyncio
import signal
import sys
import time

import pytest

from perdure.backends.sqlite.writer import LAZY_POLL, POLL
from perdure.storage import Claim, End, Hint, HintKind, SignalKind, Status

HOLD_A_LEASE = """
import asyncio, sys
from perdure.backends.sqlite import SqliteStore

async def main():
    store = SqliteStore(sys.argv[1])
    await store.open()
    await store.register("w1", [], 3600 * 10**6)
    print("ready", flush=True)
    sys.stdin.readline()

asyncio.run(main())
"""


class Ear:
    """Hears hints, and waits for one."""

    def __init__(self, store):
        self.heard = []
        self._news = asyncio.Event()
        self.end = store.watch(self._hear)

    def _hear(self, hint):
        self.heard.append(hint)
        self._news.set()

    async def wait_for(self, *hints, seconds=20):
        async with asyncio.timeout(seconds):
            while not set(hints) <= set(self.heard):
                self._news.clear()
                await self._news.wait()


async def look_twice(stage):
    """Let the watcher look at least once more, to the end."""
    writer = stage.store._opened.writer
    # When the second look begins, the first one is over.
    for _ in range(2):
        before = writer._next_poll
        while writer._next_poll == before:  # noqa: ASYNC110 - the watcher is another thread
            await asyncio.sleep(0.005)


def test_another_opening_creates(play):
    """Something that another process makes due is told of without id, and its row with it."""

    async def scene(stage):
        other = await stage.another()
        ear = Ear(stage.store)
        await look_twice(stage)
        new = stage.new()
        await other.create(new, None)
        await ear.wait_for(Hint(HintKind.DUE, shard=0), Hint(HintKind.GREW, new.id, "order", 0))

    play(scene)


def test_another_opening_ends(play):
    """The end of an execution in another process is told of by id."""

    async def scene(stage):
        other = await stage.another()
        owner = await stage.owner(store=other)
        header = await stage.create(Claim(owner.id, "t0ken"))
        ear = Ear(stage.store)
        await look_twice(stage)
        await owner.hold(header).write(b"ended", End(Status.SUCCEEDED))
        await ear.wait_for(Hint(HintKind.ENDED, header.id, "order", 0))

    play(scene)


def test_rows_of_both(play):
    """Rows of another process are told apart from those written here, whichever was first."""

    async def scene(stage):
        other = await stage.another()
        ear = Ear(stage.store)
        await look_twice(stage)
        theirs, ours = stage.new(), stage.new()
        await other.create(theirs, None)
        await stage.store.create(ours, None)
        await ear.wait_for(Hint(HintKind.GREW, theirs.id, "order", 0), Hint(HintKind.DUE, ours.id, "order", 0))
        await look_twice(stage)
        assert Hint(HintKind.GREW, ours.id, "order", 0) not in ear.heard

    play(scene)


def test_own_transactions_are_no_news(play):
    """What this opening itself does is told of at once and by id only, not again by looking at the file."""

    async def scene(stage):
        ear = Ear(stage.store)
        await look_twice(stage)
        header = await stage.create()
        await look_twice(stage)
        await look_twice(stage)
        assert ear.heard == [Hint(HintKind.DUE, header.id, "order", 0)]

    play(scene)


def test_hints_come_after_the_commit(play):
    """What a hint tells of can be read when it is heard."""

    async def scene(stage):
        found = []

        async def look(id):
            found.append(await stage.store.describe(id))

        tasks = []
        end = stage.store.watch(lambda hint: tasks.append(asyncio.ensure_future(look(hint.id))))
        header = await stage.create()
        await asyncio.gather(*tasks)
        end()
        assert found == [header]

    play(scene)


def test_the_end_of_watching(play):
    """After it was ended, a listener hears nothing more, and others still do."""

    async def scene(stage):
        ear, other = Ear(stage.store), Ear(stage.store)
        header = await stage.create()
        await ear.wait_for(Hint(HintKind.DUE, header.id, "order", 0))
        ear.end()
        before = list(ear.heard)
        await stage.signal(header.id, SignalKind.STOP)
        await other.wait_for(Hint(HintKind.ENDED, header.id, "order", 0))
        assert ear.heard == before

    play(scene)


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_death(play, start_process):
    """The death of another process is told of at once, again after a while, and no more once it is reaped."""
    process = start_process(HOLD_A_LEASE)
    assert process.stdout.readline() == "ready\n"

    async def scene(stage):
        ear = Ear(stage.store)
        await look_twice(stage)
        assert Hint(HintKind.DIED, shard=0) not in ear.heard
        process.send_signal(signal.SIGKILL)
        process.wait()
        await ear.wait_for(Hint(HintKind.DIED, shard=0))
        await stage.store.reap(10)
        ear.heard.clear()
        stage.store._opened.writer._next_death_poll = 0.0
        await look_twice(stage)
        await look_twice(stage)
        assert Hint(HintKind.DIED, shard=0) not in ear.heard

    play(scene)


def test_written_before_the_first_look(play):
    """What another process writes after `watch` was called is told of, be it before the writer's first look at it."""

    async def scene(stage):
        other = await stage.another()
        # Nothing runs between these two but the other opening's own thread.
        ear = Ear(stage.store)
        stage.store._opened.writer._next_poll = time.monotonic() + 0.2
        await other.create(stage.new(), None)
        await ear.wait_for(Hint(HintKind.DUE, shard=0))

    play(scene)


def test_nothing_new_at_the_first_look(play):
    """Who begins to watch is told nothing of what was written before."""

    async def scene(stage):
        other = await stage.another()
        await other.create(stage.new(), None)
        await stage.create()
        ear = Ear(stage.store)
        await look_twice(stage)
        assert ear.heard == []

    play(scene)


def test_lazy_watching(play):
    """Others that write nothing are looked at less often, until they write again."""

    async def scene(stage):
        other = await stage.another()
        writer = stage.store._opened.writer
        assert writer.pause() is None
        ear = Ear(stage.store)
        await look_twice(stage)
        writer._attentive_until = 0.0
        assert writer.pause() == LAZY_POLL
        await stage.create()
        await look_twice(stage)
        assert writer.pause() == LAZY_POLL
        await other.create(stage.new(), None)
        await ear.wait_for(Hint(HintKind.DUE, shard=0))
        assert writer.pause() == POLL

    play(scene)


def test_many_rows_of_both(play):
    """Rows that others have written before a transaction of this opening are told of, whatever group it was."""

    async def scene(stage):
        other = await stage.another()
        ear = Ear(stage.store)
        await look_twice(stage)
        theirs, ours = [], []
        for _ in range(5):
            theirs += [stage.new(), stage.new()]
            await asyncio.gather(*(other.create(new, None) for new in theirs[-2:]))
            ours += [stage.new() for _ in range(3)]
            await asyncio.gather(*(stage.store.create(new, None) for new in ours[-3:]))
        await ear.wait_for(*(Hint(HintKind.GREW, new.id, "order", 0) for new in theirs))
        await look_twice(stage)
        assert not {Hint(HintKind.GREW, new.id, "order", 0) for new in ours} & set(ear.heard)

    play(scene)
