"""The memory store keeps every rule of the SPI."""

import asyncio
import threading
import time

import pytest

from perdure.errors import BackendUrlError
from perdure.storage import HintKind, open_backend
from perdure.testing.clock import VirtualClock, system_clock
from perdure.testing.conformance import *  # noqa: F403
from perdure.testing.conformance import Subject
from perdure.testing.memory import MemoryStore


@pytest.fixture
def new_subject():
    def make():
        clock = VirtualClock()
        store = MemoryStore(clock)
        return Subject(open=lambda: store, advance=clock.advance)

    return make


def test_url_opens_a_store_of_its_own():
    """Each opening of memory:// is another, empty store."""
    first, second = open_backend("memory://"), open_backend("memory://")
    assert isinstance(first.store, MemoryStore)
    assert first.store is not second.store
    assert (first.url, first.client) == ("memory://", None)


@pytest.mark.parametrize("url", ["memory://?wal=1", "memory://name", "memory:///path", "memory://#x"])
def test_url_says_no_more_than_its_scheme(url):
    """A place or an option is refused with the reason."""
    with pytest.raises(BackendUrlError, match="no place and no options"):
        open_backend(url)


def test_answers_from_any_loop(new_subject):
    """Several threads, each with a loop of its own, use one store; hints reach the loop that watches."""
    hints = []

    async def create(stage):
        for _ in range(50):
            await stage.create()

    async def scene(stage):
        stage.store.watch(lambda hint: hints.append((hint.kind, threading.get_ident())))
        await asyncio.gather(*(asyncio.to_thread(asyncio.run, create(stage)) for _ in range(4)))

    new_subject().play(scene)
    assert hints == [(HintKind.DUE, threading.get_ident())] * 200


def test_watcher_whose_loop_is_gone():
    """A hint for a loop that was closed is dropped, and that watcher with it."""
    store = MemoryStore()
    told = []

    async def watch():
        store.watch(told.append)

    async def create(stage):
        await stage.create()

    asyncio.run(watch())
    Subject(open=lambda: store, advance=lambda _: None).play(create)
    assert told == []


def test_clocks():
    """Clocks answer microseconds since the epoch; a virtual one stands still until it is advanced."""
    before = time.time_ns() // 1000
    assert before <= system_clock() <= before + 5_000_000
    clock = VirtualClock(7)
    assert (clock(), clock()) == (7, 7)
    clock.advance(3)
    assert clock() == 10
