"""Headers and rows as the scripts write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.storage import Header, OpenInvocation, Row, Status, Tip

if TYPE_CHECKING:
    from collections.abc import Sequence

# Numbers come as integers, what is empty as b"".


def _text(value: bytes) -> str | None:
    return value.decode() if value else None


def _instant(value: Any) -> int | None:
    return value if value != b"" else None


def header(flat: Sequence[Any]) -> Header:
    """A header from what `answer` in header.lua makes of it."""
    id, static, status, owner, token, seq, seq_at, seq_length, length, tip_at, tip_tag, wake, *rest = flat
    begun, begun_at, format, deadline, left, paused, quarantined, crashes, *rest = rest
    effect_last, settled, effect_due, epoch, ended, deleting = rest
    function, version, name, digest, parent, created, timeout, retention = _static(static)
    return Header(
        id=id.decode(),
        function=function,
        version=version,
        name=name,
        digest=digest,
        status=Status(status.decode()) if status else Status.RUNNING,
        deleting=bool(deleting),
        created=created,
        ended=_instant(ended),
        timeout=timeout,
        deadline=_instant(deadline),
        left=_instant(left),
        retention=retention,
        paused=bool(paused),
        owner=_text(owner),
        token=_text(token),
        seq=seq or 0,
        seq_at=seq_at or 0,
        seq_length=seq_length or 0,
        length=length,
        tip=Tip(tip_at, tip_tag.decode()),
        wake=_instant(wake),
        invocation=OpenInvocation(begun.decode(), begun_at) if begun else None,
        crashes=crashes or 0,
        quarantined=bool(quarantined),
        format=format,
        parent=parent,
        effect_last=effect_last or 0,
        settled=settled or 0,
        effect_due=_instant(effect_due),
        epoch=epoch or 0,
    )


def _static(text: bytes) -> tuple[str, str, str, str, str | None, int, int | None, int]:
    head, _, body = text.partition(b"\n")
    created, timeout, retention, *sizes, parent_size = head.split(b" ")
    texts: list[str] = []
    start = 0
    for size in (*sizes, parent_size or b"0"):
        end = start + int(size)
        texts.append(body[start:end].decode())
        start = end
    function, version, name, digest, parent = texts
    return (
        function,
        version,
        name,
        digest,
        parent if parent_size else None,
        int(created),
        int(timeout) if timeout else None,
        int(retention),
    )


def row(index: int, raw: bytes) -> Row:
    """A row from its place and text in the journal."""
    head, _, body = raw.partition(b"\n")
    at, tag, seen, invocation, begun, operation = head.split(b" ")
    return Row(
        index=index,
        at=int(at),
        tag=tag.decode(),
        seen=int(seen) if seen else None,
        invocation=OpenInvocation(invocation.decode(), int(begun)) if invocation else None,
        operation=operation.decode() if operation else None,
        body=body,
    )
