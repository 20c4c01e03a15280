"""What the observers of one invocation are told, and when."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from perdure.engine.observer import Body
from perdure.model import OperationAction, OperationStatus, OperationType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from perdure.engine.ids import Identity
    from perdure.engine.observer import Observe, Observer, Opening
    from perdure.model import ErrorObject, InvocationOutput, Operation, OperationUpdate

logger = logging.getLogger("perdure.engine")

_PASSED_ON = KeyboardInterrupt, SystemExit, GeneratorExit


class Observation:
    """
    Tells the observers of one invocation. Thread-safe; nothing is told with its lock held.

    The end of an operation is told by whoever looks at the outcome, together with ends below it that nobody has looked
    at, and at the latest at the end of the invocation.
    """

    def __init__(self, observe: Iterable[Observe], opening: Opening) -> None:
        """
        Args:
            observe: Make the observers.
            opening: Of the invocation.
        """
        self._opening = opening
        self._records = opening.records
        self._lock = threading.Lock()
        self._telling = threading.Lock()
        self._ended: dict[str, Operation] = {}
        self._told: set[str] = set()
        self._resumed: set[str] = set(opening.updated)
        self._changed: dict[str, Operation] = {}
        self._over = False
        self._observers: list[Observer] = []
        self._observe = tuple(observe)
        self._note_ends(each for id in opening.updated if (each := self._records.get(id)) is not None)

    # --------------------------------------------------------------------------------------------- the invocation

    def __enter__(self) -> None:
        try:
            self.begin()
        except BaseException as error:
            self.end(error)
            raise

    def __exit__(self, _: object, error: BaseException | None, __: TracebackType | None) -> None:
        if error is not None:
            self.end(error)

    def outcome(self, output: InvocationOutput) -> InvocationOutput:
        """The same, after it has been told that the invocation ends with it."""
        self.end(output)
        return output

    def told(self, crashed: Callable[[BaseException], None]) -> Callable[[BaseException], None]:
        """The same, but the end is told before."""

        def end(error: BaseException) -> None:
            self.end(error)
            crashed(error)

        return end

    def begin(self) -> None:
        """Tell that the invocation begins; its workflow has not begun."""
        made = [observer for observe in self._observe for observer in contained(observe, self._opening) or ()]
        for observer in made:
            # Before it is told: also what fails halfway has to clean up at the end.
            self._observers.append(observer)
            contained(observer.invocation_started, self._opening)

    def end(self, outcome: InvocationOutput | BaseException) -> None:
        """Tell what is left to be told, and that the invocation is over; nothing is told after that."""
        with self._lock:
            if self._over:
                return
            left = [each for id in list(self._ended) for each in self._claim(id)]
        passed_on: BaseException | None = None
        calls: list[Callable[[], object]] = [lambda each=each: self._tell("operation_ended", each) for each in left]  # type: ignore[misc]
        calls.append(self.tell_changes)
        calls += [lambda each=each: contained(each.invocation_ended, outcome) for each in self._observers]  # type: ignore[misc]
        for call in calls:
            try:
                call()
            except _PASSED_ON as error:  # everybody is told before it goes its way
                passed_on = passed_on or error
        self._over = True
        if passed_on is not None:
            raise passed_on

    # --------------------------------------------------------------------------------------------- its operations

    def starting(self, updates: Iterable[OperationUpdate]) -> None:
        """These are about to be queued."""
        for update in updates:
            if update.action is OperationAction.START:
                self._tell("operation_started", update, self._records.get(update.operation_id))

    def resumed(self, record: Operation) -> None:
        """Replay has come to this operation."""
        if record.is_terminal or record.status is OperationStatus.READY or record.operation_id in self._resumed:
            return
        self._resumed.add(record.operation_id)
        self._tell("operation_resumed", record)

    def ended(self, operation_id: str) -> None:
        """Somebody looks at the end of this operation."""
        if operation_id in self._ended:
            with self._lock:
                claimed = self._claim(operation_id)
            for record in claimed:
                self._tell("operation_ended", record)

    def context_ended(self, identity: Identity, error: ErrorObject | None = None, *, again: bool = False) -> None:
        """A context has ended that records nothing of it."""
        self._tell("context_ended", identity, error, again=again)

    def watch(self, identity: Identity, attempt: int | None, *, again: bool, at_most_once: bool = False) -> Watch:
        """A context manager for around a body."""
        return Watch(self, identity, attempt, again, at_most_once)

    def trace_id(self, identity: Identity, function_name: str) -> str | None:
        """What to invoke another function with; that of the first observer that has one."""
        found: list[tuple[Observer, str]] = []
        for observer in self._observers:
            value = contained(observer.trace_id, identity, function_name)
            if isinstance(value, str) and value.strip():
                found.append((observer, value))
        if len({value for _, value in found}) > 1:
            logger.warning("observers differ about the trace id for %s; that of %r is used", identity, found[0][0])
        return found[0][1] if found else None

    # ------------------------------------------------------------------------------------------------- answers

    def answered(self, operations: Sequence[Operation]) -> None:
        """The service has told of these, which is not to be seen in the records yet; nobody is told now."""
        with self._lock:
            for each in operations:
                known = self._records.get(each.operation_id)
                if known is None or known.status is not each.status:
                    self._changed[each.operation_id] = each
            self._note_ends(operations)

    def tell_changes(self) -> None:
        """Tell what the service has told of, unless another thread is at it."""
        while self._changed and self._telling.acquire(blocking=False):
            try:
                with self._lock:
                    changed, self._changed = self._changed, {}
                self._tell("operations_changed", changed)
            finally:
                self._telling.release()

    def _note_ends(self, operations: Iterable[Operation]) -> None:
        for each in operations:
            is_execution = each.operation_type is OperationType.EXECUTION
            if each.is_terminal and not is_execution and each.operation_id not in self._told:
                self._ended[each.operation_id] = each

    def _claim(self, operation_id: str) -> list[Operation]:
        """Take the end of an operation and the untold ones below it, in the order to tell; the lock is held."""
        if operation_id not in self._ended:
            return []
        claimed = [self._ended.pop(operation_id)]
        for above in claimed:
            below = [id for id, each in self._ended.items() if each.parent_id == above.operation_id]
            claimed.extend(self._ended.pop(id) for id in below)  # and the loop goes on with those
        self._told.update(each.operation_id for each in claimed)
        return claimed[::-1]

    def _tell(self, hook: str, *args: Any, **options: Any) -> None:
        if not self._over:
            for observer in self._observers:
                contained(getattr(observer, hook), *args, **options)


class Watch:
    """Around one run of a body, where that runs."""

    __slots__ = ("_again", "_at_most_once", "_attempt", "_body", "_identity", "_observation")

    def __init__(
        self, observation: Observation, identity: Identity, attempt: int | None, again: bool, at_most_once: bool
    ) -> None:
        self._observation = observation
        self._identity = identity
        self._attempt = attempt
        self._again = again
        self._at_most_once = at_most_once
        self._body: Body | None = None

    def __enter__(self) -> None:
        self._body = Body(self._identity, self._attempt, self._again, datetime.now(UTC), self._at_most_once)
        self._observation._tell("body_started", self._body)  # noqa: SLF001 - one noun in two classes

    def __exit__(self, _: object, error: BaseException | None, __: TracebackType | None) -> None:
        self._observation._tell("body_ended", self._body, error)  # noqa: SLF001


def contained(hook: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call something that may fail without harm."""
    try:
        return hook(*args, **options)
    except _PASSED_ON:
        raise
    except BaseException:
        logger.exception("%r failed to observe an invocation, which goes on", hook)
