"""
Crashing a workflow behind each of its commits in turn.

    explore_crashes(order, {"card": "4711"}, callbacks={"approval": "yes"}).assert_none()

A crash is what it is in life: the commit is durable, the process knows nothing of it and does nothing any more, and
another process goes on with what is recorded.
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar, Unpack, overload

import attrs

from perdure.engine.ids import description
from perdure.errors import NonDeterministicExecutionError, ResultTimeoutError, ValidationError, wire_name
from perdure.model import ErrorObject
from perdure.testing.lifeline import Crash
from perdure.testing.runner import PATIENCE, BlockedExecutionError, DurableTestRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from perdure.durable import DurableFunction
    from perdure.errors import DurableExecutionsError
    from perdure.testing.callback import PendingCallback
    from perdure.testing.result import TestOperation, TestResult
    from perdure.testing.scenario import Answer, Functions
    from perdure.testing.tally import Tally

O = TypeVar("O")  # noqa: E741 - output, as in `DurableFunction[I, O]`

_NON_DETERMINISTIC = wire_name(NonDeterministicExecutionError)
_LONGEST = 300
"""Characters of a value in a message."""


class FaultKind(Enum):
    """What a fault is about."""

    RAN_AGAIN = "a body ran that must not have"
    OTHER_END = "the workflow ended otherwise than without a crash"
    NO_END = "the workflow did not end"
    NON_DETERMINISTIC = "the workflow's code did not repeat itself"


@attrs.frozen
class CrashPoint:
    """
    Where the process crashes.

    Attributes:
        number: Of a commit, from 1.
        commit: What it was about in the run without a crash: `START and SUCCEED of step 'charge'`.
        is_in_front: The commit does not become durable; else it does.
    """

    number: int
    commit: str
    is_in_front: bool = False

    def __str__(self) -> str:
        return f"crash {'in front of' if self.is_in_front else 'behind'} commit {self.number} ({self.commit})"


@attrs.frozen(kw_only=True)
class Fault:
    """
    Something that a crash has changed, and must not.

    Attributes:
        kind: What it is about.
        crash: Where the process had crashed; None: it was found without a crash.
        operation: The operation that shows it, in an author's words, if one does.
        message: The whole story.
    """

    kind: FaultKind
    crash: CrashPoint | None
    operation: str | None
    message: str

    def __str__(self) -> str:
        return f"{self.crash or 'without a crash'}: {self.message}"


@attrs.frozen(kw_only=True)
class Exploration(Generic[O]):
    """
    What came of crashing a workflow.

    Attributes:
        undisturbed: How it ends without a crash.
        commits: How many commits it made then.
        crash_points: Where it was crashed: behind all of its commits, unless there was a limit.
        missed: Those of them that a run did not come to: it made fewer commits, as threads that take turns differently
            share commits differently.
        interrupted: Those at which a step that runs at most once was taken for failed, as it has to be. The end may
            differ then.
        faults: What was found.
    """

    undisturbed: TestResult[O]
    commits: int
    crash_points: tuple[CrashPoint, ...]
    missed: tuple[CrashPoint, ...] = ()
    interrupted: tuple[CrashPoint, ...] = ()
    faults: tuple[Fault, ...] = ()

    def assert_none(self) -> None:
        """Raises AssertionError: There are faults; it tells all of them."""
        if self.faults:
            told = "\n".join(f"  {fault}" for fault in self.faults)
            raise AssertionError(f"{len(self.faults)} faults in {len(self.crash_points)} crashes:\n{told}")


class _Options(TypedDict, total=False):
    callbacks: Mapping[str, Answer] | Callable[[PendingCallback], object] | None
    functions: Functions
    limit: int | None
    in_front: bool
    reset: Callable[[], object] | None
    outcome: Callable[[TestResult[Any]], object] | None
    timeout: float


@overload
def explore_crashes(
    handler: DurableFunction[Any, O], input: Any = ..., **options: Unpack[_Options]
) -> Exploration[O]: ...


@overload
def explore_crashes(
    handler: Callable[[Any, Any], Any], input: Any = ..., **options: Unpack[_Options]
) -> Exploration[Any]: ...


def explore_crashes(
    handler: Callable[[Any, Any], Any],
    input: Any = None,
    *,
    callbacks: Mapping[str, Answer] | Callable[[PendingCallback], object] | None = None,
    functions: Functions = (),
    limit: int | None = None,
    in_front: bool = False,
    reset: Callable[[], object] | None = None,
    outcome: Callable[[TestResult[Any]], object] | None = None,
    timeout: float = PATIENCE,
) -> Exploration[Any]:
    """
    Run a workflow undisturbed, then again for each of its commits with a crash behind that one.

    Each run has a store and a time of its own, and begins with the same state of Python's `random`. Found are ends that
    differ, bodies of steps that run although their end was recorded or that run twice though at most once, workflows
    that end no more, and code that does not repeat itself.

    Args:
        handler: A workflow, `def` or `async def`, decorated or not.
        input: What it is started with.
        callbacks: What becomes of callbacks, by name, or of any: as the answers of `DurableTestRunner.on_callback`.
        functions: What it may invoke, as for `DurableTestRunner`.
        limit: At most so many commits, evenly spread; None for all.
        in_front: Crash in front of each commit, too. Bodies whose end it was to record have run, and run again: that
            finds steps which do not bear to be repeated.
        reset: Called before each run, to put back what the workflow's steps have changed outside.
        outcome: What of a result has to be the same; None for status, value and error.
        timeout: Seconds of real time for each run.

    Raises:
        BlockedExecutionError, ResultTimeoutError: It does not end even without a crash.
        ValidationError: The limit is below 1.
    """
    if limit is not None and limit < 1:
        raise ValidationError(f"a limit is at least 1 crash, not {limit!r}; leave it out for all")
    runner: DurableTestRunner[Any] = DurableTestRunner(handler, functions=functions, timeout=timeout)
    if callable(callbacks):
        runner.on_callback(None, callbacks)
    else:
        for name, answer in (callbacks or {}).items():
            runner.on_callback(name, answer)
    return _Explorer(runner, input, reset or (lambda: None), outcome or _end).explore(limit, in_front)


@attrs.frozen
class _Run(Generic[O]):
    """A run that is over: its result, or why it has none."""

    tally: Tally
    result: TestResult[O] | None
    error: DurableExecutionsError | None
    has_crashed: bool


@attrs.frozen
class _Explorer(Generic[O]):
    runner: DurableTestRunner[O]
    input: Any
    reset: Callable[[], object]
    outcome: Callable[[TestResult[O]], object]

    def explore(self, limit: int | None, in_front: bool) -> Exploration[O]:
        undisturbed = [self._run(None), self._run(None)]
        results: list[TestResult[O]] = []
        for run in undisturbed:
            if run.result is None:
                assert run.error is not None
                raise run.error
            results.append(run.result)
        faults = self._found_undisturbed(undisturbed[0].tally, results)
        labels = undisturbed[0].tally.commits
        points = [
            CrashPoint(number, labels[number - 1], is_in_front)
            for number in _spread(len(labels), limit)
            for is_in_front in ((True, False) if in_front else (False,))
        ]
        missed: list[CrashPoint] = []
        interrupted: list[CrashPoint] = []
        for point in points:
            run = self._run(Crash(point.number, point.is_in_front))
            if not run.has_crashed:
                missed.append(point)
            is_interrupted = sorted(run.tally.interruptions) != sorted(undisturbed[0].tally.interruptions)
            if is_interrupted:
                interrupted.append(point)
            faults += self._found(point, run, results, may_differ=is_interrupted)
        return Exploration(
            undisturbed=results[0],
            commits=len(labels),
            crash_points=tuple(points),
            missed=tuple(missed),
            interrupted=tuple(interrupted),
            faults=tuple(faults),
        )

    def _run(self, crash: Crash | None) -> _Run[O]:
        self.reset()
        with _same_chance():
            run = self.runner.begin(self.input, crash=crash)
            simulation = run.simulation
            result: TestResult[O] | None = None
            error: DurableExecutionsError | None = None
            try:
                result = run.result()
            except (BlockedExecutionError, ResultTimeoutError) as raised:
                error = raised
            return _Run(simulation.tally, result, error, simulation.has_crashed)

    # ------------------------------------------------------------------------------------------------------- judging

    def _found_undisturbed(self, tally: Tally, results: Sequence[TestResult[O]]) -> list[Fault]:
        faults = _reruns(None, tally)
        first, second = results
        if (error := first.error) is not None and error.type == _NON_DETERMINISTIC:
            faults.append(_non_deterministic(None, error))
        elif (one := self.outcome(first)) != (other := self.outcome(second)):
            message = (
                f"two runs ended differently, as {_shown(one)} and as {_shown(other)}; make the workflow repeat "
                "itself, put back with reset= what its steps change outside, or say with outcome= what has to be equal"
            )
            operation = _difference(first, second)
            faults.append(Fault(kind=FaultKind.OTHER_END, crash=None, operation=operation, message=message))
        return faults

    def _found(
        self, point: CrashPoint, run: _Run[O], expected: Sequence[TestResult[O]], *, may_differ: bool
    ) -> list[Fault]:
        crash = point if run.has_crashed else None
        faults = _reruns(crash, run.tally)
        if run.result is None:
            faults.append(Fault(kind=FaultKind.NO_END, crash=crash, operation=None, message=str(run.error)))
            return faults
        outcome, outcomes = self.outcome(run.result), [self.outcome(each) for each in expected]
        if may_differ or outcome in outcomes:
            return faults
        error = run.result.error
        if error is not None and error.type == _NON_DETERMINISTIC:
            faults.append(_non_deterministic(crash, error))
        else:
            operation = _difference(expected[0], run.result)
            first = f"; the first operation that differs is {operation}" if operation else ""
            message = f"the workflow ended as {_shown(outcome)} instead of {_shown(outcomes[0])}{first}"
            faults.append(Fault(kind=FaultKind.OTHER_END, crash=crash, operation=operation, message=message))
        return faults


def _reruns(crash: CrashPoint | None, tally: Tally) -> list[Fault]:
    return [
        Fault(kind=FaultKind.RAN_AGAIN, crash=crash, operation=each.operation, message=str(each))
        for each in tally.reruns
    ]


def _non_deterministic(crash: CrashPoint | None, error: ErrorObject) -> Fault:
    message = error.message or ""
    named = message.partition(" replayed ")[2].partition(" at position ")[0] or None
    return Fault(kind=FaultKind.NON_DETERMINISTIC, crash=crash, operation=named, message=message)


def _end(result: TestResult[Any]) -> object:
    """How a workflow has ended, without what is random in it."""
    error = result.error or ErrorObject()
    end = (result.result, error.type, error.message, error.data)
    return (result.status.value, *(_without_ids(text, result) for text in end))


def _difference(expected: TestResult[Any], found: TestResult[Any]) -> str | None:
    """The first operation that came out otherwise, or that only one of the two has."""
    others = {each.id: each for each in found.operations}
    for each in expected.operations:
        other = others.pop(each.id, None)
        if other is None or _brief(each, expected) != _brief(other, found):
            return _words(each)
    return next((_words(each) for each in others.values()), None)


def _brief(operation: TestOperation, result: TestResult[Any]) -> object:
    error = operation.error or ErrorObject()
    texts = (operation.payload, error.type, error.message)
    return (operation.name, operation.sub_type, operation.status, [_without_ids(text, result) for text in texts])


def _words(operation: TestOperation) -> str:
    return description(operation.type, operation.sub_type, operation.name)


def _without_ids(text: str | None, result: TestResult[Any]) -> str | None:
    """A text without the secrets of callbacks, which are others in each run."""
    if text is None:
        return None
    for number, operation in enumerate(result.operations):
        if operation.callback_id:
            text = text.replace(operation.callback_id, f"<callback {number}>")
    return text


def _shown(outcome: object) -> str:
    text = " ".join(str(each) for each in outcome if each is not None) if isinstance(outcome, tuple) else repr(outcome)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _spread(count: int, limit: int | None) -> list[int]:
    """Numbers from 1 to `count`, at most `limit` of them, the first and the last among them."""
    if limit is None or count <= limit:
        return list(range(1, count + 1))
    if limit == 1:
        return [count]
    return sorted({1 + (count - 1) * each // (limit - 1) for each in range(limit)})


@contextmanager
def _same_chance() -> Iterator[None]:
    """Begin with the same random numbers each time, such as those of retry delays."""
    state = random.getstate()
    random.seed(0)
    try:
        yield
    finally:
        random.setstate(state)
