"""Several processes that write to the same executions at the same time, in opposite orders, everything repeated."""

from __future__ import annotations

import asyncio
import random

from perdure.service.patience import patiently
from perdure.storage import Answer, Claim, Committed, OpenAwait, SignalKind
from perdure.testing.conformance.stage import SECRET, TIMEOUTS, Stage
from tests.failures.ground import session
from tests.failures.load import show, size
from tests.failures.test_interleavings import staged

COMMITTERS = 4
ROUNDS = 5


async def settled(store, batch):
    """The answers to a batch; what is busy is sent again, alone."""
    answers = await patiently(lambda: store.commit(batch))
    for index, commit in enumerate(batch):
        while answers[index] is Answer.BUSY:
            (answers[index],) = await patiently(lambda commit=commit: store.commit([commit]))
    return answers


async def opposed(stage: Stage, count: int):
    """Rounds of commits and deliveries, each sent by several processes in orders of their own."""
    chance = random.Random(9)
    stores = [stage.store, *[await stage.another() for _ in range(COMMITTERS - 1)]]
    owner = await stage.owner()
    holdings = [owner.hold(await stage.create(Claim(owner.id, stage.token()))) for _ in range(count)]
    sent = 0
    for turn in range(ROUNDS):
        opened = OpenAwait(operation=f"op-{turn}", secret=SECRET)
        commits = [holding.next(opens=(opened,)) for holding in holdings]
        orders = [commits, commits[::-1], *[chance.sample(commits, count) for _ in range(COMMITTERS)]]
        halves = [part for order in orders for part in (order[: count // 2], order[count // 2 :])]
        batches = [*halves, *orders[:2]]
        others = [patiently(lambda: stores[1].expire(100, TIMEOUTS)), patiently(lambda: stores[2].renew(owner.id))]
        work = [settled(chance.choice(stores), batch) for batch in batches]
        answers, *_ = await asyncio.gather(asyncio.gather(*work), *others)
        sent += sum(map(len, batches))
        told = {}
        for batch, answered in zip(batches, answers, strict=True):
            for commit, answer in zip(batch, answered, strict=True):
                assert isinstance(answer, Committed), answer
                told.setdefault(commit.id, set()).add((answer.length, answer.at))
        assert all(len(each) == 1 for each in told.values())
        for holding in holdings:
            await holding.read()
            holding.seq += 1
        await delivered(stage, stores, holdings, turn, chance)
    for holding in holdings:
        assert await stage.bodies(holding.id) == [b"started", *[b"entry", b"delivered"] * ROUNDS]
        assert (await stage.header(holding.id)).seq == ROUNDS
    return sent


async def delivered(stage, stores, holdings, turn, chance):
    """Complete what they wait for, each several times with one nonce, from several processes."""
    calls = []
    for holding in holdings:
        draft, nonce, await_id = stage.draft(b"delivered"), stage.word("nonce"), f"{holding.id}/op-{turn}"
        for _ in range(2):
            store = chance.choice(stores)
            calls.append((store, await_id, draft, nonce))
    chance.shuffle(calls)
    answers = await asyncio.gather(
        *[patiently(lambda c=call: c[0].deliver(c[1], SECRET, c[2], c[3])) for call in calls],
        *[
            patiently(lambda h=holding: stores[0].signal(h.id, SignalKind.DELETE, stage.draft(), stage.word("key")))
            for holding in holdings
        ],
    )
    assert set(answers[: len(calls)]) == {Answer.DELIVERED}
    for holding in holdings:
        await holding.read()


def test_opposite_orders(ground):
    """Overlapping batches, in opposite orders and repeated: each commit and each delivery is there once."""
    count = size(400, 0.5)
    sent = staged(ground.url, lambda stage: opposed(stage, count))
    show(f"{ground.kind}: {count} executions, {sent} commits sent, {count * ROUNDS} made")


def test_no_deadlock(postgres_server, postgres_url):
    """The same leaves no deadlock in the server's counters, nor a word of one in its log."""
    with session(postgres_url) as (connection, _):
        staged(postgres_url, lambda stage: opposed(stage, size(200, 0.5)))
        connection.execute("select pg_stat_force_next_flush()")
        (deadlocks,) = connection.execute("select sum(deadlocks)::int from pg_stat_database").fetchone()
        assert deadlocks == 0
    log = postgres_server.server.log
    if log is not None:
        assert "deadlock" not in log.read_text(errors="replace")
