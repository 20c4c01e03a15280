"""How executions get an owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.storage import (
    Answer,
    Claimed,
    End,
    FunctionVersion,
    OpenInvocation,
    SignalKind,
    Status,
    Suspend,
)
from perdure.testing.conformance.stage import LEASE, ORDER, SECOND
from perdure.testing.conformance.subject import Conformance

if TYPE_CHECKING:
    from perdure.testing.conformance.stage import Stage


class TestClaiming(Conformance):
    """`claim`."""

    async def test_due(self, stage: Stage) -> None:
        """What is due is owned afterwards, under the token that was given, and due no more."""
        header = await stage.create()
        owner = await stage.owner()
        answer = await owner.ask(token="t0ken")
        assert isinstance(answer, Claimed)
        (claimed,) = answer.headers
        assert claimed == await stage.header(header.id)
        assert (claimed.owner, claimed.token, claimed.wake) == (owner.id, "t0ken", None)
        assert claimed.invocation == OpenInvocation("t0ken", answer.now)
        assert (claimed.length, claimed.tip, claimed.seq) == (header.length, header.tip, 0)
        assert await stage.due() == set()

    async def test_not_due(self, stage: Stage) -> None:
        """What is due later is not claimed before, and the claim tells when that is."""
        header = await stage.sleeping(Suspend(wake_after=5 * SECOND))
        owner = await stage.owner()
        answer = await owner.ask()
        assert isinstance(answer, Claimed)
        assert (answer.headers, answer.next_wake) == ((), answer.now + 5 * SECOND)
        await stage.advance(5 * SECOND - 1)
        assert await owner.claim() == []
        await stage.advance(1)
        assert [holding.id for holding in await owner.claim()] == [header.id]

    async def test_never_due(self, stage: Stage) -> None:
        """What sleeps without a wake, is owned or has ended is not claimed, and no wake is told."""
        await stage.sleeping()
        await stage.held()
        await stage.ended()
        owner = await stage.owner()
        answer = await owner.ask()
        assert isinstance(answer, Claimed)
        assert (answer.headers, answer.next_wake) == ((), None)

    async def test_functions(self, stage: Stage) -> None:
        """Only the functions and versions that were named are claimed; others stay due (rule 14)."""
        mine = await stage.create(function="a", version="2")
        others = {
            (await stage.create(function="a", version="1")).id,
            (await stage.create(function="b", version="2")).id,
        }
        owner = await stage.owner()
        assert [holding.id for holding in await owner.claim(functions=[FunctionVersion("a", "2")])] == [mine.id]
        rest = [FunctionVersion("a", "1"), FunctionVersion("b", "2"), FunctionVersion("c", "1")]
        assert {holding.id for holding in await owner.claim(functions=rest)} == others

    async def test_format(self, stage: Stage) -> None:
        """What has an entry in a newer format than the reader's is left alone (rule 14)."""
        newer = await stage.create(draft=stage.draft(format=2))
        older = await stage.create()
        owner = await stage.owner()
        answer = await owner.ask(format=1)
        assert isinstance(answer, Claimed)
        assert [header.id for header in answer.headers] == [older.id]
        assert answer.next_wake is None
        assert [holding.id for holding in await owner.claim(format=2)] == [newer.id]

    async def test_format_of_a_later_entry(self, stage: Stage) -> None:
        """The highest format in a journal counts, wherever its entry stands."""
        holding = await stage.held()
        await holding.write(draft=stage.draft(format=3))
        await holding.write(then=Suspend(wake_after=0))
        assert (await stage.header(holding.id)).format == 3
        owner = await stage.owner()
        assert await owner.claim(format=2) == []
        assert len(await owner.claim(format=3)) == 1

    async def test_limit(self, stage: Stage) -> None:
        """At most `limit` are claimed, the earliest due first; the next wake is that of the first left over."""
        late = await stage.sleeping(Suspend(wake_after=2 * SECOND))
        early = await stage.sleeping(Suspend(wake_after=SECOND))
        await stage.advance(3 * SECOND)
        last = await stage.create()
        owner = await stage.owner()
        answer = await owner.ask(limit=1)
        assert isinstance(answer, Claimed)
        assert [header.id for header in answer.headers] == [early.id]
        assert answer.next_wake == late.wake
        assert [holding.id for holding in await owner.claim(2)] == [late.id, last.id]

    async def test_ties(self, stage: Stage) -> None:
        """What is due at the same time is claimed in the order of ids, over all functions."""
        ids = sorted([(await stage.create(function=f"f{number % 2}")).id for number in range(6)])
        owner = await stage.owner()
        functions = [FunctionVersion("f0", "1"), FunctionVersion("f1", "1")]
        claimed = [await owner.claim(4, functions=functions), await owner.claim(4, functions=functions)]
        assert [holding.id for holdings in claimed for holding in holdings] == ids

    async def test_owned_once(self, stage: Stage) -> None:
        """Two owners never hold the same execution, whichever process asks."""
        ids = {(await stage.create()).id for _ in range(5)}
        first = await stage.owner()
        second = await stage.owner(store=await stage.another())
        mine = [holding.id for holding in await first.claim(3)]
        others = [holding.id for holding in await second.claim(3)]
        assert len(mine) == 3
        assert len(others) == 2
        assert {*mine, *others} == ids

    async def test_without_a_lease(self, stage: Stage) -> None:
        """A claim needs a lease (rule 7)."""
        await stage.create()
        answer = await stage.store.claim("nobody", 1, stage.token(), [ORDER], 1, 1)
        assert answer is Answer.LEASE_LOST
        assert len(await stage.due()) == 1

    async def test_after_being_reaped(self, stage: Stage) -> None:
        """A reaped owner claims nothing, not even as a repeat (rule 7)."""
        await stage.create()
        owner = await stage.owner()
        await owner.claim(token="t0ken")
        await stage.advance(LEASE)
        await stage.reap()
        assert await owner.ask() is Answer.LEASE_LOST
        assert await owner.ask(number=1, token="t0ken") is Answer.LEASE_LOST
        assert len(await stage.due()) == 1

    async def test_overdue_lease(self, stage: Stage) -> None:
        """A lease that has run out but was not reaped is extended by a claim (rule 7)."""
        await stage.create()
        owner = await stage.owner()
        await stage.advance(LEASE + 1)
        assert len(await owner.claim()) == 1
        assert await stage.reap() == 0

    async def test_extends_the_lease(self, stage: Stage) -> None:
        """Every claim extends the lease, also one that finds nothing or is a repeat (rule 7)."""
        owner = await stage.owner()
        await stage.create()
        await owner.claim(token="t0ken")
        for number in (2, 2):
            await stage.advance(LEASE - 1)
            await owner.claim(number=number)
        await stage.advance(LEASE - 1)
        assert await stage.reap() == 0

    async def test_repeat(self, stage: Stage) -> None:
        """A repeated claim number answers what it took, and takes nothing more (rule 7)."""
        first = await stage.create()
        owner = await stage.owner()
        await owner.claim(1, number=1, token="t0ken")
        second = await stage.create()
        (again,) = await owner.claim(10, number=1, token="t0ken")
        assert (again.id, again.header.token) == (first.id, "t0ken")
        assert (await stage.header(second.id)).owner is None

    async def test_repeat_when_nothing_was_taken(self, stage: Stage) -> None:
        """A claim number that found nothing takes nothing later either (rule 7)."""
        owner = await stage.owner()
        assert await owner.claim(number=3, token="t0ken") == []
        await stage.create()
        assert await owner.claim(number=3, token="t0ken") == []
        assert await owner.claim(number=2, token="other") == []
        assert len(await owner.claim(number=4)) == 1

    async def test_repeat_answers_only_its_token(self, stage: Stage) -> None:
        """A repeat does not answer what was claimed under another token, or is held no more (rule 7)."""
        for _ in range(2):
            await stage.create()
        owner = await stage.owner()
        (released,) = await owner.claim(1, number=1, token="one")
        (kept,) = await owner.claim(1, number=2, token="two")
        await released.write(then=End(Status.SUCCEEDED))
        assert await owner.claim(number=1, token="one") == []
        assert [holding.id for holding in await owner.claim(number=1, token="two")] == [kept.id]

    async def test_numbers_belong_to_their_owner(self, stage: Stage) -> None:
        """Claim numbers of different owners do not meet."""
        first, second = await stage.owner(), await stage.owner()
        await first.claim(number=7)
        await stage.create()
        assert len(await second.claim(number=1)) == 1

    async def test_seq_goes_on(self, stage: Stage) -> None:
        """`seq` counts over the life of the execution; a claim does not reset it (rule 1)."""
        holding = await stage.held()
        await holding.write()
        await holding.write(then=Suspend(wake_after=0))
        (again,) = await (await stage.owner()).claim()
        assert again.header.seq == 2
        assert await again.commit(seq=1) is Answer.FENCED
        await again.write()

    async def test_open_invocation_stands(self, stage: Stage) -> None:
        """A claim leaves an invocation that somebody else left open: its crash is still to be told (rule 8)."""
        holding = await stage.held()
        await stage.advance(LEASE)
        assert await stage.reap() == 1
        (again,) = await (await stage.owner()).claim()
        assert again.header.invocation == holding.header.invocation
        assert again.header.token != holding.header.token

    async def test_quarantined_and_paused(self, stage: Stage) -> None:
        """What is quarantined or paused is not claimed, whatever arrives (rules 8 and 11)."""
        holding = await stage.held()
        await holding.write(then=Suspend(wake_after=0, quarantine=True))
        paused = await stage.create()
        await stage.signal(paused.id, SignalKind.PAUSE)
        owner = await stage.owner()
        answer = await owner.ask()
        assert isinstance(answer, Claimed)
        assert (answer.headers, answer.next_wake) == ((), None)

    async def test_many(self, stage: Stage) -> None:
        """A large backlog is claimed completely, each execution once."""
        ids = {(await stage.create()).id for _ in range(60)}
        owner = await stage.owner()
        claimed = [holding.id for _ in range(4) for holding in await owner.claim(20)]
        assert len(claimed) == 60
        assert set(claimed) == ids
