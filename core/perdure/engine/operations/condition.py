"""wait_for_condition: a check that is repeated, with a state and a strategy, until it is satisfied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from perdure.config import require_decision
from perdure.engine.commands import Blocked, Call, Checkpoint, Raised, Returned
from perdure.engine.operations.payload import dump, ends_invocation, failure_of, load, recorded, round_trip
from perdure.engine.operations.step import located, report
from perdure.errors import WaitForConditionError
from perdure.model import OperationAction, OperationStatus, StepOptions
from perdure.types import WaitForConditionCheckContext
from perdure.waits import WaitForConditionDecision

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.engine.commands import Outcome, Procedure
    from perdure.engine.ids import Identity
    from perdure.engine.replay import Replay
    from perdure.engine.scope import Scope
    from perdure.model import Operation, OperationUpdate
    from perdure.waits import WaitForConditionConfig

T = TypeVar("T")

_WAYS = "WaitForConditionDecision.continue_waiting(delay) or WaitForConditionDecision.stop_polling()"


def wait_for_condition(
    scope: Scope,
    identity: Identity,
    check: Callable[[T, WaitForConditionCheckContext], Any],
    config: WaitForConditionConfig[T],
) -> Procedure[T]:
    """
    Call `check` with the state it last returned until the strategy is content; return the last state.

    All polls are one STEP: a poll that is not content is a RETRY whose payload is the state.

    Raises:
        WaitForConditionError: The check or the strategy failed, or attempts are exhausted.
    """
    replay = scope.replay
    while True:
        record = replay.record(identity)
        status = record.status if record is not None else None
        if record is not None and record.is_terminal:
            return recorded(replay, identity, config.serdes, record, WaitForConditionError)  # type: ignore[no-any-return]
        if record is not None and status is OperationStatus.PENDING:
            yield Blocked(record)
            continue

        attempt = record.attempt + 1 if record is not None else 1
        if status is not OperationStatus.STARTED:
            yield Checkpoint((identity.update(OperationAction.START),), durable=False)
        outcome = _state(replay, identity, config, record)
        if isinstance(outcome, Returned):
            context = WaitForConditionCheckContext(logger=scope.operation_logger(identity, attempt), attempt=attempt)
            outcome = yield Call(check, (outcome.value, context), watch=replay.watch(identity, attempt))

        update, outcome = _verdict(replay, identity, config, outcome, attempt)
        if isinstance(outcome, Raised):
            report(scope, identity, outcome.error, attempt)
        yield Checkpoint((update,))
        replay.ended(identity)
        if isinstance(outcome, Raised):
            assert update.error is not None  # noqa: S101 - a FAIL
            raise update.error.to_operation_error(WaitForConditionError)
        if update.action is OperationAction.SUCCEED:
            return outcome.value  # type: ignore[no-any-return]


def _state(replay: Replay, identity: Identity, config: WaitForConditionConfig[T], record: Operation | None) -> Outcome:
    """What the next check is called with: the last recorded state, else the initial one as a record would have it."""
    try:
        state = record.result if record is not None else None
        payload = state if state is not None else dump(replay, identity, config.serdes, config.initial_state)
        return Returned(load(replay, identity, config.serdes, payload))
    except Exception as error:  # noqa: BLE001 - a serializer is user code
        return Raised(error)


def _verdict(
    replay: Replay, identity: Identity, config: WaitForConditionConfig[T], outcome: Outcome, attempt: int
) -> tuple[OperationUpdate, Outcome]:
    """What to record of a check, and its state or error."""
    payload = None
    if isinstance(outcome, Returned):
        outcome, payload = round_trip(replay, identity, config.serdes, outcome.value)
    if isinstance(outcome, Returned):
        try:
            answer = config.wait_strategy(outcome.value, attempt)
            decision = require_decision(answer, WaitForConditionDecision, f"the wait strategy of {identity}", _WAYS)
            if decision.should_continue:
                options = StepOptions(max(1, decision.delay_seconds))
                return identity.update(OperationAction.RETRY, payload=payload, step_options=options), outcome
            # Read once more: the strategy may have changed the state it was given.
            outcome = Returned(load(replay, identity, config.serdes, payload))
            return identity.update(OperationAction.SUCCEED, payload=payload), outcome
        except Exception as error:  # noqa: BLE001 - a strategy is user code
            outcome = Raised(error)
    if ends_invocation(outcome.error):
        raise outcome.error
    return identity.update(OperationAction.FAIL, error=failure_of(located(identity, outcome.error))), outcome
