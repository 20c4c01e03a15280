"""
Transactions that hold an application's writes and a commit of an execution.

They have connections of their own, with the settings that an application expects, and none of the store's statements
ever waits for their turn. The execution's row is locked only by the commit itself, when the body has returned.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import deque
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakKeyDictionary

import psycopg
from psycopg import IsolationLevel
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import tuple_row

from perdure.backends.postgres import committing, parameter
from perdure.backends.postgres.fault import UnstorableError, translate_connecting, translated
from perdure.backends.postgres.guarded import GuardedAsyncConnection, GuardedConnection, restore
from perdure.errors import StoreError, TransactionMisuseError
from perdure.storage import Answer, Rejected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from perdure.backends.postgres.location import Location
    from perdure.backends.postgres.record import Call, News, Rows
    from perdure.backends.postgres.statement import Library
    from perdure.storage import Commit, CommitAnswer

Guarded = TypeVar("Guarded", GuardedConnection, GuardedAsyncConnection)

PATIENCE = 30.0
"""Seconds for which a transaction that cannot be opened is tried again."""
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0

_NUMBER = "select pg_current_xact_id()::text"
_RENEW = f"""
reset all; reset role; discard temp; deallocate all; unlisten *; select pg_advisory_unlock_all(); {_NUMBER}
"""
"""Takes back what an earlier body has left in the session; within the new transaction, which saves a round trip."""
_SEAL = f"set constraints all immediate; reset all; reset role; set local lock_timeout = '10s'; {_NUMBER}"


class _Transaction(Generic[Guarded]):
    """
    What transactions on connections of both kinds have in common.

    Attributes:
        connection: What the body writes with.
    """

    def __init__(self, connection: Guarded, number: str, transactions: PostgresTransactions) -> None:
        self.connection: Guarded = connection
        self._number = number
        self._transactions = transactions
        self._is_over = False

    def _look(self) -> None:
        """See what the body has done, without asking the server."""
        misuse = self.connection.misuse()
        if misuse is not None:
            raise misuse
        pgconn = self.connection.pgconn
        if pgconn.pipeline_status != PipelineStatus.OFF:
            raise TransactionMisuseError("the body of context.transaction has left its pipeline open; use it in `with`")
        if pgconn.transaction_status == TransactionStatus.INERROR:
            raise TransactionMisuseError(
                "a statement in the body of context.transaction has failed, after which PostgreSQL takes no other, and "
                "the body has returned all the same; let the error through, or use connection.transaction() around "
                "what may fail"
            )
        if pgconn.transaction_status != TransactionStatus.INTRANS:
            raise self._parted()
        restore(self.connection)

    def _parted(self) -> TransactionMisuseError:
        return TransactionMisuseError(
            "the body of context.transaction has ended its transaction itself, so that what it wrote and its result "
            "are not committed together; leave that to Perdure"
        )

    def _judge(self, call: Call[list[CommitAnswer]], rows: Rows) -> CommitAnswer:
        # What would be a repetition has another write's number: this was never sent before.
        return Answer.FENCED if any(row[1] == "repeated" for row in rows) else call.read(rows)[0]

    def _begin_commit(self, commit: Commit) -> Call[list[CommitAnswer]]:
        if self._is_over:
            raise StoreError("the transaction of a step was rolled back before it could be committed")
        self._is_over = True
        return committing.commit(self._transactions.library, [commit], waits=True)


class PostgresTransaction(_Transaction[GuardedConnection]):
    """A transaction of a thread; as `perdure.transaction.Transaction`."""

    def __init__(self, connection: GuardedConnection, number: str, transactions: PostgresTransactions) -> None:
        super().__init__(connection, number, transactions)
        self._ending = threading.Lock()

    def seal(self) -> None:
        """See whether what was written can be committed."""
        self._look()
        if _last(_cursor(self.connection).execute(_SEAL)) != self._number:
            raise self._parted()

    async def commit(self, commit: Commit) -> CommitAnswer:
        """Append and commit, in a thread."""
        answer, news = await asyncio.to_thread(self._commit, commit)
        self._transactions.tell(news)
        return answer

    def _commit(self, commit: Commit) -> tuple[CommitAnswer, Sequence[News]]:
        with self._ending:
            call = self._begin_commit(commit)
            try:
                with translated(self._transactions.location.place):
                    rows = _cursor(self.connection).execute(call.sql, call.parameters, binary=True).fetchall()
                    answer = self._judge(call, rows)
                    self.connection.end(commits=not isinstance(answer, Answer))
            except UnstorableError as error:
                return Rejected(str(error)), ()
        return answer, () if isinstance(answer, Answer) else call.news(rows)

    def leave(self) -> bool:
        """Roll back what was not committed, after a commit that is under way; whether the connection is still good."""
        with self._ending:
            self._is_over = True
            pgconn = self.connection.pgconn
            if pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
                with suppress(psycopg.Error):
                    self.connection.end(commits=False)
            return bool(pgconn.transaction_status == TransactionStatus.IDLE)


class AsyncPostgresTransaction(_Transaction[GuardedAsyncConnection]):
    """A transaction of a coroutine; its connection is used on the loop that made it."""

    def __init__(self, connection: GuardedAsyncConnection, number: str, transactions: PostgresTransactions) -> None:
        super().__init__(connection, number, transactions)
        self._loop = asyncio.get_running_loop()
        self._committing: asyncio.Task[tuple[CommitAnswer, Sequence[News]]] | None = None

    async def seal(self) -> None:
        """See whether what was written can be committed."""
        self._look()
        if _last(await _async_cursor(self.connection).execute(_SEAL)) != self._number:
            raise self._parted()

    async def commit(self, commit: Commit) -> CommitAnswer:
        """Append and commit, on the connection's own loop."""
        if asyncio.get_running_loop() is self._loop:
            answer, news = await self._shielded(commit)
        else:
            there = asyncio.run_coroutine_threadsafe(self._shielded(commit), self._loop)
            answer, news = await asyncio.wrap_future(there)
        self._transactions.tell(news)
        return answer

    async def _shielded(self, commit: Commit) -> tuple[CommitAnswer, Sequence[News]]:
        # Whoever waits for it may be cancelled: a connection cut off in its commit tells nobody what became of that.
        call = self._begin_commit(commit)
        self._committing = asyncio.ensure_future(self._commit(call))
        return await asyncio.shield(self._committing)

    async def _commit(self, call: Call[list[CommitAnswer]]) -> tuple[CommitAnswer, Sequence[News]]:
        try:
            with translated(self._transactions.location.place):
                cursor = await _async_cursor(self.connection).execute(call.sql, call.parameters, binary=True)
                rows = await cursor.fetchall()
                answer = self._judge(call, rows)
                await self.connection.end(commits=not isinstance(answer, Answer))
        except UnstorableError as error:
            return Rejected(str(error)), ()
        return answer, () if isinstance(answer, Answer) else call.news(rows)

    async def leave(self) -> bool:
        """Roll back what was not committed, after a commit that is under way; whether the connection is still good."""
        self._is_over = True
        if self._committing is not None:
            await asyncio.wait({self._committing})
        pgconn = self.connection.pgconn
        if pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            with suppress(psycopg.Error):
                await self.connection.end(commits=False)
        return bool(pgconn.transaction_status == TransactionStatus.IDLE)


