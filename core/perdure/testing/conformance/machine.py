"""
The state machine: every verb, in any order, with lost replies, late duplicates and owners that die and come back.

Workers run small workflows over the store under test; the memory store answers beside it. After each step every
answer, every header and every row of both are compared, and the journals are checked against what callers know to have
happened. At the end everything must end and settle by its own strength.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from perdure.storage import Answer, Claim, Created, Outdated, SignalKind, Status
from perdure.testing.conformance.program import RETIRED, SECOND, TIMEOUTS, body
from perdure.testing.conformance.worker import Worker
from perdure.testing.conformance.world import LONG, Call, World

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from perdure.testing.conformance.subject import Subject

FATES = st.sampled_from(["ok"] * 6 + ["lost", "lost", "never", "die", "again"])
"""
What becomes of a call: it is answered; its reply is lost; it never arrives; it arrives and its caller dies; it is
answered, and a duplicate arrives later.
"""
RACES = st.sampled_from(["nothing", "nothing", "deliver", "pause", "resume"])
ANY = st.integers(0, 9)
PICKS = st.integers(0, 32)
ENTRIES = {
    SignalKind.PAUSE: body(paused=True),
    SignalKind.RESUME: body(resumed=True),
    SignalKind.STOP: body(over="STOPPED"),
    SignalKind.DELETE: b"",
}
MANY = 100
ROUNDS = 160
"""Seconds within which everything must have ended."""


class StoreMachine(RuleBasedStateMachine):
    """One run over empty data."""

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self.world = World(subject)
        self.workers: list[Worker] = []

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run to its end what a rule does."""
        return self._runner.run(coroutine)

    @initialize()
    def begin(self) -> None:
        """Open the stores, and start two workers, one of them with a clock that is ahead."""
        self.run(self._begin())

    async def _begin(self) -> None:
        await self.world.twin.open()
        await self._spawn()
        await self._spawn(3 * SECOND)
        for function in ("calls", "parent"):
            await self._create(function, function, None, LONG, "ok")

    async def _spawn(self, skew: int = 0) -> Worker:
        worker = Worker(self.world, skew)
        await worker.begin()
        self.workers.append(worker)
        return worker

    async def _lose(self, worker: Worker) -> None:
        self.workers.remove(worker)
        if len(self.workers) < 2:
            await self._spawn()

    def _worker(self, pick: int) -> Worker:
        return self.workers[pick % len(self.workers)]

    # ----------------------------------------------------------------------------------------------------- workers

    @rule(
        function=st.sampled_from(["steps", "calls", "calls", "parent", "parent"]),
        name=st.integers(0, 3),
        worker=ANY,
        owned=st.booleans(),
        timeout=st.sampled_from([40 * SECOND, LONG, LONG, None]),
        fate=FATES,
    )
    def create(self, function: str, name: int, worker: int, owned: bool, timeout: int | None, fate: str) -> None:
        """Somebody starts an execution, and may want to own it at once."""
        if len(self.world.twin.headers) <= 6:
            self.run(self._create(function, f"name{name}", self._worker(worker) if owned else None, timeout, fate))

    async def _create(self, function: str, name: str, owner: Worker | None, timeout: int | None, fate: str) -> None:
        world = self.world
        new = world.new(world.mint("execution"), function, name, timeout)
        claim = Claim(owner.id, world.mint("token")) if owner else None
        answer = await world.insist(fate, "create", new, claim)
        if isinstance(answer, Outdated):
            await world.twin.call("purge", MANY)
        if owner is None or claim is None:
            return
        if answer is None:
            await self._lose(owner)
        elif isinstance(answer, Created) and (answer.header.owner, answer.header.token) == (claim.owner, claim.token):
            await owner.adopt(answer.header)

    @rule(worker=ANY, limit=st.sampled_from([1, 2, 2, 5]), fate=FATES, forgets=st.booleans())
    def claim(self, worker: int, limit: int, fate: str, forgets: bool) -> None:
        """A worker claims; it may forget that a claim was not answered."""
        self.run(self._claim(self._worker(worker), limit, fate, forgets))

    async def _claim(self, worker: Worker, limit: int, fate: str, forgets: bool) -> None:
        await worker.claim(fate, limit)
        if fate == "die":
            await self._lose(worker)
        elif forgets:
            worker.claims.clear()

    @rule(worker=ANY, execution=ANY, pick=PICKS, meanwhile=RACES, fate=FATES)
    def work(self, worker: int, execution: int, pick: int, meanwhile: str, fate: str) -> None:
        """A worker goes on with one of its executions, to which something may happen before its commit arrives."""
        self.run(self._work(self._worker(worker), execution, pick, meanwhile, fate))

    async def _work(self, worker: Worker, execution: int, pick: int, meanwhile: str, fate: str) -> None:
        if not worker.grips:
            return
        grip = list(worker.grips.values())[execution % len(worker.grips)]
        await worker.prepare([grip], pick)
        if meanwhile == "deliver":
            for call in self.world.calls:
                if call.await_id.startswith(f"{grip.id}/"):
                    await self._deliver(call, "ok")
        elif meanwhile != "nothing":
            await self._signal(grip.id, SignalKind(meanwhile))
        await worker.send([grip], fate)
        if fate == "die":
            await self._lose(worker)

    @rule(worker=ANY, pick=PICKS, fate=FATES)
    def work_on_all(self, worker: int, pick: int, fate: str) -> None:
        """A worker goes on with all its executions, in one batch."""
        self.run(self._work_on_all(self._worker(worker), pick, fate))

    async def _work_on_all(self, worker: Worker, pick: int, fate: str) -> None:
        await worker.act(list(worker.grips.values()), pick, fate)
        if fate == "die":
            await self._lose(worker)

    @rule(worker=ANY, steps=st.lists(st.tuples(ANY, PICKS, RACES, FATES), min_size=2, max_size=12))
    def work_on_and_on(self, worker: int, steps: list[tuple[int, int, str, str]]) -> None:
        """A worker makes some progress with whatever it can get."""
        self.run(self._work_on_and_on(self._worker(worker), steps))

    async def _work_on_and_on(self, worker: Worker, steps: list[tuple[int, int, str, str]]) -> None:
        for execution, pick, meanwhile, fate in steps:
            if worker.grips:
                await self._work(worker, execution, pick, meanwhile, fate)
            else:
                await self._claim(worker, 2, fate, forgets=False)
            if fate == "die":
                return

    @rule(worker=ANY)
    def renew(self, worker: int) -> None:
        """A worker renews its lease."""
        self.run(self._worker(worker).renew())

    @rule()
    def look_who_is_there(self) -> None:
        """Somebody asks which owners live and what they hold."""
        self.run(self.world.twin.call("leases"))

    @rule()
    def retire(self) -> None:
        """A deploy takes a function away from all workers."""
        self.world.is_retired = True

    # -------------------------------------------------------------------------------------------- time and upkeep

    @rule(span=st.sampled_from([SECOND // 2, SECOND, 2 * SECOND, 3 * SECOND, 6 * SECOND, 12 * SECOND, 25 * SECOND]))
    def advance(self, span: int) -> None:
        """Time goes by."""
        self.run(self.world.twin.advance(span))

    @rule()
    def advance_far(self) -> None:
        """Much time goes by."""
        self.run(self.world.twin.advance(250 * SECOND))

    @rule(verb=st.sampled_from(["expire", "reap", "reap", "purge"]), limit=st.sampled_from([1, MANY]))
    def keep_up(self, verb: str, limit: int) -> None:
        """Any process does what is due to be done."""
        # What comes first is for the stores to choose, except with `expire`.
        arguments = (limit, TIMEOUTS) if verb == "expire" else (MANY,)
        self.run(self.world.twin.call(verb, *arguments))

    @rule(pick=ANY)
    def late_duplicate(self, pick: int) -> None:
        """A call arrives once more."""
        self.run(self.world.repeat(pick))

    # ------------------------------------------------------------------------------------------------ the outside

    @precondition(lambda self: self.world.calls)
    @rule(pick=ANY, fate=FATES, guess=st.booleans())
    def deliver(self, pick: int, fate: str, guess: bool) -> None:
        """A callback is completed, twice for safety; somebody may have guessed at its secret before."""
        self.run(self._deliver(self.world.choose_call(pick), fate, guess))

    async def _deliver(self, call: Call, fate: str, guess: bool = False) -> None:
        world = self.world
        nonce = world.mint("nonce")
        draft = world.draft(body(event=["SUCCEEDED", nonce]))
        if guess:
            assert await world.twin.call("deliver", call.await_id, "guess", draft, nonce) is Answer.UNKNOWN
        answer = await world.insist(fate, "deliver", call.await_id, call.secret, draft, nonce)
        if answer is Answer.DELIVERED:
            assert call.await_id not in world.ledger.delivered, f"{call.await_id} was delivered twice"
            world.ledger.delivered[call.await_id] = nonce
            assert await world.twin.call("deliver", call.await_id, call.secret, draft, nonce) is Answer.DELIVERED

    @precondition(lambda self: self.world.calls)
    @rule(pick=ANY, fate=FATES)
    def heartbeat(self, pick: int, fate: str) -> None:
        """A callback's worker says that it is alive."""
        call = self.world.choose_call(pick)
        answer = self.run(self.world.insist(fate, "heartbeat", call.await_id, call.secret))
        if answer is Answer.OK and call.heartbeat is not None:
            self.world.ledger.heartbeats[call.await_id] = self.world.twin.now, call.heartbeat

    @rule(
        pick=ANY,
        kind=st.sampled_from([*[SignalKind.PAUSE, SignalKind.RESUME] * 2, SignalKind.STOP, SignalKind.DELETE]),
        keep_timeout=st.booleans(),
        fate=FATES,
    )
    def signal(self, pick: int, kind: SignalKind, keep_timeout: bool, fate: str) -> None:
        """Somebody stops, pauses, resumes or deletes an execution."""
        ids = list(self.world.twin.headers)
        if ids:
            self.run(self._signal(ids[pick % len(ids)], kind, keep_timeout, fate))

    async def _signal(self, id: str, kind: SignalKind, keep_timeout: bool = True, fate: str = "ok") -> None:
        world = self.world
        draft = world.draft(ENTRIES[kind])
        await world.insist(fate, "signal", id, kind, draft, world.mint("key"), keep_timeout)

    # ---------------------------------------------------------------------------------------------------- effects

    @rule()
    def unsettled(self) -> None:
        """Any process looks for effects to carry out."""
        self.run(self._unsettled())

    async def _unsettled(self) -> None:
        for header in (await self.world.twin.call("unsettled", MANY)).headers:
            await self.world.carry(header)

    @rule(worker=ANY)
    def carry_own(self, worker: int) -> None:
        """A worker carries out the effects of its executions soon after its commit."""
        self.run(self._carry_own(self._worker(worker)))

    async def _carry_own(self, worker: Worker) -> None:
        for grip in list(worker.grips.values()):
            header = await self.world.twin.call("describe", grip.id)
            if header is not None and not header.is_settled:
                await self.world.carry(header)

    @precondition(lambda self: self.world.carriers)
    @rule(pick=ANY, again=st.booleans())
    def carry_on(self, pick: int, again: bool) -> None:
        """A carrier takes one more step, or the same one twice."""
        carriers = self.world.carriers
        self.run(self.world.carry_on(carriers[pick % len(carriers)], again=again))

    # ---------------------------------------------------------------------------------------- what must hold

    @invariant()
    def nothing_is_lost(self) -> None:
        """Both stores show the same, and nothing is lost or doubled."""
        if self.workers:
            self.run(self._check())

    async def _check(self) -> None:
        await self.world.twin.compare()
        self.world.ledger.check(self.world.twin)

    def teardown(self) -> None:
        """Everything ends and settles."""
        try:
            if self.workers:
                self.run(self._finish())
        finally:
            self.run(self.world.twin.close())
            self._runner.close()

    async def _finish(self) -> None:
        world = self.world
        for worker in self.workers:
            worker.claims.clear()
        fresh = await self._spawn()
        for number in range(ROUNDS):
            await world.twin.advance(SECOND)
            await world.twin.call("expire", MANY, TIMEOUTS)
            await world.twin.call("reap", MANY)
            if number % 3 == 0:
                for worker in self.workers:
                    await worker.renew()
            await fresh.claim("ok", MANY)
            await self._help()
            for worker in self.workers:
                for _ in range(12):
                    await worker.act(list(worker.grips.values()), number, "ok")
            await self._unsettled()
            while world.carriers:
                await world.carry_on(world.carriers[-1])
            await self._check()
            if all(header.status.is_end and header.is_settled for header in world.twin.headers.values()):
                break
        await world.twin.compare(whole=True)
        self._check_end()

    async def _help(self) -> None:
        """What needs somebody's hand: resume what is paused or quarantined, stop what nobody carries."""
        for header in self.world.twin.headers.values():
            if header.status.is_end:
                continue
            if header.paused or header.quarantined:
                await self._signal(header.id, SignalKind.RESUME)
            if header.function == RETIRED and self.world.is_retired:
                await self._signal(header.id, SignalKind.STOP)

    def _check_end(self) -> None:
        headers = self.world.twin.headers
        for header in headers.values():
            assert header.status.is_end, f"an execution is stuck: {header}"
            assert header.is_settled, f"an effect is stuck: {header}"
            for operation in self.world.ledger.model(header.id).operations.values():
                child = headers.get(self.world.twin.store.child_id(header.id, operation.id))
                if operation.kind == "invoke" and child is not None and header.status is Status.SUCCEEDED:
                    assert operation.status == child.status, f"{operation} of {header.id}, but {child}"


class TestStateMachine:
    """
    Random sequences of all verbs, compared with the memory store.

    Attributes:
        examples: How many sequences; the environment variable `PERDURE_EXAMPLES` overrides the default.
        steps: How many steps each has at most.
    """

    examples: ClassVar[int] = int(os.environ.get("PERDURE_EXAMPLES", "25"))
    steps: ClassVar[int] = 40

    def test_against_memory(self, new_subject: Callable[[], Subject]) -> None:
        """Whatever gets lost, is doubled or dies: the store does what the memory store does, and nothing is lost."""
        chosen = settings(
            max_examples=self.examples,
            stateful_step_count=self.steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )

        class Machine(StoreMachine):
            def __init__(self) -> None:
                super().__init__(new_subject())

        run_state_machine_as_test(Machine, settings=chosen)
