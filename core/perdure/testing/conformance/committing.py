"""How owners write, and how others are kept from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest

from perdure.storage import (
    EFFECT_GRACE,
    EMPTY,
    Answer,
    Committed,
    End,
    Keep,
    OpenAwait,
    OpenInvocation,
    SignalKind,
    Status,
    Suspend,
    Tip,
)
from perdure.testing.conformance.stage import LEASE, SECOND, SECRET
from perdure.testing.conformance.subject import Conformance

if TYPE_CHECKING:
    from perdure.testing.conformance.stage import Stage

THENS: list[Keep | Suspend | End] = [Keep(), Suspend(), Suspend(wake_after=0), End(Status.FAILED)]


class TestCommitting(Conformance):
    """`commit`: what it writes."""

    async def test_row(self, stage: Stage) -> None:
        """An accepted commit is a row with its tag, its body, its time and what the owner had seen (rule 2)."""
        holding = await stage.held()
        await stage.advance(SECOND)
        now = await stage.now()
        commit = holding.next(b"\x00one")
        answer = await holding.send(commit)
        assert answer == Committed(2, now, now)
        (_, row) = await stage.rows(holding.id)
        assert commit.draft is not None
        assert (row.index, row.at, row.tag, row.seen, row.body) == (2, now, commit.draft.tag, 1, b"\x00one")
        assert (row.invocation, row.operation) == (None, None)

    async def test_header(self, stage: Stage) -> None:
        """A commit that keeps changes length, tip and sequence, and nothing else."""
        holding = await stage.held()
        await stage.advance(SECOND)
        commit = holding.next()
        answer = await holding.send(commit)
        assert isinstance(answer, Committed)
        assert commit.draft is not None
        assert await stage.header(holding.id) == attrs.evolve(
            holding.header,
            length=2,
            tip=Tip(answer.at, commit.draft.tag),
            seq=1,
            seq_at=answer.at,
            seq_length=2,
        )

    async def test_without_an_entry(self, stage: Stage) -> None:
        """A commit without an entry appends nothing, and counts."""
        holding = await stage.held()
        answer = await holding.write(None)
        assert answer.length == 1
        header = await stage.header(holding.id)
        assert (header.length, header.tip, header.seq) == (1, holding.header.tip, 1)
        await holding.write()
        assert await stage.bodies(holding.id) == [b"started", b"entry"]

    async def test_unseen_rows_are_told(self, stage: Stage) -> None:
        """What was appended from outside lies between `seen` and the answer's length (rule 2)."""
        holding, await_id = await stage.waiting()
        assert await stage.deliver(await_id) is Answer.DELIVERED
        answer = await holding.write(b"blind")
        assert answer.length == holding.seen + 2
        assert [row.seen for row in await stage.rows(holding.id)] == [None, 1, None, 2]
        assert [row.body for row in await holding.read()] == [b"delivered", b"blind"]

    async def test_batch(self, stage: Stage) -> None:
        """Commits of a batch are fenced each on its own, and answered in their order."""
        holdings = [await stage.held() for _ in range(5)]
        batch = [holding.next() for holding in holdings]
        batch[1] = attrs.evolve(batch[1], token="other")
        batch[3] = attrs.evolve(batch[3], seen=9)
        answers = await stage.store.commit(batch)
        assert [isinstance(answer, Committed) for answer in answers] == [True, False, True, False, True]
        assert [answers[1], answers[3]] == [Answer.FENCED, Answer.FENCED]
        lengths = [(await stage.header(holding.id)).length for holding in holdings]
        assert lengths == [2, 1, 2, 1, 2]

    async def test_repeat_of_a_batch(self, stage: Stage) -> None:
        """A batch whose reply was lost may come again, with some of its commits in another company."""
        holdings = [await stage.held() for _ in range(4)]
        batch = [holding.next(then=then) for holding, then in zip(holdings, THENS, strict=True)]
        first = await stage.store.commit(batch[:3])
        again = await stage.store.commit(batch[::-1])
        assert again[:0:-1] == first
        assert [(await stage.header(holding.id)).length for holding in holdings] == [2, 2, 2, 2]

    async def test_empty_batch(self, stage: Stage) -> None:
        """An empty batch is answered with nothing."""
        assert await stage.store.commit([]) == []

    async def test_large_entries(self, stage: Stage) -> None:
        """Bodies of a mebibyte and more are kept."""
        holding = await stage.held()
        body = bytes(range(256)) * 6000
        await holding.write(body)
        assert (await stage.bodies(holding.id))[1] == body

    async def test_suspend(self, stage: Stage) -> None:
        """Suspending lets go: no owner, no open invocation, due at the earliest of what was asked for."""
        for wake_at, wake_after, expected in [(None, None, None), (5, None, 5), (None, 7, 7), (9, 3, 3), (3, 9, 3)]:
            holding = await stage.held()
            now = await stage.now()
            wake = None if wake_at is None else now + wake_at * SECOND
            after = None if wake_after is None else wake_after * SECOND
            await holding.write(then=Suspend(wake_at=wake, wake_after=after))
            header = await stage.header(holding.id)
            assert header.wake == (None if expected is None else now + expected * SECOND)
            assert (header.owner, header.token, header.invocation) == (None, holding.header.token, None)

    async def test_suspend_with_unseen_rows(self, stage: Stage) -> None:
        """Suspending with rows the owner had not seen makes the execution due at once (rule 2)."""
        holding, await_id = await stage.waiting()
        await stage.deliver(await_id)
        await holding.write(then=Suspend(wake_after=5 * SECOND))
        assert await stage.due() == {holding.id}

    async def test_release_with_unseen_rows(self, stage: Stage) -> None:
        """So does suspending without an entry (rules 2 and 8)."""
        holding, await_id = await stage.waiting()
        await stage.deliver(await_id)
        await holding.write(None, Suspend())
        assert await stage.due() == {holding.id}

    async def test_suspend_having_seen_all(self, stage: Stage) -> None:
        """Rows that the owner has folded do not wake it again (rule 2)."""
        holding, await_id = await stage.waiting()
        await stage.deliver(await_id)
        await holding.read()
        await holding.write(then=Suspend())
        assert await stage.due() == set()

    async def test_end(self, stage: Stage) -> None:
        """An end sets status and time, and clears owner, invocation, deadline, wake and pause (rule 11)."""
        for status in (Status.SUCCEEDED, Status.FAILED):
            holding = await stage.held(timeout=9 * SECOND)
            await stage.signal(holding.id, SignalKind.PAUSE)
            answer = await holding.write(then=End(status))
            header = await stage.header(holding.id)
            assert (header.status, header.ended, header.length) == (status, answer.at, 3)
            assert (header.owner, header.invocation, header.deadline, header.wake) == (None, None, None, None)
            assert (header.paused, header.left, header.token) == (False, None, holding.header.token)

    async def test_effects(self, stage: Stage) -> None:
        """Effects are left to the owner for a while, then due to anybody (rule 9)."""
        holding = await stage.held()
        answer = await holding.write(effects=True)
        header = await stage.header(holding.id)
        assert (header.effect_last, header.settled, header.effect_due) == (2, 0, answer.at + EFFECT_GRACE)
        assert not header.is_settled

    async def test_effects_of_an_end(self, stage: Stage) -> None:
        """An end has an effect where there is a parent (rule 9)."""
        header = await stage.ended(parent="parent/op")
        assert header.ended is not None
        assert (header.effect_last, header.effect_due) == (2, header.ended + EFFECT_GRACE)
        alone = await stage.ended()
        assert (alone.effect_last, alone.effect_due) == (0, None)

    async def test_reopen(self, stage: Stage) -> None:
        """The first commit after a crash counts it and opens an invocation of this owner (rule 8)."""
        await stage.held()
        await stage.advance(LEASE)
        await stage.reap()
        (holding,) = await (await stage.owner()).claim()
        answer = await holding.write(b"crashed", reopen=True)
        header = await stage.header(holding.id)
        assert header.invocation == OpenInvocation(holding.header.token or "", answer.at)
        assert header.crashes == 1
        again = await holding.write(b"crashed again", Suspend(wake_after=SECOND, clean=False), reopen=True)
        header = await stage.header(holding.id)
        assert (header.invocation, header.crashes, header.wake) == (None, 2, again.at + SECOND)

    async def test_crashes_count_until_a_clean_end(self, stage: Stage) -> None:
        """Only a clean end resets the count of crashes; a release without an entry does not (rule 8)."""
        holding = await stage.held()
        await holding.write(b"crashed", Suspend(wake_after=0, clean=False), reopen=True)
        owner = await stage.owner()
        (holding,) = await owner.claim()
        await holding.write(None, Suspend(wake_after=0, clean=True))
        (holding,) = await owner.claim()
        assert holding.header.crashes == 1
        await holding.write(b"drained", Suspend(wake_after=0, clean=False))
        (holding,) = await owner.claim()
        assert holding.header.crashes == 1
        await holding.write(b"clean", Suspend(wake_after=0))
        assert (await stage.header(holding.id)).crashes == 0

    async def test_release(self, stage: Stage) -> None:
        """A release without an entry takes back its own open invocation (rule 8)."""
        holding = await stage.held()
        await holding.write(None, Suspend())
        header = await stage.header(holding.id)
        assert (header.owner, header.invocation, header.length) == (None, None, 1)

    async def test_release_beside_a_foreign_invocation(self, stage: Stage) -> None:
        """A release without an entry leaves the invocation that somebody else left open (rule 8)."""
        former = await stage.held()
        await stage.advance(LEASE)
        await stage.reap()
        (holding,) = await (await stage.owner()).claim()
        await holding.write(None, Suspend(wake_after=0))
        assert (await stage.header(holding.id)).invocation == former.header.invocation

    async def test_quarantine(self, stage: Stage) -> None:
        """Quarantine keeps from being due, whatever arrives, and is visible (rule 8)."""
        holding, await_id = await stage.waiting()
        await holding.write(b"crashed", Suspend(clean=False, quarantine=True), reopen=True)
        header = await stage.header(holding.id)
        assert (header.quarantined, header.crashes, header.status) == (True, 1, Status.RUNNING)
        assert await stage.deliver(await_id) is Answer.DELIVERED
        assert await stage.due() == set()

    async def test_opens(self, stage: Stage) -> None:
        """Awaits begin with the row that opens them; their spans count from its time (rule 3)."""
        holding = await stage.held()
        opens = (
            OpenAwait(operation="a", secret=SECRET, timeout=3 * SECOND),
            OpenAwait(operation="b", secret=SECRET, heartbeat=2 * SECOND),
            OpenAwait(operation="c", secret=SECRET),
        )
        await holding.write(opens=opens)
        await stage.advance(2 * SECOND)
        assert await stage.expire() == 1
        await stage.advance(SECOND)
        assert await stage.expire() == 1
        rows = await stage.rows(holding.id, 2)
        assert [(row.operation, row.body) for row in rows] == [("b", b"heartbeat"), ("a", b"callback")]
        assert await stage.deliver(f"{holding.id}/c") is Answer.DELIVERED


