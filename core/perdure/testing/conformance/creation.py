"""How executions come to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.storage import EMPTY, Answer, Claim, Created, Exists, OpenInvocation, Outdated, SignalKind, Status, Tip
from perdure.testing.conformance.stage import LEASE, RETENTION, SECOND
from perdure.testing.conformance.subject import Conformance

if TYPE_CHECKING:
    from perdure.testing.conformance.stage import Stage


class TestCreation(Conformance):
    """`create`, `new_id`, `child_id`, `describe`, `find`."""

    async def test_header_is_as_asked(self, stage: Stage) -> None:
        """A created execution has the identity it was given, one row, and is running and due at once."""
        draft = stage.draft(b'{"format":1}', 3)
        new = stage.new(version="7", name="n 1", digest="abc", timeout=5 * SECOND, parent="p/op", draft=draft)
        answer = await stage.store.create(new, None)
        now = await stage.now()
        assert isinstance(answer, Created)
        header = answer.header
        assert (header.id, header.function, header.version, header.name) == (new.id, new.function, "7", "n 1")
        assert (header.digest, header.parent, header.retention, header.timeout) == (
            "abc",
            "p/op",
            RETENTION,
            5 * SECOND,
        )
        assert (header.created, header.deadline, header.ended, header.wake) == (now, now + 5 * SECOND, None, now)
        assert (header.status, header.length, header.tip, header.format) == (Status.RUNNING, 1, Tip(now, draft.tag), 3)
        assert (header.owner, header.token, header.seq, header.invocation, header.crashes) == (None, None, 0, None, 0)
        assert (header.effect_last, header.settled, header.effect_due, header.epoch) == (0, 0, None, 0)
        assert answer.now == now

    async def test_first_row(self, stage: Stage) -> None:
        """The first row has index 1, the tag and body that were given, and no owner's stamps."""
        new = stage.new(draft=stage.draft(b"\x00\xff {}"))
        await stage.store.create(new, None)
        (row,) = await stage.rows(new.id)
        assert (row.index, row.tag, row.body) == (1, new.draft.tag, b"\x00\xff {}")
        assert (row.seen, row.invocation, row.operation) == (None, None, None)

    async def test_describe_and_find(self, stage: Stage) -> None:
        """An execution is found by its id and by its function and name, by every process."""
        header = await stage.create(name="n")
        other = await stage.another()
        assert await other.describe(header.id) == header
        assert await other.find(header.function, "n") == header
        assert await other.describe(stage.store.new_id("order", "other")) is None
        assert await other.find(header.function, "other") is None
        assert await other.find("other", "n") is None

    async def test_repeat(self, stage: Stage) -> None:
        """The same id again is Created and changes nothing (a lost reply; rule 10)."""
        new = stage.new()
        first = await stage.store.create(new, None)
        await stage.advance(SECOND)
        again = await stage.store.create(new, None)
        assert isinstance(first, Created)
        assert isinstance(again, Created)
        assert again.header == first.header
        assert again.now == first.now + SECOND
        assert await stage.bodies(new.id) == [b"started"]

    async def test_repeat_of_an_ended_one(self, stage: Stage) -> None:
        """The same id is Created also when that execution has ended: whoever asks learns how (rule 13)."""
        new = stage.new()
        await stage.store.create(new, None)
        await stage.signal(new.id, SignalKind.STOP)
        await stage.advance(2 * RETENTION)
        again = await stage.store.create(new, None)
        assert isinstance(again, Created)
        assert again.header.status is Status.STOPPED

    async def test_name_is_taken(self, stage: Stage) -> None:
        """Another id of the same function and name is Exists, whatever its version and digest."""
        header = await stage.create(name="n")
        answer = await stage.store.create(stage.new(name="n", version="2", digest="other"), None)
        assert answer == Exists(header)
        assert isinstance(await stage.store.create(stage.new(name="n", function="other"), None), Created)

    async def test_name_of_an_ended_one(self, stage: Stage) -> None:
        """A name stays taken until retention is over, then Outdated tells to purge, then it is free (rule 10)."""
        header = await stage.ended(name="n")
        await stage.advance(RETENTION - 1)
        assert await stage.store.create(stage.new(name="n"), None) == Exists(header)
        await stage.advance(1)
        assert await stage.store.create(stage.new(name="n"), None) == Outdated(header)
        assert await stage.store.purge(10) == 1
        assert isinstance(await stage.store.create(stage.new(name="n"), None), Created)

    async def test_name_of_an_unsettled_one(self, stage: Stage) -> None:
        """A name stays taken while effects are unsettled, be retention over (rules 10 and 12)."""
        header = await stage.ended(name="n", parent="parent/op")
        await stage.advance(RETENTION)
        assert await stage.store.create(stage.new(name="n"), None) == Exists(header)

    async def test_name_of_a_deleted_one(self, stage: Stage) -> None:
        """The name of an execution that is marked deleted is Outdated, as purge would free it."""
        header = await stage.ended(name="n")
        await stage.signal(header.id, SignalKind.DELETE)
        answer = await stage.store.create(stage.new(name="n"), None)
        assert isinstance(answer, Outdated)
        assert answer.header.deleting

    async def test_claim(self, stage: Stage) -> None:
        """With a claim the execution is owned from the start: its invocation is open and it is not due."""
        owner = await stage.owner()
        header = await stage.create(Claim(owner.id, "t0ken"))
        assert (header.owner, header.token, header.wake) == (owner.id, "t0ken", None)
        assert header.invocation == OpenInvocation("t0ken", header.created)
        assert await stage.due() == set()
        await owner.hold(header).write()

    async def test_repeat_with_a_claim(self, stage: Stage) -> None:
        """A repeat after a lost reply tells the claim that was taken; another token takes nothing."""
        owner = await stage.owner()
        new = stage.new()
        await stage.store.create(new, Claim(owner.id, "t0ken"))
        again = await stage.store.create(new, Claim(owner.id, "t0ken"))
        other = await stage.store.create(new, Claim(owner.id, "other"))
        assert isinstance(again, Created)
        assert isinstance(other, Created)
        assert (again.header.owner, again.header.token) == (owner.id, "t0ken")
        assert other.header == again.header

    async def test_repeat_does_not_claim(self, stage: Stage) -> None:
        """A claim takes only what its own call has made."""
        owner = await stage.owner()
        new = stage.new()
        await stage.store.create(new, None)
        again = await stage.store.create(new, Claim(owner.id, "t0ken"))
        assert isinstance(again, Created)
        assert again.header.owner is None

    async def test_claim_without_a_lease(self, stage: Stage) -> None:
        """Without a live lease there is no claim: the execution is created and due (rule 7)."""
        header = await stage.create(Claim("nobody", "t0ken"))
        assert (header.owner, header.token) == (None, None)
        owner = await stage.owner()
        await stage.advance(LEASE)
        await stage.reap()
        other = await stage.create(Claim(owner.id, "t0ken"))
        assert other.owner is None
        assert await stage.due() == {header.id, other.id}

    async def test_claim_extends_the_lease(self, stage: Stage) -> None:
        """A claim at creation extends the lease in the same step (rule 7)."""
        owner = await stage.owner()
        await stage.advance(LEASE - 1)
        header = await stage.create(Claim(owner.id, "t0ken"))
        await stage.advance(LEASE - 1)
        assert await stage.reap() == 0
        assert (await stage.header(header.id)).owner == owner.id
        await stage.advance(1)
        assert await stage.reap() == 1

    async def test_purged_id(self, stage: Stage) -> None:
        """A purged id is Gone for a day at least: a late create makes no second execution (rule 10)."""
        new = stage.new()
        await stage.store.create(new, None)
        await stage.signal(new.id, SignalKind.STOP)
        await stage.advance(RETENTION)
        assert await stage.store.purge(10) == 1
        await stage.advance(86_000 * SECOND)
        await stage.store.purge(10)
        assert await stage.store.create(new, None) is Answer.GONE
        assert await stage.store.describe(new.id) is None

    async def test_ids(self, stage: Stage) -> None:
        """Minted ids are unique and plain; a child's id follows from its parent's and the operation."""
        ids = {stage.store.new_id("order", "n") for _ in range(100)}
        assert len(ids) == 100
        other = await stage.another()
        child = stage.store.child_id("parent", "op-1")
        assert child == other.child_id("parent", "op-1")
        header = await stage.create(id=child)
        assert stage.store.shard_of(header.id) in range(stage.store.shards)
        assert len({child, stage.store.child_id("parent", "op-2"), stage.store.child_id("other", "op-1")}) == 3
        for id in {*ids, child}:
            assert 1 <= len(id) <= 64
            assert all(letter.isascii() and (letter.isalnum() or letter in "_-") for letter in id)

    async def test_texts(self, stage: Stage) -> None:
        """Names, digests and bodies are kept as they are, whatever they are written in."""
        name, body = "größe '1' \"x\" %s \\ 🙂", "🙂".encode() * 1000 + b"\x00\n\r\xfe"
        header = await stage.create(name=name, digest="é", draft=stage.draft(body))
        assert (header.name, header.digest) == (name, "é")
        assert await stage.store.find(header.function, name) == header
        assert await stage.bodies(header.id) == [body]

    async def test_empty_tip(self, stage: Stage) -> None:
        """An owner that has folded nothing says so with the empty tip."""
        holding = await stage.held()
        holding.seen, holding.tip = 0, EMPTY
        await holding.write()
