"""
The transactional step: its result is recorded in the database transaction in which its body wrote, or not at all.

Its record is a step's (see `step`), and it is replayed like one, on every backend. It differs in what happens between
START and SUCCEED, which is one command: nothing can come between what the body wrote and the end of the step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from perdure.engine.commands import Raised, Transact
from perdure.engine.operations.payload import round_trip
from perdure.engine.operations.step import attempts
from perdure.model import OperationAction

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.config import StepConfig
    from perdure.engine.commands import Outcome, Procedure
    from perdure.engine.ids import Identity
    from perdure.engine.scope import Scope
    from perdure.model import OperationUpdate
    from perdure.types import StepContext

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

    def conclude(value: object) -> tuple[Outcome, OperationUpdate | None]:
        outcome, payload = round_trip(replay, identity, config.serdes, value)
        if isinstance(outcome, Raised):
            return outcome, None
        return outcome, identity.update(OperationAction.SUCCEED, payload=payload)

    def act(context: StepContext) -> Procedure[Outcome]:
        outcome: Outcome = yield Transact(body, (context,), conclude, replay.watch(identity, context.attempt))
        return outcome

    return attempts(scope, identity, config, act, check)
