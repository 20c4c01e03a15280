"""What processes tell each other: many hints in one notification."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import attrs

from perdure.storage import Hint, HintKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LARGEST = 7900
"""Bytes of a notification's payload; PostgreSQL takes less than 8000."""
AT_ONCE = 4
"""Notifications in a row; if that does not hold all hints, their kinds have to do."""


def channel_of(schema: str) -> str:
    """The channel of a schema; names are cut off at 63 bytes."""
    name = f"perdure_{schema}"
    return name if len(name) <= 63 else f"perdure_{blake2b(schema.encode(), digest_size=16).hexdigest()}"  # noqa: PLR2004


@attrs.frozen
class Notice:
    """
    One notification.

    Attributes:
        sender: The opening of a store that sent it, which has told its own listeners already; empty for others.
        hints: What happened.
        has_post: A delivery was put into the inbox.
        has_owners: Owners have come.
        has_late: Something is due that may lie before what claims look at.
    """

    sender: str = ""
    hints: tuple[Hint, ...] = ()
    has_post: bool = False
    has_owners: bool = False
    has_late: bool = False

    def encode(self) -> str:
        """The payload, however long."""
        told: dict[str, Any] = {"from": self.sender}
        for hint in self.hints:
            told.setdefault(hint.kind.value, []).append([hint.id, hint.function])
        if self.has_post:
            told["post"] = True
        if self.has_owners:
            told["owners"] = True
        if self.has_late:
            told["late"] = True
        return json.dumps(told, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def decode(cls, payload: str) -> Notice:
        """
        Read a payload.

        Raises:
            ValueError: It is none.
        """
        try:
            told = json.loads(payload)
            hints = [Hint(kind, id, function, 0) for kind in HintKind for id, function in told.get(kind.value, ())]
            return cls(
                str(told["from"]),
                tuple(hints),
                has_post=bool(told.get("post")),
                has_owners=bool(told.get("owners")),
                has_late=bool(told.get("late")),
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"{payload!r} is no notification of Perdure") from error


def split(sender: str, hints: Iterable[Hint]) -> list[Notice]:
    """Few notices that fit, with all hints or, for want of room, with their kinds."""
    unique = tuple(dict.fromkeys(hints))
    notices = list(_parts(sender, unique, AT_ONCE))
    if len(notices) <= AT_ONCE:
        return notices
    return [Notice(sender, tuple(Hint(kind) for kind in dict.fromkeys(hint.kind for hint in unique)))]


def _parts(sender: str, hints: tuple[Hint, ...], at_most: int) -> Iterator[Notice]:
    part: list[Hint] = []
    size = count = 0
    for hint in hints:
        # JSON adds quotes, commas and brackets, and at most escapes each quote and backslash.
        length = len(json.dumps([hint.id, hint.function], ensure_ascii=False).encode()) + 12
        if part and size + length > LARGEST - 200:
            yield Notice(sender, tuple(part))
            part, size, count = [], 0, count + 1
            if count > at_most:
                return
        part.append(hint)
        size += length
    if part:
        yield Notice(sender, tuple(part))
