"""How effects elsewhere are carried out exactly once in effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.storage import EFFECT_GRACE, EFFECT_RETRY, EMPTY, Answer, End, SignalKind, Status, Suspend, Tip
from perdure.testing.conformance.stage import LEASE, RETENTION, SECOND
from perdure.testing.conformance.subject import Conformance

if TYPE_CHECKING:
    from perdure.testing.conformance.stage import Stage


class TestEffects(Conformance):
    """`unsettled` and `settle` (rules 9 and 13)."""

    async def test_grace(self, stage: Stage) -> None:
        """Effects are handed to anybody once the owner has had its time."""
        holding = await stage.held()
        await holding.write(effects=True)
        await stage.advance(EFFECT_GRACE - 1)
        assert await stage.unsettled() == []
        await stage.advance(1)
        (header,) = await stage.unsettled()
        assert header == await stage.header(holding.id)
        assert (header.id, header.effect_last, header.settled) == (holding.id, 2, 0)

    async def test_hidden_while_carried_out(self, stage: Stage) -> None:
        """What was handed out is hidden from others for a while, then handed out again."""
        holding = await stage.held()
        await holding.write(effects=True)
        await stage.advance(EFFECT_GRACE)
        other = await stage.another()
        assert len(await stage.unsettled()) == 1
        assert await stage.unsettled(store=other) == []
        await stage.advance(EFFECT_RETRY - 1)
        assert await stage.unsettled(store=other) == []
        await stage.advance(1)
        assert len(await stage.unsettled(store=other)) == 1

    async def test_limit(self, stage: Stage) -> None:
        """At most `limit` are handed out, the longest due first."""
        ids = []
        for _ in range(3):
            holding = await stage.held()
            await holding.write(effects=True)
            ids.append(holding.id)
            await stage.advance(SECOND)
        await stage.advance(EFFECT_GRACE)
        handed = [header.id for _ in range(2) for header in await stage.unsettled(2)]
        assert handed == ids

    async def test_settle(self, stage: Stage) -> None:
        """What is settled is due to nobody."""
        holding = await stage.held()
        await holding.write(effects=True)
        assert await stage.store.settle(holding.id, 2, holding.tip, 0) is Answer.OK
        header = await stage.header(holding.id)
        assert (header.settled, header.effect_due, header.is_settled) == (2, None, True)
        await stage.advance(EFFECT_GRACE)
        assert await stage.unsettled() == []

    async def test_settle_needs_no_token(self, stage: Stage) -> None:
        """Anybody settles, whoever owns the execution, also after its end."""
        header = await stage.ended(parent="p/op")
        await stage.advance(EFFECT_GRACE)
        other = await stage.another()
        (handed,) = await stage.unsettled(store=other)
        assert await other.settle(header.id, header.length, header.tip, handed.epoch) is Answer.OK
        assert (await stage.header(header.id)).is_settled

    async def test_settle_in_part(self, stage: Stage) -> None:
        """Effects behind what was settled stay due (rule 9)."""
        holding = await stage.held()
        await holding.write(effects=True)
        first = holding.tip
        await holding.write(effects=True)
        assert await stage.store.settle(holding.id, 2, first, 0) is Answer.OK
        header = await stage.header(holding.id)
        assert (header.effect_last, header.settled, header.is_settled) == (3, 2, False)
        await stage.advance(EFFECT_GRACE)
        assert [header.id for header in await stage.unsettled()] == [holding.id]

    async def test_settle_is_monotone(self, stage: Stage) -> None:
        """A late settle of less takes nothing back."""
        holding = await stage.held()
        await holding.write(effects=True)
        first = holding.tip
        await holding.write(effects=True)
        await stage.store.settle(holding.id, 3, holding.tip, 0)
        assert await stage.store.settle(holding.id, 2, first, 0) is Answer.OK
        assert await stage.store.settle(holding.id, 3, holding.tip, 0) is Answer.OK
        header = await stage.header(holding.id)
        assert (header.settled, header.effect_due) == (3, None)

    async def test_settle_of_another_history(self, stage: Stage) -> None:
        """Another tip at that row, or another epoch, changes nothing (rule 13)."""
        holding = await stage.held()
        await holding.write(effects=True)
        tip = holding.tip
        for through, other, epoch in [
            (2, Tip(tip.at + 1, tip.tag), 0),
            (2, Tip(tip.at, "other"), 0),
            (1, tip, 0),
            (3, tip, 0),
            (3, EMPTY, 0),
            (2, tip, 1),
        ]:
            assert await stage.store.settle(holding.id, through, other, epoch) is Answer.FENCED
        header = await stage.header(holding.id)
        assert (header.settled, header.is_settled) == (0, False)

    async def test_settle_of_nothing(self, stage: Stage) -> None:
        """A journal is settled through its beginning by nobody's doing."""
        header = await stage.create()
        assert await stage.store.settle(header.id, 0, EMPTY, 0) is Answer.OK
        assert await stage.header(header.id) == header

    async def test_unknown(self, stage: Stage) -> None:
        """Without such an execution there is nothing to settle."""
        assert await stage.store.settle(stage.store.new_id("order", "x"), 1, Tip(1, "a"), 0) is Answer.UNKNOWN

    async def test_armed_again(self, stage: Stage) -> None:
        """A later effect is due after what came before was settled."""
        holding = await stage.held(parent="p/op")
        await holding.write(effects=True)
        await stage.store.settle(holding.id, 2, holding.tip, 0)
        await holding.write()
        assert (await stage.header(holding.id)).effect_due is None
        answer = await holding.write(then=End(Status.SUCCEEDED))
        header = await stage.header(holding.id)
        assert (header.effect_last, header.effect_due) == (4, answer.at + EFFECT_GRACE)

    async def test_sleeping_and_paused(self, stage: Stage) -> None:
        """Neither ownership nor a pause is in the way of effects, nor is a lost lease."""
        sleeping = await stage.held()
        await sleeping.write(then=Suspend(), effects=True)
        paused = await stage.held()
        await paused.write(effects=True)
        await stage.signal(paused.id, SignalKind.PAUSE)
        reaped = await stage.held()
        await reaped.write(effects=True)
        await stage.advance(LEASE)
        await stage.reap()
        assert {header.id for header in await stage.unsettled()} == {sleeping.id, paused.id, reaped.id}

    async def test_kept_until_settled(self, stage: Stage) -> None:
        """What has unsettled effects is not purged, be its retention over (rule 12)."""
        header = await stage.ended(parent="p/op")
        await stage.advance(2 * RETENTION)
        assert await stage.store.purge(10) == 0
        await stage.store.settle(header.id, header.length, header.tip, 0)
        assert await stage.store.purge(10) == 1
