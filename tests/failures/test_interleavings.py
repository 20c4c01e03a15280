"""A callback that is delivered before, during and after the suspend of who waits for it, in every order there is."""

from __future__ import annotations

import asyncio
from itertools import permutations

import attrs
import pytest
from psycopg.sql import SQL, Identifier

from perdure.service.patience import patiently
from perdure.storage import (
    Answer,
    Claim,
    Committed,
    FunctionVersion,
    OpenAwait,
    SignalKind,
    Signalled,
    Status,
    Suspend,
    open_backend,
)
from perdure.testing.conformance.stage import SECRET, TIMEOUTS, Stage
from tests.failures.ground import session

AWAIT = "op-1"


def merges(*programs):
    """All orders in which several programs' steps can happen, each program's own order being kept."""
    if not any(programs):
        yield ()
    for place, program in enumerate(programs):
        if program:
            rest = (*programs[:place], program[1:], *programs[place + 1 :])
            yield from ((program[0], *others) for others in merges(*rest))


def staged(url, scene):
    """Play a scene over a store of this URL."""

    async def play():
        async with Stage(lambda: open_backend(url).store, lambda _: None) as stage:
            return await scene(stage)

    return asyncio.run(play())


@attrs.define(eq=False, slots=False)
class Play:
    """
    One execution that waits, its owner, who completes it, and who else comes by: each with a store of his own.

    Attributes:
        answers: Of every verb, by its name.
    """

    stage: Stage
    stores: tuple
    function: str
    timeout: int | None = None
    holding: object = None
    answers: dict = attrs.field(factory=dict)
    claims: int = 0

    async def begin(self):
        """The owner has opened the await, and has seen everything."""
        owner = await self.stage.owner(store=self.stores[0])
        claim = Claim(owner.id, self.stage.token())
        header = await self.stage.create(claim, function=self.function)
        self.holding = owner.hold(header)
        opened = OpenAwait(operation=AWAIT, secret=SECRET, timeout=self.timeout)
        await self.holding.write(b"waits", opens=(opened,))
        self._suspend = self.holding.next(b"suspended", Suspend())
        self._draft, self._nonce = self.stage.draft(b"delivered"), self.stage.word("nonce")
        self._stop, self._key = self.stage.draft(b"stopped"), self.stage.word("key")
        return self

    async def play(self, verb):
        """Carry out a verb; asked again while it is locked."""
        self.answers[verb] = await patiently(getattr(self, verb.rstrip("2")))

    async def suspend(self):
        while (answer := (await self.stores[0].commit([self._suspend]))[0]) is Answer.BUSY:
            pass
        return answer

    async def deliver(self):
        return await self.stores[1].deliver(f"{self.holding.id}/{AWAIT}", SECRET, self._draft, self._nonce)

    async def stop(self):
        return await self.stores[1].signal(self.holding.id, SignalKind.STOP, self._stop, self._key)

    async def expire(self):
        return (await self.stores[2].expire(10, TIMEOUTS)).count

    async def claim(self):
        owner = await self.stage.owner(store=self.stores[2])
        claimed = await owner.claim(10, functions=(FunctionVersion(self.function, "1"),))
        assert {each.id for each in claimed} <= {self.holding.id}
        self.claims += len(claimed)
        return len(claimed)

    async def bodies(self):
        return await self.stage.bodies(self.holding.id)


async def played(stage, orders, timeout):
    stores = [stage.store, await stage.another(), await stage.another()]
    for number, order in enumerate(orders):
        play = await Play(stage, stores, f"function-{timeout}-{number}", timeout).begin()
        for verb in order:
            await play.play(verb)
        is_taken = play.answers["claim"] == 1
        await play.play("claim2")
        yield order, play, is_taken


def written(answer):
    """What a commit came to, whenever that was asked."""
    return answer.length, answer.at


ORDERS = list(merges(("suspend", "suspend2"), ("deliver", "deliver2"), ("claim",), ("expire",)))


