"""Folds of executions that this process let go of a moment ago, for when it claims one of them again."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from perdure.service import reading

if TYPE_CHECKING:
    from perdure.journal.fold import Execution
    from perdure.storage import Header, Store

MOST = 256
MOST_ROWS = 16_384
"""How many rows the journals of those that are kept have together: their folds take as much memory."""
LONGEST = MOST_ROWS // 4
"""How many one of them has at most."""


class Folds:
    """The last ones; none is given out twice, as whoever has one carries it on."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: OrderedDict[str, Execution] = OrderedDict()
        self._rows = 0

    def keep(self, execution: Execution) -> None:
        """Nobody carries this one on any more."""
        self._pop(execution.id)
        if execution.length > LONGEST:
            return
        self._kept[execution.id] = execution
        self._rows += execution.length
        while len(self._kept) > MOST or self._rows > MOST_ROWS:
            self._pop(next(iter(self._kept)))

    def _pop(self, id: str) -> Execution | None:
        kept = self._kept.pop(id, None)
        if kept is not None:
            self._rows -= kept.length
        return kept

    async def load(self, header: Header) -> Execution:
        """The fold of an execution that was claimed; of what is known nothing is read."""
        known = self.take(header)
        if known is not None and known.length == header.length:
            return known
        return await reading.load(self._store, header.id, known)

    def take(self, header: Header) -> Execution | None:
        """
        What is known of an execution that was claimed, or None.

        It may lack the last rows of the journal; that it is of the same journal is certain only if it lacks none.
        """
        kept = self._pop(header.id)
        if kept is None or kept.length > header.length:
            return None
        return kept if kept.length < header.length or kept.tip == header.tip else None
