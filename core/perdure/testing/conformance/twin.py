"""A store under test and the memory store, side by side."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import attrs

from perdure.storage import (
    Claimed,
    Commit,
    Created,
    Exists,
    Header,
    Held,
    Leases,
    Outdated,
    Page,
    Query,
    Refused,
    Row,
    Signalled,
    Swept,
    Tip,
    Unsettled,
)
from perdure.testing.clock import VirtualClock
from perdure.testing.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perdure.testing.conformance.subject import Subject

EVERYTHING = 1 << 30


class Twin:
    """
    Sends every verb to both stores and compares answers and state.

    Tags that a store mints itself (of the rows of `expire`) differ between the two; here those of the store under test
    stand for both.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._tags: dict[str, str] = {}
        self.journals: dict[str, list[Row]] = {}
        self.headers: dict[str, Header] = {}

    async def open(self) -> None:
        """Open both and bring their clocks together."""
        self.store = self._subject.open()
        await self.store.open()
        await self.store.register("twin", [], 1)
        answer = await self.store.claim("twin", 1, "twin", [], 1, 1)
        assert isinstance(answer, Claimed), answer
        self._clock = VirtualClock(answer.now)
        self._oracle = MemoryStore(self._clock)
        await self._oracle.register("twin", [], 1)

    async def close(self) -> None:
        """Close the store under test."""
        await self.store.close()

    @property
    def now(self) -> int:
        """The time of both."""
        return self._clock()

    async def advance(self, span: int) -> None:
        """Take both clocks on."""
        advanced = self._subject.advance(span)
        if inspect.isawaitable(advanced):
            await advanced
        self._clock.advance(span)

    async def call(self, verb: str, *arguments: Any) -> Any:
        """What both answer to a verb."""
        answer = await getattr(self.store, verb)(*arguments)
        expected = await getattr(self._oracle, verb)(*(self._translated(argument) for argument in arguments))
        if verb == "expire":
            await self._learn_tags()
        if isinstance(answer, Swept | Unsettled):
            _check_next(answer.next, expected.next)
        answer, expected = _normal(_without_times(answer)), _normal(_without_times(self._restored(expected)))
        assert answer == expected, f"{verb}{arguments} was answered with\n{answer}\nwhere it should be\n{expected}"
        return answer

    async def compare(self, *, whole: bool = False) -> None:
        """Compare everything that can be seen: headers, and rows that are new (`whole`: all)."""
        query = Query(oldest_first=True, limit=1000)
        headers = await self.store.list(query)
        expected = [self._restored(header) for header in await self._oracle.list(query)]
        assert _normal(headers) == _normal(expected)
        self.headers = {header.id: header for header in headers}
        if whole or self.journals.keys() - self.headers.keys():
            self.journals = {} if whole else {id: self.journals.get(id, []) for id in self.headers}
        for id, header in self.headers.items():
            rows = self.journals.setdefault(id, [])
            if len(rows) < header.length:
                rows += await self._new_rows(id, len(rows))
            assert len(rows) == header.length
            assert rows[-1].at == header.tip.at
            assert rows[-1].tag == header.tip.tag

    async def _new_rows(self, id: str, after: int) -> list[Row]:
        page = await self.store.entries(id, after, EVERYTHING)
        expected = await self._oracle.entries(id, after, EVERYTHING)
        assert isinstance(page, Page), page
        assert page == self._restored(expected), f"journal of {id} behind row {after}"
        return list(page.rows)

    # ------------------------------------------------------------------------------------------------------- tags

    async def _learn_tags(self) -> None:
        """Which row of `expire` is which."""
        for id in await self._ids():
            after = len(self.journals.get(id, ()))
            page = await self.store.entries(id, after, EVERYTHING)
            expected = await self._oracle.entries(id, after, EVERYTHING)
            assert isinstance(page, Page), page
            assert isinstance(expected, Page), expected
            assert len(page.rows) == len(expected.rows), f"rows of {id} after expire"
            for row, other in zip(page.rows, expected.rows, strict=True):
                if row.tag != other.tag:
                    self._tags[other.tag] = row.tag

    async def _ids(self) -> Iterable[str]:
        return [header.id for header in await self._oracle.list(Query(oldest_first=True, limit=1000))]

    def _translated(self, argument: Any) -> Any:
        """An argument as the oracle understands it."""
        own = {tag: other for other, tag in self._tags.items()}
        if isinstance(argument, Tip):
            return Tip(argument.at, own.get(argument.tag, argument.tag))
        if isinstance(argument, Commit):
            return attrs.evolve(argument, tip=self._translated(argument.tip))
        if isinstance(argument, list):
            return [self._translated(item) for item in argument]
        return argument

    def _restored(self, answer: Any) -> Any:
        """An answer of the oracle in the tags of the store under test."""
        if not self._tags:
            return answer
        if isinstance(answer, Tip | Row):
            return attrs.evolve(answer, tag=self._tags.get(answer.tag, answer.tag))
        if isinstance(answer, list | tuple):
            return type(answer)(self._restored(item) for item in answer)
        if attrs.has(type(answer)):
            fields = attrs.fields_dict(type(answer))
            return attrs.evolve(answer, **{name: self._restored(getattr(answer, name)) for name in fields})
        return answer


def _check_next(instant: int | None, earliest: int | None) -> None:
    """A store may ask to be asked too early, never too late."""
    is_early = instant is not None and earliest is not None and instant <= earliest
    assert earliest is None or is_early, f"next is {instant}, where something is due at {earliest}"


def _without_times(answer: Any) -> Any:
    """An answer without the times that stores may know imprecisely: of renewals, and of what is due next."""
    match answer:
        case Swept() | Unsettled():
            return attrs.evolve(answer, next=None)
        case Leases():
            leases = tuple(attrs.evolve(lease, renewed=0, until=0) for lease in answer.leases)
            return attrs.evolve(answer, leases=leases)
    return answer


def _normal(answer: Any) -> Any:
    """An answer without what stores are free to differ in: the order of lists, the wake of what cannot be due."""
    match answer:
        case Header():
            held = answer.owner is not None or answer.paused or answer.quarantined or answer.status.is_end
            return attrs.evolve(answer, wake=None) if held else answer
        case Created() | Exists() | Outdated() | Signalled() | Refused():
            return attrs.evolve(answer, header=_normal(answer.header))
        case Claimed() | Unsettled():
            return attrs.evolve(answer, headers=tuple(_normal(list(answer.headers))))
        case [Header() | Held(), *_]:
            return sorted((_normal(item) for item in answer), key=lambda item: item.id)
        case list() | tuple():
            return list(answer)
    return answer