class TestFencing(Conformance):
    """`commit`: whom it refuses, and what it repeats (rule 1)."""

    async def test_token(self, stage: Stage) -> None:
        """Another token than the header's is fenced, and writes nothing."""
        holding = await stage.held()
        for token in ("", "other", (holding.header.token or "").upper()[::-1]):
            assert await holding.commit(token=token) is Answer.FENCED
        assert (await stage.header(holding.id)).length == 1

    async def test_unknown(self, stage: Stage) -> None:
        """An execution that does not exist is fenced."""
        holding = await stage.held()
        assert await holding.commit(id=stage.store.new_id("order", "x")) is Answer.FENCED

    async def test_never_owned(self, stage: Stage) -> None:
        """An execution without an owner is fenced, whatever the token."""
        owner = await stage.owner()
        holding = owner.hold(await stage.create())
        assert await holding.commit(token="") is Answer.FENCED
        assert await holding.commit(token="", seq=0) is Answer.FENCED

    @pytest.mark.parametrize("seq", [-1, 0, 1, 4, 5])
    async def test_seq(self, stage: Stage, seq: int) -> None:
        """Another number than the next one is fenced, a gap as much as one before the last."""
        holding = await stage.held()
        await holding.write()
        await holding.write()
        assert await holding.commit(seq=seq) is Answer.FENCED
        assert (await stage.header(holding.id)).length == 3

    async def test_seen(self, stage: Stage) -> None:
        """An owner that claims to have seen more than there is writes on another history (rule 13)."""
        holding = await stage.held()
        assert await holding.commit(seen=2) is Answer.FENCED
        assert await holding.commit(seen=-1, tip=EMPTY) is Answer.FENCED

    async def test_tip(self, stage: Stage) -> None:
        """A row whose time or tag is not what the owner has folded is of another history (rule 13)."""
        holding = await stage.held()
        tip = holding.tip
        for other in (Tip(tip.at + 1, tip.tag), Tip(tip.at, "other"), EMPTY):
            assert await holding.commit(tip=other) is Answer.FENCED
        await holding.write()
        assert await holding.commit(tip=tip) is Answer.FENCED
        assert await holding.commit(seen=0, tip=tip) is Answer.FENCED
        assert isinstance(await holding.commit(seen=1, tip=tip), Committed)

    @pytest.mark.parametrize("then", THENS)
    async def test_repeat(self, stage: Stage, then: Keep | Suspend | End) -> None:
        """The last number with its token is answered as before, also after suspend and end; nothing is written."""
        holding = await stage.held(parent="p/op")
        commit = holding.next(then=then, effects=True)
        first = await holding.send(commit)
        before = await stage.header(holding.id)
        await stage.advance(SECOND)
        again = await holding.send(commit)
        assert isinstance(first, Committed)
        assert again == attrs.evolve(first, now=first.now + SECOND)
        assert await stage.header(holding.id) == before

    async def test_repeat_without_an_entry(self, stage: Stage) -> None:
        """So is a release."""
        holding = await stage.held()
        commit = holding.next(None, Suspend())
        first = await holding.send(commit)
        assert await holding.send(commit) == first

    async def test_repeat_after_growth(self, stage: Stage) -> None:
        """A repeat answers the length as it was, though others have appended since."""
        holding, await_id = await stage.waiting()
        commit = holding.next()
        first = await holding.send(commit)
        await stage.deliver(await_id)
        assert await holding.send(commit) == first

    async def test_repeat_after_being_reaped(self, stage: Stage) -> None:
        """A repeat is recognized until somebody else claims; then it is fenced."""
        holding = await stage.held()
        commit = holding.next()
        first = await holding.send(commit)
        await stage.advance(LEASE)
        await stage.reap()
        again = await holding.send(commit)
        assert isinstance(again, Committed)
        assert isinstance(first, Committed)
        assert (again.length, again.at) == (first.length, first.at)
        await (await stage.owner()).claim()
        assert await holding.send(commit) is Answer.FENCED

    async def test_repeat_after_a_stop(self, stage: Stage) -> None:
        """A repeat is recognized after a stop; the next commit is fenced (rule 5)."""
        holding = await stage.held()
        commit = holding.next()
        first = await holding.send(commit)
        await stage.signal(holding.id, SignalKind.STOP)
        assert await holding.send(commit) == first
        holding.seq += 1
        assert await holding.commit() is Answer.FENCED

    async def test_after_letting_go(self, stage: Stage) -> None:
        """Whoever has let go writes no more."""
        for then in (Suspend(), Suspend(wake_after=0), End(Status.SUCCEEDED)):
            holding = await stage.held()
            await holding.write(then=then)
            assert await holding.commit() is Answer.FENCED

    async def test_zombie(self, stage: Stage) -> None:
        """An owner whose execution was reaped and claimed by another one is fenced."""
        zombie = await stage.held()
        await stage.advance(LEASE)
        await stage.reap()
        assert await zombie.commit() is Answer.FENCED
        (holding,) = await (await stage.owner()).claim()
        assert await zombie.commit() is Answer.FENCED
        await holding.write()
        assert await zombie.commit() is Answer.FENCED
        assert await stage.bodies(holding.id) == [b"started", b"entry"]

    async def test_between_lapse_and_reap(self, stage: Stage) -> None:
        """Until it is reaped, an owner whose lease ran out writes on: its token is the only one."""
        holding = await stage.held()
        await stage.advance(3 * LEASE)
        await holding.write()

    async def test_after_the_end_from_outside(self, stage: Stage) -> None:
        """The owner's next commit after a stop or a timeout is fenced (rule 5)."""
        stopped = await stage.held()
        await stage.signal(stopped.id, SignalKind.STOP)
        assert await stopped.commit() is Answer.FENCED
        late = await stage.held(timeout=SECOND)
        await stage.advance(SECOND)
        await stage.expire()
        assert await late.commit() is Answer.FENCED

    async def test_purged(self, stage: Stage) -> None:
        """A commit to a purged execution is fenced."""
        holding = await stage.held(retention=0)
        commit = holding.next(then=End(Status.SUCCEEDED))
        await holding.send(commit)
        assert await stage.store.purge(10) == 1
        assert await holding.send(commit) is Answer.FENCED