def test_all_orders_of_a_delivery(ground):
    """Whichever comes first, and repeated whenever: the delivery is there once, and wakes the execution once."""

    async def scene(stage):
        async for order, play, is_taken in played(stage, ORDERS, None):
            place = order.index
            assert [play.answers[verb] for verb in ("deliver", "deliver2")] == [Answer.DELIVERED] * 2, order
            assert play.answers["expire"] == 0, order
            assert is_taken == (place("claim") > max(place("suspend"), place("deliver"))), order
            assert play.claims == 1, order
            assert isinstance(play.answers["suspend"], Committed), order
            # After another one's claim the owner's token is worth nothing.
            is_late = is_taken and place("suspend2") > place("claim")
            if is_late:
                assert play.answers["suspend2"] is Answer.FENCED, order
            else:
                assert written(play.answers["suspend2"]) == written(play.answers["suspend"]), order
            assert sorted(await play.bodies()) == [b"delivered", b"started", b"suspended", b"waits"], order

    staged(ground.url, scene)


def test_all_orders_of_a_timeout(ground):
    """The same where time is over: whoever delivers is told so, and the timeout wakes the execution once."""

    async def scene(stage):
        async for order, play, is_taken in played(stage, ORDERS, 1):
            place = order.index
            # It is over; once that is recorded, it is closed as well.
            told = {Answer.EXPIRED, Answer.CLOSED} if place("deliver2") > place("expire") else {Answer.EXPIRED}
            assert {play.answers[verb] for verb in ("deliver", "deliver2")} <= told, order
            assert play.answers["expire"] == 1, order
            assert is_taken == (place("claim") > max(place("suspend"), place("expire"))), order
            assert play.claims == 1, order
            assert sorted(await play.bodies()) == [b"callback", b"started", b"suspended", b"waits"], order

    staged(ground.url, scene)


VERBS = ["suspend", "deliver", "stop", "claim", "expire"]


@pytest.mark.parametrize("held", [0.05, 0.6], ids=["briefly", "for long"])
def test_verbs_that_meet_at_a_lock(postgres_url, held):
    """While somebody keeps the row locked, two verbs wait for it, in either order: both happen, one after the other."""

    async def scene(stage):
        stores = [stage.store, await stage.another(), await stage.another()]
        with session(postgres_url) as (connection, schema):
            plays = []
            for number, pair in enumerate(permutations(VERBS, 2)):
                play = await Play(stage, stores, f"function-{number}").begin()
                plays.append((pair, play))
            lock = SQL("select id from {} where id = any(%s) for update").format(Identifier(schema, "execution"))
            with connection.transaction():
                connection.execute(lock, [[play.holding.id for _, play in plays]])
                first = [asyncio.create_task(play.play(pair[0])) for pair, play in plays]
                await asyncio.sleep(held / 2)
                second = [asyncio.create_task(play.play(pair[1])) for pair, play in plays]
                await asyncio.sleep(held / 2)
                connection.execute("select 1")
            await asyncio.gather(*first, *second)
            for pair, play in plays:
                await check(pair, play)

    staged(postgres_url, scene)


async def check(pair, play):
    """What was answered is what happened, and nobody sleeps who was told something."""
    bodies, header = await play.bodies(), await play.stage.header(play.holding.id)
    answers = play.answers
    accepted = {
        b"suspended": isinstance(answers.get("suspend"), Committed),
        b"delivered": answers.get("deliver") is Answer.DELIVERED,
        b"stopped": isinstance(answers.get("stop"), Signalled),
    }
    assert bodies[:2] == [b"started", b"waits"], pair
    assert sorted(bodies[2:]) == sorted(body for body, is_so in accepted.items() if is_so), (pair, answers)
    if "stop" in pair:
        assert bodies[-1] == b"stopped", pair
        assert header.status is Status.STOPPED, pair
        return
    if {"suspend", "deliver"} <= set(pair):
        assert header.wake is not None, pair
        await play.play("claim")
        assert play.claims == 1, pair


def test_the_lock_of_the_test_is_one(postgres_url):
    """What `test_verbs_that_meet_at_a_lock` holds does keep verbs waiting: none ends before it is let go."""

    async def scene(stage):
        stores = [stage.store, await stage.another(), await stage.another()]
        with session(postgres_url) as (connection, schema):
            play = await Play(stage, stores, "function").begin()
            lock = SQL("select id from {} where id = %s for update").format(Identifier(schema, "execution"))
            with connection.transaction():
                connection.execute(lock, [play.holding.id])
                tasks = [asyncio.create_task(play.play(verb)) for verb in ("suspend", "deliver")]
                done, _ = await asyncio.wait(tasks, timeout=0.1)
                assert not done
            await asyncio.gather(*tasks)

    staged(postgres_url, scene)
