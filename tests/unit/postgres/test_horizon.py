"""Claims look no further back than they have to, and miss nothing for it."""

import asyncio

import attrs

from perdure.backends.postgres.horizon import Horizon
from perdure.backends.postgres.leasing import ClaimRequest
from perdure.backends.postgres.record import MARGIN
from perdure.storage import Claimed, FunctionVersion, SignalKind, Suspend
from perdure.testing.conformance.stage import ORDER, SECOND
from tests.unit.postgres.conftest import until

NOW = 10**15
REQUEST = ClaimRequest(owner="o", number=1, token="t", functions=(ORDER,), limit=1, format=1)


def test_first_look():
    """Who knows nothing looks at everything."""
    assert Horizon().look(REQUEST) == REQUEST


def test_bound():
    """Nothing is due from before what the last claim has seen, but for transactions that are under way."""
    for next_wake, earliest in ((None, NOW), (NOW + 5, NOW), (NOW - 7, NOW - 7)):
        horizon = Horizon()
        horizon.learn(REQUEST, Claimed((), NOW, next_wake))
        looked = horizon.look(REQUEST)
        assert (looked.since, looked.since_now) == (earliest - MARGIN, NOW)


def test_other_claims():
    """What was found out holds for the same functions and format."""
    horizon = Horizon()
    horizon.learn(REQUEST, Claimed((), NOW, None))
    for change in ({"format": 2}, {"functions": (ORDER, FunctionVersion("other", "1"))}):
        assert horizon.look(attrs.evolve(REQUEST, **change)).since == 0


def test_forgetting():
    """What comes to lie before the bound makes everything be looked at."""
    horizon = Horizon()
    horizon.learn(REQUEST, Claimed((), NOW, None))
    horizon.forget()
    assert horizon.look(REQUEST).since == 0


def test_everything_is_looked_at_now_and_then(monkeypatch):
    """However much is claimed, a full look is never long ago."""
    monkeypatch.setattr("perdure.backends.postgres.horizon.FULL_LOOK", -1.0)
    horizon = Horizon()
    horizon.learn(REQUEST, Claimed((), NOW, None))
    assert horizon.look(REQUEST).since == 0


def test_late_ones_are_found(play):
    """What fell due long ago and becomes free only now is claimed at once, in this process and in others."""

    async def scene(stage):
        other = await stage.another()
        owners = [await stage.owner(), await stage.owner(store=other)]
        holding = await stage.held()
        for owner in owners:
            assert await owner.claim() == []
            assert owner.store._horizon.look(attrs.evolve(REQUEST)).since > 0
        # Its owner asks for a wake of an hour ago.
        await holding.write(then=Suspend(wake_at=holding.header.created - 3600 * SECOND))
        await until(lambda: other._horizon.look(REQUEST).since == 0)
        (again,) = await owners[1].claim()
        assert again.id == holding.id
        await again.write(then=Suspend(wake_after=0))
        await stage.signal(holding.id, SignalKind.PAUSE)
        for owner in owners:
            assert await owner.claim() == []
        await asyncio.sleep(0.01)
        await stage.signal(holding.id, SignalKind.RESUME)
        assert [claimed.id for claimed in await owners[0].claim()] == [holding.id]

    play(scene)
