"""What time alone brings about."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from perdure.storage import (
    EFFECT_GRACE,
    EFFECT_RETRY,
    Answer,
    Claim,
    End,
    OpenAwait,
    OpenInvocation,
    SignalKind,
    Status,
    Suspend,
)
from perdure.testing.conformance.stage import SECOND, SECRET, TIMEOUTS
from perdure.testing.conformance.subject import Conformance

if TYPE_CHECKING:
    from perdure.testing.conformance.stage import Stage


class TestDeadlines(Conformance):
    """`expire` (rules 3 to 5), and the order of times."""

    async def test_nothing(self, stage: Stage) -> None:
        """Where no deadline has passed nothing is done."""
        await stage.waiting()
        await stage.create(timeout=5 * SECOND)
        await stage.advance(5 * SECOND - 1)
        assert await stage.expire() == 0

    async def test_callback(self, stage: Stage) -> None:
        """An await past its timeout becomes a row stamped with its operation, and its execution due."""
        holding, _ = await stage.waiting(timeout=5 * SECOND)
        await holding.write(then=Suspend())
        await stage.advance(6 * SECOND)
        assert await stage.expire(timeouts=attrs.evolve(TIMEOUTS, format=2)) == 1
        row = (await stage.rows(holding.id))[-1]
        assert (row.operation, row.body, row.seen, row.invocation) == ("op-1", b"callback", None, None)
        assert row.at == await stage.now()
        assert row.tag
        header = await stage.header(holding.id)
        assert (header.length, header.tip.tag, header.format) == (row.index, row.tag, 2)
        assert header.wake == row.at
        assert await stage.expire() == 0

    async def test_heartbeat(self, stage: Stage) -> None:
        """A missed heartbeat is told from a timeout by what came to its end first."""
        spans = {
            "a": (2, 3, b"callback"),
            "b": (3, 2, b"heartbeat"),
            "c": (2, 2, b"callback"),
            "d": (None, 2, b"heartbeat"),
        }
        holding = await stage.held()
        await holding.write(
            opens=tuple(
                OpenAwait(
                    operation=operation,
                    secret=SECRET,
                    timeout=None if timeout is None else timeout * SECOND,
                    heartbeat=heartbeat * SECOND,
                )
                for operation, (timeout, heartbeat, _) in spans.items()
            )
        )
        await stage.advance(9 * SECOND)
        assert await stage.expire() == 4
        bodies = {row.operation: row.body for row in await stage.rows(holding.id, 2)}
        assert bodies == {operation: body for operation, (_, _, body) in spans.items()}

    async def test_owned(self, stage: Stage) -> None:
        """An owner learns of it as of any unseen row."""
        holding, _ = await stage.waiting(timeout=SECOND)
        await stage.advance(SECOND)
        await stage.expire()
        header = await stage.header(holding.id)
        assert header.owner is not None
        await holding.write(then=Suspend())
        assert await stage.due() == {holding.id}

    async def test_execution(self, stage: Stage) -> None:
        """An execution past its deadline ends in one step with its row; no function is needed (rule 4)."""
        header = await stage.create(timeout=5 * SECOND)
        await stage.advance(5 * SECOND)
        assert await stage.expire() == 1
        after = await stage.header(header.id)
        assert (after.status, after.ended, after.deadline, after.wake) == (
            Status.TIMED_OUT,
            await stage.now(),
            None,
            None,
        )
        row = (await stage.rows(header.id))[-1]
        assert (row.body, row.operation, row.invocation, row.seen) == (b"execution", None, None, None)
        assert await stage.due() == set()
        assert await stage.expire() == 0

    async def test_execution_with_an_open_invocation(self, stage: Stage) -> None:
        """The row tells which invocation it closed (rule 5)."""
        holding = await stage.held(timeout=5 * SECOND)
        await stage.advance(5 * SECOND)
        await stage.expire()
        assert (await stage.rows(holding.id))[-1].invocation == holding.header.invocation
        after = await stage.header(holding.id)
        assert (after.invocation, after.owner, after.token) == (None, None, holding.header.token)

    async def test_execution_with_a_parent(self, stage: Stage) -> None:
        """A timeout has an effect where there is a parent, due at once: no owner will carry it out first (rule 9)."""
        header = await stage.create(timeout=SECOND, parent="p/op")
        await stage.advance(SECOND)
        await stage.expire()
        after = await stage.header(header.id)
        assert after.ended is not None
        assert (after.effect_last, after.effect_due) == (2, after.ended)
        assert [due.id for due in await stage.unsettled()] == [header.id]

    async def test_ended_in_time(self, stage: Stage) -> None:
        """What has ended does not time out."""
        await stage.ended(timeout=SECOND)
        await stage.advance(2 * SECOND)
        assert await stage.expire() == 0

    async def test_awaits_first(self, stage: Stage) -> None:
        """Where an await and its execution are past their deadlines, the await's row comes first."""
        holding = await stage.held(timeout=SECOND)
        await holding.write(opens=(OpenAwait(operation="op", secret=SECRET, timeout=2 * SECOND),))
        await stage.advance(3 * SECOND)
        assert await stage.expire() == 2
        assert await stage.bodies(holding.id) == [b"started", b"entry", b"callback", b"execution"]

    async def test_earliest_first(self, stage: Stage) -> None:
        """Awaits of one execution time out in the order of their deadlines."""
        holding = await stage.held()
        spans = {"a": 3, "b": 1, "c": 2}
        await holding.write(
            opens=tuple(
                OpenAwait(operation=operation, secret=SECRET, timeout=span * SECOND)
                for operation, span in spans.items()
            )
        )
        await stage.advance(5 * SECOND)
        await stage.expire()
        assert [row.operation for row in await stage.rows(holding.id, 2)] == ["b", "c", "a"]

    async def test_limit(self, stage: Stage) -> None:
        """At most `limit` at once; the rest follows."""
        for _ in range(3):
            await stage.waiting(timeout=SECOND)
            await stage.create(timeout=SECOND)
        await stage.advance(SECOND)
        assert [await stage.expire(2) for _ in range(4)] == [2, 2, 2, 0]

    async def test_paused(self, stage: Stage) -> None:
        """Awaits of a paused execution time out like others (rule 11)."""
        holding, _ = await stage.waiting(timeout=SECOND)
        await holding.write(then=Suspend())
        await stage.signal(holding.id, SignalKind.PAUSE)
        await stage.advance(SECOND)
        assert await stage.expire() == 1
        assert await stage.due() == set()

    async def test_timers(self, stage: Stage) -> None:
        """A timer leaves no row: it makes due, and the owner writes that it fired (rule 4)."""
        header = await stage.sleeping(Suspend(wake_after=SECOND))
        await stage.advance(SECOND)
        assert await stage.expire() == 0
        assert await stage.due() == {header.id}
        assert (await stage.header(header.id)).length == 2

    async def test_times_of_a_journal(self, stage: Stage) -> None:
        """Rows are stamped with the store's time, and never go back (rule 3)."""
        holding, await_id = await stage.waiting()
        start = holding.header.created
        await stage.advance(SECOND)
        await stage.deliver(await_id)
        await stage.advance(SECOND)
        await holding.write()
        await stage.signal(holding.id, SignalKind.PAUSE)
        assert [row.at - start for row in await stage.rows(holding.id)] == [0, 0, SECOND, 2 * SECOND, 2 * SECOND]

    async def test_clock_that_is_set_back(self, stage: Stage) -> None:
        """When the store's clock goes back, rows do not (rule 3)."""
        holding, await_id = await stage.waiting()
        at = (await stage.rows(holding.id))[-1].at
        await stage.advance(-9 * SECOND)
        answer = await holding.write()
        assert (answer.at, answer.now) == (at, at - 9 * SECOND)
        assert await stage.deliver(await_id) is Answer.DELIVERED
        await stage.signal(holding.id, SignalKind.STOP)
        assert [row.at for row in await stage.rows(holding.id)] == [at] * 5
        header = await stage.header(holding.id)
        assert (header.tip.at, header.ended) == (at, at)

    async def test_begin_of_an_invocation(self, stage: Stage) -> None:
        """An invocation begins when it is claimed."""
        header = await stage.create()
        await stage.advance(SECOND)
        (holding,) = await (await stage.owner()).claim()
        assert holding.header.invocation == OpenInvocation(holding.header.token or "", header.created + SECOND)

    async def test_fence_after_a_timeout(self, stage: Stage) -> None:
        """A deadline that passed but was not turned into a row yet does not fence: the owner may end first."""
        holding = await stage.held(timeout=SECOND)
        await stage.advance(2 * SECOND)
        await holding.write(then=End(Status.SUCCEEDED))
        assert await stage.expire() == 0
        assert await holding.commit() is Answer.FENCED

    async def test_delivery_after_the_clock_was_set_back(self, stage: Stage) -> None:
        """What is due at once is due by the clock as it stands, though its row is stamped later (rule 2)."""
        holding, await_id = await stage.waiting()
        await holding.write(then=Suspend())
        await stage.advance(-9 * SECOND)
        await stage.deliver(await_id)
        assert await stage.due() == {holding.id}

    async def test_unseen_rows_after_the_clock_was_set_back(self, stage: Stage) -> None:
        """So is what suspends with rows its owner had not seen."""
        holding, await_id = await stage.waiting()
        await stage.advance(-9 * SECOND)
        await stage.deliver(await_id)
        await holding.write(then=Suspend())
        assert await stage.due() == {holding.id}


