"""How the outside completes what executions wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.storage import Answer, End, OpenAwait, SignalKind, Status, Suspend
from perdure.testing.conformance.stage import RETENTION, SECOND, SECRET
from perdure.testing.conformance.subject import Conformance

if TYPE_CHECKING:
    from perdure.testing.conformance.stage import Stage


class TestAwaits(Conformance):
    """`deliver` and `heartbeat` (rule 6)."""

    async def test_deliver(self, stage: Stage) -> None:
        """A delivery is a row, stamped with the operation, without an owner's stamps."""
        holding, await_id = await stage.waiting()
        await stage.advance(SECOND)
        draft = stage.draft(b"\x00result", 2)
        assert await stage.store.deliver(await_id, SECRET, draft, "n0nce") is Answer.DELIVERED
        row = (await stage.rows(holding.id))[-1]
        assert (row.index, row.tag, row.operation, row.body) == (3, draft.tag, "op-1", b"\x00result")
        assert (row.at, row.seen, row.invocation) == (await stage.now(), None, None)
        header = await stage.header(holding.id)
        assert (header.length, header.tip.tag, header.format, header.seq) == (3, draft.tag, 2, 1)
        assert header.owner is not None

    async def test_wakes(self, stage: Stage) -> None:
        """A delivery to a suspended execution makes it due at once, however far its timer."""
        for then in (Suspend(), Suspend(wake_after=9 * SECOND)):
            holding, await_id = await stage.waiting()
            await holding.write(then=then)
            assert await stage.due() == set()
            await stage.deliver(await_id)
            assert await stage.due() == {holding.id}

    async def test_keeps_an_earlier_wake(self, stage: Stage) -> None:
        """What was due already stays due since then."""
        holding, await_id = await stage.waiting()
        await holding.write(then=Suspend(wake_after=SECOND))
        wake = (await stage.header(holding.id)).wake
        await stage.advance(5 * SECOND)
        await stage.deliver(await_id)
        assert (await stage.header(holding.id)).wake == wake

    async def test_repeat(self, stage: Stage) -> None:
        """The same nonce is Delivered again, also after the end, and writes nothing."""
        holding, await_id = await stage.waiting()
        draft = stage.draft(b"result")
        assert await stage.store.deliver(await_id, SECRET, draft, "n0nce") is Answer.DELIVERED
        assert await stage.store.deliver(await_id, SECRET, draft, "n0nce") is Answer.DELIVERED
        assert (await stage.header(holding.id)).length == 3
        await holding.read()
        await holding.write(then=End(Status.SUCCEEDED))
        assert await stage.store.deliver(await_id, SECRET, draft, "n0nce") is Answer.DELIVERED
        assert (await stage.header(holding.id)).length == 4

    async def test_closed(self, stage: Stage) -> None:
        """Another nonce on a completed await is Closed, and so is its heartbeat."""
        holding, await_id = await stage.waiting(heartbeat=5 * SECOND)
        await stage.deliver(await_id)
        assert await stage.deliver(await_id) is Answer.CLOSED
        assert await stage.store.heartbeat(await_id, SECRET) is Answer.CLOSED
        await stage.advance(9 * SECOND)
        assert await stage.deliver(await_id) is Answer.CLOSED
        assert await stage.expire() == 0
        assert (await stage.header(holding.id)).length == 3

    async def test_closed_by_the_end(self, stage: Stage) -> None:
        """Awaits of an ended execution are Closed, and time out no more."""
        for end in ("owner", "stop", "timeout"):
            holding = await stage.held(timeout=8 * SECOND)
            await holding.write(opens=(OpenAwait(operation="op", secret=SECRET, timeout=9 * SECOND),))
            if end == "owner":
                await holding.write(then=End(Status.FAILED))
            elif end == "stop":
                await stage.signal(holding.id, SignalKind.STOP)
            else:
                await stage.advance(8 * SECOND)
                assert await stage.expire() == 1
            length = (await stage.header(holding.id)).length
            assert await stage.deliver(f"{holding.id}/op") is Answer.CLOSED
            await stage.advance(9 * SECOND)
            assert await stage.expire() == 0
            assert await stage.deliver(f"{holding.id}/op") is Answer.CLOSED
            assert await stage.store.heartbeat(f"{holding.id}/op", SECRET) is Answer.CLOSED
            assert (await stage.header(holding.id)).length == length

    async def test_expired(self, stage: Stage) -> None:
        """From its deadline on an await is Expired, before `expire` has been there and after."""
        holding, await_id = await stage.waiting(timeout=5 * SECOND)
        await stage.advance(5 * SECOND)
        assert await stage.deliver(await_id) is Answer.EXPIRED
        assert await stage.store.heartbeat(await_id, SECRET) is Answer.EXPIRED
        assert (await stage.header(holding.id)).length == 2
        assert await stage.expire() == 1
        assert await stage.deliver(await_id) is Answer.EXPIRED
        assert await stage.store.heartbeat(await_id, SECRET) is Answer.EXPIRED
        assert (await stage.header(holding.id)).length == 3

    async def test_just_in_time(self, stage: Stage) -> None:
        """A microsecond before its deadline an await is completed."""
        _, await_id = await stage.waiting(timeout=5 * SECOND)
        await stage.advance(5 * SECOND - 1)
        assert await stage.expire() == 0
        assert await stage.deliver(await_id) is Answer.DELIVERED

    async def test_unknown(self, stage: Stage) -> None:
        """An await that nobody opened is Unknown, and so is one with a wrong secret."""
        holding, await_id = await stage.waiting()
        assert await stage.deliver(f"{holding.id}/other") is Answer.UNKNOWN
        assert await stage.deliver(f"{stage.store.new_id('order', 'x')}/op-1") is Answer.UNKNOWN
        for unreadable in ("", "/", holding.id, f"{holding.id}/", "/op-1", "é/🙂", f"{holding.id}/op-1/"):
            assert await stage.deliver(unreadable) is Answer.UNKNOWN
            assert await stage.store.heartbeat(unreadable, SECRET) is Answer.UNKNOWN
        for secret in ("", SECRET[:-1], SECRET[:-1] + "0", SECRET + "0", SECRET.upper(), "é", "\0"):
            assert await stage.deliver(await_id, secret=secret) is Answer.UNKNOWN
            assert await stage.store.heartbeat(await_id, secret) is Answer.UNKNOWN
        assert (await stage.header(holding.id)).length == 2

    async def test_wrong_secret_on_a_closed_one(self, stage: Stage) -> None:
        """A wrong secret learns nothing, not even that the await is closed or the nonce right."""
        _, await_id = await stage.waiting()
        await stage.store.deliver(await_id, SECRET, stage.draft(), "n0nce")
        assert await stage.store.deliver(await_id, "other", stage.draft(), "n0nce") is Answer.UNKNOWN

    async def test_purged(self, stage: Stage) -> None:
        """Awaits are gone with their execution."""
        holding, await_id = await stage.waiting()
        await holding.write(then=End(Status.SUCCEEDED))
        await stage.advance(RETENTION)
        assert await stage.store.purge(10) == 1
        assert await stage.deliver(await_id) is Answer.UNKNOWN
        assert await stage.store.heartbeat(await_id, SECRET) is Answer.UNKNOWN

    async def test_without_a_secret(self, stage: Stage) -> None:
        """What only the service completes has no secret."""
        _, await_id = await stage.waiting(secret="")
        assert await stage.deliver(await_id, secret=SECRET) is Answer.UNKNOWN
        assert await stage.deliver(await_id, secret="") is Answer.DELIVERED

    async def test_heartbeat(self, stage: Stage) -> None:
        """Heartbeats keep an await alive beyond its first deadline, and leave no row."""
        holding, await_id = await stage.waiting(heartbeat=5 * SECOND)
        for _ in range(3):
            await stage.advance(4 * SECOND)
            assert await stage.store.heartbeat(await_id, SECRET) is Answer.OK
            assert await stage.expire() == 0
        assert (await stage.header(holding.id)).length == 2
        await stage.advance(5 * SECOND)
        assert await stage.store.heartbeat(await_id, SECRET) is Answer.EXPIRED
        assert await stage.deliver(await_id) is Answer.EXPIRED

    async def test_heartbeat_does_not_move_the_timeout(self, stage: Stage) -> None:
        """A heartbeat restarts its own timer only."""
        holding, await_id = await stage.waiting(heartbeat=5 * SECOND, timeout=6 * SECOND)
        await stage.advance(4 * SECOND)
        assert await stage.store.heartbeat(await_id, SECRET) is Answer.OK
        await stage.advance(2 * SECOND)
        assert await stage.deliver(await_id) is Answer.EXPIRED
        assert await stage.expire() == 1
        assert (await stage.bodies(holding.id))[-1] == b"callback"

    async def test_heartbeat_where_none_is_asked_for(self, stage: Stage) -> None:
        """A heartbeat of an await without a heartbeat timer is Ok and changes nothing."""
        _, await_id = await stage.waiting(timeout=5 * SECOND)
        await stage.advance(4 * SECOND)
        assert await stage.store.heartbeat(await_id, SECRET) is Answer.OK
        await stage.advance(SECOND)
        assert await stage.expire() == 1

    async def test_paused(self, stage: Stage) -> None:
        """Deliveries to a paused execution are kept; it is due with its resume (rule 11)."""
        holding, await_id = await stage.waiting()
        await holding.write(then=Suspend())
        await stage.signal(holding.id, SignalKind.PAUSE)
        assert await stage.deliver(await_id) is Answer.DELIVERED
        assert await stage.due() == set()
        await stage.signal(holding.id, SignalKind.RESUME)
        assert await stage.due() == {holding.id}

    async def test_of_another_process(self, stage: Stage) -> None:
        """Any process completes an await."""
        holding, await_id = await stage.waiting()
        other = await stage.another()
        assert await other.heartbeat(await_id, SECRET) is Answer.OK
        assert await other.deliver(await_id, SECRET, stage.draft(b"result"), "n0nce") is Answer.DELIVERED
        assert [row.body for row in await holding.read()] == [b"result"]
