"""Which desk a client works with, and that it asks nothing else of a backend."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from perdure.client import AsyncClient, Client
from perdure.desk import desk_of
from perdure.desk.answer import Begun, ExecutionReference, Listing
from perdure.desk.store import StoreDesk
from perdure.durable import durable_execution
from perdure.errors import UnregisteredFunctionWarning, ValidationError
from perdure.storage import Backend
from perdure.testing.memory import MemoryStore

ELSEWHERE = ExecutionReference(arn="elsewhere/1", id="1", name="n", function="f", version="7")


@durable_execution
def flow(event, context):
    return event


class Elsewhere:
    """A service that is elsewhere: tells what it was asked."""

    def __init__(self):
        self.asked = []

    def __getattr__(self, name):
        async def ask(*args, **options):
            self.asked.append((name, args, options))
            return ANSWERS.get(name)

        return ask


ANSWERS = {
    "start": Begun(ELSEWHERE),
    "resolve": ELSEWHERE,
    "result": '{"a": 1}',
    "delete": datetime(2026, 1, 1, tzinfo=UTC),
    "list": Listing([], "next"),
}


def test_a_store_has_its_desk(tmp_path):
    """By URL, as a backend, or as the store itself."""
    store = MemoryStore()
    for backend in (f"sqlite:///{tmp_path / 'x.db'}", Backend(url="memory://", store=store), store):
        assert isinstance(desk_of(backend), StoreDesk)


def test_a_backend_may_bring_its_own():
    """A new one for each client; the blocking client and its handles ask it for everything."""
    made = []

    def make():
        made.append(Elsewhere())
        return made[-1]

    backend = Backend(url="elsewhere://", client=make)
    with Client(backend) as client:
        handle = client.start(flow, {"b": 2}, name="n")
        assert (handle.arn, handle.id, handle.name, handle.function, handle.version) == (
            "elsewhere/1",
            "1",
            "n",
            "f",
            "7",
        )
        assert handle.result(timeout=3) == {"a": 1}
        handle.pause("why", timeout_paused=False)
        handle.resume("so")
        assert handle.delete() == ANSWERS["delete"]
        assert client.list(flow, limit=3, cursor="here").next_cursor == "next"
        assert client.handle("n", flow).arn == "elsewhere/1"
    (desk,) = made
    asked = {name: (args, options) for name, args, options in desk.asked}
    assert [name for name, *_ in desk.asked] == [
        *("open", "start", "result", "pause", "resume", "delete", "list", "resolve", "close"),
    ]
    assert asked["start"][0][0].input == '{"b": 2}'
    assert asked["result"][0] == (ELSEWHERE, 3)
    assert asked["pause"][0] == ("elsewhere/1", "why", False)
    assert asked["list"][0][0].cursor == "here"
    with Client(backend):
        assert len(made) == 2


def test_awaited_too():
    """AsyncClient asks the same."""
    desk = Elsewhere()

    async def application():
        async with AsyncClient(Backend(url="elsewhere://", client=lambda: desk)) as client:
            handle = await client.start(flow)
            await handle.pause()
            await handle.resume()
            await handle.delete()
            return await handle.result()

    assert asyncio.run(application()) == {"a": 1}
    assert [name for name, *_ in desk.asked] == ["open", "start", "pause", "resume", "delete", "result", "close"]


def test_a_start_that_nobody_can_run_yet_is_warned_of():
    """At the caller's line, whatever the desk."""
    desk = Elsewhere()
    of_nobody = Begun(ELSEWHERE, is_registered=False)

    async def start(wish):
        return of_nobody

    desk.start = start
    with (
        Client(Backend(url="elsewhere://", client=lambda: desk)) as client,
        pytest.warns(UnregisteredFunctionWarning, match="'f:7'") as told,
    ):
        client.start(flow)
    assert told[0].filename == __file__


def test_cursors_of_another_backend_are_refused():
    """A store's are not those of AWS."""
    with Client("memory://") as client, pytest.raises(ValidationError, match="next_cursor"):
        client.list(cursor="marker")
