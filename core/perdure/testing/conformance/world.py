"""What surrounds the workers of the state machine: both stores, whoever carries out effects, and what is known."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import attrs

from perdure.storage import Answer, Created, Draft, New, Page, Tip
from perdure.testing.conformance.ledger import Ledger
from perdure.testing.conformance.program import SECOND, Effect, Model, body
from perdure.testing.conformance.twin import EVERYTHING, Twin

if TYPE_CHECKING:
    from perdure.storage import Header, Row
    from perdure.testing.conformance.subject import Subject

RETENTION = 500 * SECOND
LONG = 5000 * SECOND


@attrs.define
class Call:
    """A callback that some workflow waits for."""

    await_id: str
    secret: str
    heartbeat: int | None


@attrs.define(eq=False)
class Carrier:
    """Somebody who carries out effects, and then tells that they are."""

    header: Header
    through: int
    tip: Tip
    todo: list[Effect]


class World:
    """
    The surroundings.

    Attributes:
        twin: Both stores.
        ledger: What callers know to have happened.
        calls: Callbacks that were, or were about to be, opened.
        carriers: Those at work.
        is_retired: Whether no worker carries the retired function any more.
    """

    def __init__(self, subject: Subject) -> None:
        self.twin = Twin(subject)
        self.ledger = Ledger()
        self.calls: list[Call] = []
        self.carriers: list[Carrier] = []
        self.is_retired = False
        self._late: list[tuple[str, tuple[Any, ...]]] = []
        self._numbers = itertools.count(1)

    def mint(self, kind: str) -> str:
        """A text nobody else has."""
        return f"{kind}{next(self._numbers):06}"

    def draft(self, entry: bytes) -> Draft:
        """An entry with a tag of its own."""
        return Draft(entry, self.mint("tag"), 1)

    async def call(self, fate: str, verb: str, *arguments: Any) -> Any:
        """Carry out a verb unless it gets lost; None if its reply does."""
        if fate == "never":
            return None
        answer = await self.twin.call(verb, *arguments)
        if fate == "again":
            self._late.append((verb, arguments))
        return answer if fate in ("ok", "again") else None

    async def insist(self, fate: str, verb: str, *arguments: Any) -> Any:
        """Carry out a verb, and repeat it if it or its reply gets lost; None if its caller dies."""
        answer = await self.call(fate, verb, *arguments)
        if answer is None and fate != "die":
            answer = await self.twin.call(verb, *arguments)
        return answer

    async def repeat(self, pick: int) -> None:
        """Let a late duplicate arrive."""
        if self._late:
            verb, arguments = self._late[pick % len(self._late)]
            await self.twin.call(verb, *arguments)

    def new(self, id: str, function: str, name: str, timeout: int | None, parent: str | None = None) -> New:
        """An execution to create."""
        return New(
            id=id,
            function=function,
            version="1",
            name=name,
            digest="",
            timeout=timeout,
            retention=RETENTION,
            parent=parent,
            draft=self.draft(body(started=function, parent=parent)),
        )

    async def rows(self, id: str, after: int = 0) -> list[Row]:
        """A journal, or nothing where it is gone."""
        page = await self.twin.call("entries", id, after, EVERYTHING)
        return list(page.rows) if isinstance(page, Page) else []

    def choose_call(self, pick: int) -> Call:
        """One of the callbacks; of those that are open, if there are and unless the pick is 0."""
        calls = self.calls
        if pick and (pending := [call for call in calls if self.ledger.awaits(call.await_id)]):
            calls = pending
        return calls[pick % len(calls)]

    # ---------------------------------------------------------------------------------------------------- effects

    async def carry(self, header: Header) -> None:
        """Let a carrier begin with what is not settled."""
        model, tip = Model(), Tip(0, "")
        for row in await self.rows(header.id):
            model.apply(row)
            tip = Tip(row.at, row.tag)
        todo = [effect for effect in model.effects if effect.index > header.settled]
        self.carriers.append(Carrier(header, model.length, tip, todo))

    async def carry_on(self, carrier: Carrier, *, again: bool = False) -> None:
        """Carry out one effect, or settle; `again`: it will be done once more."""
        header = carrier.header
        if not carrier.todo:
            await self.twin.call("settle", header.id, carrier.through, carrier.tip, header.epoch)
            if not again:
                self.carriers.remove(carrier)
            return
        effect = carrier.todo[0]
        if effect.outcome is not None:
            await self._tell_parent(header, effect.outcome)
        else:
            await self._start_child(header, effect)
        if not again:
            carrier.todo.pop(0)

    async def _tell_parent(self, header: Header, outcome: list[Any]) -> None:
        draft = self.draft(body(event=outcome))
        await self.twin.call("deliver", header.parent, "", draft, header.id)

    async def _start_child(self, header: Header, effect: Effect) -> None:
        id = self.twin.store.child_id(header.id, effect.operation or "")
        await_id = f"{header.id}/{effect.operation}"
        answer = await self.twin.call("create", self.new(id, effect.function or "", id, LONG, await_id), None)
        assert answer is Answer.GONE or isinstance(answer, Created), answer
        if answer is Answer.GONE:
            draft = self.draft(body(event=["FAILED", "gone"]))
            late = await self.twin.call("deliver", await_id, "", draft, self.mint("nonce"))
            # A child is purged only when its parent was told.
            assert late is not Answer.DELIVERED, f"{id} was purged before {await_id} was told"
