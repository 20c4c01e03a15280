"""What updates need before they can be recorded: ids for callbacks, targets for invokes, and the awaits of both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.errors import InvalidParameterValueError
from perdure.journal.entry import Target
from perdure.model import ErrorObject, OperationAction, OperationType
from perdure.service.callback_id import CallbackId
from perdure.service.target import FunctionIdentifier
from perdure.storage import MICROSECONDS, OpenAwait

if TYPE_CHECKING:
    from perdure.model import OperationUpdate
    from perdure.service.service import Service

UNKNOWN_FUNCTION = "ResourceNotFoundException"


class Provision:
    """
    For the updates of one checkpoint.

    Attributes:
        callbacks: CallbackIds that were minted, by operation id.
        targets: What invokes resolved to, by operation id.
        opens: Awaits to be opened with them.
    """

    def __init__(self, execution_id: str) -> None:
        self.callbacks: dict[str, str] = {}
        self.targets: dict[str, Target] = {}
        self.opens: list[OpenAwait] = []
        self._execution_id = execution_id

    @property
    def starts_children(self) -> bool:
        """Whether an invoke has a target."""
        return any(target.error is None for target in self.targets.values())

    def add(self, update: OperationUpdate) -> None:
        """Provide for an update that starts no invoke; most need nothing."""
        if update.operation_type is not OperationType.CALLBACK or update.action is not OperationAction.START:
            return
        callback = CallbackId.mint(self._execution_id, update.operation_id)
        self.callbacks[update.operation_id] = str(callback)
        options = update.callback_options
        timeout = options.timeout_seconds if options else 0
        heartbeat = options.heartbeat_timeout_seconds if options else 0
        opened = OpenAwait(
            operation=update.operation_id,
            secret=callback.secret,
            timeout=timeout * MICROSECONDS or None,
            heartbeat=heartbeat * MICROSECONDS or None,
        )
        self.opens.append(opened)

    async def add_invoke(self, service: Service, update: OperationUpdate) -> None:
        """
        Provide for the start of an invoke. One without a target opens nothing: it has failed.

        Raises:
            InvalidParameterValueError: It does not say what to invoke.
        """
        self.targets[update.operation_id] = target = await self._resolve(service, update)
        if target.error is None:
            self.opens.append(OpenAwait(operation=update.operation_id))

    async def _resolve(self, service: Service, update: OperationUpdate) -> Target:
        options = update.chained_invoke_options
        if options is None:
            raise InvalidParameterValueError("Update for CHAINED_INVOKE operation requires ChainedInvokeOptions.")
        try:
            identifier = FunctionIdentifier.parse(options.function_name)
        except InvalidParameterValueError as error:
            raise InvalidParameterValueError(f"{error}, in invoke {update.name!r}") from None
        function = await service.registry.find(identifier)
        if function is None:
            message = f"Function not found: {options.function_name}; no worker has registered it, start one that has it"
            return Target(error=ErrorObject(message, UNKNOWN_FUNCTION))
        child = service.store.child_id(self._execution_id, update.operation_id)
        return Target(
            version=function.version,
            durable_execution_arn=service.arn(function.name, function.version, child, child),
        )


def starts_invoke(update: OperationUpdate) -> bool:
    """Whether it needs a target."""
    return update.operation_type is OperationType.CHAINED_INVOKE and update.action is OperationAction.START
