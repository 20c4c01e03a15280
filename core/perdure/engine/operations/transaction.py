"""
The transactional step: its result is recorded in the database transaction in which its body wrote, or not at all.

Its record is a step's (see `step`), and it is replayed like one, on every backend. It differs in what happens between
START and SUCCEED, which is one command: nothing can come between what the body wrote and the end of the step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from perdure.config import StepSemantics
from perdure.engine.commands import Blocked, Checkpoint, Raised, Returned, Transact
from perdure.engine.operations.payload import recorded, round_trip
from perdure.engine.operations.step import failed, interrupted, step_context
from perdure.errors import StepError
from perdure.model import OperationAction, OperationStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.config import StepConfig
    from perdure.engine.commands import Outcome, Procedure
    from perdure.engine.ids import Identity
    from perdure.engine.scope import Scope
    from perdure.model import OperationUpdate

T = TypeVar("T")


def transaction(
    scope: Scope, identity: Identity, body: Callable[..., T], config: StepConfig, check: Callable[[], object]
) -> Procedure[T]:
    """
    Run `body` in a transaction and return its recorded result.

    Args:
        scope: Of the context that the step stands in.
        identity: Which operation this is.
        body: Called with a `StepContext` and a connection.
        config: Retries, semantics and serializer.
        check: Called before anything is recorded; raises if the backend has no transactions.

    Raises:
        StepError: The body failed and is not tried again.
        SerDesError: Its result could not be serialized.
        TransactionsUnsupportedError: As `check` has it.
    """
    replay = scope.replay
    at_most_once = config.step_semantics is StepSemantics.AT_MOST_ONCE_PER_RETRY

    def conclude(value: object) -> tuple[Outcome, OperationUpdate | None]:
        outcome, payload = round_trip(replay, identity, config.serdes, value)
        if isinstance(outcome, Raised):
            return outcome, None
        return outcome, identity.update(OperationAction.SUCCEED, payload=payload)

    while True:
        record = replay.record(identity)
        status = record.status if record is not None else None
        if record is not None and record.is_terminal:
            return recorded(replay, identity, config.serdes, record, StepError)  # type: ignore[no-any-return]
        if record is not None and status is OperationStatus.PENDING:
            yield Blocked(record)
            continue

        attempt = record.attempt + 1 if record is not None else 1
        if status is OperationStatus.STARTED and at_most_once:
            outcome: Outcome = Raised(interrupted(identity, attempt))
        else:
            check()
            if status is not OperationStatus.STARTED:
                yield Checkpoint((identity.update(OperationAction.START),), durable=at_most_once)
            outcome = yield Transact(body, (step_context(scope, identity, attempt),), conclude)
        if isinstance(outcome, Returned):
            return outcome.value  # type: ignore[no-any-return]
        yield from failed(scope, identity, outcome.error, attempt, config)
