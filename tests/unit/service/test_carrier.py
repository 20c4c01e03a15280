"""Effects: carried out once where nothing is lost, again where something was, and never in each other's way."""

from __future__ import annotations

import asyncio
from collections import Counter

from perdure.errors import StoreUnavailableError
from perdure.model import OperationStatus
from perdure.service.upkeep import Upkeep
from perdure.storage import EFFECT_GRACE, EFFECT_RETRY, MICROSECONDS, SignalKind, Status
from perdure.testing.memory import MemoryStore
from tests.unit.service.stage import DAY, PENDING, Stage, done, invoke, outcome_update, run


class Counting(MemoryStore):
    """Counts what is asked of it; `broken` journals cannot be read."""

    def __init__(self, clock):
        super().__init__(clock)
        self.calls = Counter()
        self.broken = set()
        self.unavailable = 0

    async def create(self, new, claim):
        self.calls["create"] += 1
        await asyncio.sleep(0)
        if self.unavailable:
            self.unavailable -= 1
            raise StoreUnavailableError("gone for a while")
        return await super().create(new, claim)

    async def deliver(self, await_id, secret, draft, nonce):
        self.calls["deliver"] += 1
        return await super().deliver(await_id, secret, draft, nonce)

    async def entries(self, id, after, max_bytes):
        if id in self.broken:
            raise ValueError("this journal makes no sense")
        return await super().entries(id, after, max_bytes)


async def settled(stage):
    await stage.service.carrier.close()


async def abandoned_parent(stage):
    """A parent whose owner dies right after it asked for a child."""
    header = await stage.start("parent")
    owner = await stage.begun(function="parent")
    carry, stage.service.carrier.carry_soon = stage.service.carrier.carry_soon, lambda _: None
    await owner.checkpoint(owner.token, [invoke("f")])
    stage.service.carrier.carry_soon = carry
    return header, owner


def test_each_child_is_started_once_however_many_commits_ask_for_some():
    """A hundred children, one commit each: a hundred creations, not five thousand."""

    async def scene():
        stage = await Stage(store_type=Counting).open()
        header = await stage.start("parent")
        owner = await stage.begun(function="parent")
        for n in range(100):
            await owner.checkpoint(owner.token, [invoke("f", id=f"i{n}")])
        await settled(stage)
        assert stage.store.calls["create"] == 1 + 100
        assert (await stage.store.describe(header.id)).effect_due is None

    run(scene())


def test_a_hundred_children_in_one_commit_end_their_parent():
    """All are started, all results arrive, nothing is left to be carried out."""

    async def scene():
        stage = await Stage(store_type=Counting).open()
        header = await stage.start("parent")
        owner = await stage.begun(function="parent")
        await owner.checkpoint(owner.token, [invoke("f", id=f"i{n}") for n in range(100)])
        await owner.finish(PENDING)
        await settled(stage)
        while (child := await stage.claim()) is not None:
            await child.begin()
            await child.finish(done(f'"{child.id}"'))
        await settled(stage)
        parent = await stage.begun(function="parent")
        results = {parent.execution.operations[f"i{n}"].result for n in range(100)}
        assert len(results - {None}) == 100
        await parent.finish(done())
        assert (await stage.store.describe(header.id)).is_settled

    run(scene())


def test_an_effect_that_waits_for_the_store_is_not_settled():
    """The child is started once the store is back."""

    async def scene():
        stage = await Stage(store_type=Counting).open()
        await stage.start("parent")
        owner = await stage.begun(function="parent")
        stage.store.unavailable = 2
        await owner.checkpoint(owner.token, [invoke("f")])
        await settled(stage)
        assert await stage.claim() is not None

    run(scene())


def test_one_journal_that_cannot_be_read_keeps_no_other_from_its_effects():
    """Whoever does the upkeep goes on with the next one, round after round."""

    async def scene():
        stage = await Stage(store_type=Counting).open()
        parents = [(await abandoned_parent(stage))[0] for _ in range(3)]
        stage.store.broken.add(parents[0].id)
        upkeep = Upkeep(stage.service)
        stage.advance(EFFECT_GRACE / MICROSECONDS)
        await upkeep.run()
        assert [(await stage.store.describe(parent.id)).is_settled for parent in parents] == [False, True, True]
        stage.store.broken.clear()
        stage.advance(EFFECT_RETRY / MICROSECONDS)
        await upkeep.run()
        assert (await stage.store.describe(parents[0].id)).is_settled

    run(scene())


