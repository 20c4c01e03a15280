"""Hints to whoever watches in this process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from perdure.storage import Hint, HintKind

if TYPE_CHECKING:
    from collections.abc import Callable


class Bell:
    """Rings for every listener on the loop that it was added on."""

    def __init__(self) -> None:
        self._listeners: dict[object, tuple[asyncio.AbstractEventLoop, Callable[[Hint], None]]] = {}

    def add(self, listener: Callable[[Hint], None]) -> Callable[[], None]:
        """Call `listener` on the running loop from now on, until what this returns is called."""
        watching = object()
        self._listeners[watching] = asyncio.get_running_loop(), listener

        def end() -> None:
            self._listeners.pop(watching, None)

        return end

    def ring(self, hint: Hint) -> None:
        """Tell all."""
        for watching, (loop, listener) in list(self._listeners.items()):
            try:
                loop.call_soon_threadsafe(self._call, watching, listener, hint)
            except RuntimeError:  # that loop is closed
                self._listeners.pop(watching, None)

    def _call(self, watching: object, listener: Callable[[Hint], None], hint: Hint) -> None:
        if watching in self._listeners:
            listener(hint)

    def ring_all(self, text: bytes, shard: int) -> None:
        """Tell what a script has rung: lines of kind, id and function."""
        for line in text.decode().split("\n"):
            kind, _, rest = line.partition(" ")
            id, _, function = rest.partition(" ")
            if kind in _KINDS:
                self.ring(Hint(HintKind(kind), id or None, function or None, shard))

    def silence(self) -> None:
        """End all watching."""
        self._listeners.clear()


_KINDS = frozenset(HintKind)
