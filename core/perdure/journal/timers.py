"""When time alone changes an operation."""

from __future__ import annotations

import heapq


class Timers:
    """When time alone changes which operation; the earliest is at hand without a search."""

    def __init__(self) -> None:
        self._due: dict[str, int] = {}
        # Entries of operations that are no longer waiting stay until they come to the top.
        self._heap: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._due)

    def arm(self, id: str, due: int) -> None:
        """Have `id` come due at `due` (µs)."""
        self._due[id] = due
        heapq.heappush(self._heap, (due, id))

    def disarm(self, id: str) -> None:
        """Forget `id`."""
        self._due.pop(id, None)

    def due(self, id: str) -> int | None:
        """When `id` comes due, or None."""
        return self._due.get(id)

    def armed(self) -> dict[str, int]:
        """When each comes due."""
        return dict(self._due)

    def next(self) -> int | None:
        """When the earliest comes due, or None."""
        heap = self._heap
        while heap and self._due.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def all_due(self, now: int) -> list[tuple[int, str]]:
        """Everything due by `now`: when and what."""
        earliest = self.next()
        if earliest is None or earliest > now:
            return []
        return [(due, id) for id, due in self._due.items() if due <= now]
