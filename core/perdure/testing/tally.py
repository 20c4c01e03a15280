"""What happens in a simulation: which commits become durable, and which bodies of steps run."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

import attrs

from perdure.engine.ids import description
from perdure.engine.observer import Observer
from perdure.errors import StepInterruptedError, wire_name
from perdure.journal.entry import decode
from perdure.model import OperationAction, OperationType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perdure.engine.observer import Body, Opening
    from perdure.journal.entry import Entry
    from perdure.model import OperationUpdate
    from perdure.storage import Commit

_ENDS = frozenset({OperationAction.SUCCEED, OperationAction.FAIL, OperationAction.RETRY})
_INTERRUPTED = wire_name(StepInterruptedError)

_Key = tuple[str, str]


@attrs.frozen
class Rerun:
    """
    A body that ran though it must not have.

    Attributes:
        operation: Whose, in an author's words.
        attempt: From 1.
        reason: Why it must not.
    """

    operation: str
    attempt: int
    reason: str

    def __str__(self) -> str:
        return f"{self.operation} ran again in attempt {self.attempt}, {self.reason}"


class Tally:
    """
    Thread-safe; outlives the processes of the simulation.

    Attributes:
        commits: What each durable commit was about, in their order.
        reruns: Bodies that ran though they must not have.
        interruptions: Steps whose attempt was taken for a failure, because it may have run.
    """

    def __init__(self) -> None:
        self.commits: list[str] = []
        self.reruns: list[Rerun] = []
        self.interruptions: list[str] = []
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()
        self._begun: set[tuple[_Key, int]] = set()
        self._ended: Counter[_Key] = Counter()
        self._over: set[_Key] = set()

    @property
    def running(self) -> list[str]:
        """The bodies that run now, in an author's words."""
        with self._lock:
            return sorted(self._running.elements())

    def observe(self, opening: Opening) -> Iterable[Observer]:
        """As `perdure.engine.observer.Observe`."""
        return (_Watcher(self, opening.arn.rpartition("/")[2]),)

    def committed(self, commit: Commit) -> int:
        """Note a commit that is durable; returns its number, from 1."""
        entry = decode(commit.draft.body) if commit.draft is not None else None
        with self._lock:
            for update in entry.updates if entry is not None else ():
                self._note(commit.id, update)
            self.commits.append(_label(entry))
            return len(self.commits)

    def _note(self, execution: str, update: OperationUpdate) -> None:
        if update.operation_type is not OperationType.STEP or update.action not in _ENDS:
            return
        key = execution, update.operation_id
        self._ended[key] += 1
        if update.action is not OperationAction.RETRY:
            self._over.add(key)
        if update.error is not None and update.error.type == _INTERRUPTED:
            self.interruptions.append(_operation(update))

    def began(self, execution: str, body: Body) -> None:
        """Note a body that begins to run."""
        key, attempt, operation = (execution, body.identity.operation_id), body.attempt or 1, str(body.identity)
        with self._lock:
            self._running[operation] += 1
            if key in self._over or attempt <= self._ended[key]:
                self.reruns.append(Rerun(operation, attempt, "though its end was recorded"))
            elif body.at_most_once and (key, attempt) in self._begun:
                self.reruns.append(Rerun(operation, attempt, "which is to run at most once"))
            self._begun.add((key, attempt))

    def left(self, body: Body) -> None:
        """Note one that runs no more."""
        with self._lock:
            self._running[str(body.identity)] -= 1


class _Watcher(Observer):
    """Tells the tally of the bodies of one invocation."""

    def __init__(self, tally: Tally, execution: str) -> None:
        self._tally = tally
        self._execution = execution

    def body_started(self, body: Body) -> None:
        if body.identity.type is OperationType.STEP:
            self._tally.began(self._execution, body)

    def body_ended(self, body: Body, error: BaseException | None) -> None:  # noqa: ARG002 - as the base has it
        if body.identity.type is OperationType.STEP:
            self._tally.left(body)


def _label(entry: Entry | None) -> str:
    """What a commit was about, in short."""
    if entry is None:
        return "an execution let go"
    if entry.updates:
        last = entry.updates[-1]
        others = f" and {len(entry.updates) - 1} before it" if len(entry.updates) > 1 else ""
        return f"{last.action.value} of {_operation(last)}{others}"
    if entry.ended is not None:
        return f"the end of the execution as {entry.ended.status.value}"
    if entry.crashed is not None:
        return "the record of a crash"
    return "timers that fired" if entry.fired else "the end of an invocation"


def _operation(update: OperationUpdate) -> str:
    if update.operation_type is OperationType.EXECUTION:
        return "the execution"
    return description(update.operation_type, update.sub_type, update.name)
