"""The statements of `create`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.backends.postgres.parameter import Bigints, Blobs, Texts
from perdure.backends.postgres.record import Call, News, Rows, due, key_of, read_header
from perdure.storage import Answer, Created, Exists, Outdated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.backends.postgres.statement import Library
    from perdure.storage import Claim, New

Creation = tuple["New", "Claim | None"]


def create(library: Library, batch: Sequence[Creation], *, waits: bool) -> Call[list[Created | None]]:
    """
    Executions of different names begin; None for what something stands in the way of.

    Args:
        library: The statements.
        batch: What to create, and who wants to own it.
        waits: Until nobody else creates one of these names; else that one is left out.
    """
    news = [new for new, _ in batch]
    parameters = {
        "id": Texts(new.id for new in news),
        "function": Texts(new.function for new in news),
        "version": Texts(new.version for new in news),
        "name": Texts(new.name for new in news),
        "digest": Texts(new.digest for new in news),
        "timeout": Bigints(new.timeout for new in news),
        "retention": Bigints(new.retention for new in news),
        "parent": Texts(new.parent for new in news),
        "tag": Texts(new.draft.tag for new in news),
        "format": Bigints(new.draft.format for new in news),
        "body": Blobs(new.draft.body for new in news),
        "owner": Texts(claim.owner if claim else None for _, claim in batch),
        "token": Texts(claim.token if claim else None for _, claim in batch),
        "guard": Bigints(key_of(library.schema, "name", new.function, new.name) for new in news),
    }

    def read(rows: Rows) -> list[Created | None]:
        created = {row[2]: Created(read_header(row[2:]), row[0]) for row in rows}
        return [created.get(new.id) for new in news]

    return Call(library["create", "alone" if waits else "batch"], parameters, read, _news)


def _news(rows: Rows) -> list[News]:
    headers = [read_header(row[2:]) for row in rows]
    return [due(header.id, header.function) for header in headers if header.owner is None]


def known(library: Library, new: New) -> Call[Created | Exists | Outdated | Answer | None]:
    """What stands in the way of a creation; None if it does no more."""

    def read(rows: Rows) -> Created | Exists | Outdated | Answer | None:
        if not rows:
            return None
        now, is_buried, is_over, *columns = rows[0]
        if is_buried:
            return Answer.GONE
        header = read_header(columns)
        if header.id == new.id:
            return Created(header, now)
        return Outdated(header) if is_over else Exists(header)

    parameters = {"id": new.id, "function": new.function, "name": new.name}
    return Call(library["create", "known"], parameters, read)
