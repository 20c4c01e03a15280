"""
The batch: branches side by side, and a policy that says when enough of them have ended. Both parallel and map.

A batch is a context whose work is the loop in `_live`. When its result was too large to record, `_recorded` rebuilds
it from the branches by the decision that was recorded instead.

With a timeout, a wait of the batch's own is begun before its branches are. Recorded ends of branches count before the
end of that wait, whichever came first: so replay decides as the first run did, except where nobody had been told yet.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import attrs

from perdure.batch import (
    BatchItem,
    BatchItemStatus,
    BatchResult,
    CompletionPolicy,
    CompletionReason,
    CompletionRecord,
    envelope_summary_generator,
)
from perdure.config import ChildConfig, CompletionItemStatus, NestingType, ParallelBranch
from perdure.engine.commands import Checkpoint, Raised, Rest, Returned, Spawn, WaitAny
from perdure.engine.ids import Identity, check_name, description, operation_id
from perdure.engine.operations.child import child, contextual
from perdure.engine.operations.payload import error_object, recorded
from perdure.engine.operations.retry import Attempts
from perdure.engine.operations.wait import wait, wait_seconds
from perdure.errors import ChildContextError, NonDeterministicExecutionError
from perdure.model import OperationAction, OperationStatus, OperationSubType, OperationType, WaitOptions
from perdure.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from perdure.config import MapConfig, ParallelConfig
    from perdure.engine.commands import Outcome, Procedure
    from perdure.engine.replay import Run
    from perdure.engine.scope import Scope
    from perdure.model import Operation, OperationUpdate
    from perdure.types import SummaryGenerator


@attrs.frozen(eq=False, repr=False)
class Branch(Value):
    """
    One branch as the author gave it.

    Attributes:
        body: Called with the branch's context and `args`.
        name: As given; None stands for the default name.
    """

    body: Callable[..., Any]
    args: tuple[Any, ...] = ()
    name: str | None = attrs.field(default=None, validator=lambda _, __, name: check_name(name))


@attrs.frozen(eq=False, repr=False)
class Kind(Value):
    """What tells parallel and map apart."""

    sub_type: str
    result_type: str
    branch_sub_type: str
    branch_prefix: str


PARALLEL = Kind(OperationSubType.PARALLEL, "ParallelResult", OperationSubType.PARALLEL_BRANCH, "parallel-branch-")
MAP = Kind(OperationSubType.MAP, "MapResult", OperationSubType.MAP_ITERATION, "map-item-")


def parallel_branches(functions: Sequence[Callable[..., Any]]) -> list[Branch]:
    """The branches of a parallel."""
    return [Branch(each, (), each.name if isinstance(each, ParallelBranch) else None) for each in functions]


def map_branches(inputs: Sequence[Any], func: Callable[..., Any], config: MapConfig[Any]) -> list[Branch]:
    """The branches of a map."""
    namer = config.item_namer
    return [
        Branch(func, (item, index, inputs), namer(item, index) if namer else None) for index, item in enumerate(inputs)
    ]


def batch(
    scope: Scope,
    identity: Identity,
    kind: Kind,
    branches: Callable[[], Sequence[Branch]],
    config: ParallelConfig | MapConfig[Any],
) -> Procedure[BatchResult[Any]]:
    """
    Run branches until the completion policy is content, and return what has become of each that was begun.

    Args:
        scope: Of the context that the batch stands in.
        identity: The batch's own operation.
        kind: `PARALLEL` or `MAP`.
        branches: Makes the branches; called only when they are needed, an error in it fails the batch.
        config: Concurrency, completion, nesting and serializers.

    Raises:
        ChildContextError: Not for a failed branch, but for a predicate, namer or summary that raised.
    """
    timer = _timer(identity) if config.timeout is not None else None

    def work(container: Scope, record: Operation | None) -> Procedure[BatchResult[Any]]:
        board = _Board(container, kind, branches(), config)
        return (yield from (_live(board, timer) if record is None else _recorded(board, record)))

    def ahead() -> tuple[OperationUpdate, ...]:
        record = scope.replay.records.get(timer.operation_id) if timer is not None else None
        if timer is None or record is None or record.is_terminal:
            return ()
        return (timer.update(OperationAction.CANCEL),)

    summary = cast("SummaryGenerator[Any]", envelope_summary_generator(kind.result_type, config.summary_generator))
    return contextual(scope, identity, work, ChildConfig(serdes=config.serdes, summary_generator=summary), ahead=ahead)


def repeated(
    scope: Scope,
    identity: Identity,
    kind: Kind,
    branches: Callable[[], Sequence[Branch]],
    config: ParallelConfig | MapConfig[Any],
) -> Procedure[BatchResult[Any]]:
    """
    Run one batch after another in a context, until none failed or the retry strategy gives up.

    Args:
        scope: As of `batch`.
        identity: The context's operation; each batch in it has one of its own.
        kind: As of `batch`.
        branches: Makes the branches of each batch.
        config: Of each batch.

    Raises:
        ChildContextError: As of `batch`, which is not retried for it.
    """

    def work(inner: Scope, _: Operation | None) -> Procedure[BatchResult[Any]]:
        whose = description(OperationType.CONTEXT, kind.sub_type, identity.name)
        attempts = Attempts(config.retry_strategy, identity.name, whose)
        while True:
            attempt = inner.draw(OperationType.CONTEXT, kind.sub_type, identity.name)
            result = yield from batch(inner, attempt, kind, branches, config)
            inner.received(attempt)
            backoff = attempts.backoff(error) if (error := _failure(result)) is not None else None
            if backoff is None:
                return result
            delay, name = backoff
            pause = inner.draw(OperationType.WAIT, OperationSubType.WAIT, name)
            yield from wait(inner, pause, wait_seconds(delay))
            inner.received(pause)

    return contextual(scope, identity, work, ChildConfig(serdes=config.serdes))


def _failure(result: BatchResult[Any]) -> Exception | None:
    try:
        result.throw_if_error()
    except Exception as error:  # noqa: BLE001 - whatever it is, the strategy decides
        return error
    return None


def _timer(identity: Identity) -> Identity:
    """The wait that ends a batch."""
    return Identity(
        operation_id(identity.operation_id, "timeout"),
        OperationType.WAIT,
        OperationSubType.WAIT,
        f"{identity.name}-timeout" if identity.name else "timeout",
        identity.operation_id,
        "timeout",
    )


def _live(board: _Board, timer: Identity | None) -> Procedure[BatchResult[Any]]:
    """Count what is recorded, then run branches until the policy is content or the time is over."""
    board.begin_recorded()
    ended = board.ended()
    waiting = deque(sorted(set(range(board.total)).difference(index for index, _ in ended)))
    reason = board.reason()
    unread = []
    for index, record in ended:
        if record.context_details is not None and record.context_details.replay_children:
            unread.append(index)
        board.count(index, board.recorded_outcome(index, record))
        reason = reason or board.reason()
    yield from _read_again(board, unread)

    clock = WaitAny()
    if timer is not None and reason is None:
        clock = yield from _wind(board, timer)
        if clock.patient and not board.flat:
            reason = CompletionReason.TIMED_OUT
    running: set[int] = set()
    limit = board.config.max_concurrency or board.total
    while reason is None:
        while waiting and len(running) < limit and (clock.patient or not board.is_over(clock)):
            index = waiting.popleft()
            board.begin(index)
            running.add(index)
            yield board.spawn(index, frozen=clock.patient)
        ended = yield clock
        if not ended and board.any_ended(running):
            ended = yield WaitAny()
        for index, outcome in ended:
            running.remove(index)
            board.count(index, outcome)
            reason = reason or board.reason()
        if not ended:
            reason = CompletionReason.TIMED_OUT
    return board.result(reason)


def _wind(board: _Board, timer: Identity) -> Procedure[WaitAny]:
    """
    Begin the wait that ends the batch; returns what to wait for.

    If that wait was over before this invocation, branches with records of their own are not run any more. FLAT ones
    are, as far as they are recorded: otherwise nobody knows which of them had finished.
    """
    timeout = board.config.timeout
    assert timeout is not None  # noqa: S101 - or there would be no timer
    replay = board.container.replay
    if (record := replay.record(timer)) is None:
        start = timer.update(OperationAction.START, wait_options=WaitOptions(timeout.to_seconds()))
        yield Checkpoint((start,))
        record = replay.records[timer.operation_id]
        over = False
    else:
        if replay.observation is not None:
            replay.observation.resumed(record)
        yield Rest()
        over = record.status is OperationStatus.SUCCEEDED
    if record.status is OperationStatus.CANCELLED:
        return WaitAny()  # the batch had ended before, and only the record of that was lost
    return WaitAny((timer.operation_id,), record.due, patient=over)


def _recorded(board: _Board, record: Operation) -> Procedure[BatchResult[Any]]:
    """Rebuild the result of a batch that has ended, by the decision its summary records."""
    decision = CompletionRecord.from_summary_payload(record.result)
    indexes = range(board.total)
    again: list[int] = []
    for index in indexes if decision is None else range(min(decision.started_total, board.total)):
        branch = board.record(index)
        if decision is not None and index in decision.started_indexes:
            board.begin(index)
        elif branch is not None and branch.is_terminal:
            board.count(index, board.recorded_outcome(index, branch))
            if branch.context_details is not None and branch.context_details.replay_children:
                again.append(index)
        elif board.flat and decision is not None:
            board.begin(index)
            again.append(index)
        elif decision is None:
            board.begin(index)
        else:
            raise board.lost(index)
    yield from _read_again(board, again)
    if decision is None:
        return BatchResult.from_items(board.begun(), board.config.completion_config)
    return board.result(decision.completion_reason)


def _read_again(board: _Board, indexes: Iterable[int]) -> Procedure[None]:
    """Run ended branches over their records, for results that were too large to record."""
    left = 0
    for index in indexes:
        left += 1
        yield board.spawn(index)
    while left:
        for index, outcome in (yield WaitAny()):
            left -= 1
            board.replace(index, outcome)


class _Board:
    """Where the branches of one batch stand."""

    def __init__(
        self, container: Scope, kind: Kind, branches: Sequence[Branch], config: ParallelConfig | MapConfig[Any]
    ) -> None:
        self.container = container
        self.kind = kind
        self.branches = branches
        self.config = config
        self.total = len(branches)
        self.flat = config.nesting_type is NestingType.FLAT
        self.policy = CompletionPolicy.from_config(self.total, config.completion_config)
        self.items: dict[int, BatchItem[Any]] = {}
        self._identities: dict[int, Identity] = {}
        self.succeeded = self.failed = 0
        self.child_config: ChildConfig[Any] = ChildConfig(
            serdes=config.item_serdes or config.serdes, is_virtual=self.flat
        )

    # ----------------------------------------------------------------------------------------------- the records

    def identity(self, index: int) -> Identity:
        """Which operation a branch is."""
        identity = self._identities.get(index)
        if identity is None:
            name = self.branches[index].name
            identity = self._identities[index] = Identity(
                operation_id(self.container.prefix, index),
                OperationType.CONTEXT,
                self.kind.branch_sub_type,
                f"{self.kind.branch_prefix}{index}" if name is None else name,
                self.container.parent_id,
                index,
            )
        return identity

    def record(self, index: int) -> Operation | None:
        """The record of a branch; a FLAT one must have none."""
        identity = self.identity(index)
        record = self.container.replay.record(identity)
        if record is not None and self.flat:
            message = (
                f"execution {self.container.replay.execution_name!r} replayed branch {identity.name!r} as FLAT, "
                "where its journal has it as NESTED; deploy changed code as a new version"
            )
            raise NonDeterministicExecutionError(message, step_id=identity.operation_id)
        return record

    def ended(self) -> list[tuple[int, Operation]]:
        """The branches whose end is recorded, in the order of their ends."""
        records = [(index, record) for index in range(self.total) if (record := self.record(index)) is not None]
        ended = [(index, record) for index, record in records if record.is_terminal]
        key = self.container.replay.records.delivery_key
        return sorted(ended, key=lambda each: key(each[1]))

    def begin_recorded(self) -> None:
        """Note those branches that an earlier invocation began; the policy may end the batch before they go on."""
        records = self.container.replay.records
        for index in range(self.total):
            branch = self.identity(index).operation_id
            if (operation_id(branch, 1) if self.flat else branch) in records:
                self.begin(index)

    def recorded_outcome(self, index: int, record: Operation) -> Outcome:
        """What a recorded end says; the value of one with ReplayChildren is read later."""
        if record.context_details is not None and record.context_details.replay_children:
            return Returned(None)
        try:
            identity = self.identity(index)
            return Returned(
                recorded(self.container.replay, identity, self.child_config.serdes, record, ChildContextError)
            )
        except Exception as error:  # noqa: BLE001 - it failed, or its serializer did
            return Raised(error)

    def lost(self, index: int) -> NonDeterministicExecutionError:
        """A branch that had ended when the batch did, of which no end is recorded."""
        identity = self.identity(index)
        message = (
            f"execution {self.container.replay.execution_name!r} replayed branch {identity.name!r} as NESTED, "
            "where its journal has no end of it; deploy changed code as a new version"
        )
        return NonDeterministicExecutionError(message, step_id=identity.operation_id)

    # ----------------------------------------------------------------------------------------------- the branches

    def is_over(self, clock: WaitAny) -> bool:
        """Whether the time of the batch is."""
        return self.container.replay.records.any_terminal(clock.ids)

    def any_ended(self, indexes: Iterable[int]) -> bool:
        """Whether the end of one of these branches is recorded."""
        return not self.flat and any((record := self.record(each)) and record.is_terminal for each in indexes)

    def spawn(self, index: int, *, frozen: bool = False) -> Spawn:
        """The command that runs a branch."""
        return Spawn(index, self.identity(index).operation_id, partial(self._branch, index), frozen)

    def _branch(self, index: int, run: Run) -> Procedure[Any]:
        branch = self.branches[index]
        return child(self.container, self.identity(index), branch.body, self.child_config, run=run, args=branch.args)

    def begin(self, index: int) -> None:
        """A branch is on its way."""
        self.items[index] = BatchItem(index, BatchItemStatus.STARTED)

    def count(self, index: int, outcome: Outcome) -> None:
        """A branch has ended."""
        self.replace(index, outcome)
        if isinstance(outcome, Returned):
            self.succeeded += 1
        else:
            self.failed += 1

    def replace(self, index: int, outcome: Outcome) -> None:
        """Put an outcome into the result without counting it."""
        if isinstance(outcome, Returned):
            self.items[index] = BatchItem(index, BatchItemStatus.SUCCEEDED, outcome.value)
        else:
            self.items[index] = BatchItem(index, BatchItemStatus.FAILED, error=error_object(outcome.error))

    # ------------------------------------------------------------------------------------------------ the decision

    def reason(self) -> CompletionReason | None:
        """Why the batch is over, or None while it is not."""
        policy = self.policy
        items = self._statuses() if policy.should_complete is not None else ()
        decision = policy.evaluate(self.succeeded, self.failed, items)
        complete = policy.is_complete(self.succeeded, self.failed, items, decision)
        if not complete and policy.should_continue(self.failed):
            return None
        return policy.reason(self.succeeded, self.failed, items, decision)

    def begun(self) -> list[BatchItem[Any]]:
        """The items of all branches that were begun, by index."""
        return [self.items[index] for index in sorted(self.items)]

    def result(self, reason: CompletionReason) -> BatchResult[Any]:
        """The batch's result."""
        return BatchResult(self.begun(), reason)

    def _statuses(self) -> tuple[CompletionItemStatus, ...]:
        return tuple(
            CompletionItemStatus(index=index, status=item.status if item else None, name=branch.name)
            for index, branch in enumerate(self.branches)
            for item in (self.items.get(index),)
        )
