"""Group commit: one batch in flight, offenders found, locked rows retried, an absent store asked again."""

from __future__ import annotations

import asyncio

import pytest

from perdure.errors import StoreError, StoreUnavailableError
from perdure.service.committer import Committer
from perdure.storage import EMPTY, Answer, Commit, Committed, Draft, Rejected
from tests.unit.service.stage import run


def commit(id, body=b"x"):
    return Commit(id=id, token="t", seq=1, seen=0, tip=EMPTY, draft=Draft(body, id, 1))


class Door:
    """A store's commit verb that refuses in every way a store may; what it accepts it keeps."""

    def __init__(self):
        self.batches = []
        self.accepted = []
        self.busy = {}
        self.absent = 0
        self.broken = False

    async def commit(self, batch):
        await asyncio.sleep(0)
        self.batches.append([one.id for one in batch])
        if self.broken:
            raise StoreError("the disk is full")
        if self.absent:
            self.absent -= 1
            raise StoreUnavailableError("gone for a while")
        if any(one.draft.body == b"bad" for one in batch):
            return [Rejected("bad data")] * len(batch)
        return [self._answer(one) for one in batch]

    def _answer(self, one):
        if self.busy.get(one.id):
            self.busy[one.id] -= 1
            return Answer.BUSY
        self.accepted.append(one.id)
        return Committed(1, 1, 1)


def test_what_gathers_while_a_batch_is_on_its_way_goes_together():
    """No timer: the first goes alone, the nine behind it in one batch."""

    async def scene():
        door = Door()
        committer = Committer(door)
        first = asyncio.create_task(committer.commit(commit("0")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        rest = [asyncio.create_task(committer.commit(commit(str(n)))) for n in range(1, 10)]
        await asyncio.gather(first, *rest)
        assert [len(batch) for batch in door.batches] == [1, 9]

    run(scene())


def test_a_data_error_concerns_only_its_own_execution():
    """The batch is halved until the offender stands alone; all others are accepted."""

    async def scene():
        door = Door()
        committer = Committer(door)
        commits = [commit(str(n), b"bad" if n == 5 else b"good") for n in range(8)]
        answers = await asyncio.gather(*map(committer.commit, commits))
        assert [isinstance(answer, Rejected) for answer in answers] == [n == 5 for n in range(8)]
        assert sorted(door.accepted) == ["0", "1", "2", "3", "4", "6", "7"]

    run(scene())


def test_a_locked_row_is_retried_alone():
    """BUSY never reaches the owner."""

    async def scene():
        door = Door()
        door.busy["1"] = 2
        answers = await asyncio.gather(*[Committer(door).commit(commit(str(n))) for n in range(2)])
        assert all(isinstance(answer, Committed) for answer in answers)

    run(scene())


def test_an_absent_store_is_asked_again_and_a_broken_one_is_told():
    """A retryable error is waited out; any other reaches every waiter, and later commits go on."""

    async def scene():
        door = Door()
        committer = Committer(door)
        door.absent = 2
        assert isinstance(await committer.commit(commit("0")), Committed)
        door.broken = True
        with pytest.raises(StoreError, match="disk is full"):
            await committer.commit(commit("1"))
        door.broken = False
        assert isinstance(await committer.commit(commit("1")), Committed)

    run(scene())


def test_a_batch_is_bounded():
    """At most 1 MiB of bodies, but at least one commit."""

    async def scene():
        door = Door()
        committer = Committer(door)
        await asyncio.gather(*[committer.commit(commit(str(n), b"x" * 200_000)) for n in range(12)])
        assert [len(batch) for batch in door.batches] == [6, 6]
        assert len(door.accepted) == 12

    run(scene())


def test_a_locked_row_does_not_keep_others_waiting():
    """While one execution stays locked, those of its batch and all later ones are answered."""

    async def scene():
        door = Door()
        door.busy["1"] = 10**9
        committer = Committer(door)
        locked = asyncio.create_task(committer.commit(commit("1")))
        async with asyncio.timeout(5):
            await asyncio.gather(*[committer.commit(commit(name)) for name in ("0", "2")])
            await committer.commit(commit("3"))
        assert not locked.done()
        door.busy.clear()
        assert isinstance(await asyncio.wait_for(locked, 5), Committed)

    run(scene())


def test_who_stops_waiting_leaves_nobody_without_an_answer():
    """A waiter cancelled while its row is locked, or while its batch is on its way, disturbs no other."""

    async def scene():
        door = Door()
        door.busy["1"] = 3
        committer = Committer(door)
        waiting = {name: asyncio.create_task(committer.commit(commit(name))) for name in ("0", "1", "2")}
        await asyncio.sleep(0)
        waiting["0"].cancel()
        waiting["1"].cancel()
        async with asyncio.timeout(5):
            assert isinstance(await waiting["2"], Committed)
            assert isinstance(await committer.commit(commit("3")), Committed)

    run(scene())


def test_an_unexpected_error_concerns_only_its_own_execution():
    """A store that stumbles over one commit is asked for the others again."""

    class Stumbling(Door):
        async def commit(self, batch):
            if any(one.draft.body == b"odd" for one in batch):
                raise OverflowError("not this one")
            return await super().commit(batch)

    async def scene():
        committer = Committer(Stumbling())
        commits = [commit(str(n), b"odd" if n == 2 else b"good") for n in range(5)]
        answers = await asyncio.gather(*map(committer.commit, commits), return_exceptions=True)
        assert [isinstance(answer, OverflowError) for answer in answers] == [n == 2 for n in range(5)]

    run(scene())


class Narrow(Door):
    """Lets large commits through only when told to."""

    def __init__(self):
        super().__init__()
        self.opened = asyncio.Event()
        self.large = []

    async def commit(self, batch):
        if any(len(one.draft.body) > 1 << 18 for one in batch):
            self.large.append([one.id for one in batch])
            await self.opened.wait()
        return await super().commit(batch)


def test_a_large_commit_holds_up_nobody():
    """While it is on its way, small ones come and go; other large ones wait for it, each going alone."""

    async def scene():
        door = Narrow()
        committer = Committer(door)
        large = [asyncio.create_task(committer.commit(commit(name, b"x" * 300_000))) for name in ("A", "B")]
        async with asyncio.timeout(5):
            for _ in range(3):
                await asyncio.gather(*[committer.commit(commit(str(n))) for n in range(4)])
        assert door.batches == [["0", "1", "2", "3"]] * 3
        assert door.large == [["A"]]
        assert not any(one.done() for one in large)
        door.opened.set()
        assert all(isinstance(answer, Committed) for answer in await asyncio.gather(*large))
        assert door.large == [["A"], ["B"]]

    run(scene())


def test_large_commits_are_refused_as_small_ones_are():
    """A store that is gone for a while is asked again, a locked row again and again, and an error is told."""

    async def scene():
        door = Door()
        committer = Committer(door)
        door.absent, door.busy["A"] = 2, 2
        assert isinstance(await committer.commit(commit("A", b"x" * 300_000)), Committed)
        door.broken = True
        with pytest.raises(StoreError, match="disk is full"):
            await committer.commit(commit("A", b"x" * 300_000))

    run(scene())
