"""
Sequences of verbs that show what each rule is for.

Chance finds a missing rule too rarely: every script here ends in a lost wake-up, a doubled entry or two owners on a
store that lacks the one rule it is about, and in nothing remarkable on a store that keeps it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.storage import (
    EFFECT_GRACE,
    Answer,
    Claim,
    Committed,
    Created,
    End,
    OpenAwait,
    Page,
    SignalKind,
    Status,
    Suspend,
    Tip,
)
from perdure.testing.conformance.stage import LEASE, RETENTION, SECOND, SECRET

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from perdure.testing.conformance.stage import Stage

    Script = Callable[[Stage], Coroutine[Any, Any, None]]


async def commit_of_a_former_owner(stage: Stage) -> None:
    """A stalled process comes back after another one has claimed its execution (rule 1, token)."""
    zombie = await stage.held()
    await stage.advance(LEASE)
    assert await stage.reap() == 1
    (holding,) = await (await stage.owner()).claim()
    assert await zombie.commit(b"zombie") is Answer.FENCED
    assert await zombie.commit(b"zombie", End(Status.SUCCEEDED)) is Answer.FENCED
    await holding.write(b"owner", End(Status.FAILED))
    assert await stage.bodies(holding.id) == [b"started", b"owner"]
    assert (await stage.header(holding.id)).status is Status.FAILED


async def delivery_before_the_suspend(stage: Stage) -> None:
    """A callback is completed while its execution is about to suspend (rule 2, seen)."""
    holding, await_id = await stage.waiting()
    assert await stage.deliver(await_id) is Answer.DELIVERED
    await holding.write(b"suspended", Suspend())
    assert await stage.due() == {holding.id}
    assert [row.seen for row in await stage.rows(holding.id)] == [None, 1, None, 2]


async def lost_reply_of_a_commit(stage: Stage) -> None:
    """Each commit of an invocation is sent twice, the second time because the reply was lost (rule 1, seq)."""
    holding = await stage.held()
    for then in (None, None, Suspend(wake_after=0)):
        commit = holding.next(b"entry", then)
        first = await holding.send(commit)
        assert isinstance(first, Committed), first
        assert await holding.send(commit) == first
        assert commit.draft is not None
        holding.seq, holding.seen, holding.tip = commit.seq, first.length, Tip(first.at, commit.draft.tag)
    assert len(await stage.rows(holding.id)) == 4
    (again,) = await (await stage.owner()).claim()
    last = again.next(b"ended", End(Status.SUCCEEDED))
    first = await again.send(last)
    assert isinstance(first, Committed), first
    assert await again.send(last) == first
    assert len(await stage.rows(holding.id)) == 5


async def sequence_of_the_next_owner(stage: Stage) -> None:
    """The next owner goes on counting where the former one ended (rule 1, seq is never reset)."""
    holding = await stage.held()
    await holding.write()
    await holding.write(then=Suspend(wake_after=0))
    (again,) = await (await stage.owner()).claim()
    assert again.header.seq == 2
    again.seq = 0
    assert await again.commit() is Answer.FENCED
    again.seq = 2
    await again.write()


async def late_duplicate_of_a_claim(stage: Stage) -> None:
    """A claim arrives again after its owner has let go of what it took (rule 7, claim number)."""
    header = await stage.create()
    owner = await stage.owner()
    (holding,) = await owner.claim(number=1, token="t0ken")
    await holding.write(then=Suspend(wake_after=0))
    assert await owner.claim(number=1, token="t0ken") == []
    assert (await stage.header(header.id)).owner is None
    assert await stage.due() == {header.id}


async def lost_reply_of_a_claim(stage: Stage) -> None:
    """A claim whose reply was lost is repeated, or its takings are learned from the renewal (rule 7)."""
    header = await stage.create()
    owner = await stage.owner()
    (lost,) = await owner.claim(number=1, token="t0ken")
    assert lost.id == header.id
    assert [(held.id, held.token, held.length) for held in await owner.renew()] == [(header.id, "t0ken", 1)]
    (again,) = await owner.claim(number=1, token="t0ken")
    await again.write()


async def claim_of_a_reaped_owner(stage: Stage) -> None:
    """A claim of a process that was given up arrives after all (rule 7, lease)."""
    owner = await stage.owner()
    header = await stage.create()
    await stage.advance(LEASE)
    await stage.reap()
    assert await owner.ask() is Answer.LEASE_LOST
    late = await stage.create(Claim(owner.id, stage.token()))
    assert await stage.due() == {header.id, late.id}


async def claim_just_before_the_lease_ends(stage: Stage) -> None:
    """What was just claimed is not reaped for a lease that was nearly over (rule 7, extended in the same step)."""
    owner = await stage.owner()
    await stage.create()
    await stage.advance(LEASE - 1)
    (holding,) = await owner.claim()
    await stage.advance(SECOND)
    assert await stage.reap() == 0
    await holding.write()


async def effect_while_carrying_out(stage: Stage) -> None:
    """The owner asks for one more effect while somebody carries out the first (rule 9, settled through a row)."""
    holding = await stage.held()
    await holding.write(b"first", effects=True)
    await stage.advance(EFFECT_GRACE)
    (handed,) = await stage.unsettled()
    tip = holding.tip
    await holding.write(b"second", effects=True)
    assert await stage.store.settle(handed.id, handed.length, tip, handed.epoch) is Answer.OK
    header = await stage.header(holding.id)
    assert (header.settled, header.is_settled) == (2, False)
    await stage.advance(EFFECT_GRACE)
    assert [again.id for again in await stage.unsettled()] == [holding.id]


async def stop_of_a_child(stage: Stage) -> None:
    """A child is stopped while nobody carries its function: its parent learns of it (rule 9, effects need no owner)."""
    child = await stage.create(parent="parent/op", function="retired")
    await stage.signal(child.id, SignalKind.STOP)
    await stage.advance(EFFECT_GRACE)
    handed = await stage.unsettled()
    assert [(header.id, header.status, header.parent) for header in handed] == [(child.id, Status.STOPPED, "parent/op")]


async def late_duplicate_of_a_create(stage: Stage) -> None:
    """The start of a child arrives again after the child has ended and was purged (rule 10, tombstone)."""
    new = stage.new(parent="parent/op")
    assert isinstance(await stage.store.create(new, None), Created)
    await stage.signal(new.id, SignalKind.STOP)
    header = await stage.header(new.id)
    await stage.store.settle(new.id, header.length, header.tip, header.epoch)
    await stage.advance(RETENTION)
    assert await stage.store.purge(10) == 1
    assert await stage.store.create(new, None) is Answer.GONE
    assert await stage.store.describe(new.id) is None
    assert await stage.due() == set()


async def lost_reply_of_a_delivery(stage: Stage) -> None:
    """A delivery is repeated after its reply was lost; another one is refused (rule 6, nonce)."""
    holding, await_id = await stage.waiting()
    draft = stage.draft(b"result")
    answers = [await stage.store.deliver(await_id, SECRET, draft, nonce) for nonce in ("one", "one", "two")]
    assert answers == [Answer.DELIVERED, Answer.DELIVERED, Answer.CLOSED]
    assert [row.body for row in await holding.read()] == [b"result"]


async def late_duplicate_of_a_pause(stage: Stage) -> None:
    """A pause arrives again after the resume (keys of signals)."""
    header = await stage.create()
    await stage.signal(header.id, SignalKind.PAUSE, key="pause")
    await stage.signal(header.id, SignalKind.RESUME, key="resume")
    await stage.signal(header.id, SignalKind.PAUSE, key="pause")
    assert await stage.due() == {header.id}


async def heartbeats_of_a_sleeping_execution(stage: Stage) -> None:
    """An await lives by its heartbeats long after the deadline its journal knows of (rule 4)."""
    holding = await stage.held()
    await holding.write(opens=(OpenAwait(operation="op", secret=SECRET, heartbeat=5 * SECOND),), then=Suspend())
    for _ in range(4):
        await stage.advance(4 * SECOND)
        assert await stage.store.heartbeat(f"{holding.id}/op", SECRET) is Answer.OK
        assert await stage.expire() == 0
    await stage.advance(5 * SECOND)
    assert await stage.expire() == 1
    assert await stage.due() == {holding.id}


async def crash_before_the_first_commit(stage: Stage) -> None:
    """Two owners die one after the other; the third finds the invocation of the first (rule 8, open invocation)."""
    first = await stage.held()
    for _ in range(2):
        await stage.advance(LEASE)
        assert await stage.reap() == 1
        (holding,) = await (await stage.owner()).claim()
        assert holding.header.invocation == first.header.invocation
    await holding.write(None, Suspend(wake_after=0))
    (holding,) = await (await stage.owner()).claim()
    assert holding.header.invocation == first.header.invocation
    await holding.write(b"crashed", reopen=True)
    header = await stage.header(holding.id)
    assert header.crashes == 1
    assert header.invocation is not None
    assert header.invocation.id == holding.header.token


async def release_after_a_crash(stage: Stage) -> None:
    """Claims that find nothing to do do not make a crashing execution look healthy (rule 8, crashes)."""
    holding = await stage.held()
    await holding.write(b"crashed", Suspend(wake_after=0, clean=False), reopen=True)
    (holding,) = await (await stage.owner()).claim()
    await holding.write(None, Suspend(wake_after=0))
    assert (await stage.header(holding.id)).crashes == 1


async def commit_on_another_history(stage: Stage) -> None:
    """A row was lost and another stands in its place: whoever folded the lost one is fenced (rule 13, tip)."""
    holding, await_id = await stage.waiting()
    await stage.deliver(await_id, b"kept")
    page = await stage.store.entries(holding.id, 2, 100)
    assert isinstance(page, Page)
    (kept,) = page.rows
    for lost in (Tip(kept.at - 1, kept.tag), Tip(kept.at, "lost")):
        assert await holding.commit(seen=3, tip=lost) is Answer.FENCED
    assert isinstance(await holding.commit(seen=3, tip=Tip(kept.at, kept.tag)), Committed)


SCRIPTS: tuple[Script, ...] = (
    commit_of_a_former_owner,
    delivery_before_the_suspend,
    lost_reply_of_a_commit,
    sequence_of_the_next_owner,
    late_duplicate_of_a_claim,
    lost_reply_of_a_claim,
    claim_of_a_reaped_owner,
    claim_just_before_the_lease_ends,
    effect_while_carrying_out,
    stop_of_a_child,
    late_duplicate_of_a_create,
    lost_reply_of_a_delivery,
    late_duplicate_of_a_pause,
    heartbeats_of_a_sleeping_execution,
    crash_before_the_first_commit,
    release_after_a_crash,
    commit_on_another_history,
)
