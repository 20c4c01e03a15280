"""Group commit: what is queued together becomes durable together, and one bad verb spoils no other."""

import asyncio
import sqlite3
from contextlib import closing

import pytest

from perdure.backends.sqlite import SqliteStore
from perdure.errors import StoreError, StoreUnavailableError
from perdure.storage import Answer, Committed, Created, Rejected, Suspend
from perdure.testing.conformance.stage import TIMEOUTS
from tests.unit.sqlite.conftest import together

BEYOND_64_BITS = 1 << 70
LONE_SURROGATE = "\udc80"


def test_commits_share_transactions(play):
    """Commits of many executions that are queued together cost one transaction."""

    async def scene(stage):
        holdings = [await stage.held() for _ in range(50)]
        before = stage.store.transactions, stage.store.verbs
        for _ in range(4):
            answers = await together(stage.store, *(holding.write() for holding in holdings))
            assert all(isinstance(answer, Committed) for answer in answers)
        return stage.store.transactions - before[0], stage.store.verbs - before[1]

    assert play(scene) == (4, 200)


def test_different_verbs_share_transactions(play):
    """Creations, commits, signals and deliveries gather in one group as well."""

    async def scene(stage):
        holdings = [await stage.held() for _ in range(10)]
        before = stage.store.transactions
        answers = await together(
            stage.store,
            *(stage.store.create(stage.new(), None) for _ in range(10)),
            *(holding.write() for holding in holdings),
            *(stage.deliver(f"{holding.id}/none") for holding in holdings),
        )
        return stage.store.transactions - before, {type(answer) for answer in answers}

    assert play(scene) == (1, {Created, Committed, Answer})


def test_sequential_commits_do_not_wait(play):
    """There is no delay timer: commits that follow one another each get a transaction at once."""

    async def scene(stage):
        holding = await stage.held()
        before = stage.store.transactions
        for _ in range(10):
            await holding.write()
        return stage.store.transactions - before

    assert play(scene) == 10


@pytest.mark.parametrize(
    "change", [{"then": Suspend(wake_at=BEYOND_64_BITS)}, {"tag": LONE_SURROGATE}], ids=["number", "text"]
)
def test_unstorable_data(play, change):
    """Data that the file cannot hold is Rejected, nothing of it is written, and its execution can go on."""

    async def scene(stage):
        holding = await stage.held()
        commit = holding.next(then=change.get("then"))
        if "tag" in change:
            object.__setattr__(commit.draft, "tag", change["tag"])
        before = await stage.header(holding.id)
        answer = await holding.send(commit)
        assert isinstance(answer, Rejected)
        assert "cannot keep this data" in answer.error
        assert await stage.header(holding.id) == before
        assert await stage.bodies(holding.id) == [b"started"]
        await holding.write()

    play(scene)


def test_rejected_batch(play):
    """One offender has its whole batch Rejected with nothing of it written, and other verbs of its group stand."""

    async def scene(stage):
        good, bad, other = [await stage.held() for _ in range(3)]
        batch = [good.next(), bad.next(then=Suspend(wake_at=BEYOND_64_BITS))]
        before = stage.store.transactions
        answers, single = await asyncio.gather(stage.store.commit(batch), other.commit())
        assert stage.store.transactions - before <= 2
        assert all(isinstance(answer, Rejected) for answer in answers)
        assert isinstance(single, Committed)
        assert await stage.bodies(good.id) == [b"started"]
        assert await stage.bodies(other.id) == [b"started", b"entry"]
        assert isinstance(await good.send(batch[0]), Committed)

    play(scene)


def test_unstorable_creation(play):
    """Another verb with data that the file cannot hold raises a store error that is not worth repeating."""

    async def scene(stage):
        bad, good = stage.new(retention=BEYOND_64_BITS), stage.new()
        answers = await asyncio.gather(
            stage.store.create(bad, None), stage.store.create(good, None), return_exceptions=True
        )
        assert isinstance(answers[0], StoreError)
        assert not answers[0].retryable
        assert isinstance(answers[1], Created)
        assert await stage.store.describe(bad.id) is None

    play(scene)


