"""How owners live and die, and what functions they bring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.storage import Answer, Claim, Committed, Function, Held, Lease, SignalKind, Suspend
from perdure.testing.conformance.stage import LEASE, SECOND
from perdure.testing.conformance.subject import Conformance

if TYPE_CHECKING:
    from perdure.testing.conformance.stage import Stage


class TestLeases(Conformance):
    """`register`, `renew` and `reap` (rule 7)."""

    async def test_renew(self, stage: Stage) -> None:
        """A renewal tells everything that is held, with the length that tells of growth."""
        owner = await stage.owner()
        assert await owner.renew() == []
        first, second = [owner.hold(await stage.create(Claim(owner.id, token))) for token in ("one", "two")]
        await second.write()
        await stage.signal(second.id, SignalKind.PAUSE)
        await (await stage.owner()).claim()
        held = {item.id: item for item in await owner.renew()}
        assert held == {first.id: Held(first.id, "one", 0, 1), second.id: Held(second.id, "two", 1, 3)}

    async def test_what_is_held_no_more(self, stage: Stage) -> None:
        """What was let go, or stopped, is missing from a renewal."""
        owner = await stage.owner()
        suspended, stopped = [owner.hold(await stage.create(Claim(owner.id, stage.token()))) for _ in range(2)]
        await suspended.write(then=Suspend(wake_after=0))
        await stage.signal(stopped.id, SignalKind.STOP)
        assert await owner.renew() == []

    async def test_renew_extends(self, stage: Stage) -> None:
        """A renewal extends the lease by the span it was made with."""
        owner = await stage.owner(lease=4 * SECOND)
        for _ in range(3):
            await stage.advance(3 * SECOND)
            await owner.renew()
        await stage.create(Claim(owner.id, stage.token()))
        await stage.advance(4 * SECOND - 1)
        assert await stage.reap() == 0
        await stage.advance(1)
        assert await stage.reap() == 1

    async def test_renew_without_a_lease(self, stage: Stage) -> None:
        """Who was never registered has no lease to renew."""
        assert await stage.store.renew("nobody") is Answer.LEASE_LOST

    async def test_register_again(self, stage: Stage) -> None:
        """Registering again extends the lease, gives it the new span, and keeps claim numbers."""
        owner = await stage.owner(lease=SECOND)
        await owner.claim(number=5)
        assert await owner.register(9 * SECOND) is Answer.OK
        await stage.advance(8 * SECOND)
        assert await stage.reap() == 0
        await stage.create()
        assert await owner.claim(number=5) == []
        assert len(await owner.claim(number=6)) == 1

    async def test_reap(self, stage: Stage) -> None:
        """What a dead owner held is free and due at once; its token and numbers stay."""
        holding = await stage.held()
        await holding.write()
        await stage.advance(LEASE - 1)
        assert await stage.reap() == 0
        await stage.advance(1)
        assert await stage.reap() == 1
        header = await stage.header(holding.id)
        assert (header.owner, header.token, header.seq) == (None, holding.header.token, 1)
        assert header.wake == await stage.now()
        assert header.invocation == holding.header.invocation
        assert header.length == 2
        assert await stage.reap() == 0
        assert await stage.due() == {holding.id}

    async def test_reap_of_a_paused_one(self, stage: Stage) -> None:
        """What was paused stays paused when its owner dies."""
        holding = await stage.held()
        await stage.signal(holding.id, SignalKind.PAUSE)
        await stage.advance(LEASE)
        assert await stage.reap() == 1
        assert await stage.due() == set()

    async def test_reaped_never_returns(self, stage: Stage) -> None:
        """An owner id that was reaped can do nothing with its lease any more."""
        owner = await stage.owner()
        await stage.advance(LEASE)
        await stage.reap()
        assert await owner.register() is Answer.LEASE_LOST
        assert await stage.store.renew(owner.id) is Answer.LEASE_LOST
        assert await owner.ask() is Answer.LEASE_LOST
        header = await stage.create(Claim(owner.id, stage.token()))
        assert header.owner is None

    async def test_reaped_without_holding_anything(self, stage: Stage) -> None:
        """A lease that held nothing is reaped as well, whatever the limit."""
        owners = [await stage.owner() for _ in range(3)]
        await stage.advance(LEASE)
        assert await stage.reap(1) == 0
        for owner in owners:
            assert await stage.store.renew(owner.id) is Answer.LEASE_LOST

    async def test_overdue_is_not_lost(self, stage: Stage) -> None:
        """A lease that has run out and was not reaped is renewed."""
        owner = await stage.owner()
        header = await stage.create(Claim(owner.id, stage.token()))
        await stage.advance(5 * LEASE)
        assert [held.id for held in await owner.renew()] == [header.id]
        assert await stage.reap() == 0

    async def test_limit(self, stage: Stage) -> None:
        """At most `limit` executions are freed at once; the rest follows."""
        owner = await stage.owner()
        holdings = [owner.hold(await stage.create(Claim(owner.id, stage.token()))) for _ in range(3)]
        await stage.advance(LEASE)
        assert await stage.reap(2) == 2
        assert await stage.store.renew(owner.id) is Answer.LEASE_LOST
        assert await stage.reap(2) == 1
        assert await stage.due() == {holding.id for holding in holdings}

    async def test_others_live(self, stage: Stage) -> None:
        """Nothing is taken from those whose lease is live."""
        dying = await stage.held()
        await stage.advance(5 * SECOND)
        living = await stage.held()
        await stage.advance(5 * SECOND)
        assert await stage.reap() == 1
        assert (await stage.header(dying.id)).owner is None
        assert (await stage.header(living.id)).owner == living.header.owner
        assert isinstance(await living.commit(), Committed)


class TestWhoIsThere(Conformance):
    """`leases`."""

    async def test_nobody(self, stage: Stage) -> None:
        """Where nobody was registered there is nobody."""
        assert (await stage.store.leases()).leases == ()

    async def test_living(self, stage: Stage) -> None:
        """Owners are told with when they came, were last heard of, and what they hold; the eldest comes first."""
        eldest = await stage.owner("z")
        came = (await stage.store.leases()).now
        await stage.advance(SECOND)
        youngest = await stage.owner("a", lease=4 * SECOND)
        held = [await stage.create(Claim(eldest.id, stage.token())) for _ in range(3)]
        answer = await stage.store.leases()
        assert answer.now == came + SECOND
        assert answer.leases == (
            Lease(
                owner=eldest.id,
                since=came,
                renewed=came + SECOND,
                until=came + SECOND + LEASE,
                held=tuple(sorted(header.id for header in held)),
            ),
            Lease(owner=youngest.id, since=came + SECOND, renewed=came + SECOND, until=came + 5 * SECOND, held=()),
        )

    async def test_renewed(self, stage: Stage) -> None:
        """A renewal and a claim show; that somebody looks extends nothing."""
        owner = await stage.owner()
        came = (await stage.store.leases()).now
        for ask in (owner.renew, owner.claim):
            await stage.advance(SECOND)
            await ask()
            await stage.advance(SECOND)
            for _ in range(2):
                answer = await stage.store.leases()
                (lease,) = answer.leases
                assert (lease.since, lease.renewed, lease.until) == (
                    came,
                    answer.now - SECOND,
                    answer.now + LEASE - SECOND,
                )
        await stage.advance(LEASE - SECOND)
        await stage.store.leases()
        await stage.reap()
        assert await stage.store.renew(owner.id) is Answer.LEASE_LOST

    async def test_registered_again(self, stage: Stage) -> None:
        """Who registers again has been there since it came first."""
        owner = await stage.owner()
        came = (await stage.store.leases()).now
        await stage.advance(SECOND)
        await owner.register(3 * SECOND)
        (lease,) = (await stage.store.leases()).leases
        assert (lease.since, lease.renewed, lease.until) == (came, came + SECOND, came + 4 * SECOND)

    async def test_overdue(self, stage: Stage) -> None:
        """A lease that has run out is told of until it is reaped, and then no more."""
        await stage.owner("x")
        await stage.advance(2 * LEASE)
        assert [lease.owner for lease in (await stage.store.leases()).leases] == ["x"]
        await stage.reap()
        assert (await stage.store.leases()).leases == ()

    async def test_held(self, stage: Stage) -> None:
        """What was let go, stopped, or is another's is not held."""
        owner = await stage.owner()
        suspended, stopped, kept = [owner.hold(await stage.create(Claim(owner.id, stage.token()))) for _ in range(3)]
        await suspended.write(then=Suspend())
        await stage.signal(stopped.id, SignalKind.STOP)
        other = await stage.held()
        held = {lease.owner: lease.held for lease in (await stage.store.leases()).leases}
        assert held == {owner.id: (kept.id,), other.header.owner: (other.id,)}

    async def test_another_process(self, stage: Stage) -> None:
        """Everybody sees the same owners and what they hold; of renewals others may learn late."""
        owner = await stage.owner()
        header = await stage.create(Claim(owner.id, stage.token()))
        other = await stage.another()
        (lease,) = (await other.leases()).leases
        assert (lease.owner, lease.since, lease.held) == (owner.id, header.created, (header.id,))
        assert lease.renewed <= header.created < lease.until


