"""Waiting for what runs in this process: told by its owner, without a task on the store's loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from perdure.adapters.worker import Worker
from perdure.client import AsyncClient, Client
from perdure.durable import durable_execution
from perdure.errors import ExecutionFailedError, InvalidStateError, ResultTimeoutError, UnregisteredFunctionWarning
from perdure.service import ending
from perdure.storage import Backend
from perdure.testing.memory import MemoryStore


class Gate:
    """A workflow that runs until it is let go."""

    def __init__(self):
        self.entered, self.open = threading.Event(), threading.Event()

        @durable_execution(name="held")
        def held(event, context):
            self.entered.set()
            assert self.open.wait(30)
            if event == "fail":
                raise ValueError("as it was told")
            return event

        self.function = held


@pytest.fixture
def gate():
    made = Gate()
    yield made
    made.open.set()


@pytest.fixture
def backend(gate):
    found = Backend(url="memory://", store=MemoryStore())
    with Worker(found, [gate.function]):
        yield found
        gate.open.set()


def left(client):
    """Who is still waited for, and by whom."""
    desk = client._desk
    # A question to the loop: what was posted to it before is done by then.
    client.workers()
    return desk._waiting, desk.connection.service.endings._audiences


def test_who_waits_longer_than_he_wanted_is_forgotten(backend, gate):
    """In either colour; another one may wait for the same and is told."""

    async def impatient(handle):
        async with AsyncClient(backend) as client:
            same = await client.handle(handle.id, gate.function)
            with pytest.raises(ResultTimeoutError, match="it goes on"):
                await same.result(timeout=0.01)
            task = asyncio.create_task(same.result())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await client.workers()
            assert not client._desk._waiting

    with Client(backend) as client:
        handle = client.start(gate.function, "done")
        assert gate.entered.wait(10)
        for timeout in (0.01, 0, -1):
            with pytest.raises(ResultTimeoutError, match="it goes on"):
                handle.result(timeout=timeout)
        asyncio.run(impatient(handle))
        waiting, audiences = left(client)
        assert not waiting
        assert not audiences
        gate.open.set()
        assert handle.result(timeout=1e12) == "done"
        assert left(client) == (set(), {})


def test_who_waits_is_told_of_a_failure(backend, gate):
    """The error of the workflow, as if it had been asked for."""
    with Client(backend) as client:
        handle = client.start(gate.function, "fail")
        assert gate.entered.wait(10)
        threading.Timer(0.05, gate.open.set).start()
        with pytest.raises(ExecutionFailedError, match="as it was told") as failed:
            handle.result(timeout=10)
        assert (failed.value.status, failed.value.error_type) == ("FAILED", "ValueError")
        assert left(client) == (set(), {})


def test_who_waits_is_told_that_his_client_was_closed(backend, gate):
    """Though the execution runs here, and others wait for it through clients of their own."""
    told = []

    def wait(handle):
        with pytest.raises(InvalidStateError, match="closed while it waited"):
            handle.result()
        told.append(True)

    with Client(backend) as other:
        client = Client(backend)
        handle = client.start(gate.function, "done")
        same = other.handle(handle.id, gate.function)
        assert gate.entered.wait(10)
        thread = threading.Thread(target=wait, args=(handle,))
        thread.start()
        while not left(other)[1]:
            assert thread.is_alive()
        client.close()
        thread.join(10)
        assert told == [True]
        gate.open.set()
        assert same.result(timeout=10) == "done"


class Behind(MemoryStore):
    """Does something right after an execution was looked at for the first time."""

    def __init__(self):
        super().__init__()
        self.looks = 0
        self.then = None

    async def describe(self, id):
        header = await super().describe(id)
        self.looks += 1
        if self.looks == 1:
            await self.then(id)
        return header


def test_an_end_right_behind_the_look_is_not_missed(monkeypatch):
    """Who asks for a result hears of news before he looks, once, whether it is there already."""
    monkeypatch.setattr(ending, "LONGEST_LOOK", 3600)
    store = Behind()
    with Client(Backend(url="memory://", store=store)) as client:
        with pytest.warns(UnregisteredFunctionWarning):
            handle = client.start("nobodys")
        store.then = client._desk.connection.service.stop
        with pytest.raises(ExecutionFailedError) as failed:
            handle.result(timeout=30)
        assert failed.value.status == "STOPPED"
        assert store.looks == 2
        assert left(client) == (set(), {})
