"""
Previews: the few members of a large value that shall be seen beside a pointer to all of it.

Given to `FileSystemSerDesConfig(generate_preview=…)`, or used by a serializer of one's own.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import attrs

from perdure.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["FieldMatchMode", "PreviewConfig", "PreviewField", "PreviewMode", "build_preview"]


class PreviewMode(StrEnum):
    """What is shown that no rule speaks of: everything, or nothing."""

    INCLUDE_ALL = "INCLUDE_ALL"
    EXCLUDE_ALL = "EXCLUDE_ALL"


class FieldMatchMode(StrEnum):
    """Whether a rule means every member of that name with all below it, or the one at that path from the root."""

    ANYWHERE = "ANYWHERE"
    PATH = "PATH"


@attrs.frozen(eq=False, repr=False)
class PreviewField(Value):
    """
    The members that a rule is about.

    Attributes:
        name: A member's name, or a path with dots.
        match: Which of the two.
    """

    name: str
    match: FieldMatchMode = FieldMatchMode.ANYWHERE

    def matches(self, path: str) -> bool:
        """Whether the member at a path is meant."""
        return path == self.name if self.match is FieldMatchMode.PATH else self.name in path.split(".")


@attrs.frozen(eq=False, repr=False)
class PreviewConfig(Value):
    """
    What a preview shows. `exclude` wins over `mask`, and that over the rest.

    Attributes:
        mode: What is shown that no rule speaks of.
        include: Shown with EXCLUDE_ALL.
        exclude: Never shown.
        mask: Shown as `mask_string`, whatever the mode.
        mask_string: In place of what is masked.
        max_preview_bytes: Members are added until the preview would be larger as JSON.
    """

    mode: PreviewMode
    include: list[PreviewField] = attrs.Factory(list)
    exclude: list[PreviewField] = attrs.Factory(list)
    mask: list[PreviewField] = attrs.Factory(list)
    mask_string: str = "***"
    max_preview_bytes: int = 4096


def build_preview(value: Any, config: PreviewConfig) -> dict[str, Any] | None:
    """
    The preview of a value, in the shape of the value; of a list's items, the members are laid over each other.

    Args:
        value: A dict of JSON values. Members with a dot in their names are left out.
        config: What is shown.

    Returns:
        None if nothing is, or if the value is no dict.
    """
    if not isinstance(value, dict):
        return None
    preview: dict[str, Any] = {}
    for path, shown in _within(_shown(value, "", config), config.max_preview_bytes):
        *above, name = path.split(".")
        place = preview
        for part in above:
            below = place.get(part)
            if not isinstance(below, dict):
                below = place[part] = {}
            place = below
        place[name] = shown
    return preview or None


def _shown(value: Any, path: str, config: PreviewConfig) -> Iterator[tuple[str, Any]]:
    """What is visible at a path and below it, in the order of the value."""
    if isinstance(value, list):
        for item in value:
            yield from _shown(item, path, config)
    elif isinstance(value, dict):
        for name, member in value.items():
            if "." not in str(name):
                yield from _member(member, f"{path}.{name}" if path else str(name), config)


def _member(member: Any, path: str, config: PreviewConfig) -> Iterator[tuple[str, Any]]:
    def matched(rules: list[PreviewField]) -> bool:
        return any(rule.matches(path) for rule in rules)

    if matched(config.exclude):
        return
    if matched(config.mask):
        yield path, config.mask_string
    elif isinstance(member, (dict, list)):
        yield from _shown(member, path, config)
    elif config.mode is PreviewMode.INCLUDE_ALL or matched(config.include):
        yield path, member


def _within(pairs: Iterable[tuple[str, Any]], limit: int) -> Iterator[tuple[str, Any]]:
    """As many of them as fit."""
    size = len("{}")
    for path, shown in pairs:
        size += len(f'"{path}":{json.dumps(shown)},'.encode())
        if size > limit:
            return
        yield path, shown
