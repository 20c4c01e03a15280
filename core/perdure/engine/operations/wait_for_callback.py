"""wait_for_callback: a context with a callback in it, a step that gives its id out, and the wait for its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.config import ChildConfig, StepConfig, WaitForCallbackConfig
from perdure.engine.commands import Raised, settled
from perdure.engine.operations.callback import callback_result, create_callback
from perdure.engine.operations.child import contextual
from perdure.engine.operations.step import step
from perdure.errors import CallbackError, CallbackSubmitterError, ChildContextError, StepError
from perdure.model import OperationSubType, OperationType
from perdure.types import StepContext, WaitForCallbackContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.engine.commands import Procedure
    from perdure.engine.ids import Identity
    from perdure.engine.scope import Scope
    from perdure.model import Operation

_PLAIN: ChildConfig[Any] = ChildConfig()


def wait_for_callback(
    scope: Scope,
    identity: Identity,
    submitter: Callable[[str, WaitForCallbackContext], Any],
    config: WaitForCallbackConfig | None = None,
) -> Procedure[Any]:
    """
    Have `submitter` give a callback's id to an external system, and return what that sends back.

    Raises:
        CallbackExternalError: The external system reported a failure.
        CallbackTimeoutError: Nothing came in time.
        CallbackSubmitterError: The submitter failed.
    """
    settings = config or WaitForCallbackConfig()
    prefix = f"{identity.name} " if identity.name else ""

    def work(inner: Scope, _: Operation | None) -> Procedure[Any]:
        callback = inner.draw(
            OperationType.CALLBACK, settings.sub_type or OperationSubType.CALLBACK, f"{prefix}create callback id"
        )
        callback_id = yield from create_callback(inner, callback, settings)
        inner.received(callback)

        def arguments(context: StepContext) -> tuple[str, WaitForCallbackContext]:
            return callback_id, WaitForCallbackContext(logger=context.logger)

        submit = inner.draw(OperationType.STEP, OperationSubType.STEP, f"{prefix}submitter")
        step_config = StepConfig(retry_strategy=settings.retry_strategy, serdes=settings.serdes)
        yield from step(inner, submit, submitter, step_config, arguments)
        inner.received(submit)
        return (yield from callback_result(inner, callback, settings.serdes))

    outcome = yield from settled(contextual(scope, identity, work, _PLAIN))
    if isinstance(outcome, Raised):
        raise _graded(outcome.error)
    return outcome.value


def _graded(error: Exception) -> Exception:
    """The error of the part that failed, in place of the context's."""
    inner = error.__cause__
    if isinstance(error, ChildContextError) and isinstance(inner, CallbackError):
        return inner
    if isinstance(error, ChildContextError) and isinstance(inner, StepError):
        graded = CallbackSubmitterError(
            inner.message or "Callback submitter failed", data=inner.data, stack_trace=inner.stack_trace
        )
        graded.__cause__ = inner
        return graded
    return error
