"""What immutable values have in common."""

from __future__ import annotations

from typing import Any


class Value:
    """
    Base of attrs classes: how they are shown.

    attrs would compile a method for it in every class, which takes longer than all else it does for a class, and a
    cold start pays for every import.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        fields: tuple[Any, ...] = type(self).__attrs_attrs__  # type: ignore[attr-defined]
        shown = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in fields if field.repr)
        return f"{type(self).__qualname__.rpartition('>.')[2]}({shown})"
