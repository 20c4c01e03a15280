"""
The step: user code that runs once and whose result is recorded.

The record decides what there is to do (protocol.md §7, §10.3):

    no record     record START, run the body
    READY         a retry is due: record START again, run the body
    STARTED       an earlier invocation died in the body: run it again, or, at most once, take that for a failure
    PENDING       a retry is not due yet: blocked until then
    SUCCEEDED     return the recorded result
    FAILED        raise the recorded error
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from perdure.config import StepSemantics
from perdure.engine.commands import Blocked, Call, Checkpoint, Raised, Returned
from perdure.engine.operations.payload import failure_of, recorded, round_trip
from perdure.errors import (
    ContextMisuseError,
    ExecutionError,
    RetryableSerDesError,
    SerDesError,
    StepError,
    StepInterruptedError,
)
from perdure.logger import LogInfo, complain
from perdure.model import OperationAction, OperationStatus, StepOptions
from perdure.retries import RetryPresets, decided
from perdure.types import StepContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.config import StepConfig
    from perdure.engine.commands import Outcome, Procedure
    from perdure.engine.ids import Identity
    from perdure.engine.replay import Replay
    from perdure.engine.scope import Scope

T = TypeVar("T")

logger = logging.getLogger("perdure.engine")

_DEFAULT_RETRY = RetryPresets.default()


def step(
    scope: Scope,
    identity: Identity,
    body: Callable[..., T],
    config: StepConfig,
    arguments: Callable[[StepContext], tuple[Any, ...]] | None = None,
) -> Procedure[T]:
    """
    Run `body` and return its recorded result.

    Args:
        scope: Of the context that the step stands in.
        identity: Which operation this is.
        body: Called with a `StepContext`.
        config: Retries, semantics and serializer.
        arguments: What `body` is called with instead.

    Raises:
        StepError: The body failed and is not tried again.
        SerDesError: Its result could not be serialized.
    """
    return attempts(scope, identity, config, partial(_act, scope.replay, identity, body, config, arguments))


def _act(
    replay: Replay,
    identity: Identity,
    body: Callable[..., Any],
    config: StepConfig,
    arguments: Callable[[StepContext], tuple[Any, ...]] | None,
    context: StepContext,
) -> Procedure[Outcome]:
    at_most_once = config.step_semantics is StepSemantics.AT_MOST_ONCE_PER_RETRY
    watch = replay.watch(identity, context.attempt, at_most_once=at_most_once)
    outcome: Outcome = yield Call(body, arguments(context) if arguments else (context,), watch=watch)
    if isinstance(outcome, Returned):
        outcome, payload = round_trip(replay, identity, config.serdes, outcome.value)
    if isinstance(outcome, Returned):
        yield Checkpoint((identity.update(OperationAction.SUCCEED, payload=payload),))
    return outcome


def attempts(
    scope: Scope,
    identity: Identity,
    config: StepConfig,
    act: Callable[[StepContext], Procedure[Outcome]],
    check: Callable[[], object] | None = None,
) -> Procedure[Any]:
    """
    One attempt after another, as the record decides, until there is a result or there are to be no more.

    Args:
        scope: Of the context that the step stands in.
        identity: Which operation this is.
        config: Retries, semantics and serializer.
        act: Makes one attempt, and records its result if there is one.
        check: Called before an attempt is recorded to have begun; what it raises is recorded nowhere.
    """
    replay = scope.replay
    at_most_once = config.step_semantics is StepSemantics.AT_MOST_ONCE_PER_RETRY
    while True:
        record = replay.record(identity)
        status = record.status if record is not None else None
        if record is not None and record.is_terminal:
            return recorded(replay, identity, config.serdes, record, StepError)
        if record is not None and status is OperationStatus.PENDING:
            yield Blocked(record)
            continue

        attempt = record.attempt + 1 if record is not None else 1
        if status is OperationStatus.STARTED and at_most_once:
            outcome: Outcome = Raised(_interrupted(identity, attempt))
        else:
            if check is not None:
                check()
            if status is not OperationStatus.STARTED:
                yield Checkpoint((identity.update(OperationAction.START),), durable=at_most_once)
            outcome = yield from act(_context(scope, identity, attempt))
        if isinstance(outcome, Returned):
            replay.ended(identity)
            return outcome.value
        yield from _failed(scope, identity, outcome.error, attempt, config)


def _failed(scope: Scope, identity: Identity, error: Exception, attempt: int, config: StepConfig) -> Procedure[None]:
    """
    Record that an attempt has failed; returns if it is to be repeated.

    Raises:
        StepError: It is not.
        ExecutionError, RetryableSerDesError: It ends more than the step, as `error` itself does.
    """
    report(scope, identity, error, attempt)
    error, delay = _verdict(identity, located(identity, error), attempt, config)
    failure = failure_of(error)
    if delay is None:
        yield Checkpoint((identity.update(OperationAction.FAIL, error=failure),))
        scope.replay.ended(identity)
        raise failure.to_operation_error(StepError)
    yield Checkpoint((identity.update(OperationAction.RETRY, error=failure, step_options=StepOptions(delay)),))


def located(identity: Identity, error: Exception) -> Exception:
    """The same error, saying in whose body it was if that is what was wrong."""
    return ContextMisuseError(f"{identity}: {error}") if type(error) is ContextMisuseError else error


def report(scope: Scope, identity: Identity, error: Exception, attempt: int) -> None:
    """Log why an attempt has failed: its record keeps no stack trace."""
    execution, name = scope.replay.execution_id, _named(identity)
    told = LogInfo(scope.replay.arn, identity.parent_id, identity.operation_id, identity.name, attempt)
    message = "execution %s: attempt %s of step %s failed: %r"
    complain(logger, message, execution, attempt, name, error, exc_info=error, extra=told.extra())


def _context(scope: Scope, identity: Identity, attempt: int) -> StepContext:
    """What the body of a step is given in this attempt."""
    return StepContext(
        logger=scope.operation_logger(identity, attempt),
        attempt=attempt,
        idempotency_key=scope.idempotency_key(identity),
    )


def _verdict(identity: Identity, error: Exception, attempt: int, config: StepConfig) -> tuple[Exception, int | None]:
    """The error to record, and the seconds to the next attempt, None if there is none."""
    if isinstance(error, (ExecutionError, RetryableSerDesError)):
        raise error
    if isinstance(error, (ContextMisuseError, SerDesError)):
        return error, None
    try:
        decision = decided(config.retry_strategy or _DEFAULT_RETRY, error, attempt, str(identity))
        return error, max(1, decision.delay_seconds) if decision.should_retry else None
    except Exception as broken:  # noqa: BLE001 - a broken strategy fails the step, it does not vanish
        return broken, None


def _interrupted(identity: Identity, attempt: int) -> StepInterruptedError:
    """What has become of an attempt, at most once, whose end nobody recorded."""
    message = (
        f"attempt {attempt} of step {_named(identity)} was begun by an earlier invocation that did not record its end"
    )
    return StepInterruptedError(message, step_id=identity.operation_id)


def _named(identity: Identity) -> str:
    return repr(identity.name) if identity.name else f"at position {identity.position}"
