"""
Transactions that hold an application's writes and a commit of an execution.

Each has a connection of its own and holds the file's write lock from its beginning: whoever else writes waits for the
body to end, this process's writer as much as other processes. That is why its commit takes no other way than this
connection, and why the engine lets nothing of the same execution wait for the writer meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from perdure.backends.sqlite.fault import UnstorableError, inherited, is_busy, translate
from perdure.backends.sqlite.guarded import GuardedConnection
from perdure.backends.sqlite.journaling import commit_once
from perdure.backends.sqlite.lane import Post
from perdure.backends.sqlite.schema import LONGEST_PAUSE, persist
from perdure.backends.sqlite.transaction import Transaction
from perdure.errors import StoreError, TransactionMisuseError
from perdure.storage import Committed, Rejected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from perdure.backends.sqlite.location import Location
    from perdure.bell import Bell
    from perdure.storage import Commit, CommitAnswer

_current: ContextVar[SqliteTransaction | None] = ContextVar("perdure_sqlite_transaction", default=None)
"""The transaction in whose body the code runs."""


class SqliteTransaction:
    """
    One open transaction; as `perdure.transaction.Transaction`.

    Attributes:
        connection: What the body writes with.
        is_open: Whether it holds the file's lock, and nobody ends it.
        location: Of the file.
    """

    def __init__(self, connection: GuardedConnection, transactions: SqliteTransactions) -> None:
        self.connection = connection
        self.is_open = True
        self.location = transactions.location
        self._transactions = transactions
        self._ending = threading.Lock()

    def seal(self) -> Any:
        """See whether the body has left the transaction as it was."""
        connection = self.connection
        misuse = connection.misuse()
        if misuse is not None:
            raise misuse
        connection.take_back()
        if not connection.in_transaction:
            raise TransactionMisuseError(
                "a statement in the body of context.transaction has rolled the transaction back, and the body has "
                "returned all the same; let the error through, or use a conflict clause other than ROLLBACK"
            )
        return _Nothing()

    async def commit(self, commit: Commit) -> CommitAnswer:
        """Append and commit, in a thread."""
        return await asyncio.to_thread(self._commit, commit)

    def _commit(self, commit: Commit) -> CommitAnswer:
        with self._ending:
            if not self.is_open:
                raise StoreError("the transaction of a step was rolled back before it could be committed")
            self.is_open = False
            work = Transaction(self.connection, self._transactions.clock())
            try:
                answer = commit_once(work, commit)
                if not isinstance(answer, Committed):
                    self.connection.execute("ROLLBACK")
                    return answer
                self._transactions.check()
                self.connection.execute("COMMIT")
            except Exception as error:
                failure = translate(error, self.location.path)
                if isinstance(failure, UnstorableError):
                    return Rejected(str(failure))
                raise failure from error
        self._transactions.ring(work)
        return answer

    def end(self) -> None:
        """Roll back what was not committed, after a commit that is under way."""
        with self._ending:
            self.is_open = False
            self.connection.end()


class _Nothing:
    """What need not be awaited, and can be."""

    def __await__(self) -> Iterator[None]:
        return iter(())


class SqliteTransactions:
    """
    Opens the transactions of one store, one at a time: one of them at most contends with the store's own writer.

    Args:
        location: Of the file.
        clock: The store's.
        bell: Rung for what they have committed.
        check: Raises if the file is not the one any more that the store has open.
    """

    def __init__(self, location: Location, clock: Callable[[], int], bell: Bell, check: Callable[[], object]) -> None:
        self.location = location
        self.clock = clock
        self.check = check
        self._bell = bell
        self._turn = threading.Lock()
        self._pid = os.getpid()

    def _check_process(self) -> None:
        refuse_within(self.location)
        if os.getpid() != self._pid:
            raise inherited(self.location.path)

    def ring(self, work: Transaction) -> None:
        """Tell listeners what has become durable."""
        post = Post()
        self._bell.ring(work.hints, post.add)
        post.send()

    @contextmanager
    def open(self) -> Iterator[SqliteTransaction]:
        """A transaction for the calling thread, which waits for its turn."""
        self._check_process()
        with self._turn:
            connection = self._connect()
            try:
                persist(lambda: _begin(connection), self.location.busy_timeout)
            except BaseException as error:  # noqa: BLE001 - raised again
                connection.end()
                self._raise(error)
            with self._opened(connection) as transaction:
                yield transaction

    @asynccontextmanager
    async def open_async(self) -> AsyncIterator[SqliteTransaction]:
        """A transaction for the running task, whose loop goes on while it waits for its turn."""
        self._check_process()
        pause = LONGEST_PAUSE / 16
        while not self._turn.acquire(blocking=False):
            pause = await _paused(pause)
        try:
            connection = await asyncio.to_thread(self._connect)
            try:
                await self._begin_patiently(connection)
            except BaseException as error:  # noqa: BLE001 - raised again
                connection.end()
                self._raise(error)
            with self._opened(connection) as transaction:
                yield transaction
        finally:
            self._turn.release()

    async def _begin_patiently(self, connection: GuardedConnection) -> None:
        deadline, pause = time.monotonic() + self.location.busy_timeout, LONGEST_PAUSE / 16
        while True:
            try:
                return _begin(connection)
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() >= deadline:
                    raise
            pause = await _paused(pause)

    def _connect(self) -> GuardedConnection:
        location = self.location
        connection = sqlite3.connect(
            location.path,
            timeout=0.0,
            isolation_level=None,
            check_same_thread=False,
            # Every statement is prepared anew, and so looked at.
            cached_statements=0,
            factory=GuardedConnection,
        )
        connection.execute(f"PRAGMA synchronous = {location.synchronous.upper()}")
        connection.execute(f"PRAGMA fullfsync = {int(location.synchronous == 'full')}")
        connection.execute("PRAGMA temp_store = MEMORY")
        return connection

    @contextmanager
    def _opened(self, connection: GuardedConnection) -> Iterator[SqliteTransaction]:
        transaction = SqliteTransaction(connection, self)
        _open.add(transaction)
        before = _current.set(transaction)
        connection.guard()
        try:
            yield transaction
        except sqlite3.DatabaseError as error:
            misuse = connection.misuse()
            if misuse is None:
                raise
            raise misuse from error
        finally:
            _current.reset(before)
            _open.discard(transaction)
            transaction.end()

    def _raise(self, error: BaseException) -> None:
        failure = translate(error, self.location.path) if isinstance(error, Exception) else error
        raise failure


def _begin(connection: GuardedConnection) -> None:
    connection.execute("BEGIN IMMEDIATE")


async def _paused(pause: float) -> float:
    await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - spreads contenders, guards nothing
    return min(2 * pause, LONGEST_PAUSE)


def refuse_within(location: Location) -> None:
    """
    Refuse what would wait for the lock that its own caller holds.

    Raises:
        TransactionMisuseError: The caller is the body of an open transaction of the same file.
    """
    holder = _current.get()
    if holder is not None and holder.is_open and holder.location.file == location.file:
        raise TransactionMisuseError(
            f"this was called in the body of context.transaction, which has {str(location.path)!r} locked, and would "
            "wait for its own end; hand the body's connection on with connection=, or do it outside of the body"
        )


# ------------------------------------------------------------------------------------------------------------- fork

_open: WeakSet[SqliteTransaction] = WeakSet()
_inherited: list[sqlite3.Connection] = []


def _let_go_after_fork() -> None:
    # Neither used nor closed in a child: rolling back there would touch the log's index, which the parent shares.
    for transaction in list(_open):
        transaction.is_open = False
        _inherited.append(transaction.connection)
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_after_fork)
