"""
The context: operations that belong together, and whose common result spares their replay.

`contextual` is what child contexts, branches, batches and wait_for_callback have in common; they differ in the work
inside.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from perdure.engine.commands import Call, Checkpoint, Raised, Returned, settled
from perdure.engine.ids import operation_id
from perdure.engine.operations.payload import check_size, ends_invocation, failure_of, read_back, recorded
from perdure.errors import ChildContextError, NonDeterministicExecutionError
from perdure.model import ContextOptions, ErrorObject, OperationAction

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.config import ChildConfig
    from perdure.engine.commands import Outcome, Procedure
    from perdure.engine.ids import Identity
    from perdure.engine.replay import Replay, Run
    from perdure.engine.scope import Scope
    from perdure.model import Operation, OperationUpdate

T = TypeVar("T")

Work: TypeAlias = "Callable[[Scope, Operation | None], Procedure[Any]]"
"""What is done inside a context, given its scope and, when it has ended with ReplayChildren, its record."""


def child(
    scope: Scope,
    identity: Identity,
    body: Callable[..., T],
    config: ChildConfig[T],
    *,
    run: Run | None = None,
    args: tuple[Any, ...] = (),
) -> Procedure[T]:
    """
    Run `body` with a context of its own, unless its result is recorded, and return its result.

    Args:
        scope: Of the context that this one stands in.
        identity: Which operation this is.
        body: Called with the new context and `args`.
        config: Serializer, summary, and whether the context is virtual: one without a record.
        run: The strand it runs on, if that is not the scope's.
        args: What `body` gets besides.

    Raises:
        ChildContextError: The body failed.
    """
    return contextual(scope, identity, partial(_work, identity, body, args, config), config, run=run)


def _work(
    identity: Identity,
    body: Callable[..., Any],
    args: tuple[Any, ...],
    config: ChildConfig[Any],
    inner: Scope,
    ended: Operation | None,
) -> Procedure[Any]:
    attempt = None if inner.replaying and not config.is_virtual else 1
    watch = inner.replay.watch(identity, attempt, again=ended is not None)
    outcome = yield Call(body, args, inner, watch)
    if isinstance(outcome, Raised):
        raise outcome.error
    return outcome.value


def contextual(
    scope: Scope,
    identity: Identity,
    work: Work,
    config: ChildConfig[Any],
    *,
    run: Run | None = None,
    ahead: Callable[[], tuple[OperationUpdate, ...]] = tuple,
) -> Procedure[Any]:
    """
    Do `work` in a context and record its outcome; a large result is replaced by a summary (protocol.md §10.7).

    Args:
        scope: Of the context that this one stands in.
        identity: Which operation this is.
        work: What is done inside.
        config: As of `child`.
        run: As of `child`.
        ahead: What is to be recorded right before the outcome.
    """
    replay = scope.replay
    record = replay.record(identity)
    if config.is_virtual:
        return (yield from _virtual(scope, identity, work, config, run))
    if record is not None and scope.replaying and replay.observation is not None:
        replay.observation.resumed(record)  # for a branch, which is not drawn
    if record is not None and record.is_terminal:
        if record.context_details is None or not record.context_details.replay_children:
            return recorded(replay, identity, config.serdes, record, ChildContextError)
        return (yield from _again(scope, identity, work, config, record, run))

    inner = scope.child(run or scope.run, identity, replaying=record is not None)
    if record is None:
        yield Checkpoint((identity.update(OperationAction.START),), durable=False)
    outcome = yield from settled(work(inner, None))
    update, outcome = _verdict(replay, identity, config, outcome)
    yield Checkpoint((*ahead(), update))
    replay.ended(identity)
    if isinstance(outcome, Raised):
        assert update.error is not None  # noqa: S101 - a FAIL
        raise update.error.to_operation_error(ChildContextError)
    return outcome.value


def _again(
    scope: Scope, identity: Identity, work: Work, config: ChildConfig[Any], record: Operation, run: Run | None
) -> Procedure[Any]:
    """Do the work of an ended context over its recorded operations, for the result that was too large to record."""
    inner = scope.child(run or scope.run, identity, replaying=True)
    outcome = yield from settled(work(inner, record))
    if isinstance(outcome, Raised):
        if ends_invocation(outcome.error):
            raise outcome.error
        message = (
            f"execution {scope.replay.execution_name!r} replayed context {identity.name!r} with an error, "
            f"{outcome.error!r}, where its journal has a result; deploy changed code as a new version"
        )
        raise NonDeterministicExecutionError(message, step_id=identity.operation_id) from outcome.error
    value, _ = read_back(scope.replay, identity, config.serdes, outcome.value)
    if scope.replay.observation is not None:
        scope.replay.observation.context_ended(identity, again=True)
    return value


def _virtual(scope: Scope, identity: Identity, work: Work, config: ChildConfig[Any], run: Run | None) -> Procedure[Any]:
    """Do the work of a context that has no record of its own, and is therefore done on every replay."""
    replay = scope.replay
    if identity.operation_id in replay.records:
        message = (
            f"execution {replay.execution_name!r} replayed {identity.name!r} as a context without a record, "
            "where its journal has one with; deploy changed code as a new version"
        )
        raise NonDeterministicExecutionError(message, step_id=identity.operation_id)
    replaying = operation_id(identity.operation_id, 1) in replay.records
    inner = scope.child(run or scope.run, identity, replaying=replaying, virtual=True)
    outcome = yield from settled(work(inner, None))
    if isinstance(outcome, Returned):
        outcome = _read_back(replay, identity, config, outcome.value)
    if isinstance(outcome, Returned):
        if replay.observation is not None:
            replay.observation.context_ended(identity)
        return outcome.value
    if ends_invocation(outcome.error):
        raise outcome.error
    error = ErrorObject.from_exception(outcome.error)
    if replay.observation is not None:
        replay.observation.context_ended(identity, error)
    raise error.to_operation_error(ChildContextError)


def _read_back(replay: Replay, identity: Identity, config: ChildConfig[Any], value: object) -> Outcome:
    """What a serializer makes of a value that is not recorded."""
    try:
        return Returned(read_back(replay, identity, config.serdes, value)[0])
    except Exception as error:  # noqa: BLE001 - a serializer is user code
        return Raised(error)


def _verdict(
    replay: Replay, identity: Identity, config: ChildConfig[Any], outcome: Outcome
) -> tuple[OperationUpdate, Outcome]:
    """What to record of a body that has ended, and the value or error as replay will see it."""
    if isinstance(outcome, Returned):
        try:
            value, payload = read_back(replay, identity, config.serdes, outcome.value)
            large = payload is not None and len(payload) > replay.settings.replay_children_threshold
            if large:
                payload = config.summary_generator(outcome.value) if config.summary_generator else ""
            check_size(replay, identity, payload)
            options = ContextOptions(replay_children=large)
            update = identity.update(OperationAction.SUCCEED, payload=payload, context_options=options)
            return update, Returned(value)
        except Exception as error:  # noqa: BLE001 - serializers and summaries are user code
            outcome = Raised(error)
    if ends_invocation(outcome.error):
        raise outcome.error
    return identity.update(OperationAction.FAIL, error=failure_of(outcome.error)), outcome
