"""
What a store offers besides its verbs if applications keep their own tables in the same database.

Two things become possible there. A transactional step: what its body writes is committed in one database transaction
with the step's recorded result. And verbs within the caller's own transaction: an execution that is started, or a
callback that is completed, exactly if the caller commits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from perdure.errors import TransactionMisuseError, TransactionsUnsupportedError
from perdure.storage import Store

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from perdure.storage import Answer, Commit, CommitAnswer, Created, Draft, Exists, New, Outdated

__all__ = ["Transaction", "TransactionalStore", "Within", "misused", "require_transactions"]


class Transaction(Protocol):
    """
    A database transaction that is open: an application writes in it, and one commit of an execution ends it.

    Attributes:
        connection: The driver's own connection, which the application is given.
    """

    connection: Any

    def seal(self) -> Any:
        """
        The application has written what it wanted: see whether it can be committed, short of committing it.

        Called where the transaction was opened; awaited there if it was opened by `async_transaction`.

        Raises:
            TransactionMisuseError: The application has ended the transaction itself.
            Exception: The driver's own, if what was written breaks a constraint that was deferred so far.
        """

    async def commit(self, commit: Commit) -> CommitAnswer:
        """
        Append as `Store.commit` does, waiting for whoever has the execution locked, and commit everything.

        Called once, on the store's loop, which it does not block. Any answer but `Committed` means that nothing was
        written, the application's rows included. It is never a repetition: what `Store.commit` would answer as one is
        FENCED, since somebody else has used the number.

        Raises:
            StoreError: It failed, or nobody knows. It cannot be repeated.
        """


class Within(Protocol):
    """
    Verbs within a transaction that the caller has begun and will end.

    They are executed on the caller's own connection, by whoever awaits them.

    Attributes:
        is_blocking: The connection blocks. Awaiting the verbs then never waits, so that no event loop is needed.
    """

    is_blocking: bool

    async def create(self, new: New) -> Created | Exists | Outdated | Answer:
        """As `Store.create` without a claim; the execution is there, and due, once the caller commits."""

    async def deliver(self, await_id: str, secret: str, draft: Draft, nonce: str) -> Answer:
        """As `Store.deliver`, for what is known now; what the caller commits counts only if it still holds then."""


class TransactionalStore(Store, Protocol):
    """
    A store whose database applications can keep their own tables in.

    Attributes:
        exclusive: Nothing else can be written while a transaction is open, not even by the same execution.
    """

    exclusive: bool

    def transaction(self) -> AbstractContextManager[Transaction]:
        """
        Open a transaction for the calling thread, with a blocking connection.

        Leaving it rolls back what was not committed, after a commit that is under way, and raises nothing of its own.
        Waits while it cannot be opened.

        Raises:
            StoreError: It still cannot.
        """

    def async_transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """The same for a coroutine on the running loop, which it does not block."""

    def within(self, connection: Any) -> Within:
        """
        The verbs within the transaction that `connection` is in.

        Raises:
            ValidationError: It is no connection of this database's driver.
            TransactionMisuseError: It is not in a transaction, or connected to another database.
        """


def require_transactions(store: Store, what: str, instead: str) -> TransactionalStore:
    """
    A store as one that has transactions.

    Args:
        store: The store.
        what: Asks for it.
        instead: What works on every backend.

    Raises:
        TransactionsUnsupportedError: It has none.
    """
    if not hasattr(store, "async_transaction"):
        raise TransactionsUnsupportedError(
            f"{what} needs a backend whose database can hold the application's own tables too, and executions are kept "
            f"in a {type(store).__name__} here; use sqlite:// or postgresql://, or {instead}"
        )
    return cast("TransactionalStore", store)


def misused(what: str, parts: str) -> TransactionMisuseError:
    """
    What the body of a transaction is told that tries to end it, or more.

    Args:
        what: What it has tried.
        parts: What it may use to roll back a part of it.
    """
    return TransactionMisuseError(
        f"{what} is refused in the body of context.transaction, whose writes are committed together with its result, "
        f"and by nobody else; return to commit, raise to roll back, and use {parts} for parts"
    )
