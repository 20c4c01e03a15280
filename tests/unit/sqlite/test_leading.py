"""Threads that do the writer's work themselves while it idles."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from contextlib import closing

import pytest

from perdure.backends.sqlite import SqliteStore
from perdure.errors import StoreError, StoreUnavailableError
from perdure.portal import Reply
from perdure.storage import Committed, Hint, HintKind
from perdure.testing.clock import VirtualClock
from perdure.testing.conformance.stage import Stage

WRITER = "perdure-sqlite-writer"


class Ear(Reply):
    """A waiter that remembers which thread has told it."""

    def set_result(self, result):
        self.told_by = threading.current_thread().name
        super().set_result(result)


class Thread(threading.Thread):
    """Posts a commit and waits, and keeps what came of it."""

    def __init__(self, store, commit):
        super().__init__(name="workflow", daemon=True)
        self.store, self.commit, self.reply, self.outcome = store, commit, Ear(), None
        self.start()

    def run(self):
        try:
            self.store.post(self.commit, self.reply)
            self.outcome = self.reply.wait()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test wants to see it
            self.outcome = error

    async def ended(self):
        await asyncio.to_thread(self.join, 20)
        return self.outcome


class Gate:
    """A clock that a test can stop in the middle of a transaction."""

    def __init__(self):
        self._clock = VirtualClock()
        self.is_open = threading.Event()
        self.reached = threading.Event()
        self.is_open.set()
        self.error = None

    def close(self):
        self.reached.clear()
        self.is_open.clear()

    def __call__(self):
        if not self.is_open.is_set():
            self.reached.set()
            assert self.is_open.wait(20)
        error, self.error = self.error, None
        if error is not None:
            raise error
        return self._clock()


@pytest.fixture
def gate():
    return Gate()


async def idle(store):
    """Until the writer waits for work."""
    writer = store._opened.writer
    while not writer._is_idle:  # noqa: ASYNC110 - the writer is another thread
        await asyncio.sleep(0.001)


async def led(stage, commit):
    """A commit that is under way in a thread of its own, held up in the middle of its transaction."""
    await idle(stage.store)
    stage.store._clock.close()
    thread = Thread(stage.store, commit)
    assert await asyncio.to_thread(stage.store._clock.reached.wait, 20)
    return thread


# ------------------------------------------------------------------------------------------------------------ who leads


def test_a_thread_does_its_own_work(play):
    """Where the writer idles, a thread that waits anyway commits by itself, and nobody is woken."""

    async def scene(stage):
        holding = await stage.held()
        before = stage.store.transactions
        await idle(stage.store)
        thread = Thread(stage.store, holding.next())
        assert isinstance(await thread.ended(), Committed)
        assert thread.reply.told_by == "workflow"
        assert stage.store.transactions == before + 1
        assert await stage.bodies(holding.id) == [b"started", b"entry"]

    play(scene)


def test_a_loop_is_not_held_up(play):
    """A thread that runs a loop leaves the work to the writer."""

    async def scene(stage):
        holding = await stage.held()
        await idle(stage.store)

        async def post():
            reply = Ear()
            stage.store.post(holding.next(), reply)
            return reply, await asyncio.to_thread(reply.wait)

        reply, answer = await asyncio.to_thread(asyncio.run, post())
        assert isinstance(answer, Committed)
        assert reply.told_by == WRITER

    play(scene)


def test_the_main_thread_does_not_work(path):
    """An interrupt could come to it in the middle of a transaction of others."""
    with asyncio.Runner() as runner:
        stage = Stage(lambda: SqliteStore(path), lambda _: None)
        runner.run(stage.__aenter__())
        holding = runner.run(stage.held())
        runner.run(idle(stage.store))
        reply = Ear()
        stage.store.post(holding.next(), reply)
        assert isinstance(reply.wait(), Committed)
        assert reply.told_by == WRITER
        runner.run(stage.__aexit__())


# --------------------------------------------------------------------------------------------------- others meanwhile


def test_others_follow(play, gate):
    """What others want while a thread works is the writer's next group, all of it."""

    async def scene(stage):
        holdings = [await stage.held() for _ in range(6)]
        leader = await led(stage, holdings[0].next())
        before = stage.store.transactions
        threads = [Thread(stage.store, holding.next()) for holding in holdings[1:5]]
        sending = asyncio.ensure_future(holdings[5].commit())
        writer = stage.store._opened.writer
        # The writer waits for its turn with the first of the five, unless it has not yet woken up.
        while (5 if writer._is_idle else 4) > writer._queue.qsize():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.001)
        gate.is_open.set()
        assert isinstance(await leader.ended(), Committed)
        assert all([isinstance(await thread.ended(), Committed) for thread in threads])
        assert isinstance(await sending, Committed)
        assert stage.store.transactions == before + 2
        assert {thread.reply.told_by for thread in threads} == {WRITER}

    play(scene, clock=gate)


