"""What falls due when."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort


class Schedule:
    """Keys in the order of the instants (µs) they are due at, then of the keys themselves."""

    def __init__(self) -> None:
        self._instants: dict[str, int] = {}
        self._order: list[tuple[int, str]] = []

    def set(self, key: str, instant: int | None) -> None:
        """Have `key` due at `instant` and not when it was before; None: never."""
        former = self._instants.get(key)
        if former == instant:
            return
        if former is not None:
            del self._instants[key]
            del self._order[bisect_left(self._order, (former, key))]
        if instant is not None:
            self._instants[key] = instant
            insort(self._order, (instant, key))

    def due(self, now: int, limit: int) -> list[tuple[int, str]]:
        """The first `limit` of what is due at `now`, with its instants."""
        end = bisect_right(self._order, now, key=lambda item: item[0])
        return self._order[: min(end, limit)]

    def first(self) -> int | None:
        """The earliest instant."""
        return self._order[0][0] if self._order else None


def earliest(*schedules: Schedule) -> int | None:
    """The earliest instant of several."""
    return min((instant for schedule in schedules if (instant := schedule.first()) is not None), default=None)
