"""The owners of the state machine: they claim executions, run their small workflows and may die at any time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from perdure.storage import (
    Answer,
    Commit,
    Committed,
    End,
    Function,
    FunctionVersion,
    Keep,
    OpenAwait,
    Row,
    Status,
    Suspend,
    Tip,
)
from perdure.testing.conformance.program import PROGRAMS, RETIRED, SECOND, Model, body
from perdure.testing.conformance.world import RETENTION, Call, World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.storage import Header

LEASE = 10 * SECOND
CRASH_LIMIT = 4


@attrs.define(eq=False)
class Grip:
    """What a worker knows of an execution it owns."""

    id: str
    token: str
    seq: int
    invocation: str | None
    model: Model
    tip: Tip
    pending: Commit | None = None
    is_behind: bool = False
    has_begun: bool = False

    def fold(self, row: Row) -> None:
        """See one more row."""
        self.model.apply(row)
        self.tip = Tip(row.at, row.tag)


class Worker:
    """
    A process; `skew` is how far its clock is ahead of the store's.

    Attributes:
        grips: What it owns as far as it knows.
        claims: Numbers and tokens of claims without a reply.
    """

    def __init__(self, world: World, skew: int = 0) -> None:
        self._world = world
        self._skew = skew
        self.grips: dict[str, Grip] = {}
        self.claims: list[tuple[int, str]] = []

    @property
    def functions(self) -> list[str]:
        """What it carries."""
        return [name for name in PROGRAMS if name != RETIRED or not self._world.is_retired]

    async def begin(self) -> None:
        """Begin a life under a new owner id; what was held before lives on by its tokens."""
        self.id = self._world.mint("owner")
        self.claims.clear()
        self._number = 0
        functions = [Function(name=name, version="1", timeout=None, retention=RETENTION) for name in self.functions]
        assert await self._world.twin.call("register", self.id, functions, LEASE) is Answer.OK

    # ---------------------------------------------------------------------------------------------------- holding

    async def claim(self, fate: str, limit: int) -> None:
        """Claim, with a number whose reply was lost if there is one."""
        if not self.claims:
            self._number += 1
            self.claims.append((self._number, self._world.mint("token")))
        number, token = self.claims[-1]
        versions = [FunctionVersion(name, "1") for name in self.functions]
        answer = await self._world.call(fate, "claim", self.id, number, token, versions, limit, 1)
        if answer is Answer.LEASE_LOST:
            await self.begin()
        elif answer is not None:
            self.claims.pop()
            for header in answer.headers:
                await self.adopt(header)

    async def adopt(self, header: Header) -> None:
        """Take note of an execution that is owned."""
        if header.id in self.grips and self.grips[header.id].token == header.token:
            return
        invocation = header.invocation.id if header.invocation else None
        grip = Grip(header.id, header.token or "", header.seq, invocation, Model(), header.tip)
        for row in await self._world.rows(header.id):
            grip.fold(row)
        if grip.model.length:
            self.grips[header.id] = grip

    async def renew(self) -> None:
        """Renew; adopt what was not known, abandon what is missing, read on where the length grew (rule 7)."""
        held = await self._world.twin.call("renew", self.id)
        if held is Answer.LEASE_LOST:
            await self.begin()
            return
        unanswered = {token for _, token in self.claims}
        for item in held:
            grip = self.grips.get(item.id)
            if grip is None and item.token not in unanswered:
                header = await self._world.twin.call("describe", item.id)
                await self.adopt(header)
            elif grip is not None and grip.token == item.token and item.length > grip.model.length:
                grip.is_behind = True
        tokens = {(item.id, item.token) for item in held}
        for grip in list(self.grips.values()):
            if (grip.id, grip.token) not in tokens and grip.pending is None:
                del self.grips[grip.id]

    # ----------------------------------------------------------------------------------------------------- acting

    async def act(self, grips: Sequence[Grip], pick: int, fate: str) -> None:
        """Plan and send the next commit of each."""
        await self.prepare(grips, pick)
        await self.send(grips, fate)

    async def prepare(self, grips: Sequence[Grip], pick: int) -> None:
        """Plan the next commit of each that has no commit without a reply."""
        for grip in grips:
            if grip.pending is None:
                if grip.is_behind:
                    await self._read(grip)
                grip.pending = self._plan(grip, pick)

    async def send(self, grips: Sequence[Grip], fate: str) -> None:
        """Send what is planned in one batch."""
        batch = [grip.pending for grip in grips if grip.pending]
        answers = await self._world.call(fate, "commit", batch)
        for grip, commit, answer in zip(grips, batch, answers or (), strict=answers is not None):
            if isinstance(answer, Committed):
                grip.pending = None
                self._learn(grip, commit, answer)
            else:
                assert answer is Answer.FENCED, answer
                del self.grips[grip.id]

    async def _read(self, grip: Grip) -> None:
        for row in await self._world.rows(grip.id, grip.model.length):
            grip.fold(row)
        grip.is_behind = False

    def _learn(self, grip: Grip, commit: Commit, answer: Committed) -> None:
        grip.seq = commit.seq
        if commit.reopen:
            grip.invocation = grip.token
        if not isinstance(commit.then, Keep):
            del self.grips[grip.id]
        if commit.draft is None:
            return
        self._world.ledger.accepted[grip.id, answer.length] = Tip(answer.at, commit.draft.tag)
        if answer.length == grip.model.length + 1:
            draft = commit.draft
            row = Row(index=answer.length, at=answer.at, tag=draft.tag, seen=commit.seen, body=draft.body)
            grip.fold(row)
        else:
            grip.is_behind = True

    # --------------------------------------------------------------------------------------------------- planning

    def _plan(self, grip: Grip, pick: int) -> Commit:
        model = grip.model
        now = self._world.twin.now + self._skew
        due = [operation.id for operation in model.timers() if operation.due is not None and operation.due <= now]
        if not grip.has_begun:
            if (first := self._before(grip, due)) is not None:
                return first
            grip.has_begun = True
            self._world.ledger.begun.setdefault(grip.id, []).append(grip.token)
        return self._go_on(grip, due, pick)

    def _go_on(self, grip: Grip, due: list[str], pick: int) -> Commit:
        """What the handler does next."""
        model = grip.model
        if model.paused_at is not None:
            return self._finish(grip, Suspend(wake_at=0), cut=True)
        possible = model.possible()
        if due and (pick % 2 == 0 or not possible):
            return self._update(grip, [["fire", id] for id in due])
        if pick % 11 == 10:
            return self._finish(grip, Suspend(wake_after=0, clean=False), cut=True, clean=False)
        if not possible:
            return self._finish(grip, Suspend(wake_at=model.next_due()))
        action, *rest = possible[pick % len(possible)]
        if action == "end":
            return self._finish(grip, End(Status.FAILED if pick % 5 == 4 else Status.SUCCEEDED), result=rest[0])
        return self._update(grip, [[action, *rest]])

    def _before(self, grip: Grip, due: list[str]) -> Commit | None:
        """What there is to do before the handler is invoked, or instead."""
        model = grip.model
        if grip.invocation != grip.token:
            return self._crash(grip)
        if model.paused_at is not None:
            return self._commit(grip, None, Suspend(wake_at=0 if model.news else model.next_due()))
        if due:
            return self._update(grip, [["fire", id] for id in due])
        if not model.news and not model.possible():
            return self._commit(grip, None, Suspend(wake_at=model.next_due()))
        return None

    def _crash(self, grip: Grip) -> Commit:
        crashes = grip.model.crashes + 1
        pause = crashes * SECOND if 1 < crashes < CRASH_LIMIT else 0
        then: Keep | Suspend = Suspend(wake_after=pause, clean=False, quarantine=crashes >= CRASH_LIMIT)
        if crashes == 1:
            then = Keep()
        return self._commit(grip, body(crashed=grip.invocation, pause=pause), then, reopen=True)

    def _finish(
        self, grip: Grip, then: Suspend | End, *, cut: bool = False, clean: bool = True, result: Any = None
    ) -> Commit:
        status = then.status.value if isinstance(then, End) else "PENDING"
        entry = body(invocation=grip.token, status=status, cut=cut, clean=clean, result=result)
        return self._commit(grip, entry, then)

    def _update(self, grip: Grip, updates: list[list[Any]]) -> Commit:
        options: dict[str, Any] = {}
        action, operation, *arguments = updates[0]
        if action == "callback":
            options["opens"] = (self._open(grip, operation, *arguments),)
        elif action == "invoke":
            options |= {"opens": (OpenAwait(operation=operation),), "effects": True}
        return self._commit(grip, body(updates=updates), Keep(), **options)

    def _open(self, grip: Grip, operation: str, timeout: int, heartbeat: int | None) -> OpenAwait:
        beat = None if heartbeat is None else heartbeat * SECOND
        secret = self._world.mint("secret")
        self._world.calls.append(Call(f"{grip.id}/{operation}", secret, beat))
        return OpenAwait(operation=operation, secret=secret, timeout=timeout * SECOND, heartbeat=beat)

    def _commit(self, grip: Grip, entry: bytes | None, then: Keep | Suspend | End, **options: Any) -> Commit:
        return Commit(
            id=grip.id,
            token=grip.token,
            seq=grip.seq + 1,
            seen=grip.model.length,
            tip=grip.tip,
            draft=None if entry is None else self._world.draft(entry),
            then=then,
            **options,
        )