def test_locked_file(path, play):
    """A file that somebody keeps locked makes the store unavailable after a while; the verb may be repeated."""

    async def scene(stage):
        holding = await stage.held()
        commit = holding.next()
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailableError, match="locked by somebody else") as raised:
                await holding.send(commit)
            assert raised.value.retryable
            assert await stage.bodies(holding.id) == [b"started"]
        assert isinstance(await holding.send(commit), Committed)

    play(scene, busy_timeout=0.05)


def test_file_locked_for_a_while(path, play):
    """A lock that is given back in time is waited for."""

    async def scene(stage):
        holding = await stage.held()
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            sending = asyncio.ensure_future(holding.commit())
            done, _ = await asyncio.wait([sending], timeout=0.05)
            assert not done
            connection.execute("ROLLBACK")
        assert isinstance(await sending, Committed)

    play(scene)


def test_full_disk(path, play):
    """A group that finds no room fails as a whole, can be repeated, and leaves no torn state."""

    async def scene(stage):
        holdings = [await stage.held() for _ in range(3)]
        connection = stage.store._opened.writer._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        commits = [holding.next(b"x" * 50_000) for holding in holdings]
        answers = await asyncio.gather(
            *(holding.send(commit) for holding, commit in zip(holdings, commits, strict=True)), return_exceptions=True
        )
        assert all(isinstance(answer, StoreUnavailableError) for answer in answers)
        for holding in holdings:
            assert await stage.bodies(holding.id) == [b"started"]
        connection.execute(f"PRAGMA max_page_count = {pages + 1000}")
        for holding, commit in zip(holdings, commits, strict=True):
            assert isinstance(await holding.send(commit), Committed)

    play(scene)


def test_a_caller_that_gives_up(play):
    """A caller that is cancelled leaves its verb to happen, and disturbs nobody."""

    async def scene(stage):
        holding, other = await stage.held(), await stage.held()
        commit = holding.next()
        sending = asyncio.ensure_future(holding.send(commit))
        await asyncio.sleep(0)
        sending.cancel()
        await other.write()
        with pytest.raises(asyncio.CancelledError):
            await sending
        answer = await holding.send(commit)
        assert isinstance(answer, Committed)
        assert await stage.bodies(holding.id) == [b"started", b"entry"]

    play(scene)


def test_closing_finishes_what_is_queued(path, play):
    """What was queued before the store is closed still becomes durable."""

    async def scene(stage):
        holdings = [await stage.held() for _ in range(20)]
        sending = [asyncio.ensure_future(holding.write()) for holding in holdings]
        await asyncio.sleep(0)
        await stage.store.close()
        await asyncio.gather(*sending)
        return [holding.id for holding in holdings]

    ids = play(scene)
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT count(*) FROM execution WHERE length = 2").fetchone()
    assert rows == (len(ids),)


def test_idle_verbs_write_nothing(play):
    """What a worker asks again and again costs no transaction while there is nothing to do."""

    async def scene(stage):
        owner = await stage.owner()
        await stage.sleeping()
        before = stage.store.transactions
        for _ in range(3):
            await owner.claim()
            await owner.renew()
            await stage.store.expire(10, TIMEOUTS)
            await stage.store.unsettled(10)
            await stage.store.reap(10)
            await stage.store.purge(10)
        return stage.store.transactions - before

    assert play(scene) == 0


def test_two_loops(path):
    """A store may be used from another loop than the one that opened it."""
    store = SqliteStore(path, synchronous="normal")

    async def use():
        return await store.describe("none")

    with asyncio.Runner() as one, asyncio.Runner() as two:
        one.run(store.open())
        assert two.run(use()) is None
        one.run(store.close())