class _Shelf(Generic[Guarded]):
    """The connections that are not in use; the one used last is used next."""

    def __init__(self) -> None:
        self._idle: deque[Guarded] = deque()
        self._is_closed = False

    def take(self) -> Guarded | None:
        """One that was used before."""
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def put(self, connection: Guarded, *, is_good: bool) -> None:
        """Keep it for the next one, if it is good for that."""
        if is_good and not self._is_closed:
            self._idle.append(connection)
        else:
            connection.pgconn.finish()

    def clear(self) -> None:
        """Close all of them."""
        while (connection := self.take()) is not None:
            connection.pgconn.finish()

    def close(self) -> None:
        """Keep none any more."""
        self._is_closed = True
        self.clear()


class PostgresTransactions:
    """
    Opens the transactions of one store: in threads and on each loop at most as many as the store has connections.

    Args:
        location: Where.
        library: The statements.
        tell: Called on the store's loop with what has become durable.
    """

    def __init__(self, location: Location, library: Library, tell: Callable[[Sequence[News]], object]) -> None:
        self.location = location
        self.library = library
        self.tell = tell
        self._turns = threading.BoundedSemaphore(location.pool_size)
        self._shelf: _Shelf[GuardedConnection] = _Shelf()
        self._loops: WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[asyncio.Semaphore, _Shelf[GuardedAsyncConnection]]
        ] = WeakKeyDictionary()

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it is left."""
        self._shelf.close()
        for _, shelf in list(self._loops.values()):
            shelf.close()

    # ------------------------------------------------------------------------------------------------ for a thread

    @contextmanager
    def open(self) -> Iterator[PostgresTransaction]:
        """A transaction for the calling thread."""
        with self._turns:
            transaction = self._begun_patiently()
            is_good = False
            try:
                yield transaction
            finally:
                try:
                    is_good = transaction.leave()
                finally:
                    self._shelf.put(transaction.connection, is_good=is_good)

    def _begun_patiently(self) -> PostgresTransaction:
        for pause in _pauses():
            try:
                return self._begun()
            except StoreError as error:
                if not error.retryable or pause is None:
                    raise
            time.sleep(pause)
        raise AssertionError

    def _begun(self) -> PostgresTransaction:
        while (known := self._shelf.take()) is not None:
            try:
                return PostgresTransaction(known, _last(_cursor(known).execute(_RENEW)), self)
            except psycopg.Error:
                # The server has most likely gone, and with it all of them.
                known.pgconn.finish()
                self._shelf.clear()
        connection = self._connect()
        try:
            with translated(self.location.place):
                return PostgresTransaction(connection, _last(_cursor(connection).execute(_NUMBER)), self)
        except BaseException:
            connection.pgconn.finish()
            raise

    def _connect(self) -> GuardedConnection:
        try:
            arguments: dict[str, Any] = self.location.connection(sets_session=False)
            connection = GuardedConnection.connect(**arguments, prepare_threshold=None)
            connection.isolation_level = IsolationLevel.READ_COMMITTED
        except psycopg.Error as error:
            raise translate_connecting(error, self.location.place) from error
        restore(connection)
        return connection

    # ------------------------------------------------------------------------------------------------- on a loop

    @asynccontextmanager
    async def open_async(self) -> AsyncIterator[AsyncPostgresTransaction]:
        """A transaction for the running task."""
        loop = asyncio.get_running_loop()
        if loop not in self._loops:
            self._loops[loop] = asyncio.Semaphore(self.location.pool_size), _Shelf()
        turns, shelf = self._loops[loop]
        async with turns:
            transaction = await self._begun_patiently_async(shelf)
            is_good = False
            try:
                yield transaction
            finally:
                try:
                    is_good = await transaction.leave()
                finally:
                    shelf.put(transaction.connection, is_good=is_good)

    async def _begun_patiently_async(self, shelf: _Shelf[GuardedAsyncConnection]) -> AsyncPostgresTransaction:
        for pause in _pauses():
            try:
                return await self._begun_async(shelf)
            except StoreError as error:
                if not error.retryable or pause is None:
                    raise
            await asyncio.sleep(pause)
        raise AssertionError

    async def _begun_async(self, shelf: _Shelf[GuardedAsyncConnection]) -> AsyncPostgresTransaction:
        while (known := shelf.take()) is not None:
            try:
                return AsyncPostgresTransaction(known, _last(await _async_cursor(known).execute(_RENEW)), self)
            except psycopg.Error:
                known.pgconn.finish()
                shelf.clear()
            except BaseException:
                known.pgconn.finish()
                raise
        connection = await self._connect_async()
        try:
            with translated(self.location.place):
                number = _last(await _async_cursor(connection).execute(_NUMBER))
                return AsyncPostgresTransaction(connection, number, self)
        except BaseException:
            connection.pgconn.finish()
            raise

    async def _connect_async(self) -> GuardedAsyncConnection:
        try:
            arguments: dict[str, Any] = self.location.connection(sets_session=False)
            connection = await GuardedAsyncConnection.connect(**arguments, prepare_threshold=None)
            await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)
        except psycopg.Error as error:
            raise translate_connecting(error, self.location.place) from error
        restore(connection)
        return connection


def _pauses() -> Iterator[float | None]:
    """Seconds to wait between tries; None for the last one."""
    deadline, pause = time.monotonic() + PATIENCE, FIRST_PAUSE
    while time.monotonic() < deadline:
        yield random.uniform(pause / 2, pause)  # noqa: S311 - spreads those who wait, guards nothing
        pause = min(2 * pause, LONGEST_PAUSE)
    yield None


def _cursor(connection: psycopg.Connection[Any]) -> psycopg.RawCursor[Any]:
    """A cursor for our own statements, whatever kind the connection makes."""
    cursor: psycopg.RawCursor[Any] = psycopg.RawCursor(connection, row_factory=tuple_row)
    parameter.adapt(cursor.adapters)
    return cursor


def _async_cursor(connection: psycopg.AsyncConnection[Any]) -> psycopg.AsyncRawCursor[Any]:
    cursor: psycopg.AsyncRawCursor[Any] = psycopg.AsyncRawCursor(connection, row_factory=tuple_row)
    parameter.adapt(cursor.adapters)
    return cursor


def _last(cursor: psycopg.Cursor[Any] | psycopg.AsyncCursor[Any]) -> str:
    """The value that the last one of several statements answers; all results are here already."""
    while cursor.nextset():
        pass
    result = cursor.pgresult
    assert result is not None  # noqa: S101 - each of these ends with a select
    return (result.get_value(0, 0) or b"").decode()