class TestNext(Conformance):
    """
    When there will be more to do, as `expire`, `unsettled` and `reap` answer it: nobody need ask before.

    A store may name an earlier instant than the true one, but none that is later, and None only if there is nothing.
    """

    async def test_nothing(self, stage: Stage) -> None:
        """Where no deadline and no effect is left, there is no next one."""
        await stage.create()
        await stage.sleeping(Suspend(wake_after=SECOND))
        await stage.ended()
        assert await stage.next_of("expire") is None
        assert await stage.next_of("unsettled") is None

    async def test_no_lease(self, stage: Stage) -> None:
        """Where nobody has a lease, none will run out."""
        assert await stage.next_of("reap") is None

    async def test_await(self, stage: Stage) -> None:
        """The next deadline of an await is told, and asking then finds it."""
        await stage.waiting(timeout=9 * SECOND)
        _, await_id = await stage.waiting(timeout=5 * SECOND, heartbeat=3 * SECOND)
        opened = await stage.now()
        assert await stage.next_of("expire") == opened + 3 * SECOND
        await stage.advance(2 * SECOND)
        await stage.store.heartbeat(await_id, SECRET)
        await stage.advance(2 * SECOND)
        later = await self._patiently(stage, opened + 5 * SECOND)
        assert later == opened + 5 * SECOND
        await stage.advance_to(later)
        assert await stage.expire() == 1
        assert await self._patiently(stage, opened + 9 * SECOND) == opened + 9 * SECOND

    async def test_execution(self, stage: Stage) -> None:
        """So is that of an execution, unless it has ended or is paused."""
        first, second, third = [await stage.create(timeout=span * SECOND) for span in (3, 5, 7)]
        created = first.created
        assert await stage.next_of("expire") == created + 3 * SECOND
        await stage.signal(first.id, SignalKind.STOP)
        await stage.signal(second.id, SignalKind.PAUSE)
        assert await self._patiently(stage, created + 7 * SECOND) == created + 7 * SECOND
        await stage.advance_to(created + 7 * SECOND)
        assert await stage.expire() == 1
        assert (await stage.header(third.id)).status is Status.TIMED_OUT
        assert await stage.next_of("expire") is None

    async def test_rest(self, stage: Stage) -> None:
        """What a limit left over is due now; the last round tells the next deadline."""
        for span in (1, 1, 5):
            header = await stage.create(timeout=span * SECOND)
        await stage.advance(SECOND)
        now = await stage.now()
        answer = await stage.store.expire(1, TIMEOUTS)
        assert answer.count == 1
        assert answer.next is not None
        assert answer.next <= now
        answer = await stage.store.expire(10, TIMEOUTS)
        assert answer.count == 1
        assert answer.next is not None
        assert now < answer.next <= header.created + 5 * SECOND

    async def test_effect(self, stage: Stage) -> None:
        """When effects will be due to anybody is told, and when those that were handed out will be again."""
        holding = await stage.held()
        armed = (await holding.write(effects=True)).at
        assert await stage.next_of("unsettled") == armed + EFFECT_GRACE
        await stage.advance_to(armed + EFFECT_GRACE)
        answer = await stage.store.unsettled(10)
        assert len(answer.headers) == 1
        assert answer.next == armed + EFFECT_GRACE + EFFECT_RETRY
        await stage.store.settle(holding.id, 2, holding.tip, 0)
        assert await stage.next_of("unsettled") is None

    async def test_lease(self, stage: Stage) -> None:
        """When the first of the living leases runs out is told, and asking then frees what it held."""
        await stage.owner(lease=20 * SECOND)
        owner = await stage.owner(lease=5 * SECOND)
        header = await stage.create(Claim(owner.id, stage.token()))
        instant = await stage.next_of("reap")
        assert instant is not None
        assert instant <= header.created + 5 * SECOND
        while instant < header.created + 5 * SECOND:
            await stage.advance_to(instant)
            later = await stage.next_of("reap")
            assert later is not None
            assert later > instant, "nothing was due, and nothing is said to be due later"
            instant = later
        await stage.advance_to(instant)
        answer = await stage.store.reap(10)
        assert answer.count == 1
        assert answer.next is not None
        assert answer.next <= header.created + 20 * SECOND

    @staticmethod
    async def _patiently(stage: Stage, instant: int) -> int | None:
        """
        The next deadline, asked for again whenever a store says so.

        A store need not take an instant back that passed without anything being due.
        """
        while (soonest := await stage.next_of("expire")) is not None and soonest < instant:
            await stage.advance_to(max(soonest, await stage.now() + 1))
        return soonest
