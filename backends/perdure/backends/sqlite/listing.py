"""Lists of executions."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

from perdure.backends.sqlite.record import COLUMNS
from perdure.storage import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perdure.backends.sqlite.record import Execution
    from perdure.backends.sqlite.transaction import Transaction
    from perdure.storage import Header, Query


def list_executions(work: Transaction, query: Query) -> list[Header]:
    """Executions by (created, id)."""
    # One query per status, each in the order of an index, instead of one that has to sort everything.
    statuses: Iterable[Status | None] = dict.fromkeys(query.statuses or (Status if query.function else [None]))
    pages = [_page(work, query, status) for status in statuses]
    found = heapq.merge(*pages, key=_place, reverse=not query.oldest_first)
    return [execution.header() for execution, _ in zip(found, range(query.limit), strict=False)]


def _place(execution: Execution) -> tuple[int, str]:
    return execution.created, execution.id


def _page(work: Transaction, query: Query, status: str | None) -> list[Execution]:
    terms = {
        "function = ?": query.function,
        "version = ?": query.version,
        "name = ?": query.name,
        "status = ?": None if status is None else str(status),
        "created > ?": query.created_after,
        "created < ?": query.created_before,
    }
    conditions = [term for term, value in terms.items() if value is not None]
    values: list[Any] = [value for value in terms.values() if value is not None]
    if query.cursor is not None:
        conditions.append(f"(created, id) {'>' if query.oldest_first else '<'} (?, ?)")
        values += query.cursor
    direction = "ASC" if query.oldest_first else "DESC"
    sql = (
        f"SELECT {', '.join(COLUMNS)} FROM execution WHERE {' AND '.join(conditions) or '1'} "  # noqa: S608 - our own words
        f"ORDER BY created {direction}, id {direction} LIMIT ?"
    )
    return work.executions(sql, *values, query.limit)
