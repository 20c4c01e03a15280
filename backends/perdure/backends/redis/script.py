"""The verbs as Lua: one file each, behind the parts it needs."""

from __future__ import annotations

from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

_ALL = ("clock", "hint", "journal", "header")
_PARTS: dict[str, tuple[str, ...]] = {
    "append": ("clock", "journal", "fence"),
    "claim": (*_ALL, "lease"),
    "commit": (*_ALL, "fence", "await"),
    "create": (*_ALL, "lease"),
    "deliver": (*_ALL, "await"),
    "describe": ("header",),
    "entries": (),
    "expire": (*_ALL, "await"),
    "find": ("header",),
    "heartbeat": ("clock", "await"),
    "leases": ("clock",),
    "leave": ("clock", "hint"),
    "list": ("header",),
    "prolong": ("clock",),
    "purge": ("clock", "header"),
    "reap": _ALL,
    "recover": _ALL,
    "register": ("clock",),
    "renew": ("clock", "lease"),
    "settle": _ALL,
    "signal": _ALL,
    "unsettled": _ALL,
}
_FLAGS = {
    **dict.fromkeys(("describe", "entries", "find", "leases", "list"), "no-writes"),
    # A full server must not keep anybody from making room, or from living on.
    **dict.fromkeys(
        ("heartbeat", "leave", "prolong", "purge", "reap", "recover", "renew", "settle", "unsettled"), "allow-oom"
    ),
}


@attrs.frozen
class Script:
    """One verb; `sha` is what a server knows it by, once it has seen its text."""

    name: str
    text: bytes = attrs.field(repr=False)
    sha: bytes = attrs.field(repr=False)

    @property
    def is_reading(self) -> bool:
        """Whether it writes nothing."""
        return _FLAGS.get(self.name) == "no-writes"


@cache
def _source(name: str) -> str:
    return files(__package__).joinpath("lua", f"{name}.lua").read_text("utf-8")


class Library:
    """
    All scripts, as one store runs them.

    Args:
        notify: Whether they publish hints; `is_cluster`: whether slots may move.
        clock: Lua that stands in for the server's clock; for tests.
    """

    def __init__(self, *, notify: bool, is_cluster: bool, clock: str | None = None) -> None:
        self._options = f"local NOTIFY, CLUSTER = {str(notify).lower()}, {str(is_cluster).lower()}\n"
        self._clock = clock
        self._scripts = {name: self._assemble(name) for name in _PARTS}

    def __getitem__(self, name: str) -> Script:
        return self._scripts[name]

    def __iter__(self) -> Iterator[Script]:
        return iter(self._scripts.values())

    def _assemble(self, name: str) -> Script:
        first = "#!lua flags=" + _FLAGS[name] if name in _FLAGS else "#!lua"
        parts = [self._part(part) for part in ("head", *_PARTS[name], name)]
        text = "\n".join([first, self._options, *parts]).encode()
        return Script(name, text, sha1(text, usedforsecurity=False).hexdigest().encode())

    def _part(self, name: str) -> str:
        return self._clock if name == "clock" and self._clock is not None else _source(name)