def test_hints_are_told(play):
    """Who watches hears at once of what a thread has committed itself, and not again by looking at the file."""

    async def scene(stage):
        heard, news = [], asyncio.Event()
        other = await stage.another()
        theirs = await stage.held()
        stage.store.watch(lambda hint: (heard.append(hint), news.set()))
        ours = await stage.held()
        await theirs.write()
        await idle(other)
        heard.clear()
        # Another opening's row, and right behind it one of a thread of this one.
        holding = theirs.next()
        (answer,) = await other.commit([holding])
        assert isinstance(answer, Committed)
        assert isinstance(await Thread(stage.store, ours.next()).ended(), Committed)
        while Hint(HintKind.GREW, theirs.id, "order", 0) not in heard:
            news.clear()
            await asyncio.wait_for(news.wait(), 20)
        assert Hint(HintKind.GREW, ours.id, "order", 0) not in heard

    play(scene)


# ---------------------------------------------------------------------------------------------------- locked, closed


def test_a_locked_file(path, play):
    """The thread waits for the file on behalf of all who come behind it, and none of them is forgotten."""

    async def scene(stage):
        holdings = [await stage.held() for _ in range(4)]
        await idle(stage.store)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            leader = Thread(stage.store, holdings[0].next())
            while not stage.store._opened.writer._at_work.locked():  # noqa: ASYNC110 - by another thread
                await asyncio.sleep(0.001)
            followers = [Thread(stage.store, holding.next()) for holding in holdings[1:]]
            await asyncio.to_thread(leader.join, 0.05)
            assert leader.is_alive()
            connection.execute("ROLLBACK")
        for thread in (leader, *followers):
            assert isinstance(await thread.ended(), Committed)

    play(scene)


def test_closing_ends_the_wait_for_a_locked_file(path, play):
    """A store that is closed meanwhile does not keep the thread until its patience is over."""

    async def scene(stage):
        holding = await stage.held()
        await idle(stage.store)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            leader = Thread(stage.store, holding.next())
            while not stage.store._opened.writer._at_work.locked():  # noqa: ASYNC110 - by another thread
                await asyncio.sleep(0.001)
            await stage.store.close()
            assert isinstance(await leader.ended(), StoreUnavailableError)
            assert time.monotonic() - began < 20

    play(scene, busy_timeout=60)


def test_closing_waits_for_a_thread(play, path, gate):
    """A store that is closed while a thread works is closed behind it; what it has committed stays."""

    async def scene(stage):
        holding = await stage.held()
        leader, store, writer = await led(stage, holding.next()), stage.store, stage.store._opened.writer
        closing_store = asyncio.ensure_future(store.close())
        while not writer.closing:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.001)
        assert isinstance(await Thread(store, holding.next()).ended(), StoreError)
        assert not closing_store.done()
        gate.is_open.set()
        assert isinstance(await leader.ended(), Committed)
        await closing_store
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT length FROM execution").fetchall() == [(2,)]

    play(scene, clock=gate)


# -------------------------------------------------------------------------------------------------------- interrupted


def test_an_interrupted_thread_leaves_no_transaction(path, play, gate):
    """Whatever ends a thread in the middle of its work: the file is free, and the next verb as good as any."""

    async def scene(stage):
        holding = await stage.held()
        commit = holding.next()
        leader = await led(stage, commit)
        gate.error = SystemExit("in the middle")
        gate.is_open.set()
        assert isinstance(await leader.ended(), SystemExit)
        with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        assert await stage.bodies(holding.id) == [b"started"]
        assert isinstance(await holding.send(commit), Committed)

    play(scene, clock=gate)


