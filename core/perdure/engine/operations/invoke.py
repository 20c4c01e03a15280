"""The chained invoke: another function runs, and its result is waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.engine.commands import Blocked, Checkpoint
from perdure.engine.operations.payload import check_size, dump, recorded
from perdure.errors import InvokeError
from perdure.model import ChainedInvokeOptions, OperationAction
from perdure.serdes import DEFAULT_JSON_SERDES

if TYPE_CHECKING:
    from perdure.config import InvokeConfig
    from perdure.engine.commands import Procedure
    from perdure.engine.ids import Identity
    from perdure.engine.scope import Scope


def invoke(
    scope: Scope, identity: Identity, function_name: str, payload: object, config: InvokeConfig[Any, Any]
) -> Procedure[Any]:
    """
    Have `function_name` invoked with `payload` and return its result.

    Raises:
        InvokeError: It failed, timed out, was stopped or does not exist.
        SerDesError: `payload` could not be serialized; nothing was recorded.
    """
    replay = scope.replay
    while True:
        record = replay.record(identity)
        if record is None:
            sent = dump(replay, identity, config.serdes_payload or DEFAULT_JSON_SERDES, payload)
            check_size(replay, identity, sent)
            observation = replay.observation
            trace_id = None if observation is None else observation.trace_id(identity, function_name)
            options = ChainedInvokeOptions(function_name, config.tenant_id, trace_id)
            start = identity.update(OperationAction.START, payload=sent, chained_invoke_options=options)
            yield Checkpoint((start,))
        elif record.is_terminal:
            return recorded(replay, identity, config.serdes_result or DEFAULT_JSON_SERDES, record, InvokeError)
        else:
            yield Blocked(record)
