"""Pools that grow and shrink."""

from __future__ import annotations

import threading

import pytest

from perdure.engine.threads import Flusher, Pool, park
from tests.replay.plane import wait_until


def names(pool):
    return [each for each in threading.enumerate() if each.name == pool]


def test_as_many_threads_as_work():
    """Work that waits for each other gets a thread each."""
    pool, meet = Pool("grow", 8), threading.Barrier(9)
    for _ in range(8):
        pool.submit(lambda: meet.wait(10))
    meet.wait(10)


def test_idle_threads_are_used_again():
    """One thread is enough for work that comes one by one."""
    pool, idents = Pool("reuse", 8), set()
    for _ in range(20):
        done = threading.Event()
        pool.submit(lambda done=done: (idents.add(threading.get_ident()), done.set()))
        assert done.wait(10)
        wait_until(lambda: pool._idle == 1, "the thread is idle")
    assert len(idents) == 1


def test_idle_threads_end():
    """A thread that finds no work for a while ends."""
    pool = Pool("shrink", 8, idle_seconds=0.01)
    pool.submit(lambda: None)
    wait_until(lambda: not names("shrink"), "the thread has ended")


def test_the_cap():
    """Above the cap work is queued, and the pool says that nobody will come for it."""
    pool, release, ran = Pool("cap", 1), threading.Event(), threading.Event()
    begun = threading.Event()
    pool.submit(lambda: (begun.set(), release.wait(10)))
    begun.wait(10)
    assert not pool.saturated
    pool.submit(ran.set)
    assert pool.saturated
    release.set()
    assert ran.wait(10)
    assert not pool.saturated


def test_a_parked_thread_is_replaced():
    """A thread that is given up does not take a place of the pool."""
    pool, ran = Pool("park", 1), threading.Event()
    pool.submit(park)
    pool.submit(ran.set)
    assert ran.wait(10)
    pool.submit(park)
    pool.submit(ran.set)


def test_no_more_threads(monkeypatch):
    """Where the system has none left, the pool counts as saturated and recovers."""
    pool, ran = Pool("starved", 8, helped=True), threading.Event()
    with monkeypatch.context() as patch:

        def refuse(_):
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", refuse)
        pool.submit(ran.set)
        with pytest.raises(RuntimeError, match="new thread"):
            Pool("alone", 8).submit(ran.set)
    assert pool.saturated
    pool.submit(lambda: None)
    assert ran.wait(10)


def test_no_thread_for_the_flusher(monkeypatch):
    """Who asked for it is told, and the next one is looked after again."""
    flusher, member = Flusher(), Member()
    with monkeypatch.context() as patch:

        def refuse(_):
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            flusher.add(Member())
    flusher.add(member)
    assert member.flushed.wait(10)
    flusher.discard(member)


def test_the_flusher_outlives_a_round_without_threads():
    """What could not be sent is come to again."""
    flusher, tries = Flusher(), []

    class Unlucky(Member):
        def flush(self):
            tries.append(self)
            if len(tries) == 1:
                raise RuntimeError("can't start new thread")
            super().flush()

    member = Unlucky()
    flusher.add(member)
    assert member.flushed.wait(10)
    flusher.discard(member)


class Member:
    def __init__(self):
        self.flushed = threading.Event()

    def flush(self):
        self.flushed.set()


def test_the_flusher_looks_after_its_members():
    """One thread for all, only while they are there."""
    flusher, members = Flusher(), [Member(), Member()]
    for member in members:
        flusher.add(member)
    assert all(member.flushed.wait(10) for member in members)
    assert len(names("perdure-flusher")) >= 1
    flusher.discard(members[0])
    for _ in range(2):  # it may have been on its round, which is over when the other is come to again
        members[1].flushed.clear()
        assert members[1].flushed.wait(10)
    members[0].flushed.clear()
    for _ in range(2):
        members[1].flushed.clear()
        assert members[1].flushed.wait(10)
    assert not members[0].flushed.is_set()


@pytest.fixture(autouse=True)
def _no_new_parked_threads():
    """Parked threads are daemons: they end with the process, and nothing waits for them."""
    yield
    assert all(each.daemon for each in threading.enumerate() if each is not threading.main_thread())
