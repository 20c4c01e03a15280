"""Reading journals from a store into folds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.errors import ExecutionNotFoundError
from perdure.journal.fold import Execution
from perdure.service.patience import patiently
from perdure.storage import Answer, Tip

if TYPE_CHECKING:
    from perdure.storage import Page, Row, Store

PAGE_BYTES = 4 << 20


async def rows(store: Store, id: str, after: int = 0) -> list[Row]:
    """
    All rows of a journal behind index `after`.

    Raises:
        ExecutionNotFoundError: There is no such journal.
    """
    found: list[Row] = []

    async def ask() -> Page | Answer:
        return await store.entries(id, after + len(found), PAGE_BYTES)

    while True:
        page = await patiently(ask)
        if isinstance(page, Answer):
            raise ExecutionNotFoundError(f"no execution has the id {id!r}; its retention may be over")
        found += page.rows
        if not page.more:
            return found


async def load(store: Store, id: str, known: Execution | None = None) -> Execution:
    """The fold of a whole journal; `known` is carried on if all its rows are there, and are those it was made of."""
    if known is not None:
        last_known, *others = await rows(store, id, known.length - 1)
        if Tip(last_known.at, last_known.tag) == known.tip:
            for row in others:
                known.apply(row)
            return known
    execution = Execution(id)
    await catch_up(store, execution)
    return execution


async def catch_up(store: Store, execution: Execution) -> set[str]:
    """Fold what a journal has more, and tell which operations that changed."""
    changed: set[str] = set()
    for row in await rows(store, execution.id, execution.length):
        changed |= execution.apply(row)
    return changed
