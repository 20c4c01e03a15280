"""What a script has rung, as text: lines of kind, id and function."""

from __future__ import annotations

from perdure.storage import Hint, HintKind

_KINDS = frozenset(HintKind)


def rung(text: bytes, shard: int) -> list[Hint]:
    """The hints in it; kinds that only a newer version knows are left out."""
    hints = []
    for line in text.decode().split("\n"):
        kind, _, rest = line.partition(" ")
        id, _, function = rest.partition(" ")
        if kind in _KINDS:
            hints.append(Hint(HintKind(kind), id or None, function or None, shard))
    return hints
