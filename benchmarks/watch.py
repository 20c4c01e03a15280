"""A store that is looked at: when claims and reapings happened, and what they took."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from perdure.storage import Store


class ClaimTime(NamedTuple):
    """
    A claim.

    Attributes:
        at: When it was asked for.
        taken: How many executions it got.
        seconds: Until it was answered.
    """

    at: float
    taken: int
    seconds: float


class Watch:
    """
    A store with a clock beside its verbs `claim` and `reap`.

    Attributes:
        claims: All claims so far.
        known_dead: When the first reaping began that freed something, or None.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.claims: list[ClaimTime] = []
        self.known_dead: float | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def claim(self, *arguments: Any, **options: Any) -> Any:
        """As `Store.claim`."""
        at, begun = time.time(), time.perf_counter()
        answer = await self._store.claim(*arguments, **options)
        self.claims.append(ClaimTime(at, len(getattr(answer, "headers", ())), time.perf_counter() - begun))
        return answer

    async def reap(self, *arguments: Any, **options: Any) -> Any:
        """As `Store.reap`."""
        at = time.time()
        answer = await self._store.reap(*arguments, **options)
        if answer.count and self.known_dead is None:
            self.known_dead = at
        return answer
