"""
Where engine and service meet: two calls, shaped as protocol.md §6.

The service implements them over a store, the Lambda adapter over boto3. The port exists blocking and awaitable; an
engine driver uses the one of its own colour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from perdure.errors import TransactionsUnsupportedError
from perdure.model import CheckpointAnswer, StatePage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from perdure.model import OperationUpdate

__all__ = [
    "AsyncControlPlane",
    "CheckpointAnswer",
    "ControlPlane",
    "Post",
    "StatePage",
    "Transaction",
    "Transactions",
    "post_of",
    "transactions_of",
]


class ControlPlane(Protocol):
    """
    The durable execution service as one invocation sees it.

    Both calls raise `CheckpointError` or `GetExecutionStateError`. `is_retryable()` true: this invocation is over and
    ends uncleanly, another one follows; false: the execution fails (protocol.md §6.4).
    """

    def checkpoint(self, token: str, updates: Sequence[OperationUpdate]) -> CheckpointAnswer:
        """Record `updates` in one atomic step; without updates, ask what has become due."""
        ...

    def state(self, token: str, marker: str) -> StatePage:
        """The page of recorded operations at `marker`."""
        ...


class AsyncControlPlane(Protocol):
    """The same for the async driver; called on the host loop."""

    async def checkpoint(self, token: str, updates: Sequence[OperationUpdate]) -> CheckpointAnswer:
        """As `ControlPlane.checkpoint`."""
        ...

    async def state(self, token: str, marker: str) -> StatePage:
        """As `ControlPlane.state`."""
        ...


class Post(Protocol):
    """
    What an async control plane may have as its method `post`: `checkpoint` without a task.

    `answered` is called on the host loop, in no task and never within `post`: with the answer, which has no further
    page, or with what `checkpoint` would raise.
    """

    def __call__(
        self,
        token: str,
        updates: Sequence[OperationUpdate],
        transaction: Transaction | None,
        answered: Callable[[CheckpointAnswer | BaseException], object],
    ) -> None:
        """As `checkpoint`; what it raises at once is the answer."""


def post_of(plane: AsyncControlPlane) -> Post | None:
    """The `post` of a control plane, None if it has none."""
    found: Post | None = getattr(plane, "post", None)
    return found


# ---------------------------------------------------------------------------------------------------- transactions


class Transaction(Protocol):
    """
    A database transaction that is open, to be committed by a checkpoint that is given it.

    Attributes:
        connection: What user code writes with.
    """

    connection: Any

    def seal(self) -> Any:
        """
        The body has returned: raise what stands in the way of a commit, if anything does.

        What is returned is awaited where the transaction was opened by `async_transaction`.
        """


class Transactions(Protocol):
    """
    What a control plane has as its attribute `transactions` if checkpoints can be part of a database transaction.

    Its `checkpoint` then takes a third argument: the transaction in which `updates` are recorded, and which is
    committed by that. If it raises, nothing of both has happened, or nobody knows.

    Attributes:
        exclusive: While one is open, no checkpoint without it comes back.
    """

    exclusive: bool

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Open one for the calling thread; left without having been committed, it is rolled back."""

    def async_transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Open one for a coroutine on the running loop."""


def transactions_of(plane: object) -> Transactions:
    """
    The transactions of a control plane.

    Raises:
        TransactionsUnsupportedError: It has none.
    """
    found: Transactions | None = getattr(plane, "transactions", None)
    if found is None:
        raise TransactionsUnsupportedError(
            "context.transaction needs a backend whose database holds your own tables too, and this one, "
            f"reached through {type(plane).__name__}, has none; run the workflow on sqlite:// or postgresql://, "
            "or use context.step and hand its idempotency_key on"
        )
    return found
