"""The statements from outside and after the end: signal, unsettled, settle, purge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from perdure.backends.postgres.record import Call, News, Rows, ended, grew, intruded, read_header
from perdure.storage import (
    EFFECT_GRACE,
    EFFECT_RETRY,
    TOMBSTONE_SPAN,
    Answer,
    HintKind,
    Refused,
    SignalKind,
    Signalled,
    Unsettled,
)

if TYPE_CHECKING:
    from perdure.backends.postgres.statement import Library
    from perdure.storage import Draft, Tip


def signal(
    library: Library, id: str, kind: SignalKind, draft: Draft, key: str, *, keep_timeout: bool
) -> Call[Signalled | None]:
    """Stop, pause, resume or delete; None if nothing was done, of which `refused` tells why."""
    parameters: dict[str, Any] = {"id": id, "key": key}
    if kind is not SignalKind.DELETE:
        parameters |= {"tag": draft.tag, "format": draft.format, "body": draft.body}
    if kind is SignalKind.STOP:
        parameters["grace"] = EFFECT_GRACE
    elif kind is SignalKind.PAUSE:
        parameters["keep_timeout"] = keep_timeout

    def read(rows: Rows) -> Signalled | None:
        return Signalled(read_header(rows[0][2:])) if rows else None

    def news(rows: Rows) -> list[News]:
        told = []
        for owner, is_due, *columns in rows:
            header = read_header(columns)
            if kind is SignalKind.STOP:
                told.append(ended(id, header.function))
                told += [grew(id, header.function, owner)] if owner is not None else []
            else:
                told += intruded(id, header.function, owner, is_due)
        if kind is SignalKind.RESUME:
            # What fell due during a pause is due since then.
            told = [attrs.evolve(news, is_late=news.hint.kind is HintKind.DUE) for news in told]
        return told

    return Call(library["lifecycle", kind.value], parameters, read, news)


def refused(library: Library, id: str, key: str) -> Call[Signalled | Refused | Answer]:
    """Why a signal did nothing; read after it, as another one of its key may have been committed meanwhile."""

    def read(rows: Rows) -> Signalled | Refused | Answer:
        if not rows:
            return Answer.UNKNOWN
        is_known, *columns = rows[0]
        header = read_header(columns)
        return Signalled(header) if is_known else Refused(header)

    return Call(library["lifecycle", "signalled"], {"id": id, "key": key}, read)


def unsettled(library: Library, limit: int) -> Call[Unsettled]:
    """Executions whose effects are due to anybody."""

    def read(rows: Rows) -> Unsettled:
        headers = tuple(read_header(row[2:]) for row in rows if row[2] is not None)
        return Unsettled(headers, rows[0][0])

    return Call(library["lifecycle", "unsettled"], {"limit": limit, "retry": EFFECT_RETRY}, read)


def settle(library: Library, id: str, through: int, tip: Tip, epoch: int) -> Call[Answer]:
    """Effects through that row are carried out."""

    def read(rows: Rows) -> Answer:
        if not rows:
            return Answer.UNKNOWN
        return Answer.OK if rows[0][0] else Answer.FENCED

    parameters = {"id": id, "through": through, "at": tip.at, "tag": tip.tag, "epoch": epoch}
    return Call(library["lifecycle", "settle"], parameters, read)


def purge(library: Library, limit: int) -> Call[int]:
    """Remove what is deleted or past its retention, and what is remembered of the dead for long enough."""
    parameters = {"limit": limit, "span": TOMBSTONE_SPAN}
    return Call(library["lifecycle", "purge"], parameters, lambda rows: int(rows[0][0]))
