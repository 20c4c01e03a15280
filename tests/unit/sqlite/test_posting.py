"""Commits that are handed to the writer's thread directly, and answered by it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing

import pytest

from perdure.adapters.worker import Worker
from perdure.client import Client
from perdure.durable import durable_execution
from perdure.errors import ExecutionFailedError, StoreError, StoreUnavailableError
from perdure.portal import Reply
from perdure.storage import Answer, Committed, End, Keep, Rejected, Suspend
from tests.e2e.processes import wait_until
from tests.scenarios.colour import Colour


async def posted(store, commit):
    """What a thread without a loop is answered."""

    def ask():
        reply = Reply()
        store.post(commit, reply)
        return reply.wait()

    return await asyncio.to_thread(ask)


def test_it_is_durable_when_answered(path, play):
    """The row is there for every other connection, and a repetition is answered alike."""

    async def scene(stage):
        holding = await stage.held()
        commit = holding.next()
        answer = await posted(stage.store, commit)
        assert isinstance(answer, Committed)
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT length FROM execution").fetchall() == [(answer.length,)]
        again = await posted(stage.store, commit)
        assert (again.length, again.at) == (answer.length, answer.at)
        assert await stage.bodies(holding.id) == [b"started", b"entry"]

    play(scene)


def test_it_is_fenced(play):
    """Whoever does not own the execution writes nothing."""

    async def scene(stage):
        holding = await stage.held()
        assert await posted(stage.store, holding.next(token="another")) is Answer.FENCED
        assert await stage.bodies(holding.id) == [b"started"]

    play(scene)


def test_what_cannot_be_kept_is_rejected(play):
    """As a commit of a batch of its own would be; those beside it are made."""

    async def scene(stage):
        bad, good = await stage.held(), await stage.held()
        answers = await asyncio.gather(
            posted(stage.store, bad.next(then=Suspend(wake_at=1 << 70))), posted(stage.store, good.next())
        )
        assert [type(answer) for answer in answers] == [Rejected, Committed]

    play(scene)


def test_a_locked_file_is_told(path, play):
    """The waiter is given the error, and may send the same again."""

    async def scene(stage):
        holding = await stage.held()
        commit = holding.next()
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailableError, match="locked by somebody else"):
                await posted(stage.store, commit)
        assert isinstance(await posted(stage.store, commit), Committed)

    play(scene, busy_timeout=0.05)


def test_nobody_is_left_waiting_when_it_closes(play):
    """Threads that post while the store is closed are all answered."""

    async def scene(stage):
        store, holding = stage.store, await stage.held()
        outcomes, begun = [], threading.Barrier(9)

        def hammer():
            begun.wait()
            while True:
                reply = Reply()
                try:
                    store.post(holding.next(token="another"), reply)
                    reply.wait()
                except StoreError as error:
                    outcomes.append(str(error))
                    return

        threads = [threading.Thread(target=hammer, daemon=True) for _ in range(8)]
        for thread in threads:
            thread.start()
        begun.wait()
        await store.close()
        for thread in threads:
            await asyncio.to_thread(thread.join, 20)
        assert len(outcomes) == 8
        assert all("is closed" in told or "is not open" in told for told in outcomes)

    play(scene)


def chain(colour, sizes):
    @durable_execution(name="chain")
    def blocking(event, context):
        for n in range(sizes):
            context.step(lambda _, n=n: n, name=f"step-{n}")
        return sizes

    @durable_execution(name="chain")
    async def awaiting(event, context):
        for n in range(sizes):
            await context.step(lambda _, n=n: n, name=f"step-{n}")
        return sizes

    return blocking if colour is Colour.DEF else awaiting


@pytest.mark.parametrize("colour", list(Colour), ids=lambda colour: colour.name)
def test_a_file_that_is_locked_for_long_is_waited_for(path, colour):
    """A workflow whose commit meets a locked file goes on when it is free, each step once."""
    url = f"sqlite:///{path}?busy_timeout=0.05"
    function = chain(colour, 200)
    with Client(url) as client, Worker(url, [function]), closing(sqlite3.connect(path, isolation_level=None)) as other:
        handle = client.start(function)
        for _ in range(3):
            other.execute("PRAGMA busy_timeout = 5000")
            other.execute("BEGIN IMMEDIATE")
            assert not threading.Event().wait(0.2)
            other.execute("ROLLBACK")
        assert handle.result(timeout=60) == 200
        assert [each.step_details.attempt for each in handle.operations() if each.step_details] == [1] * 200


@pytest.mark.usefixtures("unhurried")
def test_steps_and_the_end_are_posted(path):
    """A workflow hands its commits to the writer itself; they cost a transaction each, as ever."""
    url = f"sqlite:///{path}"
    function = chain(Colour.DEF, 10)
    with Client(url) as client, Worker(url, [function]):
        committer = client._desk.connection.service.committer
        client.start(function).result(timeout=30)
        commits, sent = committer.commits, []
        post = committer._post
        committer._post = lambda commit, waiter: (sent.append(commit), post(commit, waiter))
        client.start(function).result(timeout=30)
        assert [type(commit.then) for commit in sent] == [Keep] * 10 + [End]
        assert committer.commits - commits == 11


def ends_posted_as(client, answer):
    """Have the store say that to what ends an execution; nothing is written."""
    committer = client._desk.connection.service.committer
    post, told = committer._post, []

    def posted(commit, waiter):
        if not isinstance(commit.then, End):
            post(commit, waiter)
        elif isinstance(answer, Exception):
            told.append(commit)
            waiter.set_exception(answer)
        else:
            told.append(commit)
            waiter.set_result(answer)

    committer._post = posted
    return told


@pytest.mark.parametrize("colour", list(Colour), ids=lambda colour: colour.name)
def test_an_end_of_which_nobody_knows_is_written_again(path, colour):
    """The store did not answer to what the workflow's thread posted: the same is sent until it does."""
    url = f"sqlite:///{path}"
    function = chain(colour, 1)
    with Client(url) as client, Worker(url, [function]):
        told = ends_posted_as(client, StoreUnavailableError("locked"))
        handle = client.start(function)
        assert handle.result(timeout=30) == 1
        assert len(told) == 1
        assert [event.event_type for event in handle.history()].count("InvocationCompleted") == 1


@pytest.mark.parametrize("colour", list(Colour), ids=lambda colour: colour.name)
def test_an_end_that_the_store_refuses_fails_the_execution(path, colour):
    """A result that it cannot keep is told, not tried for ever."""
    url = f"sqlite:///{path}"
    function = chain(colour, 1)
    with Client(url) as client, Worker(url, [function]):
        ends_posted_as(client, Rejected("no room for it"))
        with pytest.raises(ExecutionFailedError, match="no room for it"):
            client.start(function).result(timeout=30)


@pytest.mark.parametrize("colour", list(Colour), ids=lambda colour: colour.name)
def test_an_end_that_comes_too_late_changes_nothing(path, colour):
    """The execution was stopped meanwhile: who waits learns that."""
    url = f"sqlite:///{path}"
    function = chain(colour, 1)
    with Client(url) as client, Worker(url, [function]):
        told = ends_posted_as(client, Answer.FENCED)
        handle = client.start(function)
        wait_until(lambda: told, "the end is refused")
        handle.stop()
        with pytest.raises(ExecutionFailedError, match="STOPPED"):
            handle.result(timeout=30)