class TestFunctions(Conformance):
    """`register` and `functions`."""

    async def test_registered(self, stage: Stage) -> None:
        """Functions are kept as registered, with the time of it."""
        owner = await stage.owner()
        function = Function(name="f", version="1", timeout=5 * SECOND, retention=7 * SECOND)
        now = await stage.now()
        assert await owner.register(functions=[function]) is Answer.OK
        other = await stage.another()
        (found,) = await other.functions("f")
        assert (found.name, found.version, found.timeout, found.retention) == ("f", "1", 5 * SECOND, 7 * SECOND)
        assert found.registered == now
        assert await stage.store.functions("g") == []

    async def test_latest_last(self, stage: Stage) -> None:
        """The version that was registered last is last; registering again replaces."""
        owner = await stage.owner()
        for version, timeout in (("2", None), ("1", None), ("2", 3 * SECOND)):
            await owner.register(functions=[Function(name="f", version=version, timeout=timeout, retention=1)])
            await stage.advance(1)
        assert [(found.version, found.timeout) for found in await stage.store.functions("f")] == [
            ("1", None),
            ("2", 3 * SECOND),
        ]

    async def test_many_at_once(self, stage: Stage) -> None:
        """Several functions are registered in one call."""
        owner = await stage.owner()
        functions = [Function(name=name, version="1", timeout=None, retention=1) for name in "abc"]
        await owner.register(functions=functions)
        for name in "abc":
            assert [found.name for found in await stage.store.functions(name)] == [name]

    async def test_outlives_its_owner(self, stage: Stage) -> None:
        """A function stays registered when the owner that brought it has died; a dead owner registers none."""
        owner = await stage.owner()
        await owner.register(functions=[Function(name="f", version="1", timeout=None, retention=1)])
        await stage.advance(LEASE)
        await stage.reap()
        assert len(await stage.store.functions("f")) == 1
        await owner.register(functions=[Function(name="g", version="1", timeout=None, retention=1)])
        assert await stage.store.functions("g") == []
