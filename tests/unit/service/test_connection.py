"""Connections: shared, opened once, closed by the last, never inherited from a parent process."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
import warnings

import pytest

from perdure.client import Client
from perdure.errors import BackendUrlError, InvalidStateError, StoreError, ValidationError
from perdure.service import connection
from perdure.service.connection import Connection
from perdure.storage import Backend
from perdure.testing.memory import MemoryStore
from tests.unit.service.stage import run


class Slow(MemoryStore):
    """Takes its time to open, and notes what is done to it."""

    def __init__(self):
        super().__init__()
        self.log = []
        self.ready = asyncio.Event()
        self.fails = False

    async def open(self):
        self.log.append("open")
        await self.ready.wait()
        if self.fails:
            raise StoreError("no way in")

    async def close(self):
        self.log.append("close")


def test_what_is_opened_at_the_same_time_is_opened_once_and_closed_by_the_last():
    """Both wait until it is open."""

    async def scene():
        store = Slow()
        one, two = Connection(store), Connection(Backend(url="slow://", store=store))
        opening = [asyncio.create_task(each.open()) for each in (one, one, two)]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in opening)
        store.ready.set()
        await asyncio.gather(*opening)
        assert one.service is two.service
        await one.close()
        assert store.log == ["open"]
        await two.close()
        assert store.log == ["open", "close"]
        assert not connection._shared

    run(scene())


def test_a_failed_opening_leaves_nothing_behind():
    """All who wait are told, and another try begins anew."""

    async def scene():
        store = Slow()
        store.fails = True
        store.ready.set()
        opened = await asyncio.gather(*[Connection(store).open() for _ in range(2)], return_exceptions=True)
        assert [type(each) for each in opened] == [StoreError, StoreError]
        assert not connection._shared
        store.fails = False
        again = Connection(store)
        await again.open()
        await again.close()
        assert store.log == ["open", "open", "close"]

    run(scene())


def test_who_stops_waiting_for_an_opening_leaves_nothing_open():
    """The store is closed again once it has opened."""

    async def scene():
        store = Slow()
        opening = asyncio.create_task(Connection(store).open())
        await asyncio.sleep(0.01)
        opening.cancel()
        await asyncio.sleep(0.01)
        store.ready.set()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert store.log == ["open", "close"]

    run(scene())


def test_what_is_not_open_says_so():
    """Before `open` and after `close`."""

    async def scene():
        made = Connection("memory://")
        with pytest.raises(InvalidStateError, match="not open"):
            _ = made.store
        await made.open()
        await made.close()
        await made.close()
        with pytest.raises(InvalidStateError, match="not open"):
            _ = made.service

    run(scene())


def test_only_a_backend_is_connected_to():
    """A path, a backend without a store, a scheme that nobody knows."""
    with pytest.raises(ValidationError, match="a backend is a URL"):
        Connection(None)
    with pytest.raises(BackendUrlError, match="no store of its own"):
        Connection(Backend(url="lambda://f"))
    with pytest.raises(BackendUrlError, match="no backend URL"):
        Connection("nonsense")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_use_what_its_parent_opened(tmp_path):
    """The old client says what to do, a new one by the same URL works, and the parent goes on."""
    url = f"sqlite:///{tmp_path / 'fork.db'}"
    with Client(url) as client:
        assert client.list().items == []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # threads and forks: what this test is about
            child = os.fork()
        if not child:
            _in_child(client, url)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert len(client.list().items) == 1


def _in_child(inherited, url):
    try:
        with pytest.raises(InvalidStateError, match="forked"):
            inherited.list()
        inherited.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Client(url) as own:
                own.start("f")
    except BaseException:  # noqa: BLE001 - nothing of the parent's tests may go on here
        traceback.print_exc(file=sys.__stderr__)
        os._exit(1)
    os._exit(0)
