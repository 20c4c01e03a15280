"""The statements that look at executions and their journals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.backends.postgres.parameter import Bigints, Texts
from perdure.backends.postgres.record import Call, Rows, read_header
from perdure.backends.postgres.statement import Statement, qualify
from perdure.storage import Answer, Function, OpenInvocation, Page, Row, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.backends.postgres.statement import Library
    from perdure.storage import Header, Query

PAGE_ROWS = 10_000
"""How many rows a page of a journal has at most."""

Span = tuple[str, int, int]
"""What to read of a journal: the execution's id, the index of the row before, bytes of bodies."""


def describe(library: Library, ids: Sequence[str]) -> Call[list[Header | None]]:
    """The headers of executions."""

    def read(rows: Rows) -> list[Header | None]:
        headers: list[Header | None] = [None] * len(ids)
        for place, *columns in rows:
            headers[place - 1] = read_header(columns)
        return headers

    return Call(library["execution", "by_id"], {"id": Texts(ids)}, read)


def find(library: Library, function: str, name: str) -> Call[Header | None]:
    """The execution of a name."""
    parameters = {"function": function, "name": name}
    return Call(library["execution", "by_name"], parameters, lambda rows: read_header(rows[0]) if rows else None)


def functions(library: Library, name: str) -> Call[list[Function]]:
    """All versions of a function, latest registration last."""

    def read(rows: Rows) -> list[Function]:
        return [
            Function(name=name, version=version, timeout=timeout, retention=retention, registered=registered)
            for name, version, timeout, retention, registered in rows
        ]

    return Call(library["execution", "functions"], {"name": name}, read)


def entries(library: Library, spans: Sequence[Span]) -> Call[list[Page | Answer]]:
    """Rows of several journals."""

    def read(rows: Rows) -> list[Page | Answer]:
        found: list[list[Row] | None] = [None] * len(spans)
        lengths = [0] * len(spans)
        for place, length, *columns in rows:
            lengths[place - 1] = length
            page = found[place - 1] = found[place - 1] or []
            if columns[0] is not None:
                page.append(_read_row(columns))
        return [
            Answer.UNKNOWN if page is None else Page(tuple(page), bool(page) and page[-1].index < length)
            for page, length in zip(found, lengths, strict=True)
        ]

    parameters = {
        "id": Texts(id for id, _, _ in spans),
        "after": Bigints(after for _, after, _ in spans),
        "max_bytes": Bigints(max_bytes for _, _, max_bytes in spans),
        "limit": PAGE_ROWS,
    }
    return Call(library["execution", "entries"], parameters, read)


def _read_row(columns: Sequence[Any]) -> Row:
    index, at, tag, seen, invocation_id, invocation_at, operation, body = columns
    invocation = None if invocation_id is None else OpenInvocation(invocation_id, invocation_at)
    return Row(index=index, at=at, tag=tag, seen=seen, invocation=invocation, operation=operation, body=body)


def list_executions(library: Library, query: Query) -> Call[list[Header]]:
    """Executions by (created, id)."""
    direction = "asc" if query.oldest_first else "desc"
    order = f"order by e.created {direction}, e.id {direction} limit %(limit)s"
    # One query per status, each in the order of an index, instead of one that has to sort everything.
    statuses = list(dict.fromkeys(query.statuses or Status))
    conditions, parameters = _conditions(query)
    table = qualify("perdure.execution", library.schema)
    pages = [
        f"select {library.header} from {table} e where {' and '.join(terms)} {order}"  # noqa: S608 - our own words
        for terms in ([*conditions, f"e.status = '{status}'"] for status in statuses)
    ]
    sql = " union all ".join(f"({page})" for page in pages)
    if len(pages) > 1:
        sql = f"select * from ({sql}) as e {order}"  # noqa: S608 - our own words
    return Call(Statement.of(sql), parameters, lambda rows: [read_header(row) for row in rows])


def _conditions(query: Query) -> tuple[list[str], dict[str, Any]]:
    terms = {
        "e.function = %(function)s": query.function,
        "e.version = %(version)s": query.version,
        "e.name = %(name)s": query.name,
        "e.created > %(created_after)s": query.created_after,
        "e.created < %(created_before)s": query.created_before,
        f"(e.created, e.id) {'>' if query.oldest_first else '<'} (%(cursor_at)s, %(cursor_id)s)": query.cursor,
    }
    at, id = query.cursor or (None, None)
    values = {
        "function": query.function,
        "version": query.version,
        "name": query.name,
        "created_after": query.created_after,
        "created_before": query.created_before,
        "cursor_at": at,
        "cursor_id": id,
        "limit": query.limit,
    }
    conditions = ["e.created is not null", *(term for term, value in terms.items() if value is not None)]
    return conditions, {name: value for name, value in values.items() if value is not None}