POST_FOR_EVER = """
import asyncio, os, sys, threading
from perdure.backends.sqlite import SqliteStore
from perdure.portal import Reply
from perdure.storage import Claim, Commit, Draft, New, Tip

def write(store, header):
    seen, tip = header.length, header.tip
    while True:
        draft, reply = Draft(b"x" * 3000, "t", 1), Reply()
        store.post(Commit(id=header.id, token="t0ken", seq=seen, seen=seen, tip=tip, draft=draft), reply)
        answer = reply.wait()
        seen, tip = answer.length, Tip(answer.at, "t")
        os.write(1, f"{header.id} {seen}\\n".encode())

async def main():
    path, name, threads = sys.argv[1:]
    store = SqliteStore(path)
    await store.open()
    await store.register(name, [], 3600 * 10**6)
    for n in range(int(threads)):
        id = f"{name}{n}"
        new = New(id=id, function="order", version="1", name=id, digest="", timeout=None, retention=0,
                  draft=Draft(b"{}", "t", 1))
        header = (await store.create(new, Claim(name, "t0ken"))).header
        threading.Thread(target=write, args=(store, header), daemon=True).start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("threads", ["1", "3"])
def test_killed_threads(play, start_process, threads):
    """Two processes whose threads commit by themselves, one killed: no acknowledged commit is lost, none is torn."""
    processes = [start_process(POST_FOR_EVER, name, threads) for name in ("a", "b")]
    told = [[process.stdout.readline() for _ in range(150)] for process in processes]
    for process in processes:
        process.kill()
    acknowledged = {}
    for lines, process in zip(told, processes, strict=True):
        lines += [line for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        acknowledged |= dict(line.split() for line in lines)

    async def scene(stage):
        assert len(acknowledged) == 2 * int(threads)
        for id, length in acknowledged.items():
            header, rows = await stage.header(id), await stage.rows(id)
            assert [row.index for row in rows] == list(range(1, header.length + 1))
            assert int(length) <= header.length <= int(length) + 1
            assert header.seq == header.length - 1
            assert header.tip.at == rows[-1].at

    play(scene)


# --------------------------------------------------------------------------------------------------------------- fork

FORK = """
import asyncio, os, sys, threading, time
from perdure.backends.sqlite import SqliteStore
from perdure.errors import StoreError
from perdure.portal import Reply
from perdure.storage import Claim, Commit, Draft, New

forking, working = threading.Event(), threading.Event()

def say(what):
    # In one write, so that lines of both processes do not mix.
    os.write(1, f"{what}\\n".encode())

def clock():
    # In the middle of the transaction of the thread that leads, until somebody is about to fork.
    if threading.current_thread().name == "leader":
        working.set()
        assert forking.wait(20)
        time.sleep(0.1)
    return time.time_ns() // 1000

def new(id):
    return New(id=id, function="f", version="1", name=id, digest="", timeout=None, retention=0,
               draft=Draft(b"{}", "t", 1))

async def prepare(path):
    store = SqliteStore(path, clock=clock)
    await store.open()
    await store.register("w", [], 3600 * 10**6)
    header = (await store.create(new("x"), Claim("w", "t0ken"))).header
    while not store._opened.writer._is_idle:
        await asyncio.sleep(0.001)
    return store, header

async def child(path, inherited, header):
    def post():
        try:
            inherited.post(commit_of(header), Reply())
        except StoreError as error:
            say("told" if "before this process was forked" in str(error) else error)
    await asyncio.to_thread(post)
    store = SqliteStore(path)
    await store.open()
    say((await store.describe("x")).length)
    await store.create(new("child"), None)
    await store.close()

def commit_of(header):
    return Commit(id="x", token="t0ken", seq=1, seen=1, tip=header.tip, draft=Draft(b"{}", "t2", 1))

def main():
    path = sys.argv[1]
    loop = asyncio.new_event_loop()
    store, header = loop.run_until_complete(prepare(path))
    reply = Reply()
    leader = threading.Thread(target=lambda: store.post(commit_of(header), reply), name="leader")
    leader.start()
    assert working.wait(20)
    forking.set()
    pid = os.fork()
    if not pid:
        asyncio.run(child(path, store, header))
        os._exit(0)
    leader.join()
    say(reply.wait().length)
    _, status = os.waitpid(pid, 0)
    say(f"ended {status} {loop.run_until_complete(store.describe('child')) is not None}")
    loop.run_until_complete(store.close())

main()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_fork(start_process):
    """A fork waits for the thread that works; its commit stands, and the child has nothing of the parent's store."""
    process = start_process(FORK)
    out, _ = process.communicate(timeout=60)
    assert sorted(out.split("\n")[:4]) == ["2", "2", "ended 0 True", "told"]
