"""What immutable values have in common."""

from __future__ import annotations

from functools import cache
from operator import attrgetter
from typing import Any


class Value:
    """
    Base of attrs classes: how they are compared, hashed and shown, which is by their fields.

    attrs would compile methods for it in every class, which takes longer than all else it does for a class, and a
    cold start pays for every import.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        kind: Any = type(self)
        fields = _compared(kind)
        return bool(fields(self) == fields(other))

    def __hash__(self) -> int:
        kind: Any = type(self)
        return hash(_compared(kind)(self))

    def __repr__(self) -> str:
        fields: tuple[Any, ...] = type(self).__attrs_attrs__  # type: ignore[attr-defined]
        shown = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in fields if field.repr)
        return f"{type(self).__qualname__.rpartition('>.')[2]}({shown})"


@cache
def _compared(kind: Any) -> attrgetter[tuple[Any, ...]]:
    # The class goes with the fields: hashes of two classes differ, and there is always something to compare.
    return attrgetter("__class__", *(field.name for field in kind.__attrs_attrs__ if field.eq))
