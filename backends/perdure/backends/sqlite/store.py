"""The store over one SQLite file."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from perdure import execution_id
from perdure.backends.sqlite import awaiting, journaling, lifecycle
from perdure.backends.sqlite.fault import UnstorableError
from perdure.backends.sqlite.leasing import ClaimRequest, Leasing
from perdure.backends.sqlite.listing import list_executions
from perdure.backends.sqlite.location import BUSY_TIMEOUT, Location
from perdure.backends.sqlite.owner import OwnerLocks
from perdure.backends.sqlite.reader import Reader
from perdure.backends.sqlite.schema import connect, missing_migrations
from perdure.backends.sqlite.transacting import SqliteTransactions, refuse_within
from perdure.backends.sqlite.transaction import EXECUTION, Transaction
from perdure.backends.sqlite.within import SqliteWithin
from perdure.backends.sqlite.writer import Posted, Writer
from perdure.bell import Bell
from perdure.errors import StoreError
from perdure.storage import Answer, Claimed, Rejected

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from perdure.backends.sqlite.transacting import SqliteTransaction
    from perdure.portal import Waiter
    from perdure.storage import (
        Claim,
        Commit,
        CommitAnswer,
        Created,
        Draft,
        Exists,
        Function,
        FunctionVersion,
        Header,
        Held,
        Hint,
        Leases,
        New,
        Outdated,
        Page,
        Query,
        Refused,
        SignalKind,
        Signalled,
        Swept,
        Timeouts,
        Tip,
        Unsettled,
    )

Result = TypeVar("Result")


def system_clock() -> int:
    """The time of this machine, in microseconds since the epoch."""
    return time.time_ns() // 1000


@attrs.frozen
class _Opening:
    """What is there between `open` and `close`."""

    locks: OwnerLocks
    leasing: Leasing
    reader: Reader
    writer: Writer
    transactions: SqliteTransactions


class SqliteStore:
    """
    Executions in one SQLite file, shared by any number of processes of one machine.

    Verbs that write are queued for one thread, which puts all that are queued into one transaction; while it idles, a
    thread that waits for its own commit anyway takes its place. Verbs that read have another thread and connection.
    Verbs that usually find nothing to do are asked about by the reader first, so that an idle process writes nothing.

    Args:
        path: Of the file; made when missing.
        synchronous: `full`: an answered commit survives a power loss. `normal`: the last ones may be lost.
        busy_timeout: Seconds for which another process may keep the file locked before `StoreUnavailableError`.
        clock: The store's clock, in microseconds; for tests.
    """

    shards = 1
    exclusive = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: str = "full",
        busy_timeout: float = BUSY_TIMEOUT,
        clock: Callable[[], int] = system_clock,
    ) -> None:
        self.location = Location.of(path, synchronous=synchronous, busy_timeout=busy_timeout)
        self._clock = clock
        self._bell = Bell()
        self._opening: _Opening | None = None
        self._next_wake: int | None = None  # what a claim was told: from then on the next one need not look first

    async def open(self) -> None:
        """
        Connect, and bring the schema to this version.

        Raises:
            BackendUrlError: The file cannot be used; the message says what to do.
            SchemaVersionError: A newer version of Perdure wrote it.
        """
        if self._opening is not None:
            return
        locks = OwnerLocks(self.location.owners)
        leasing = Leasing(locks)
        writer = Writer(self.location, self._clock, self._bell, leasing)
        await writer.open()
        reader = Reader(self.location, self._clock)
        try:
            await reader.open()
        except BaseException:
            await writer.close()
            raise
        transactions = SqliteTransactions(self.location, self._clock, self._bell, writer.check)
        self._opening = _Opening(locks, leasing, reader, writer, transactions)

    async def close(self) -> None:
        """Finish what is queued and let go; owners that were registered here count as dead from now on."""
        opening, self._opening = self._opening, None
        if opening is None:
            return
        self._bell.silence()
        await opening.writer.close()
        await opening.reader.close()
        opening.locks.release_all()

    async def missing_migrations(self) -> Sequence[str]:
        """The names of those that are still to be applied; the file is neither made nor changed."""
        return await asyncio.to_thread(missing_migrations, self.location)

    async def migrate(self) -> Sequence[str]:
        """Apply them, as `open` does; answers the names of those that were missing."""
        missing = await self.missing_migrations()
        connection = await asyncio.to_thread(connect, self.location, writes=True)
        connection.close()
        return missing

    @property
    def transactions(self) -> int:
        """How many transactions this opening has committed."""
        return self._opened.writer.transactions

    @property
    def verbs(self) -> int:
        """How many verbs were in them."""
        return self._opened.writer.verbs

    def new_id(self, function: str, name: str) -> str:  # noqa: ARG002 - ids carry no shard here
        """A new execution id; ids of one time lie together, so that a group commit dirties few pages of the index."""
        return execution_id.minted(self._clock())

    def child_id(self, id: str, operation: str) -> str:
        """The id of the execution that an operation of another starts."""
        return execution_id.derived(id, operation)

    def shard_of(self, id: str) -> int:  # noqa: ARG002 - one shard
        """Always the same one."""
        return 0

    @property
    def _opened(self) -> _Opening:
        if self._opening is None:
            raise StoreError(f"the SQLite store {str(self.location.path)!r} is not open; await its open() first")
        return self._opening

    async def _read(self, verb: Callable[..., Result], *arguments: Any) -> Result:
        return await self._opened.reader.submit(lambda work: verb(work, *arguments))

    async def _write(self, verb: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
        refuse_within(self.location)
        return await self._opened.writer.submit(lambda work: verb(work, *arguments, **options))

    # ------------------------------------------------------------------------------------------------ transactions

    def transaction(self) -> AbstractContextManager[SqliteTransaction]:
        """Open a transaction for the calling thread; it has the file locked until it ends."""
        return self._opened.transactions.open()

    def async_transaction(self) -> AbstractAsyncContextManager[SqliteTransaction]:
        """Open a transaction for the running task; it has the file locked until it ends."""
        return self._opened.transactions.open_async()

    def within(self, connection: Any) -> SqliteWithin:
        """The verbs within the transaction that a `sqlite3.Connection` to this file is in."""
        return SqliteWithin.of(connection, self.location, self._clock, self._opened.leasing)

    # ----------------------------------------------------------------------------------------------------- owners

    async def register(self, owner: str, functions: Sequence[Function], lease: int) -> Answer:
        """Make or extend the lease of `owner`, and upsert functions."""
        return await self._write(self._opened.leasing.register, owner, functions, lease)

    async def functions(self, name: str) -> list[Function]:
        """All registered versions of a function, latest registration last."""
        return await self._read(self._opened.leasing.functions, name)

    async def claim(
        self,
        owner: str,
        number: int,
        token: str,
        functions: Sequence[FunctionVersion],
        limit: int,
        format: int,
        shard: int = 0,  # noqa: ARG002 - one shard
    ) -> Claimed | Answer:
        """Own up to `limit` executions of these functions that are due; nothing is written when none is."""
        leasing = self._opened.leasing
        request = ClaimRequest(
            owner=owner, number=number, token=token, functions=tuple(functions), limit=limit, format=format
        )
        answer = None
        if self._next_wake is None or self._clock() < self._next_wake:
            answer = await self._read(leasing.peek, request)
        if answer is None:
            answer = await self._write(leasing.claim, request)
        if isinstance(answer, Claimed):
            self._next_wake = answer.next_wake
        return answer

    async def renew(self, owner: str, shard: int = 0) -> list[Held] | Answer:  # noqa: ARG002 - one shard
        """Extend the lease and list all that is held; nothing is written while most of the lease remains."""
        leasing = self._opened.leasing
        answer = await self._read(leasing.peek_held, owner)
        return answer if answer is not None else await self._write(leasing.renew, owner)

    async def reap(self, limit: int, shard: int = 0) -> Swept:  # noqa: ARG002 - one shard
        """Free what is owned without a live lease, or by a process that is dead as its lock shows."""
        opened = self._opened
        if (nothing := await self._read(opened.leasing.peek_dead)) is not None:
            return nothing
        answer, dead = await self._write(opened.leasing.reap, limit)
        await self._read(lambda _: opened.leasing.bury(dead))
        return answer

    async def leases(self, shard: int = 0) -> Leases:  # noqa: ARG002 - one shard
        """Who is alive, since when, and what each holds; of other processes' renewals it may know a little late."""
        return await self._read(self._opened.leasing.leases)

    # -------------------------------------------------------------------------------------------------- executions

    async def create(self, new: New, claim: Claim | None) -> Created | Exists | Outdated | Answer:
        """Begin an execution, due at once or owned from the start."""
        return await self._write(journaling.create, self._opened.leasing, new, claim)

    async def entries(self, id: str, after: int, max_bytes: int) -> Page | Answer:
        """Rows behind index `after`."""
        return await self._read(journaling.entries, id, after, max_bytes)

    async def commit(self, batch: Sequence[Commit]) -> list[CommitAnswer]:
        """Append for several executions at once, each fenced on its own."""
        try:
            return await self._write(journaling.commit, batch)
        except UnstorableError as error:
            return [Rejected(str(error))] * len(batch)

    def post(self, commit: Commit, waiter: Waiter[CommitAnswer]) -> None:
        """
        One commit for whoever waits on another loop, or on none; from any thread.

        The waiter is told by the thread that writes, which may be this one, and never BUSY.

        Raises:
            StoreError: The store is not open.
        """
        self._opened.writer.perform(Posted.of(commit, waiter))

    async def deliver(self, await_id: str, secret: str, draft: Draft, nonce: str) -> Answer:
        """Complete an await from outside, and wake its execution."""
        return await self._write(awaiting.deliver, await_id, secret, draft, nonce)

    async def heartbeat(self, await_id: str, secret: str) -> Answer:
        """Restart an await's heartbeat timer."""
        return await self._write(awaiting.heartbeat, await_id, secret)

    async def expire(self, limit: int, timeouts: Timeouts, shard: int = 0) -> Swept:  # noqa: ARG002 - one shard
        """Turn deadlines that have passed into entries, of awaits first."""
        if (answer := await self._read(awaiting.peek)) is not None:
            return answer
        return await self._write(awaiting.expire, limit, timeouts)

    async def signal(
        self, id: str, kind: SignalKind, draft: Draft, key: str, keep_timeout: bool = True
    ) -> Signalled | Refused | Answer:
        """Stop, pause, resume or delete from outside."""
        return await self._write(lifecycle.signal, id, kind, draft, key, keep_timeout=keep_timeout)

    async def unsettled(self, limit: int, shard: int = 0) -> Unsettled:  # noqa: ARG002 - one shard
        """Executions whose effects are due to be carried out by anybody."""
        if (answer := await self._read(lifecycle.peek_unsettled)) is not None:
            return answer
        return await self._write(lifecycle.unsettled, limit)

    async def settle(self, id: str, through: int, tip: Tip, epoch: int) -> Answer:
        """Effects through that row are carried out."""
        return await self._write(lifecycle.settle, id, through, tip, epoch)

    async def purge(self, limit: int, shard: int = 0) -> int:  # noqa: ARG002 - one shard
        """Remove what is deleted or past its retention, once settled; in steps, so that others get their turns."""
        purged = 0
        while purged < limit and await self._read(lifecycle.has_removable):
            began = time.monotonic()
            purged += await self._write(lifecycle.purge, limit - purged)
            await asyncio.sleep(time.monotonic() - began)
        return purged

    # --------------------------------------------------------------------------------------------------- read side

    async def describe(self, id: str) -> Header | None:
        """The header of an execution."""
        return await self._read(_header, EXECUTION["by_id"], id)

    async def find(self, function: str, name: str) -> Header | None:
        """The execution of this name."""
        return await self._read(_header, EXECUTION["by_name"], function, name)

    async def list(self, query: Query) -> list[Header]:
        """Executions by (created, id), newest first unless asked otherwise."""
        return await self._read(list_executions, query)

    def watch(self, listener: Callable[[Hint], None]) -> Callable[[], None]:
        """Have `listener` called, on the running loop, for every hint from now on, other processes' included."""
        writer = self._opened.writer
        end = self._bell.add(listener)
        writer.nudge()
        return end


def _header(work: Transaction, sql: str, *values: str) -> Header | None:
    return next((execution.header() for execution in work.executions(sql, *values)), None)
