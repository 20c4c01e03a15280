"""Transactional steps whose commit goes wrong, or has an outcome that nobody knows."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from perdure.errors import StoreError, StoreUnavailableError
from perdure.portal import store_portal
from perdure.service import ownership
from perdure.storage import MICROSECONDS
from tests.scenarios.books import BodyKind, Clerk
from tests.scenarios.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perdure.storage import Commit, CommitAnswer


@attrs.define(eq=False)
class Fault:
    """What goes wrong with the next commits of transactions: a word each, and nothing when they are used up."""

    words: list[str]


@attrs.frozen
class LostTransaction:
    """A transaction whose commit is answered as the fault has it."""

    inner: Any
    fault: Fault

    @property
    def connection(self) -> Any:
        return self.inner.connection

    def seal(self) -> Any:
        return self.inner.seal()

    async def commit(self, commit: Commit) -> CommitAnswer:
        match self.fault.words.pop(0) if self.fault.words else "":
            case "before":
                raise StoreUnavailableError("the connection was lost before the commit")
            case "after":
                await self.inner.commit(commit)
                raise StoreUnavailableError("the connection was lost after the commit")
            case "broken":
                raise StoreError("the disk is gone")
            case _:
                return await self.inner.commit(commit)


class FaultyTransactions:
    """A store, some of whose transactions break."""

    def __init__(self, store: Any, fault: Fault) -> None:
        self._store = store
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @contextmanager
    def transaction(self) -> Iterator[LostTransaction]:
        with self._store.transaction() as inner:
            yield LostTransaction(inner, self._fault)

    @asynccontextmanager
    async def async_transaction(self) -> Any:
        async with self._store.async_transaction() as inner:
            yield LostTransaction(inner, self._fault)


@pytest.fixture
def fault():
    return Fault([])


@pytest.fixture
def stage(colour, books, fault) -> Iterator[Stage]:
    def make(clock):
        return FaultyTransactions(books.make_store(clock), fault)

    stage = Stage(colour, make)
    try:
        books.make_table()
        yield stage
    finally:
        stage.close()


@pytest.fixture(params=list(BodyKind), ids=str)
def clerk(stage, books, request) -> Clerk:
    return Clerk(stage, books, request.param)


@pytest.mark.parametrize(
    ("words", "runs"), [(["before"], 2), (["after"], 1), (["broken"], 2), (["before", "before", "after"], 3)]
)
def test_an_outcome_that_nobody_knows(stage, books, clerk, fault, words, runs):
    """The next owner sees what really happened; the body runs again exactly if nothing was written; no crash counts."""

    async def workflow(event, context):
        written = await context.transaction(clerk.writes("x"), name="x")
        return [written, await context.transaction(clerk.writes("y"), name="y")]

    function = stage.durable(workflow)
    fault.words = list(words)
    outcome = stage.run(function)
    assert outcome.result == ["x", "y"]
    assert books.texts() == ["x", "y"]
    assert stage.runs == {"x": runs, "y": 1}
    ends = [event.details.get("Error") for event in outcome.events if event.event_type == "InvocationCompleted"]
    assert not any(error and error.get("Payload") for error in ends), "a crash was recorded"


def test_it_is_picked_up_promptly(stage, books, clerk, fault, monkeypatch):
    """The execution is let go at once, and due a moment later, though its worker's lease lasts much longer."""
    assert ownership.AFTER_DOUBT <= MICROSECONDS
    # Here it lasts so long that it is not over before the test has seen it.
    monkeypatch.setattr(ownership, "AFTER_DOUBT", 60 * MICROSECONDS)
    fault.words = ["before"]

    async def workflow(event, context):
        return await context.transaction(clerk.writes("x"), name="x")

    handle = stage.start(workflow)
    stage.reached(handle, lambda: not fault.words)
    stage.reached(handle, lambda: store_portal().call(stage.store.describe(handle.id)).owner is None)
    header = store_portal().call(stage.store.describe(handle.id))
    assert header.crashes == 0
    assert header.wake - stage.clock() <= 60 * MICROSECONDS
    assert stage.end(handle).result == "x"
