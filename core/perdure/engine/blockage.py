"""Which activities of an `async def` workflow are blocked, and on what."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from perdure.engine.activity import Activity
    from perdure.engine.replay import Records
    from perdure.model import Operation


class Blockage:
    """The activities that can do nothing before a record changes, by the id of its operation."""

    def __init__(self) -> None:
        self._activities: dict[str, list[Activity]] = {}

    def __bool__(self) -> bool:
        return bool(self._activities)

    def __contains__(self, id: str) -> bool:
        return id in self._activities

    def add(self, activity: Activity, record: Operation) -> None:
        """It is blocked on this record."""
        activity.blocked = record
        waiting = self._activities.setdefault(record.operation_id, [])
        if activity not in waiting:
            waiting.append(activity)

    def lift(self, id: str) -> list[Activity]:
        """Those that were blocked on this operation, and are no more."""
        freed = self._activities.pop(id, [])
        for activity in freed:
            activity.blocked = None
        return freed

    def add_waiting(self, batch: Activity, records: Records) -> None:
        """A batch is blocked on what it waits for besides its branches."""
        for id in batch.waiting.ids if batch.waiting is not None else ():
            self.add(batch, records[id])

    def remove_waiting(self, batch: Activity) -> None:
        """It goes on, maybe without that."""
        for id in batch.waiting.ids if batch.waiting is not None else ():
            waiting = self._activities.get(id, [])
            if batch in waiting:
                waiting.remove(batch)
                batch.blocked = None
                if not waiting:
                    del self._activities[id]

    def clear(self) -> None:
        """Nothing is blocked any more, and nothing goes on."""
        self._activities.clear()

    @property
    def records(self) -> list[Operation]:
        """The records on which activities are blocked that still matter."""
        waiting = (activity for each in self._activities.values() for activity in each if not activity.dropped)
        return [activity.blocked for activity in waiting if activity.blocked is not None]

    def changed(self, known: Records) -> list[str]:
        """The operations whose record is another one by now."""
        return [each.operation_id for each in self.records if known.get(each.operation_id) is not each]

    def versions(self, known: Records) -> dict[str, int]:
        """How often the service has told of each operation."""
        return {each.operation_id: known.version(each.operation_id) for each in self.records}

    @property
    def next_due(self) -> datetime | None:
        """When time alone changes one of them."""
        return min((record.due for record in self.records if record.due is not None), default=None)
