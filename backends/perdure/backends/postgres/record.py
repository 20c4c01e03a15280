"""How rows become what the SPI speaks of."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from perdure.storage import MICROSECONDS, Header, Hint, HintKind, OpenInvocation, Status, Tip

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from perdure.backends.postgres.statement import Statement

Answer = TypeVar("Answer")

MARGIN = 2 * MICROSECONDS
"""How long after what was due at its clock's time a transaction may be committed and its execution still be found."""

Rows = list[Any]
"""What a statement answers: tuples in the order of its columns."""


@attrs.frozen
class News:
    """
    A hint, and what only this store knows of it.

    Attributes:
        hint: For listeners.
        owner: The owner it concerns alone, or None.
        is_late: What is due has been so, by its own time, for longer than `MARGIN`.
    """

    hint: Hint
    owner: str | None = None
    is_late: bool = False


@attrs.frozen
class Call(Generic[Answer]):
    """
    One statement: what to send, and what its rows mean; who sends it is none of its business.

    Attributes:
        statement: For a raw cursor that knows `parameter.adapt`.
        values: Of its placeholders, by name.
        read: Makes the answer of the rows.
        news: What listeners are to be told once it is committed, of the same rows.
    """

    statement: Statement
    values: Mapping[str, Any] = attrs.field(repr=False)
    read: Callable[[Rows], Answer]
    news: Callable[[Rows], Sequence[News]] = lambda rows: ()  # noqa: ARG005 - a signature

    @property
    def sql(self) -> str:
        """The text, with numbered placeholders."""
        return self.statement.text

    @property
    def parameters(self) -> list[Any]:
        """The values in the order of the placeholders."""
        return self.statement.arguments(self.values)


def read_header(row: Sequence[Any]) -> Header:
    """A header of the columns of `sql/part.sql`."""
    (
        id,
        function,
        version,
        name,
        digest,
        status,
        deleting,
        created,
        ended,
        timeout,
        deadline,
        left,
        retention,
        paused,
        owner,
        token,
        seq,
        seq_at,
        seq_length,
        length,
        tip_at,
        tip_tag,
        wake,
        invocation_id,
        invocation_at,
        crashes,
        quarantined,
        format,
        parent,
        effect_last,
        settled,
        effect_due,
        epoch,
    ) = row
    return Header(
        id=id,
        function=function,
        version=version,
        name=name,
        digest=digest,
        status=_STATUS[status],
        deleting=deleting,
        created=created,
        ended=ended,
        timeout=timeout,
        deadline=deadline,
        left=left,
        retention=retention,
        paused=paused,
        owner=owner,
        token=token,
        seq=seq,
        seq_at=seq_at,
        seq_length=seq_length,
        length=length,
        tip=Tip(tip_at, tip_tag),
        wake=wake,
        invocation=None if invocation_id is None else OpenInvocation(invocation_id, invocation_at),
        crashes=crashes,
        quarantined=quarantined,
        format=format,
        parent=parent,
        effect_last=effect_last,
        settled=settled,
        effect_due=effect_due,
        epoch=epoch,
    )


_STATUS = {status.value: status for status in Status}


def due(id: str, function: str, *, is_late: bool = False) -> News:
    """An execution has become due."""
    return News(Hint(HintKind.DUE, id, function, 0), is_late=is_late)


def grew(id: str, function: str, owner: str) -> News:
    """The journal of an execution grew by another hand than its owner's."""
    return News(Hint(HintKind.GREW, id, function, 0), owner)


def ended(id: str, function: str) -> News:
    """An execution has ended."""
    return News(Hint(HintKind.ENDED, id, function, 0))


def intruded(id: str, function: str, owner: str | None, is_due: bool) -> list[News]:
    """Somebody else than the owner appended to a journal."""
    if owner is not None:
        return [grew(id, function, owner)]
    return [due(id, function)] if is_due else []


def key_of(*parts: str) -> int:
    """A key of an advisory lock."""
    return int.from_bytes(
        blake2b("\0".join(("perdure", *parts)).encode(errors="surrogatepass"), digest_size=8).digest(),
        "big",
        signed=True,
    )


def digest_of(secret: str) -> str:
    """What is kept of a secret; comparing digests tells nothing of how much of a guess was right."""
    return blake2b(secret.encode(errors="surrogatepass"), digest_size=16).hexdigest() if secret else ""
