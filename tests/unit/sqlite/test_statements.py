"""How many statements verbs take, and that what shares a statement is fenced on its own."""

from __future__ import annotations

import asyncio
from collections import Counter

import attrs
import pytest

from perdure.adapters.worker import Worker
from perdure.backends.sqlite import journaling
from perdure.client import Client
from perdure.portal import Reply
from perdure.storage import Answer, Committed, End, Status, Suspend, Tip
from tests.scenarios.colour import Colour
from tests.unit.sqlite.conftest import together
from tests.unit.sqlite.test_posting import chain


class Trace:
    """The statements of the writer's transactions, by their first word."""

    def __init__(self, store):
        self.words = Counter()
        self._is_within = False
        store._opened.writer._connection.set_trace_callback(self._note)

    def _note(self, statement):
        word = statement.split(maxsplit=1)[0]
        self._is_within = self._is_within or word == "BEGIN"
        if self._is_within:
            self.words[word] += 1
        self._is_within = self._is_within and statement not in ("COMMIT", "ROLLBACK")


@pytest.mark.parametrize(("commits", "expected"), [(1, 1), (2, 1), (64, 1), (65, 2), (150, 3)])
def test_a_batch_of_common_commits(play, commits, expected):
    """However many they are: a statement for the executions and one for the journals, for every 64."""

    async def scene(stage):
        holdings = [await stage.held() for _ in range(commits)]
        trace = Trace(stage.store)
        answers = await stage.store.commit([holding.next() for holding in holdings])
        assert all(isinstance(answer, Committed) for answer in answers)
        assert trace.words == {"BEGIN": 1, "UPDATE": expected, "INSERT": expected, "COMMIT": 1}

    play(scene)


def test_posted_commits_that_gather(play):
    """Those that are posted one by one, and find the writer at work, share their statements as well."""

    async def scene(stage):
        holdings = [await stage.held() for _ in range(5)]
        replies = [Reply() for _ in holdings]
        writer = stage.store._opened.writer
        with writer._at_work:
            for holding, reply in zip(holdings, replies, strict=True):
                stage.store.post(holding.next(), reply)
            trace = Trace(stage.store)
        for reply in replies:
            assert isinstance(await asyncio.to_thread(reply.wait), Committed)
        assert trace.words == {"BEGIN": 1, "UPDATE": 1, "INSERT": 1, "COMMIT": 1}

    play(scene)


def test_different_verbs(play):
    """A group of them has no savepoints, unless one of them fails."""

    async def scene(stage):
        holdings = [await stage.held() for _ in range(3)]
        trace = Trace(stage.store)
        await asyncio.gather(stage.create(), stage.create(), *(holding.write() for holding in holdings))
        assert not trace.words["SAVEPOINT"]
        bad = stage.store.create(stage.new(retention=1 << 70), None)
        answers = await together(stage.store, bad, holdings[0].write())
        assert isinstance(answers[0], Exception)
        assert isinstance(answers[1], Committed)
        assert trace.words["SAVEPOINT"] == trace.words["RELEASE"] > 0

    play(scene)


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("colour", list(Colour), ids=lambda colour: colour.name)
def test_a_workflow(path, colour):
    """What a workflow of three steps costs when it runs alone: its creation, three steps and its end."""
    url = f"sqlite:///{path}"
    function = chain(colour, 3)
    with Client(url) as client, Worker(url, [function]):
        client.start(function).result(timeout=30)
        store = client._desk.connection.service.store
        trace = Trace(store)
        before = store.transactions
        client.start(function).result(timeout=30)
        assert store.transactions - before == 5
        # The creation looks for the lease and for what has the name, the end for the execution.
        assert trace.words == {"BEGIN": 5, "SELECT": 3, "INSERT": 2 + 3 + 1, "UPDATE": 3 + 2, "COMMIT": 5}


# -------------------------------------------------------------------------------------------------------------- fences


async def of_another_token(stage, holding):
    return holding.next(token=stage.token())


async def ahead(stage, holding):
    return holding.next(seq=holding.seq + 2)


async def of_another_tip(stage, holding):
    return holding.next(tip=Tip(holding.tip.at, "another"))


async def of_another_time(stage, holding):
    return holding.next(tip=Tip(holding.tip.at - 1, holding.tip.tag))


async def of_an_unknown_execution(stage, holding):
    return holding.next(id="none")


async def of_more_than_there_is(stage, holding):
    return holding.next(seen=holding.seen + 1)


async def suspended(stage, holding):
    commit = holding.next(seq=holding.seq + 2)
    await holding.write(None, Suspend())
    return commit


async def ended(stage, holding):
    commit = holding.next(seq=holding.seq + 2)
    await holding.write(None, End(Status.SUCCEEDED))
    return commit


