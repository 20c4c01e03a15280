"""
The batch: branches side by side, and a policy that says when enough of them have ended. Both parallel and map.

A batch is a context whose work is the loop in `_live`. When its result was too large to record, `_recorded` rebuilds
it from the branches by the decision that was recorded instead.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, cast

import attrs

from perdure.batch import (
    BatchItem,
    BatchItemStatus,
    BatchResult,
    CompletionPolicy,
    CompletionRecord,
    envelope_summary_generator,
)
from perdure.config import ChildConfig, CompletionItemStatus, NestingType, ParallelBranch
from perdure.engine.commands import Raised, Returned, Spawn, WaitAny
from perdure.engine.ids import Identity, operation_id
from perdure.engine.operations.child import child, contextual
from perdure.engine.operations.payload import error_object, recorded
from perdure.errors import ChildContextError, NonDeterministicExecutionError
from perdure.model import OperationSubType, OperationType
from perdure.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from perdure.batch import CompletionReason
    from perdure.config import MapConfig, ParallelConfig
    from perdure.engine.commands import Outcome, Procedure
    from perdure.engine.replay import Run
    from perdure.engine.scope import Scope
    from perdure.model import Operation
    from perdure.types import SummaryGenerator


@attrs.frozen(repr=False)
class Branch(Value):
    """
    One branch as the author gave it.

    Attributes:
        body: Called with the branch's context and `args`.
        name: As given; None stands for the default name.
    """

    body: Callable[..., Any]
    args: tuple[Any, ...] = ()
    name: str | None = None


@attrs.frozen(repr=False)
class Kind(Value):
    """What tells parallel and map apart."""

    result_type: str
    branch_sub_type: str
    branch_prefix: str


PARALLEL = Kind("ParallelResult", OperationSubType.PARALLEL_BRANCH, "parallel-branch-")
MAP = Kind("MapResult", OperationSubType.MAP_ITERATION, "map-item-")


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

    def work(container: Scope, record: Operation | None) -> Procedure[BatchResult[Any]]:
        board = _Board(container, kind, branches(), config)
        return (yield from (_live(board) if record is None else _recorded(board, record)))

    summary = cast("SummaryGenerator[Any]", envelope_summary_generator(kind.result_type, config.summary_generator))
    return contextual(scope, identity, work, ChildConfig(serdes=config.serdes, summary_generator=summary))


def _live(board: _Board) -> Procedure[BatchResult[Any]]:
    """Count what is recorded, then run branches until the policy is content."""
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

    running = 0
    limit = board.config.max_concurrency or board.total
    while reason is None:
        while waiting and running < limit:
            index = waiting.popleft()
            board.begin(index)
            running += 1
            yield board.spawn(index)
        for index, outcome in (yield WaitAny()):
            running -= 1
            board.count(index, outcome)
            reason = reason or board.reason()
    return board.result(reason)


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
        self.succeeded = self.failed = 0
        self.child_config: ChildConfig[Any] = ChildConfig(
            serdes=config.item_serdes or config.serdes, is_virtual=self.flat
        )

    # ----------------------------------------------------------------------------------------------- the records

    def identity(self, index: int) -> Identity:
        """Which operation a branch is."""
        name = self.branches[index].name
        return Identity(
            operation_id(self.container.prefix, index),
            OperationType.CONTEXT,
            self.kind.branch_sub_type,
            f"{self.kind.branch_prefix}{index}" if name is None else name,
            self.container.parent_id,
            index,
        )

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

    def spawn(self, index: int) -> Spawn:
        """The command that runs a branch."""
        branch = self.branches[index]
        identity = self.identity(index)

        def make(run: Run) -> Procedure[Any]:
            return child(self.container, identity, branch.body, self.child_config, run=run, args=branch.args)

        return Spawn(index, identity.operation_id, make)

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
