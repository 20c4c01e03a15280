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
    from collections.abc import Iterable, Sequence

    from perdure.engine.observer import Body, Opening
    from perdure.journal.entry import Entry
    from perdure.model import OperationUpdate
    from perdure.storage import Commit, New

_ENDS = frozenset({OperationAction.SUCCEED, OperationAction.FAIL, OperationAction.RETRY})
_INTERRUPTED = wire_name(StepInterruptedError)

LONGEST = 3
"""How many operations of a commit are told of."""

_Key = tuple[str, str]


@attrs.frozen
class Rerun:
    """
    A body, or a function that was invoked, that ran though it must not have.

    Attributes:
        operation: Whose, in an author's words.
        story: What it did, and why it must not.
    """

    operation: str
    story: str

    def __str__(self) -> str:
        return f"{self.operation} {self.story}"


class Tally:
    """
    Thread-safe; outlives the processes of the simulation.

    Attributes:
        commits: What each durable commit was about, in their order.
        reruns: What ran though it must not have.
        main: Id of the execution that the others were invoked by.
        interruptions: Steps whose attempt was taken for a failure, because it may have run.
    """

    def __init__(self) -> None:
        self.commits: list[str] = []
        self.reruns: list[Rerun] = []
        self.interruptions: list[str] = []
        self.main: str | None = None
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()
        self._lives = 0
        self._starts: dict[tuple[_Key, int], int] = {}
        self._begun: set[tuple[_Key, int]] = set()
        self._ended: Counter[_Key] = Counter()
        self._over: set[_Key] = set()
        self._invokes: dict[str, str] = {}
        self._children: dict[str, str] = {}

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
            is_main = self.main in (None, commit.id)
            self.commits.append(_label(entry) + ("" if is_main else ", in an invoked function"))
            return len(self.commits)

    def _note(self, execution: str, update: OperationUpdate) -> None:
        key = execution, update.operation_id
        if update.operation_type is OperationType.CHAINED_INVOKE:
            self._invokes["/".join(key)] = _operation(update)
        if update.operation_type is not OperationType.STEP:
            return
        if update.action not in _ENDS:
            self._starts[key, self._ended[key] + 1] = self._lives
            return
        self._ended[key] += 1
        if update.action is not OperationAction.RETRY:
            self._over.add(key)
        if update.error is not None and update.error.type == _INTERRUPTED:
            self.interruptions.append(_operation(update))

    def created(self, new: New) -> None:
        """Note an execution that there is now, or was already."""
        if new.parent is None:
            return
        with self._lock:
            if self._children.setdefault(new.parent, new.id) != new.id:
                operation = self._invokes.get(new.parent, f"invoke of {new.function!r}")
                self.reruns.append(Rerun(operation, "was carried out again, as another execution"))

    def began(self, execution: str, body: Body, here: set[tuple[str, int]]) -> None:
        """
        Note a body that begins to run.

        Args:
            execution: In which it does.
            body: Which it is.
            here: The attempts that have begun in this invocation; a later one may repeat them.
        """
        key, attempt, operation = (execution, body.identity.operation_id), body.attempt or 1, str(body.identity)
        with self._lock:
            self._running[operation] += 1
            reason = None
            if key in self._over or attempt <= self._ended[key]:
                reason = "though its end was recorded"
            elif body.at_most_once and self._may_have_run(key, attempt):
                reason = "which is to run at most once"
            elif (body.identity.operation_id, attempt) in here:
                reason = "though nothing had cut it off"
            if reason is not None:
                self.reruns.append(Rerun(operation, f"ran again in attempt {attempt}, {reason}"))
            self._begun.add((key, attempt))
            here.add((body.identity.operation_id, attempt))

    def _may_have_run(self, key: _Key, attempt: int) -> bool:
        # It has, or a process that died had it recorded that it would.
        return (key, attempt) in self._begun or self._starts.get((key, attempt), self._lives) < self._lives

    def recovered(self) -> None:
        """Note that a process has died, and another takes over."""
        with self._lock:
            self._lives += 1

    def left(self, body: Body) -> None:
        """Note one that runs no more."""
        with self._lock:
            self._running[str(body.identity)] -= 1


class _Watcher(Observer):
    """Tells the tally of the bodies of one invocation."""

    def __init__(self, tally: Tally, execution: str) -> None:
        self._tally = tally
        self._execution = execution
        self._begun: set[tuple[str, int]] = set()

    def body_started(self, body: Body) -> None:
        if body.identity.type is OperationType.STEP:
            self._tally.began(self._execution, body, self._begun)

    def body_ended(self, body: Body, error: BaseException | None) -> None:  # noqa: ARG002 - as the base has it
        if body.identity.type is OperationType.STEP:
            self._tally.left(body)


def _label(entry: Entry | None) -> str:
    """What a commit was about, in short."""
    if entry is None:
        return "an execution let go"
    if entry.updates:
        return _of_updates(entry.updates)
    if entry.ended is not None:
        return f"the end of the execution as {entry.ended.status.value}"
    if entry.crashed is not None:
        return "the record of a crash"
    return "timers that fired" if entry.fired else "the end of an invocation"


def _of_updates(updates: Sequence[OperationUpdate]) -> str:
    actions: dict[str, list[str]] = {}
    for update in updates:
        actions.setdefault(_operation(update), []).append(update.action.value)
    told = [f"{' and '.join(done)} of {operation}" for operation, done in actions.items()]
    rest = [f"{len(told) - LONGEST} others"] if len(told) > LONGEST else []
    return ", ".join(told[:LONGEST] + rest)


def _operation(update: OperationUpdate) -> str:
    if update.operation_type is OperationType.EXECUTION:
        return "the execution"
    return description(update.operation_type, update.sub_type, update.name)