@pytest.mark.parametrize(
    "bad",
    [
        of_another_token,
        ahead,
        of_another_tip,
        of_another_time,
        of_an_unknown_execution,
        of_more_than_there_is,
        suspended,
        ended,
    ],
)
@pytest.mark.parametrize("others", [0, 3])
def test_each_is_fenced_on_its_own(play, bad, others):
    """One that must not be written is fenced and leaves nothing; those beside it are written, once."""

    async def scene(stage):
        fenced, holdings = await stage.held(), [await stage.held() for _ in range(others)]
        commit = await bad(stage, fenced)
        before, rows = await stage.header(fenced.id), await stage.rows(fenced.id)
        good = [holding.next() for holding in holdings]
        answers = await stage.store.commit([commit, *good])
        assert answers[0] is Answer.FENCED
        assert await stage.header(fenced.id) == before
        assert await stage.rows(fenced.id) == rows
        for holding, each, answer in zip(holdings, good, answers[1:], strict=True):
            header = await stage.header(holding.id)
            assert (answer.length, answer.at) == (header.length, header.tip.at)
            assert header.seq == each.seq
            assert header.tip.tag == each.draft.tag
            assert await stage.bodies(holding.id) == [b"started", b"entry"]

    play(scene)


@pytest.mark.parametrize("others", [0, 3])
def test_a_repetition_beside_others(play, others):
    """One that was written before is answered as then, and not written again; those beside it are written."""

    async def scene(stage):
        repeated, holdings = await stage.held(), [await stage.held() for _ in range(others)]
        commit = repeated.next()
        first = await repeated.send(commit)
        await stage.advance(1)
        answers = await stage.store.commit([commit, *(holding.next() for holding in holdings)])
        assert (answers[0].length, answers[0].at) == (first.length, first.at)
        assert all(isinstance(answer, Committed) for answer in answers)
        for holding in (repeated, *holdings):
            assert await stage.bodies(holding.id) == [b"started", b"entry"]

    play(scene)


@pytest.mark.parametrize("others", [0, 3])
def test_one_ahead_with_the_tag_of_the_tip(play, others):
    """What is fenced leaves no row, even if it looks like the row that is there."""

    async def scene(stage):
        fenced, holdings = await stage.held(), [await stage.held() for _ in range(others)]
        await fenced.write()
        draft = attrs.evolve(stage.draft(), tag=fenced.tip.tag)
        bad = fenced.next(draft=draft, seen=fenced.seen + 1)
        answers = await stage.store.commit([bad, *(holding.next() for holding in holdings)])
        assert answers[0] is Answer.FENCED
        assert len(await stage.rows(fenced.id)) == 2

    play(scene)


def test_two_of_one_number(play):
    """Of two commits of one number that meet in a group one is written, header and row, and answers for both."""

    async def scene(stage):
        holding, other = await stage.held(), await stage.held()
        replies = [Reply() for _ in range(3)]
        with stage.store._opened.writer._at_work:
            for commit, reply in zip((holding.next(), holding.next(), other.next()), replies, strict=True):
                stage.store.post(commit, reply)
        answers = [await asyncio.to_thread(reply.wait) for reply in replies]
        assert answers[0] == answers[1]
        header, rows = await stage.header(holding.id), await stage.rows(holding.id)
        assert len(rows) == header.length == 2
        assert header.tip.tag == rows[-1].tag

    play(scene)


@pytest.mark.parametrize("others", [0, 3])
def test_something_unseen_beside_others(play, others):
    """A commit of an owner that has not seen a delivery goes behind it; those beside it are written as well."""

    async def scene(stage):
        (holding, await_id), holdings = await stage.waiting(), [await stage.held() for _ in range(others)]
        await stage.deliver(await_id)
        answers = await stage.store.commit([each.next() for each in (holding, *holdings)])
        assert [answer.length for answer in answers] == [4] + [2] * others
        assert await stage.bodies(holding.id) == [b"started", b"waits", b"delivered", b"entry"]

    play(scene)


def test_the_format_of_the_newest_entry(play):
    """An execution keeps the highest format of its entries, whoever it shares a statement with."""

    async def scene(stage):
        holdings = [await stage.held() for _ in range(3)]
        formats = [3, 1, 2]
        for _ in range(2):
            await stage.store.commit(
                [
                    holding.next(draft=stage.draft(format=format))
                    for holding, format in zip(holdings, formats, strict=True)
                ]
            )
            for holding in holdings:
                holding.seq += 1
                await holding.read()
            formats = [1, 1, 1]
        assert [(await stage.header(holding.id)).format for holding in holdings] == [3, 1, 2]

    play(scene)


def test_an_old_sqlite(play, monkeypatch):
    """Without `UPDATE … FROM` each has its own statements."""
    monkeypatch.setattr(journaling, "MANY", 1)

    async def scene(stage):
        holdings = [await stage.held() for _ in range(3)]
        trace = Trace(stage.store)
        answers = await stage.store.commit([holding.next() for holding in holdings])
        assert all(isinstance(answer, Committed) for answer in answers)
        assert trace.words == {"BEGIN": 1, "UPDATE": 3, "INSERT": 3, "COMMIT": 1}

    play(scene)


def test_a_claim_of_what_was_said_to_be_due(play):
    """A claim looks first without writing, unless the last one was told that something is due by now."""

    async def scene(stage):
        store, looks = stage.store, []
        submit = store._opened.reader.submit
        owner = await stage.owner()
        asleep = await stage.sleeping(Suspend(wake_after=1_000_000))
        store._opened.reader.submit = lambda work: looks.append(work) or submit(work)

        assert not await owner.claim()
        assert not await owner.claim()
        assert len(looks) == 2
        await stage.advance(2_000_000)
        (holding,) = await owner.claim()
        assert holding.id == asleep.id
        assert len(looks) == 2
        assert not await owner.claim()
        assert len(looks) == 3

    play(scene)
