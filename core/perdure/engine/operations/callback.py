"""The callback: an id is given out now, its result is asked for later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.engine.commands import Blocked, Checkpoint
from perdure.engine.operations.payload import load
from perdure.errors import CallbackError, CallbackExternalError, CallbackTimeoutError
from perdure.model import CallbackOptions, ErrorObject, OperationAction, OperationStatus
from perdure.serdes import PassThroughSerDes

if TYPE_CHECKING:
    from perdure.config import CallbackConfig
    from perdure.engine.commands import Procedure
    from perdure.engine.ids import Identity
    from perdure.engine.scope import Scope
    from perdure.model import Operation
    from perdure.serdes import SerDes

_AS_IS: SerDes[Any] = PassThroughSerDes()


def create_callback(scope: Scope, identity: Identity, config: CallbackConfig) -> Procedure[str]:
    """
    Open a callback and return its id.

    The id is returned in whatever status the callback is: its failure shows when the result is asked for, so that
    code between the two runs on replay as it did at first.
    """
    while True:
        record = scope.replay.record(identity)
        if record is None:
            options = CallbackOptions(config.timeout_seconds, config.heartbeat_timeout_seconds)
            yield Checkpoint((identity.update(OperationAction.START, callback_options=options),))
            continue
        details = record.callback_details
        if details is None or not details.callback_id:
            message = f"the record of callback {identity.name!r} has no callback id; the service did not assign one"
            raise CallbackError(message)
        return details.callback_id


def callback_result(scope: Scope, identity: Identity, serdes: SerDes[Any] | None) -> Procedure[Any]:
    """
    Return what the external system sent.

    Args:
        scope: Of the context it was created in.
        identity: Of the callback.
        serdes: Reads the payload; without one it is returned as text.

    Raises:
        CallbackExternalError: The external system reported a failure.
        CallbackTimeoutError: Nothing came in time.
    """
    while True:
        record = scope.replay.record(identity)
        if record is None:
            message = f"callback {identity.name!r} was not created"
            raise CallbackError(message)
        if not record.is_terminal:
            yield Blocked(record)
            continue
        if record.status is OperationStatus.SUCCEEDED:
            return load(scope.replay, identity, serdes or _AS_IS, record.result)
        raise _failure(record)


def _failure(record: Operation) -> CallbackError:
    timed_out = record.status is OperationStatus.TIMED_OUT
    error = record.error or ErrorObject()
    raised = CallbackTimeoutError if timed_out else CallbackExternalError
    message = error.message or ("Callback timed out" if timed_out else "Callback failed")
    return raised(message, data=error.data, stack_trace=error.stack_trace)
