"""What several processes do at the same time."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

from perdure.service.patience import patiently
from perdure.storage import Answer, Committed, Created, Exists, SignalKind, Status, Suspend
from perdure.testing.conformance.stage import LEASE, SECOND, SECRET
from perdure.testing.conformance.subject import Conformance

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from perdure.storage import Commit, CommitAnswer, Store
    from perdure.testing.conformance.stage import Stage

MANY = 24


class _Patient:
    """A store whose verbs are asked again while others keep it busy, as all its callers do."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._store, name)
        if not inspect.iscoroutinefunction(verb):
            return verb

        def ask(*arguments: Any, **options: Any) -> Awaitable[Any]:
            return patiently(lambda: verb(*arguments, **options))

        return ask


def patient(store: Store) -> Store:
    """The same store; what it raises as retryable is asked again."""
    return cast("Store", _Patient(store))


async def settled(store: Store, batch: Sequence[Commit]) -> list[CommitAnswer]:
    """The answers to a batch, what was busy being retried alone."""
    answers = await store.commit(batch)
    for index, commit in enumerate(batch):
        while answers[index] is Answer.BUSY:
            (answers[index],) = await store.commit([commit])
    return answers


class TestRaces(Conformance):
    """All verbs, from several openings at once."""

    async def test_claims(self, stage: Stage) -> None:
        """What is due goes to one owner each, whoever asks for it at the same time."""
        ids = {(await stage.create()).id for _ in range(MANY)}
        owners = [await stage.owner(store=patient(await stage.another())) for _ in range(4)]
        claims = [owner.claim(3) for _ in range(MANY // 3) for owner in owners]
        claimed = [holding.id for holdings in await asyncio.gather(*claims) for holding in holdings]
        assert Counter(claimed) == Counter(ids)

    async def test_claims_with_one_number(self, stage: Stage) -> None:
        """A claim that is sent several times at once takes once, and all are answered the same."""
        for _ in range(MANY):
            await stage.create()
        owner = await stage.owner(store=patient(stage.store))
        answers = await asyncio.gather(*(owner.claim(2, number=1, token="t0ken") for _ in range(4)))
        (first, *others) = [sorted(holding.id for holding in holdings) for holdings in answers]
        assert len(first) == 2
        assert others == [first] * 3
        assert len(await owner.renew()) == 2

    async def test_batches(self, stage: Stage) -> None:
        """Overlapping batches, in any order and from several openings, write each commit once."""
        chance = random.Random(7)
        stores = [patient(store) for store in (stage.store, await stage.another(), await stage.another())]
        holdings = [await stage.held() for _ in range(MANY)]
        for _ in range(3):
            commits = [holding.next() for holding in holdings]
            batches = [chance.sample(commits, MANY // 2) for _ in range(6)] + [commits]
            sent = [settled(chance.choice(stores), batch) for batch in batches]
            answered: dict[str, set[tuple[int, int]]] = {}
            for batch, answers in zip(batches, await asyncio.gather(*sent), strict=True):
                for commit, answer in zip(batch, answers, strict=True):
                    assert isinstance(answer, Committed), answer
                    answered.setdefault(commit.id, set()).add((answer.length, answer.at))
            assert all(len(answers) == 1 for answers in answered.values())
            for holding in holdings:
                await holding.read()
                holding.seq += 1
        for holding in holdings:
            assert await stage.bodies(holding.id) == [b"started"] + [b"entry"] * 3

    async def test_delivery_and_suspend(self, stage: Stage) -> None:
        """Whether a delivery comes just before or just after the suspend: the execution is due."""
        store, other = patient(stage.store), patient(await stage.another())
        waiting = [await stage.waiting() for _ in range(MANY)]
        suspends = [settled(store, [holding.next(then=Suspend())]) for holding, _ in waiting]
        deliveries = [
            other.deliver(await_id, SECRET, stage.draft(b"delivered"), stage.word("nonce")) for _, await_id in waiting
        ]
        mixed = [coroutine for pair in zip(suspends, deliveries, strict=True) for coroutine in pair]
        answers = await asyncio.gather(*mixed)
        assert all(answer is Answer.DELIVERED for answer in answers[1::2])
        assert await stage.due() == {holding.id for holding, _ in waiting}
        for holding, _ in waiting:
            assert sorted(await stage.bodies(holding.id)) == [b"delivered", b"entry", b"started", b"waits"]

    async def test_deliveries(self, stage: Stage) -> None:
        """Of several deliveries of one await the first wins; the others are told so."""
        store, other = patient(stage.store), patient(await stage.another())
        holding, await_id = await stage.waiting()
        answers = await asyncio.gather(
            *(
                each.deliver(await_id, SECRET, stage.draft(), stage.word("nonce"))
                for _ in range(4)
                for each in (store, other)
            )
        )
        assert Counter(answers) == {Answer.DELIVERED: 1, Answer.CLOSED: 7}
        assert len(await holding.read()) == 1

    async def test_delivery_and_expiry(self, stage: Stage) -> None:
        """Several processes turn the same deadlines into rows: once each."""
        stores = [patient(store) for store in (stage.store, await stage.another(), await stage.another())]
        waiting = [await stage.waiting(timeout=SECOND) for _ in range(MANY)]
        late = [await stage.create(timeout=SECOND) for _ in range(MANY)]
        await stage.advance(SECOND)
        counts = await asyncio.gather(*(stage.expire(2 * MANY, store=store) for store in stores))
        rest = await stage.expire(2 * MANY)
        assert sum(counts) + rest == 2 * MANY
        for holding, _ in waiting:
            assert [row.body for row in await holding.read()] == [b"callback"]
        for header in late:
            assert await stage.bodies(header.id) == [b"started", b"execution"]

    async def test_creations(self, stage: Stage) -> None:
        """Of several creations with one name one succeeds; a repeated one creates once."""
        stores = [patient(store) for store in (stage.store, await stage.another())]
        news = [stage.new(name="n") for _ in range(4)]
        answers = await asyncio.gather(*(store.create(new, None) for new in news for store in stores))
        created = {answer.header.id for answer in answers if isinstance(answer, Created)}
        existing = {answer.header.id for answer in answers if isinstance(answer, Exists)}
        assert len(created) == 1
        assert existing == created
        (id,) = created
        assert len(await stage.rows(id)) == 1

    async def test_stop_and_end(self, stage: Stage) -> None:
        """An execution ends once, be it stopped at the moment it suspends, or by two at once."""
        store, other = patient(stage.store), patient(await stage.another())
        holdings = [await stage.held(parent="p/op") for _ in range(MANY)]
        suspends = [settled(store, [holding.next(then=Suspend())]) for holding in holdings]
        stops = [
            each.signal(holding.id, SignalKind.STOP, stage.draft(b"stop"), stage.word("key"))
            for holding in holdings
            for each in (store, other)
        ]
        await asyncio.gather(*suspends, *stops)
        for holding in holdings:
            header = await stage.header(holding.id)
            bodies = await stage.bodies(holding.id)
            assert (header.status, header.effect_last) == (Status.STOPPED, header.length)
            assert bodies[-1] == b"stop"
            assert bodies.count(b"stop") == 1

    async def test_reaping_and_committing(self, stage: Stage) -> None:
        """A commit at the moment of reaping is accepted or fenced, and what was answered is so."""
        store, other = patient(stage.store), patient(await stage.another())
        holdings = [await stage.held() for _ in range(MANY)]
        await stage.advance(LEASE)
        commits = [settled(store, [holding.next()]) for holding in holdings]
        answers, freed = await asyncio.gather(asyncio.gather(*commits), stage.reap(2 * MANY, other))
        freed += await stage.reap(2 * MANY, other)
        assert freed == MANY
        for holding, (answer,) in zip(holdings, answers, strict=True):
            expected = [b"started", b"entry"] if isinstance(answer, Committed) else [b"started"]
            assert await stage.bodies(holding.id) == expected
        assert await stage.due() == {holding.id for holding in holdings}
