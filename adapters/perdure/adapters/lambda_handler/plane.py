"""The service as an invocation on AWS Lambda sees it: `ControlPlane` over a boto3 client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.adapters.lambda_handler.client import caller
from perdure.adapters.lambda_handler.faults import fault
from perdure.errors import CheckpointError, DurableApiErrorCategory, GetExecutionStateError
from perdure.model import CheckpointAnswer, StatePage
from perdure.wire import from_wire, to_wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.adapters.lambda_handler.account import Account
    from perdure.adapters.lambda_handler.allowance import Allowance
    from perdure.model import OperationUpdate

PAGE = 1000
"""Operations asked for at a time; the service gives no more."""


class LambdaPlane:
    """The service for one invocation."""

    def __init__(self, client: Any, account: Account, allowance: Allowance) -> None:
        """
        Args:
            client: A boto3 client of `lambda`.
            account: Is told of every answer.
            allowance: The time there is.
        """
        self._client = client
        self._account = account
        self._allowance = allowance

    def checkpoint(self, token: str, updates: Sequence[OperationUpdate]) -> CheckpointAnswer:
        """As `ControlPlane.checkpoint`."""
        caller.allowance, arn = self._allowance, self._account.arn
        written = _written(updates)
        try:
            # The ClientToken is botocore's: a request it sends again has the same, and is applied once.
            members = self._client.checkpoint_durable_execution(
                DurableExecutionArn=arn, CheckpointToken=token, Updates=written
            )
            answer = from_wire(CheckpointAnswer, members)
        except Exception as error:  # noqa: BLE001 - whatever stands in the way
            raise fault(CheckpointError, error, token) from None
        self._account.answered(updates, answer)
        return answer

    def state(self, token: str, marker: str) -> StatePage:
        """As `ControlPlane.state`."""
        caller.allowance = self._allowance
        try:
            members = self._client.get_durable_execution_state(
                DurableExecutionArn=self._account.arn, CheckpointToken=token, Marker=marker, MaxItems=PAGE
            )
            page = from_wire(StatePage, members)
        except Exception as error:  # noqa: BLE001 - whatever stands in the way
            raise fault(GetExecutionStateError, error, token) from None
        self._account.told(page.operations)
        return page


def _written(updates: Sequence[OperationUpdate]) -> list[dict[str, Any]]:
    try:
        return [to_wire(each) for each in updates]
    except (TypeError, ValueError) as error:
        # It would be no better in another invocation.
        message = f"an operation has a name or an option that is no text: {error}"
        raise CheckpointError(message, DurableApiErrorCategory.EXECUTION) from error
