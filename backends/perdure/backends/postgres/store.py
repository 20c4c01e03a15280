"""The store over one schema of a PostgreSQL database."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from perdure import execution_id
from perdure.backends.postgres import awaiting, committing, creation, leasing, lifecycle, reading, schema
from perdure.backends.postgres.awaiting import Delivery
from perdure.backends.postgres.fault import LockedError, UnstorableError
from perdure.backends.postgres.horizon import Horizon
from perdure.backends.postgres.lane import Lane
from perdure.backends.postgres.leasing import ClaimRequest
from perdure.backends.postgres.listener import Listener
from perdure.backends.postgres.location import Location
from perdure.backends.postgres.pool import Pool
from perdure.backends.postgres.postman import Postman
from perdure.backends.postgres.record import digest_of
from perdure.backends.postgres.sentinel import Sentinel
from perdure.backends.postgres.session import probe
from perdure.backends.postgres.statement import Library
from perdure.backends.postgres.transacting import PostgresTransactions
from perdure.backends.postgres.within import PostgresWithin
from perdure.bell import Bell
from perdure.errors import StoreError
from perdure.storage import Answer, Claimed, Created, Hint, HintKind, Rejected, Swept

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from perdure.backends.postgres.creation import Creation
    from perdure.backends.postgres.leasing import Lock
    from perdure.backends.postgres.notice import Notice
    from perdure.backends.postgres.reading import Span
    from perdure.backends.postgres.record import Call, News
    from perdure.backends.postgres.sentinel import Ring
    from perdure.backends.postgres.transacting import AsyncPostgresTransaction, PostgresTransaction
    from perdure.storage import (
        Claim,
        Commit,
        CommitAnswer,
        Draft,
        Exists,
        Function,
        FunctionVersion,
        Header,
        Held,
        Leases,
        New,
        Outdated,
        Page,
        Query,
        Refused,
        SignalKind,
        Signalled,
        Timeouts,
        Tip,
        Unsettled,
    )

Result = TypeVar("Result")

GRACE = 0.1
"""Seconds in which an owner that has lost its connection, and no more than that, may have its lock again."""
PURGE = 50
"""Executions that one statement removes."""


@attrs.define(eq=False)
class _Opening:
    """What is there between `open` and `close`."""

    pool: Pool
    listener: Listener | None
    sentinel: Sentinel | None
    creations: Lane[Creation, Created | Exists | Outdated | Answer]
    deliveries: Lane[Delivery, Answer]
    journals: Lane[Span, Page | Answer]
    headers: Lane[str, tuple[Header | None]]
    postman: Postman
    transactions: PostgresTransactions
    birth: str = ""


class PostgresStore:
    """
    Executions in one schema of a PostgreSQL database, from version 14, shared by any number of processes.

    Every verb is one statement in the normal case, and a transaction of its own; creations, deliveries and reads that
    come at the same time share one. All coroutines belong to the loop that opened the store.

    Args:
        location: Where, or its URL.
    """

    shards = 1
    exclusive = False

    def __init__(self, location: Location | str) -> None:
        self.location = Location.parse(location) if isinstance(location, str) else location
        self._library = Library(self.location.schema)
        self._bell = Bell()
        self._horizon = Horizon()
        self._lates = 0
        self._opening: _Opening | None = None
        self._sender = secrets.token_hex(6)

    async def open(self) -> None:
        """
        Connect, and bring the schema to this version.

        Raises:
            BackendUrlError: The database does not exist.
            SchemaVersionError: A newer version of Perdure migrated it, or it is older and may not be migrated.
            StoreError: The server cannot be reached, or refuses.
        """
        if self._opening is not None:
            return
        connection, is_pooled = await probe(self.location)
        pool = Pool(self.location, is_pooled=is_pooled)
        pool.adopt(connection)
        opening = self._prepare(pool)
        try:
            await schema.check(connection, self.location)
            birth = schema.birth(self.location.schema)
            opening.birth = birth.read(await pool.run(birth.sql, birth.parameters))
            if opening.listener is not None:
                await opening.listener.open()
        except BaseException:
            pool.close()
            raise
        self._opening = opening

    def _prepare(self, pool: Pool) -> _Opening:
        listener = sentinel = None
        if self.location.notify and not pool.is_pooled:
            listener = Listener(self.location, self._sender, self._hear, self._relock)
            sentinel = Sentinel(self.location, listener.owners, self._ring, self._mourn)
        deliveries: Lane[Delivery, Answer] = Lane(
            self._deliver, lambda item: item.execution, lambda item: len(item.draft.body)
        )
        return _Opening(
            pool,
            listener,
            sentinel,
            Lane(self._create, lambda item: (item[0].function, item[0].name), lambda item: len(item[0].draft.body)),
            deliveries,
            # Most journals are far smaller than what is asked for at most.
            Lane(self._entries, size=lambda item: item[2] // 16),
            Lane(self._describe),
            Postman(self._library, self._ask, deliveries),
            PostgresTransactions(self.location, self._library, self._tell),
        )

    async def close(self) -> None:
        """Let go; owners that were registered here count as dead from now on."""
        opening, self._opening = self._opening, None
        if opening is None:
            return
        self._bell.silence()
        await opening.postman.close()
        for lane in (opening.creations, opening.deliveries, opening.journals, opening.headers):
            await lane.close()
        if opening.sentinel is not None:
            await opening.sentinel.close()
        if opening.listener is not None:
            await opening.listener.close()
        opening.transactions.close()
        opening.pool.close()

    async def missing_migrations(self) -> list[str]:
        """The names of what `migrate` would apply; changes nothing, and needs no open store."""
        connection, _ = await probe(self.location)
        try:
            return await schema.missing(connection, self.location)
        finally:
            connection.pgconn.finish()

    async def migrate(self) -> list[str]:
        """Bring the schema to this version, without opening the store; returns the names of what was applied."""
        connection, _ = await probe(self.location)
        try:
            return await schema.migrate(connection, self.location)
        finally:
            connection.pgconn.finish()

    @property
    def round_trips(self) -> int:
        """How many statements this opening has sent, notifications not counted."""
        return self._opened.pool.round_trips

    @property
    def notifications(self) -> int:
        """How many notifications it has sent."""
        return self._opened.listener.notifications if self._opened.listener else 0

    def new_id(self, function: str, name: str) -> str:  # noqa: ARG002 - ids carry no shard here
        """A new execution id; ids of one time lie together, so that a group commit dirties few pages of the index."""
        return execution_id.minted(time.time_ns() // 1000)

    def child_id(self, id: str, operation: str) -> str:
        """The id of the execution that an operation of another starts."""
        return execution_id.derived(id, operation)

    def shard_of(self, id: str) -> int:  # noqa: ARG002 - one shard
        """Always the same one."""
        return 0

    @property
    def _opened(self) -> _Opening:
        if self._opening is None:
            raise StoreError(f"the PostgreSQL store {self.location.place!r} is not open; await its open() first")
        return self._opening

    async def _ask(self, call: Call[Result]) -> Result:
        rows = await self._opened.pool.run(call.sql, call.parameters)
        answer = call.read(rows)
        self._tell(call.news(rows))
        return answer

    # ------------------------------------------------------------------------------------------------ transactions

    def transaction(self) -> AbstractContextManager[PostgresTransaction]:
        """Open a transaction with a `psycopg.Connection` for the calling thread."""
        return self._opened.transactions.open()

    def async_transaction(self) -> AbstractAsyncContextManager[AsyncPostgresTransaction]:
        """Open a transaction with a `psycopg.AsyncConnection` for the running task."""
        return self._opened.transactions.open_async()

    def within(self, connection: Any) -> PostgresWithin:
        """The verbs within the transaction that a connection of psycopg is in."""
        return PostgresWithin.of(connection, self.location, self._library, self._opened.birth)

    # ------------------------------------------------------------------------------------------------------- hints

    def _tell(self, news: Sequence[News]) -> None:
        if not news:
            return
        has_late = any(item.is_late for item in news)
        if has_late:
            self._look_far()
        self._bell.ring(item.hint for item in news)
        if self._opening is not None and (listener := self._opening.listener) is not None:
            # What concerns an owner of this process only is no news elsewhere.
            hints = [item.hint for item in news if item.owner is None or item.owner not in listener.owners]
            listener.tell(hints, has_late=has_late)

    def _look_far(self) -> None:
        self._lates += 1
        self._horizon.forget()

    def _hear(self, notice: Notice) -> None:
        if notice.has_late:
            self._look_far()
        self._bell.ring(notice.hints)
        if notice.has_owners:
            self._rearrange()
        if notice.has_post and self._opening is not None:
            self._opening.postman.send()

    def _mourn(self) -> None:
        self._bell.ring([Hint(HintKind.DIED, shard=0)])

    def _rearrange(self) -> None:
        if self._opening is not None and self._opening.sentinel is not None:
            self._opening.sentinel.arrange()

    async def _ring(self) -> Ring:
        listener = self._opened.listener
        if listener is None or listener.boot is None:
            return []
        return await self._ask(leasing.ring(self._library, listener.boot))

    async def _relock(self, owner: str, lock: Lock | None) -> None:
        await self._ask(leasing.locked(self._library, owner, lock))

    # ------------------------------------------------------------------------------------------------------ owners

    async def register(self, owner: str, functions: Sequence[Function], lease: int) -> Answer:
        """Make or extend the lease of `owner`, and upsert functions."""
        listener = self._opened.listener
        lock = None
        if listener is not None:
            is_known = owner in listener.owners
            # Before the row is there, or somebody could find it with its lock still free.
            lock = await listener.hold(owner)
        answer = await self._ask(leasing.register(self._library, owner, functions, lease, lock))
        if answer is Answer.LEASE_LOST:
            await self._lose(owner)
        elif listener is not None and lock is not None and not is_known:
            self._rearrange()
            listener.tell((), has_owners=True)
        return answer

    async def _lose(self, owner: str) -> None:
        if (listener := self._opened.listener) is not None:
            await listener.release(owner)

    async def functions(self, name: str) -> list[Function]:
        """All registered versions of a function, latest registration last."""
        return await self._ask(reading.functions(self._library, name))

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
        """Own up to `limit` executions of these functions that are due."""
        request = ClaimRequest(
            owner=owner, number=number, token=token, functions=tuple(functions), limit=limit, format=format
        )
        request = self._horizon.look(request)
        is_told = self._lates
        answer = await self._ask(leasing.claim(self._library, request))
        if answer is Answer.LEASE_LOST:
            await self._lose(owner)
        elif isinstance(answer, Claimed) and is_told == self._lates:
            self._horizon.learn(request, answer)
        if answer is None:
            return await self._ask(leasing.held(self._library, request))
        return answer

    async def renew(self, owner: str, shard: int = 0) -> list[Held] | Answer:  # noqa: ARG002 - one shard
        """Extend the lease and list all that is held."""
        answer = await self._ask(leasing.renew(self._library, owner))
        if answer is Answer.LEASE_LOST:
            await self._lose(owner)
        return answer

    async def reap(self, limit: int, shard: int = 0) -> Swept:  # noqa: ARG002 - one shard
        """Free what is owned without a live lease, or by a process that is dead as its lock shows."""
        reaping = await self._reap(limit, ())
        if not reaping.suspects:
            return reaping.swept
        # When the network fails for all, other sessions may end before this one. Then there is no witness any more.
        await asyncio.sleep(GRACE)
        again = await self._reap(limit, reaping.suspects)
        return attrs.evolve(again.swept, count=reaping.swept.count + again.swept.count)

    async def _reap(self, limit: int, suspects: Sequence[str]) -> leasing.Reaping:
        listener = self._opened.listener
        boot = listener.witness if listener else None
        reaping = await self._ask(leasing.reap(self._library, limit, boot, suspects))
        for owner in reaping.owners:
            await self._lose(owner)
        if reaping.owners:
            self._rearrange()
        return reaping

    async def leases(self, shard: int = 0) -> Leases:  # noqa: ARG002 - one shard
        """Who is alive, since when, and what each holds."""
        return await self._ask(leasing.leases(self._library))

    # -------------------------------------------------------------------------------------------------- executions

    async def create(self, new: New, claim: Claim | None) -> Created | Exists | Outdated | Answer:
        """Begin an execution, due at once or owned from the start."""
        return await self._opened.creations.submit((new, claim))

    async def _create(
        self, batch: Sequence[Creation], *, waits: bool
    ) -> list[Created | Exists | Outdated | Answer | None]:
        created = await self._ask(creation.create(self._library, batch, waits=waits))
        answers: list[Created | Exists | Outdated | Answer | None] = list(created)
        for index, (new, _) in enumerate(batch):
            if answers[index] is None:
                answers[index] = await self._ask(creation.known(self._library, new))
        return answers

    async def entries(self, id: str, after: int, max_bytes: int) -> Page | Answer:
        """Rows behind index `after`."""
        return await self._opened.journals.submit((id, after, max_bytes))

    async def _entries(self, batch: Sequence[Span], *, waits: bool) -> list[Page | Answer | None]:  # noqa: ARG002 - nothing to wait for
        return [*await self._ask(reading.entries(self._library, batch))]

    async def commit(self, batch: Sequence[Commit]) -> list[CommitAnswer]:
        """Append for several executions at once, each fenced on its own; a single one waits for its lock."""
        if not batch:
            return []
        try:
            return await self._ask(committing.commit(self._library, batch, waits=len(batch) == 1))
        except UnstorableError as error:
            return [Rejected(str(error))] * len(batch)
        except LockedError:
            return [Answer.BUSY] * len(batch)

    async def deliver(self, await_id: str, secret: str, draft: Draft, nonce: str) -> Answer:
        """Complete an await from outside, and wake its execution."""
        if _is_unsendable(await_id):
            return Answer.UNKNOWN
        return await self._opened.deliveries.submit(Delivery.of(await_id, digest_of(secret), draft, nonce))

    async def _deliver(self, batch: Sequence[Delivery], *, waits: bool) -> list[Answer | None]:
        answers = await self._ask(awaiting.deliver(self._library, batch, waits=waits))
        return [None if answer is Answer.BUSY else answer for answer in answers]

    async def heartbeat(self, await_id: str, secret: str) -> Answer:
        """Restart an await's heartbeat timer."""
        if _is_unsendable(await_id):
            return Answer.UNKNOWN
        return await self._ask(awaiting.heartbeat(self._library, await_id, secret))

    async def expire(self, limit: int, timeouts: Timeouts, shard: int = 0) -> Swept:  # noqa: ARG002 - one shard
        """Turn deadlines that have passed into entries, of awaits first; what is in the inbox comes before."""
        deadlines = await self._ask(awaiting.deadlines(self._library))
        if deadlines.next is None or deadlines.next > deadlines.now:
            return Swept(0, deadlines.next)
        if deadlines.has_post:
            await self._opened.postman.empty()
        count = await self._ask(awaiting.expire_awaits(self._library, limit, timeouts))
        if count < limit:
            salt = secrets.token_hex(8)
            count += await self._ask(awaiting.expire_executions(self._library, limit - count, timeouts, salt))
        deadlines = await self._ask(awaiting.deadlines(self._library))
        return Swept(count, deadlines.next)

    async def signal(
        self, id: str, kind: SignalKind, draft: Draft, key: str, keep_timeout: bool = True
    ) -> Signalled | Refused | Answer:
        """Stop, pause, resume or delete from outside."""
        call = lifecycle.signal(self._library, id, kind, draft, key, keep_timeout=keep_timeout)
        signalled = await self._ask(call)
        if signalled is not None:
            return signalled
        return await self._ask(lifecycle.refused(self._library, id, key))

    async def unsettled(self, limit: int, shard: int = 0) -> Unsettled:  # noqa: ARG002 - one shard
        """Executions whose effects are due to be carried out by anybody."""
        return await self._ask(lifecycle.unsettled(self._library, limit))

    async def settle(self, id: str, through: int, tip: Tip, epoch: int) -> Answer:
        """Effects through that row are carried out."""
        return await self._ask(lifecycle.settle(self._library, id, through, tip, epoch))

    async def purge(self, limit: int, shard: int = 0) -> int:  # noqa: ARG002 - one shard
        """Remove what is deleted or past its retention, once settled; in steps, so that each is short."""
        purged = 0
        while purged < limit:
            some = min(PURGE, limit - purged)
            done = await self._ask(lifecycle.purge(self._library, some))
            purged += done
            if done < some:
                break
        return purged

    # --------------------------------------------------------------------------------------------------- read side

    async def describe(self, id: str) -> Header | None:
        """The header of an execution."""
        (header,) = await self._opened.headers.submit(id)
        return header

    async def _describe(self, batch: Sequence[str], *, waits: bool) -> list[Any]:  # noqa: ARG002 - nothing to wait for
        # In tuples: for a lane, None is what has to wait.
        return [(header,) for header in await self._ask(reading.describe(self._library, batch))]

    async def find(self, function: str, name: str) -> Header | None:
        """The execution of this name."""
        return await self._ask(reading.find(self._library, function, name))

    async def list(self, query: Query) -> list[Header]:
        """Executions by (created, id), newest first unless asked otherwise."""
        return await self._ask(reading.list_executions(self._library, query))

    def watch(self, listener: Callable[[Hint], None]) -> Callable[[], None]:
        """Have `listener` called, on the running loop, for every hint from now on, other processes' included."""
        return self._bell.add(listener)


def _is_unsendable(text: str) -> bool:
    # No id has it, and no statement takes it.
    return "\0" in text