def test_a_child_outlives_the_parent_that_was_stopped():
    """A stop does not cascade: the child is started, ends, and has nobody to tell."""

    async def scene():
        stage = await Stage(store_type=Counting).open()
        header, _ = await abandoned_parent(stage)
        await stage.service.stop(header.id)
        stage.advance(EFFECT_GRACE / MICROSECONDS)
        await Upkeep(stage.service).run()
        child = await stage.begun()
        await child.finish(done())
        await settled(stage)
        found = await stage.store.describe(child.id)
        assert (found.status, found.is_settled, stage.store.calls["deliver"]) == (Status.SUCCEEDED, True, 1)

    run(scene())


def test_a_child_of_a_purged_parent_is_settled():
    """Nobody knows the await any more; that counts as delivered."""

    async def scene():
        stage = await Stage().open()
        header = await stage.start("parent")
        owner = await stage.begun(function="parent")
        await owner.checkpoint(owner.token, [invoke("f")])
        await settled(stage)
        await owner.finish(done())
        child = await stage.begun()
        stage.advance(DAY // MICROSECONDS + 1)
        await stage.store.register("w1", [], DAY)
        await stage.service.purge()
        assert await stage.store.describe(header.id) is None
        await child.finish(done())
        await settled(stage)
        assert (await stage.store.describe(child.id)).is_settled

    run(scene())


def test_a_child_that_was_purged_before_its_carrier_came_back_fails_its_parent():
    """Gone: its outcome cannot be read any more, and the parent does not wait for ever."""

    async def scene():
        stage = await Stage().open()
        _, owner = await abandoned_parent(stage)
        await owner.finish(PENDING)
        # The first carrier started the child, and died before it settled.
        settle, stage.store.settle = stage.store.settle, None
        stage.advance(EFFECT_GRACE / MICROSECONDS)
        await Upkeep(stage.service).run()
        stage.store.settle = settle
        child = await stage.begun()
        deliver, stage.store.deliver = stage.store.deliver, None
        await child.finish(done())
        await settled(stage)
        stage.store.deliver = deliver
        found = await stage.store.describe(child.id)
        await stage.store.settle(child.id, found.length, found.tip, found.epoch)
        await stage.store.signal(child.id, SignalKind.DELETE, None, "key")
        await stage.service.purge()
        stage.advance(EFFECT_RETRY / MICROSECONDS)
        await Upkeep(stage.service).run()
        operation = (await stage.begun(function="parent")).execution.operations["i"]
        assert (operation.status, operation.error.type) == (OperationStatus.FAILED, "ResourceNotFoundException")

    run(scene())


def test_a_child_whose_name_is_taken_fails_its_parent():
    """Whoever took it is another execution: its outcome is not the parent's, which does not wait for ever either."""

    async def scene():
        stage = await Stage().open()
        header, owner = await abandoned_parent(stage)
        await owner.finish(PENDING)
        await stage.start("f", name=stage.store.child_id(header.id, "i"))
        await (await stage.begun()).finish(done('"not yours"'))
        stage.advance(EFFECT_GRACE / MICROSECONDS)
        await Upkeep(stage.service).run()
        operation = (await stage.begun(function="parent")).execution.operations["i"]
        assert operation.status is OperationStatus.FAILED
        assert "has the name" in operation.error.message

    run(scene())


def test_an_execution_removed_while_its_effects_are_looked_for_disturbs_nobody():
    """Its journal is gone when it is to be read; the round goes on."""

    async def scene():
        stage = await Stage().open()
        header, _ = await abandoned_parent(stage)
        other, _ = await abandoned_parent(stage)
        stage.advance(EFFECT_GRACE / MICROSECONDS)
        find = stage.store.unsettled

        async def unsettled(limit, shard=0):
            found = await find(limit, shard)
            stage.store._shelf.remove(header.id)
            return found

        stage.store.unsettled = unsettled
        await Upkeep(stage.service).run()
        assert (await stage.store.describe(other.id)).is_settled

    run(scene())


def test_a_chain_of_invokes_ends_from_its_end():
    """Each parent is told by its child, level by level, also where the result was recorded as an update."""

    async def scene():
        stage = await Stage().open()
        root = await stage.start("parent")
        depth = 20
        for _ in range(depth):
            owner = await stage.begun(function="parent")
            await owner.checkpoint(owner.token, [invoke("parent")])
            await owner.finish(PENDING)
            await settled(stage)
        owner = await stage.begun(function="parent")
        await owner.checkpoint(owner.token, [outcome_update('"bottom"')])
        await owner.finish(done(""))
        for _ in range(depth):
            await settled(stage)
            owner = await stage.begun(function="parent")
            await owner.finish(done(owner.execution.operations["i"].result))
        assert owner.id == root.id
        assert (await stage.service.load(root.id)).result == '"bottom"'

    run(scene())
