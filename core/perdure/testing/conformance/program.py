"""
Small workflows and what a journal says about them: the model that the state machine checks stores with.

It stands in for the engine and the service, much simplified, so that the kit depends on the SPI alone.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs

from perdure.storage import MICROSECONDS, Timeouts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perdure.storage import Row

SECOND = MICROSECONDS
RETIRED = "retired"
"""The function that workers cease to carry at some time."""

Update = list[Any]
"""What an owner records about an operation: an action, the operation, arguments."""

PROGRAMS: dict[str, list[list[tuple[Any, ...]]]] = {
    "short": [[("step", "a", 0)]],
    "steps": [[("step", "a", 0)], [("wait", "b", 5), ("step", "c", 2)], [("step", "d", 0)]],
    "calls": [[("callback", "a", 30, 7), ("step", "b", 0)], [("wait", "c", 3)]],
    "parent": [[("invoke", "a", "child"), ("invoke", "b", "short"), ("wait", "c", 4)], [("invoke", "d", RETIRED)]],
    "child": [[("step", "a", 1)], [("callback", "b", 20, None)]],
    RETIRED: [[("step", "a", 0)], [("wait", "b", 6)]],
}
"""
Stages of operations, by function; a stage begins when the one before is done. Arguments: of a step, how often it is
retried; of a wait, seconds; of a callback, seconds until timeout and heartbeat timeout; of an invoke, the function.
"""

RETRY_DELAY = 3 * SECOND


def body(**members: Any) -> bytes:
    """The body of an entry."""
    return json.dumps(members).encode()


TIMEOUTS = Timeouts(
    callback=body(event=["TIMED_OUT", "Callback.Timeout"]),
    heartbeat=body(event=["TIMED_OUT", "Callback.Heartbeat"]),
    execution=body(over="TIMED_OUT"),
    format=1,
)


@attrs.define
class Operation:
    """One operation as a journal has it; `due`: when time alone changes it."""

    id: str
    kind: str
    status: str = "STARTED"
    due: int | None = None
    attempts: int = 0
    outcome: Any = None

    @property
    def is_done(self) -> bool:
        """Whether nothing can change any more."""
        return self.status not in ("STARTED", "PENDING", "READY")


@attrs.define(kw_only=True)
class Effect:
    """What the row of that index asks for elsewhere: a child, or that a parent learns of the end."""

    index: int
    operation: str | None = None
    function: str | None = None
    outcome: list[Any] | None = None


@attrs.define
class Model:
    """The fold of one journal."""

    function: str = ""
    parent: str | None = None
    length: int = 0
    at: int = 0
    status: str = "RUNNING"
    operations: dict[str, Operation] = attrs.field(factory=dict)
    news: list[int] = attrs.field(factory=list)
    paused_at: int | None = None
    completed: list[str] = attrs.field(factory=list)
    crashes: int = 0
    backoff_until: int = 0
    effects: list[Effect] = attrs.field(factory=list)

    def apply(self, row: Row) -> None:
        """Fold one more row."""
        assert row.index == self.length + 1, f"row {row.index} follows row {self.length}"
        assert row.at >= self.at, f"row {row.index} is older than the one before"
        assert self.status == "RUNNING", f"row {row.index} follows the end"
        self.length, self.at, self.backoff_until = row.index, row.at, 0
        entry: dict[str, Any] = json.loads(row.body)
        if row.seen is not None and self.paused_at is not None and row.seen >= self.paused_at:
            lets_go = "crashed" in entry or entry.get("status") == "PENDING"
            assert lets_go, f"row {row.index} goes on in a pause it had seen: {entry}"
        (kind, value), *_ = entry.items()
        apply = getattr(self, f"_apply_{kind}")
        apply(row, value, entry)

    def _apply_started(self, row: Row, value: str, entry: dict[str, Any]) -> None:
        self.function, self.parent = value, entry["parent"]
        self.news.append(row.index)

    def _apply_event(self, row: Row, value: list[Any], entry: dict[str, Any]) -> None:  # noqa: ARG002 - one signature
        operation = self.operations[row.operation or ""]
        assert not operation.is_done, f"row {row.index} completes {operation} once more"
        operation.status, operation.outcome = value
        self.news.append(row.index)

    def _apply_over(self, row: Row, value: str, entry: dict[str, Any]) -> None:  # noqa: ARG002
        self._end(row, value, None)

    def _apply_paused(self, row: Row, value: bool, entry: dict[str, Any]) -> None:  # noqa: ARG002
        self.paused_at = row.index

    def _apply_resumed(self, row: Row, value: bool, entry: dict[str, Any]) -> None:  # noqa: ARG002
        self.paused_at = None
        self.crashes = 0
        self.news.append(row.index)

    def _apply_crashed(self, row: Row, value: str, entry: dict[str, Any]) -> None:
        self.completed.append(value)
        self.crashes += 1
        self.news.append(row.index)
        self.backoff_until = row.at + entry["pause"]

    def _apply_invocation(self, row: Row, value: str, entry: dict[str, Any]) -> None:
        self.completed.append(value)
        if entry["clean"]:
            self.crashes = 0
        self.news = [index for index in self.news if index > (row.seen or 0)]
        if entry["cut"]:
            self.news.append(row.index)
        if entry["status"] != "PENDING":
            self._end(row, entry["status"], entry["result"])

    def _apply_updates(self, row: Row, value: list[Update], entry: dict[str, Any]) -> None:  # noqa: ARG002
        for update in value:
            self._update(row, update)

    def _end(self, row: Row, status: str, result: Any) -> None:
        self.status = status
        if self.parent is not None:
            self.effects.append(Effect(index=row.index, outcome=[status, result]))

    def _update(self, row: Row, update: Update) -> None:
        action, id, *arguments = update
        operation = self.operations.get(id)
        if operation is None:
            operation = self.operations[id] = Operation(id, action)
            if action == "wait":
                operation.due = row.at + arguments[0] * SECOND
            elif action == "invoke":
                self.effects.append(Effect(index=row.index, operation=id, function=arguments[0]))
            return
        match action, operation.status:
            case "step", "READY":
                operation.status = "STARTED"
            case "retry", "STARTED":
                operation.status, operation.due = "PENDING", row.at + RETRY_DELAY
                operation.attempts += 1
            case "succeed", "STARTED":
                operation.status, operation.outcome = "SUCCEEDED", operation.attempts
            case "fire", _:
                self._fire(row, operation)
            case _:
                raise AssertionError(f"row {row.index} has {update}, where the operation is {operation}")

    def _fire(self, row: Row, operation: Operation) -> None:
        # A firing from a clock that is ahead folds to nothing (rule 4).
        if operation.due is not None and operation.due <= row.at:
            operation.due = None
            operation.status = "SUCCEEDED" if operation.kind == "wait" else "READY"
            self.news.append(row.index)

    def timers(self) -> list[Operation]:
        """Operations that time alone changes."""
        return [operation for operation in self.operations.values() if operation.due is not None]

    def next_due(self) -> int | None:
        """When the first of them is due."""
        return min((operation.due for operation in self.timers() if operation.due is not None), default=None)

    def possible(self) -> list[Update]:
        """What the workflow could do next; ["end", result] when everything is done, nothing while it waits."""
        for stage in PROGRAMS[self.function]:
            if not all(task[1] in self.operations and self.operations[task[1]].is_done for task in stage):
                return [update for task in stage for update in self._next(task)]
        return [["end", [[operation.id, operation.status] for operation in self.operations.values()]]]

    def _next(self, task: tuple[Any, ...]) -> Iterator[Update]:
        kind, id, *arguments = task
        operation = self.operations.get(id)
        if operation is None:
            yield [kind, id, *arguments]
        elif kind == "step" and operation.status == "READY":
            yield ["step", id]
        elif kind == "step" and operation.status == "STARTED":
            yield ["retry", id] if operation.attempts < arguments[0] else ["succeed", id]
