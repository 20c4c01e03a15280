"""Who wants to hear hints in this process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from perdure.storage import Hint


class Bell:
    """Listeners, each with the loop it is to be called on."""

    def __init__(self) -> None:
        self._listeners: dict[object, tuple[asyncio.AbstractEventLoop, Callable[[Hint], None]]] = {}

    def add(self, listener: Callable[[Hint], None]) -> Callable[[], None]:
        """Have a listener called on the running loop, until what is returned is called."""
        watching = object()
        self._listeners[watching] = asyncio.get_running_loop(), listener

        def end() -> None:
            self._listeners.pop(watching, None)

        return end

    def clear(self) -> None:
        """Forget all listeners."""
        self._listeners.clear()

    def ring(self, hints: Iterable[Hint]) -> None:
        """Tell all listeners, in a later turn of their loops."""
        told = tuple(hints)
        if not told:
            return
        for watching, (loop, listener) in list(self._listeners.items()):
            try:
                loop.call_soon_threadsafe(self._tell, watching, listener, told)
            except RuntimeError:  # that loop is closed
                self._listeners.pop(watching, None)

    def _tell(self, watching: object, listener: Callable[[Hint], None], hints: Iterable[Hint]) -> None:
        for hint in hints:
            if watching in self._listeners:
                listener(hint)
