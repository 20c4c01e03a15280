"""How executions are stopped, paused, resumed and deleted from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from perdure.storage import EFFECT_GRACE, Answer, Refused, SignalKind, Signalled, Status, Suspend
from perdure.testing.conformance.stage import RETENTION, SECOND
from perdure.testing.conformance.subject import Conformance

if TYPE_CHECKING:
    from perdure.testing.conformance.stage import Stage

STOP, PAUSE, RESUME, DELETE = SignalKind.STOP, SignalKind.PAUSE, SignalKind.RESUME, SignalKind.DELETE


class TestSignals(Conformance):
    """`signal` (rules 5, 11 and 12)."""

    async def test_stop(self, stage: Stage) -> None:
        """A stop appends, and ends a sleeping execution in the same step."""
        header = await stage.sleeping(Suspend(wake_after=9 * SECOND), timeout=99 * SECOND)
        answer = await stage.signal(header.id, STOP)
        after = await stage.header(header.id)
        assert answer == Signalled(after)
        assert (after.status, after.ended, after.length) == (Status.STOPPED, await stage.now(), 3)
        assert (after.wake, after.deadline, after.owner) == (None, None, None)
        row = (await stage.rows(header.id))[-1]
        assert (row.body, row.invocation, row.operation, row.seen) == (b"stop", None, None, None)

    async def test_stop_of_an_owned_one(self, stage: Stage) -> None:
        """The row of a stop tells which invocation it closed; the owner's next commit is fenced (rule 5)."""
        holding = await stage.held()
        await stage.signal(holding.id, STOP)
        after = await stage.header(holding.id)
        assert (after.status, after.owner, after.invocation) == (Status.STOPPED, None, None)
        assert (await stage.rows(holding.id))[-1].invocation == holding.header.invocation
        assert await holding.commit() is Answer.FENCED

    async def test_stop_of_a_child(self, stage: Stage) -> None:
        """A stop has an effect where there is a parent (rule 9)."""
        header = await stage.create(parent="p/op")
        await stage.signal(header.id, STOP)
        after = await stage.header(header.id)
        assert after.ended is not None
        assert (after.effect_last, after.effect_due) == (2, after.ended + EFFECT_GRACE)

    async def test_stop_of_a_paused_one(self, stage: Stage) -> None:
        """Any end clears a pause (rule 11)."""
        header = await stage.create(timeout=9 * SECOND)
        await stage.signal(header.id, PAUSE)
        await stage.signal(header.id, STOP)
        after = await stage.header(header.id)
        assert (after.status, after.paused, after.left, after.deadline) == (Status.STOPPED, False, None, None)

    async def test_pause(self, stage: Stage) -> None:
        """A pause appends, keeps from being due, and keeps what is left of the timeout."""
        header = await stage.create(timeout=9 * SECOND)
        await stage.advance(2 * SECOND)
        answer = await stage.signal(header.id, PAUSE)
        after = await stage.header(header.id)
        assert answer == Signalled(after)
        assert (after.paused, after.left, after.deadline, after.length) == (True, 7 * SECOND, None, 2)
        assert after.status is Status.RUNNING
        assert await stage.due() == set()
        await stage.advance(99 * SECOND)
        assert await stage.expire() == 0

    async def test_resume(self, stage: Stage) -> None:
        """A resume appends, gives back the rest of the timeout, and always wakes."""
        header = await stage.sleeping(timeout=9 * SECOND)
        await stage.signal(header.id, PAUSE)
        await stage.advance(50 * SECOND)
        answer = await stage.signal(header.id, RESUME)
        now = await stage.now()
        after = await stage.header(header.id)
        assert answer == Signalled(after)
        assert (after.paused, after.left, after.deadline, after.length) == (False, None, now + 9 * SECOND, 4)
        assert await stage.due() == {header.id}

    async def test_pause_with_the_clock_running(self, stage: Stage) -> None:
        """On demand the timeout goes on while paused, and ends the execution."""
        header = await stage.create(timeout=9 * SECOND)
        await stage.signal(header.id, PAUSE, keep_timeout=False)
        after = await stage.header(header.id)
        assert (after.paused, after.left, after.deadline) == (True, None, header.deadline)
        await stage.advance(9 * SECOND)
        assert await stage.expire() == 1
        ended = await stage.header(header.id)
        assert (ended.status, ended.paused) == (Status.TIMED_OUT, False)

    async def test_resume_with_the_clock_running(self, stage: Stage) -> None:
        """A timeout that went on while paused is not moved by the resume."""
        header = await stage.create(timeout=9 * SECOND)
        await stage.signal(header.id, PAUSE, keep_timeout=False)
        await stage.advance(SECOND)
        await stage.signal(header.id, RESUME)
        assert (await stage.header(header.id)).deadline == header.deadline

    async def test_pause_after_the_deadline(self, stage: Stage) -> None:
        """Nothing is left of a timeout that was over when the pause came."""
        header = await stage.create(timeout=SECOND)
        await stage.advance(5 * SECOND)
        await stage.signal(header.id, PAUSE)
        assert (await stage.header(header.id)).left == 0

    async def test_pause_of_an_owned_one(self, stage: Stage) -> None:
        """A pause leaves the owner in place: it sees the row, lets go, and nothing is due until the resume."""
        holding = await stage.held()
        await stage.signal(holding.id, PAUSE)
        header = await stage.header(holding.id)
        assert (header.paused, header.owner) == (True, holding.header.owner)
        await holding.write(then=Suspend(wake_after=0))
        assert await stage.due() == set()
        await stage.signal(holding.id, RESUME)
        assert await stage.due() == {holding.id}

    async def test_resume_of_an_owned_one(self, stage: Stage) -> None:
        """A resume before the owner has let go is one more row it has not seen."""
        holding = await stage.held()
        await stage.signal(holding.id, PAUSE)
        await stage.signal(holding.id, RESUME)
        assert (await stage.header(holding.id)).owner is not None
        assert await stage.due() == set()
        await holding.write(then=Suspend())
        assert await stage.due() == {holding.id}

    async def test_wait_over_a_pause(self, stage: Stage) -> None:
        """A timer that falls into a pause makes due with the resume (rule 11)."""
        header = await stage.sleeping(Suspend(wake_after=SECOND))
        await stage.signal(header.id, PAUSE)
        await stage.advance(5 * SECOND)
        assert await stage.due() == set()
        await stage.signal(header.id, RESUME)
        assert await stage.due() == {header.id}

    async def test_resume_of_a_quarantined_one(self, stage: Stage) -> None:
        """A resume clears quarantine and the count of crashes, and wakes (rule 8)."""
        holding = await stage.held()
        await holding.write(b"crashed", Suspend(clean=False, quarantine=True), reopen=True)
        assert isinstance(await stage.signal(holding.id, RESUME), Signalled)
        header = await stage.header(holding.id)
        assert (header.quarantined, header.crashes) == (False, 0)
        assert await stage.due() == {holding.id}

    async def test_paused_and_quarantined(self, stage: Stage) -> None:
        """A quarantined execution can be paused; one resume clears both."""
        holding = await stage.held()
        await holding.write(b"crashed", Suspend(clean=False, quarantine=True), reopen=True)
        assert isinstance(await stage.signal(holding.id, PAUSE), Signalled)
        assert isinstance(await stage.signal(holding.id, RESUME), Signalled)
        header = await stage.header(holding.id)
        assert (header.paused, header.quarantined) == (False, False)
        assert await stage.due() == {holding.id}

    @pytest.mark.parametrize("kind", list(SignalKind))
    async def test_repeat(self, stage: Stage, kind: SignalKind) -> None:
        """The same key again is accepted and changes nothing, though the status would refuse it now."""
        header = await (stage.ended() if kind is DELETE else stage.create())
        if kind is RESUME:
            await stage.signal(header.id, PAUSE)
        assert isinstance(await stage.signal(header.id, kind, key="key"), Signalled)
        before = await stage.header(header.id)
        await stage.advance(SECOND)
        assert await stage.signal(header.id, kind, key="key") == Signalled(before)
        assert await stage.header(header.id) == before

    async def test_late_duplicate(self, stage: Stage) -> None:
        """A pause that comes again after the resume does not pause again; keys last until purge."""
        header = await stage.create()
        await stage.signal(header.id, PAUSE, key="key")
        await stage.signal(header.id, RESUME)
        assert isinstance(await stage.signal(header.id, PAUSE, key="key"), Signalled)
        assert not (await stage.header(header.id)).paused
        await stage.signal(header.id, STOP)
        assert isinstance(await stage.signal(header.id, PAUSE, key="key"), Signalled)

    async def test_keys_belong_to_their_execution(self, stage: Stage) -> None:
        """The same key on another execution is another signal."""
        first, second = await stage.create(), await stage.create()
        await stage.signal(first.id, STOP, key="key")
        await stage.signal(second.id, STOP, key="key")
        assert (await stage.header(second.id)).status is Status.STOPPED

    async def test_refused_keys_are_free(self, stage: Stage) -> None:
        """The key of a signal that was refused may be used when it is allowed."""
        header = await stage.create()
        assert isinstance(await stage.signal(header.id, RESUME, key="key"), Refused)
        await stage.signal(header.id, PAUSE)
        assert isinstance(await stage.signal(header.id, RESUME, key="key"), Signalled)
        assert not (await stage.header(header.id)).paused

    @pytest.mark.parametrize("kind", [STOP, PAUSE, RESUME])
    async def test_ended(self, stage: Stage, kind: SignalKind) -> None:
        """An ended execution cannot be stopped, paused or resumed."""
        header = await stage.ended()
        assert await stage.signal(header.id, kind) == Refused(header)
        assert await stage.header(header.id) == header

    @pytest.mark.parametrize("kind", [RESUME, DELETE])
    async def test_running(self, stage: Stage, kind: SignalKind) -> None:
        """A running execution cannot be resumed or deleted."""
        header = await stage.create()
        assert await stage.signal(header.id, kind) == Refused(header)

    async def test_paused_twice(self, stage: Stage) -> None:
        """A paused execution cannot be paused again."""
        header = await stage.create()
        await stage.signal(header.id, PAUSE)
        assert isinstance(await stage.signal(header.id, PAUSE), Refused)
        assert (await stage.header(header.id)).length == 2

    @pytest.mark.parametrize("kind", list(SignalKind))
    async def test_unknown(self, stage: Stage, kind: SignalKind) -> None:
        """Without such an execution every signal is Unknown."""
        assert await stage.signal(stage.store.new_id("order", "x"), kind) is Answer.UNKNOWN

    async def test_delete(self, stage: Stage) -> None:
        """A delete marks and appends nothing; the execution is visible until it is purged (rule 12)."""
        header = await stage.ended()
        answer = await stage.signal(header.id, DELETE)
        after = await stage.header(header.id)
        assert answer == Signalled(after)
        assert (after.deleting, after.length, after.status) == (True, header.length, Status.SUCCEEDED)
        assert isinstance(await stage.signal(header.id, DELETE), Signalled)

    async def test_purged(self, stage: Stage) -> None:
        """A purged execution knows no signal any more, nor its keys."""
        header = await stage.create()
        await stage.signal(header.id, STOP, key="key")
        await stage.advance(RETENTION)
        await stage.store.purge(10)
        assert await stage.signal(header.id, STOP, key="key") is Answer.UNKNOWN
