"""The executions of a memory store, and what finds them."""

from __future__ import annotations

import hmac
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import attrs

from perdure.storage import Header, Hint, HintKind
from perdure.testing.record import answers, due_at, over_at
from perdure.testing.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perdure.bell import Bell
    from perdure.storage import FunctionVersion, Query
    from perdure.testing.record import Await, Record


class Shelf:
    """
    Records by id, and indexes that follow from their headers.

    Attributes:
        records: All executions by id; `names`: their ids by function and name.
        deadlines, awaits, effects, over: When executions time out, awaits time out, effects are due to anybody, and
            executions may be purged.
    """

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self.records: dict[str, Record] = {}
        self.names: dict[tuple[str, str], str] = {}
        self.deadlines = Schedule()
        self.awaits = Schedule()
        self.effects = Schedule()
        self.over = Schedule()
        self._owned: defaultdict[str, set[str]] = defaultdict(set)
        self._due: defaultdict[tuple[str, str], dict[int, Schedule]] = defaultdict(dict)

    def add(self, record: Record) -> None:
        """Take in a new execution."""
        header = record.header
        self.records[header.id] = record
        self.names[header.function, header.name] = header.id

    def remove(self, id: str) -> None:
        """Forget one that has ended."""
        header = self.records.pop(id).header
        del self.names[header.function, header.name]
        self.over.set(id, None)

    def save(self, record: Record, now: int, **changes: Any) -> None:
        """Change fields of a header, and the indexes with it."""
        old = record.header
        record.header = new = attrs.evolve(old, **changes)
        if old.owner != new.owner:
            self._index_owner(old, new)
        self._index_due(old, new, now)
        self.deadlines.set(new.id, new.deadline)
        self.effects.set(new.id, new.effect_due)
        if new.status.is_end:
            self.over.set(new.id, over_at(new))
            if not old.status.is_end:
                for operation in record.awaits:
                    self.awaits.set(f"{new.id}/{operation}", None)
                self._bell.ring([Hint(HintKind.ENDED, new.id, new.function, 0)])

    def save_await(self, record: Record, pending: Await) -> None:
        """Have an await time out when it says."""
        self.awaits.set(f"{record.header.id}/{pending.operation}", pending.deadline if pending.is_open else None)

    def owned_by(self, owners: Iterable[str]) -> list[Record]:
        """What these own, in the order of ids."""
        return [self.records[id] for id in sorted(id for owner in owners for id in self._owned.get(owner, ()))]

    def find(self, query: Query) -> list[Header]:
        """A page of headers."""
        found = [record.header for record in self.records.values() if answers(record.header, query)]
        found.sort(key=lambda header: (header.created, header.id), reverse=not query.oldest_first)
        return found[: query.limit]

    def find_await(self, await_id: str, secret: str) -> tuple[Record, Await] | None:
        """An await and its execution, for who knows its secret."""
        id, _, operation = await_id.partition("/")
        record = self.records.get(id)
        pending = record.awaits.get(operation) if record else None
        if record is None or pending is None or not hmac.compare_digest(pending.secret.encode(), secret.encode()):
            return None
        return record, pending

    def queues(self, functions: Iterable[FunctionVersion], newest: int) -> list[Schedule]:
        """What is due for a claim of these functions, of entries up to the format `newest`."""
        return [
            queue
            for function in set(functions)
            for format, queue in self._due.get((function.name, function.version), {}).items()
            if format <= newest
        ]

    def _index_owner(self, old: Header, new: Header) -> None:
        if old.owner is not None:
            self._owned[old.owner].discard(old.id)
            if not self._owned[old.owner]:
                del self._owned[old.owner]
        if new.owner is not None:
            self._owned[new.owner].add(new.id)

    def _index_due(self, old: Header, new: Header, now: int) -> None:
        was, wake = due_at(old), due_at(new)
        if was == wake and old.format == new.format:
            return
        queues = self._due[new.function, new.version]
        if was is not None:
            queues[old.format].set(old.id, None)
        if wake is not None:
            queues.setdefault(new.format, Schedule()).set(new.id, wake)
            if wake <= now and (was is None or was > now):
                self._bell.ring([Hint(HintKind.DUE, new.id, new.function, 0)])
