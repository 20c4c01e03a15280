"""How far back claims look for what is due."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs

from perdure.backends.postgres.record import MARGIN

if TYPE_CHECKING:
    from perdure.backends.postgres.leasing import ClaimRequest
    from perdure.storage import Claimed

FULL_LOOK = 5.0
"""Seconds after which a claim looks at everything again, whatever is known."""


@attrs.frozen
class _Bound:
    since: int
    now: int
    looked: float


class Horizon:
    """
    What earlier claims have found out: nothing is due from before a bound.

    Entries of the index of what is due that are dead, and cannot be removed as somebody has an old snapshot, lie before
    the bound, where each claim would read them anew. What comes to lie there later makes known that it is late.
    """

    def __init__(self) -> None:
        self._bounds: dict[object, _Bound] = {}

    def forget(self) -> None:
        """Something lies before the bounds, perhaps."""
        self._bounds.clear()

    def look(self, request: ClaimRequest) -> ClaimRequest:
        """A claim that looks no further back than it has to."""
        bound = self._bounds.get(_key(request))
        if bound is None or time.monotonic() > bound.looked + FULL_LOOK:
            return request
        return attrs.evolve(request, since=bound.since, since_now=bound.now)

    def learn(self, request: ClaimRequest, claimed: Claimed) -> None:
        """What a claim has found; more than it took may be due since its next wake."""
        earliest = claimed.now if claimed.next_wake is None else min(claimed.next_wake, claimed.now)
        known = self._bounds.get(_key(request))
        looked = known.looked if request.since and known else time.monotonic()
        self._bounds[_key(request)] = _Bound(max(0, earliest - MARGIN), claimed.now, looked)


def _key(request: ClaimRequest) -> object:
    return request.functions, request.format
