"""Hints to whoever watches a store, on their own loops; for stores to use."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from perdure.storage import Hint


class Bell:
    """Rings for every listener on the loop that it was added on; may be rung from any thread."""

    def __init__(self) -> None:
        self._listeners: dict[object, tuple[asyncio.AbstractEventLoop, Callable[[Hint], None]]] = {}

    def __bool__(self) -> bool:
        """Whether anybody listens."""
        return bool(self._listeners)

    def add(self, listener: Callable[[Hint], None]) -> Callable[[], None]:
        """Call `listener` on the running loop from now on, until what this returns is called."""
        watching = object()
        self._listeners[watching] = asyncio.get_running_loop(), listener

        def end() -> None:
            self._listeners.pop(watching, None)

        return end

    def ring(
        self,
        hints: Iterable[Hint],
        call: Callable[[asyncio.AbstractEventLoop, Callable[[], None]], None] | None = None,
    ) -> None:
        """
        Tell all listeners, in a later turn of their loops.

        Args:
            hints: What to tell.
            call: How something is called on a loop, where `call_soon_threadsafe` is not to be used for each.
        """
        told = tuple(hints)
        if not told:
            return
        for watching, (loop, listener) in list(self._listeners.items()):
            tell = partial(self._tell, watching, listener, told)
            try:
                call(loop, tell) if call else loop.call_soon_threadsafe(tell)
            except RuntimeError:  # that loop is closed
                self._listeners.pop(watching, None)

    def _tell(self, watching: object, listener: Callable[[Hint], None], hints: Iterable[Hint]) -> None:
        for hint in hints:
            if watching in self._listeners:
                listener(hint)

    def silence(self) -> None:
        """End all watching."""
        self._listeners.clear()
