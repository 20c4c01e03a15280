"""The callable that stands for a durable function on AWS Lambda."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from perdure.adapters.lambda_handler.account import Account
from perdure.adapters.lambda_handler.allowance import Allowance
from perdure.adapters.lambda_handler.client import shared_client
from perdure.adapters.lambda_handler.plane import LambdaPlane
from perdure.engine.invocation import Invocation
from perdure.engine.settings import Settings
from perdure.errors import DurableExecutionsError, InvocationError, ValidationError
from perdure.logger import LogInfo, complain
from perdure.model import InvocationInput, InvocationOutput, InvocationStatus
from perdure.wire import from_wire, to_wire

if TYPE_CHECKING:
    from perdure.durable import DurableFunction
    from perdure.types import LambdaContext

logger = logging.getLogger("perdure.lambda")

_REQUIRED = "DurableExecutionArn", "CheckpointToken"
_SYNC = ("perdure.engine.blocking",)
_ASYNC = ("perdure.adapters.lambda_handler.awaiting", "perdure.engine.awaiting", "perdure.engine.async_context")
_PENDING = InvocationOutput(status=InvocationStatus.PENDING)


class Handler:
    """What AWS Lambda calls, for a `def` as for an `async def` workflow; any number of threads may at a time."""

    def __init__(self, function: DurableFunction[Any, Any]) -> None:
        """
        Load what an invocation needs.

        Args:
            function: What to run; its `boto3_client`, if it has one, is used instead of the process's own.
        """
        self._function = function
        # The client first: it takes much memory for a moment, which what comes after it then finds free.
        if function.boto3_client is None:
            with suppress(Exception):  # what is wrong is told to whoever invokes
                shared_client()
        for name in _ASYNC if function.is_async else _SYNC:
            import_module(name)

    def __call__(self, event: Any, lambda_context: LambdaContext | None) -> dict[str, Any]:
        """
        Run one invocation to its end.

        Args:
            event: The invocation input (protocol.md §4.1).
            lambda_context: As Lambda gives it.

        Returns:
            The invocation output (protocol.md §4.2). Nothing of the workflow runs any more, unless it took longer to
            end than the invocation had time; then it can record nothing.

        Raises:
            ValidationError: The event is no invocation input.
            DurableExecutionsError: The invocation ended uncleanly; the service invokes again.
        """
        input = self._read(event)
        account, allowance = Account(input), Allowance(self._function.time_reserve, lambda_context)
        try:
            output = self._run(input, account, allowance, lambda_context)
        except Exception as error:
            if account.is_withdrawn:
                return to_wire(_PENDING)
            arn = account.arn
            complain(logger, "an invocation of %r ends uncleanly: %r", arn, error, extra=LogInfo(arn).extra())
            if isinstance(error, DurableExecutionsError):
                raise
            raise InvocationError(f"an invocation of {arn!r} broke off: {error!r}") from error
        return to_wire(output)

    def _run(
        self, input: InvocationInput, account: Account, allowance: Allowance, lambda_context: LambdaContext | None
    ) -> InvocationOutput:
        settings = Settings(refusal=allowance.refusal, grace=allowance.grace)
        invocation = Invocation(self._function, input, lambda_context=lambda_context, settings=settings)
        plane = LambdaPlane(self._function.boto3_client or shared_client(), account, allowance)
        return account.checked(self._outcome(invocation, plane, allowance))

    def _outcome(self, invocation: Invocation, plane: LambdaPlane, allowance: Allowance) -> InvocationOutput:
        try:
            output = self._ended(invocation, plane, allowance)
        except Exception:
            # Not for an exit: the process ends.
            linger(invocation, allowance)
            raise
        linger(invocation, allowance)
        return output

    def _ended(self, invocation: Invocation, plane: LambdaPlane, allowance: Allowance) -> InvocationOutput:
        if not self._function.is_async:
            return invocation.run(plane)
        from perdure.adapters.lambda_handler.awaiting import run  # noqa: PLC0415 - loads asyncio

        return run(invocation, plane, allowance, observed=bool(self._function.observe))

    def _read(self, event: Any) -> InvocationInput:
        missing = [name for name in _REQUIRED if not isinstance(event, Mapping) or not event.get(name)]
        if missing:
            raise ValidationError(
                f"function {self._function.name!r} was invoked without {' and '.join(missing)}, so not by the durable "
                "execution service; on AWS Lambda, create it with a DurableConfig (ExecutionTimeout, "
                "RetentionPeriodInDays) and invoke it with a qualifier (a version, an alias, $LATEST); elsewhere, "
                "start it with a perdure.client.Client"
            )
        return from_wire(InvocationInput, event, millis=True)


def linger(invocation: Invocation, allowance: Allowance) -> None:
    """Wait for threads that are still in a workflow's code; Lambda would stop them, and let them go on at any time."""
    invocation.join(allowance.grace())
    if invocation.orphans:
        logger.warning("%s bodies of steps outlive their invocation and can record nothing", invocation.orphans)
