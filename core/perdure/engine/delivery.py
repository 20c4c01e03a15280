"""In which order an async workflow is told that its operations have ended."""

from __future__ import annotations

import heapq
import sys
from itertools import count
from typing import TYPE_CHECKING

from perdure.engine.commands import WaitAny

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perdure.engine.activity import Activity
    from perdure.engine.commands import Outcome
    from perdure.engine.replay import Records
    from perdure.model import Operation

_AT_REST, _AT_ONCE, _PROMPT, _RECORDED = range(4)
_AFTER_ALL = (sys.maxsize, True, sys.maxsize)


def ordered_by_time(operations: Iterable[Operation]) -> bool:
    """Whether the service leaves it to the time of their ends to order operations."""
    return any(operation.position is None and operation.is_terminal for operation in operations)


class Deliveries:
    """
    The completions that have not been delivered yet, and the news that batches wait for besides.

    They are delivered by the key of their records, which is the same live and on replay. What has no record of its
    end comes before all others: first what needed no answer (a virtual context), then what is *prompt*: what ends with
    the answer to its START, such as the creation of a callback. Live that answer may come after the ends of others, on
    replay it is there at once; so while one is prompt and unanswered, nothing is delivered at all.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._heap: list[tuple[tuple[int, bool, int], int, int, Activity, Outcome | None]] = []
        self._ticks = count()
        self._last = (-1, False, -1)
        self._prompt: dict[Activity, None] = {}

    def __contains__(self, activity: Activity) -> bool:
        return any(activity is each[3] and each[4] is not None for each in self._heap)

    def hold_for(self, activity: Activity) -> None:
        """Deliver nothing before `activity` goes on."""
        self._prompt[activity] = None

    def release(self, activity: Activity) -> None:
        """It goes on, or is no more."""
        self._prompt.pop(activity, None)

    def add(self, activity: Activity, outcome: Outcome) -> None:
        """An activity has ended."""
        record = self._records.get(activity.operation_id)
        key, rank = self._last, _AT_ONCE
        if activity in self._prompt:
            self.release(activity)
            rank = _PROMPT
        elif record is not None and (record.position is not None or record.is_terminal):
            key, rank = self._records.delivery_key(record), _RECORDED
        heapq.heappush(self._heap, (key, rank, next(self._ticks), activity, outcome))

    def tell(self, activity: Activity) -> None:
        """There is news for an activity that waits: the first of what it waits for has come to pass."""
        wanted = activity.waiting
        if isinstance(wanted, WaitAny):
            ended = (record for id in wanted.ids if (record := self._records.get(id)) and record.is_terminal)
            key, rank = min(self._records.delivery_key(record) for record in ended), _RECORDED
            key = _AFTER_ALL if wanted.patient else key
        else:
            key, rank = self._last, _AT_REST
        heapq.heappush(self._heap, (key, rank, next(self._ticks), activity, None))

    def next(self) -> tuple[Activity, Outcome | None] | None:
        """Take the completion to deliver now, None being news; None if there is none, or none yet."""
        while self._heap and not self._prompt:
            key, _, _, activity, outcome = heapq.heappop(self._heap)
            if not activity.dropped:
                if key is not _AFTER_ALL:
                    self._last = max(self._last, key)
                return activity, outcome
        return None

    def clear(self) -> None:
        """Nothing is delivered any more."""
        self._heap.clear()
        self._prompt.clear()
