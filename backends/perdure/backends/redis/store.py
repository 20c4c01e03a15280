"""The store over a Redis or Valkey server, or a cluster."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import attrs

from perdure.backends.redis import committing, layout, record
from perdure.backends.redis.committing import encoded_draft, plain
from perdure.backends.redis.failover import Watch
from perdure.backends.redis.fault import is_data_error
from perdure.backends.redis.fleet import Fleet
from perdure.backends.redis.keyspace import Keyspace, due_index
from perdure.backends.redis.lane import Counter
from perdure.backends.redis.listener import Listener
from perdure.backends.redis.listing import answers, list_executions
from perdure.backends.redis.peal import rung
from perdure.backends.redis.script import Library
from perdure.backends.redis.wire import BULK, Call, Wire
from perdure.bell import Bell
from perdure.errors import StoreError
from perdure.storage import (
    Answer,
    Claimed,
    Created,
    Exists,
    Function,
    Header,
    Held,
    Hint,
    HintKind,
    Lease,
    Leases,
    Outdated,
    Page,
    Refused,
    Rejected,
    Signalled,
    Swept,
    Unsettled,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from perdure.backends.redis.location import Location
    from perdure.storage import (
        Claim,
        Commit,
        CommitAnswer,
        Draft,
        FunctionVersion,
        New,
        Query,
        SignalKind,
        Timeouts,
        Tip,
    )

_ANSWERS = {answer.value.encode(): answer for answer in Answer} | {b"lost": Answer.LEASE_LOST}
_EXECUTIONS = {b"created": Created, b"exists": Exists, b"outdated": Outdated}
_INDEXES = ("await", "deadline", "effect", "done")


@attrs.frozen
class _Opening:
    """What is there between `open` and `close`."""

    fleet: Fleet
    keyspace: Keyspace
    wire: Wire
    watch: Watch
    listener: Listener


class RedisStore:
    """
    Executions in a Redis or Valkey server, or a cluster of them, shared by any number of processes.

    Every verb is one Lua script on one shard; what is called at the same time goes over one connection, pipelined.

    Args:
        location: Where, and the options.
        clock: Lua that stands in for the server's clock; for tests.
    """

    def __init__(self, location: Location, *, clock: str | None = None) -> None:
        self.location = location
        self.shards = location.default_shards
        self._library = Library(notify=location.notify, is_cluster=location.is_cluster, clock=clock)
        self._keyspace = Keyspace(location.namespace, self.shards)
        self._caller = secrets.token_hex(4)
        self._bell = Bell()
        self._counter = Counter()
        self._owners: set[str] = set()
        self._opening: _Opening | None = None

    async def open(self) -> None:
        """
        Connect, and begin the store if there is none yet.

        Raises:
            BackendUrlError: The store there has another number of shards, or the place is taken by something else.
            StoreError: The server cannot be reached, or no store can be kept on it; the message says what to do.
        """
        if self._opening is not None:
            return
        fleet = Fleet(self.location, self._library, self._counter, self._note_loss)
        try:
            await fleet.open()
            keyspace = await layout.settle(lambda keys: Wire(fleet, keys, lambda *_: None, self._caller), self.location)
            fleet.assign(keyspace)
            watch = Watch(fleet, keyspace, self._library)
            watch.wire = wire = Wire(fleet, keyspace, watch.check, self._caller)
            await watch.recover()
            # Whoever may not run scripts is told now.
            await wire.run(Call(0, self._library["describe"], ()))
        except BaseException:
            await fleet.close()
            raise
        listener = Listener(fleet, keyspace, self._bell, self._caller, self.location.connect_timeout)
        self.shards, self._keyspace = keyspace.shards, keyspace
        self._opening = _Opening(fleet, keyspace, wire, watch, listener)

    async def close(self) -> None:
        """End the leases that were made here, and let go of everything."""
        opening = self._opening
        if opening is None:
            return
        try:
            if self._owners:
                await self._run_all(
                    [Call(shard, self._library["leave"], [*self._owners], ("lease",)) for shard in range(self.shards)]
                )
        except StoreError:
            pass  # they end by themselves
        self._opening = None
        self._owners.clear()
        self._bell.silence()
        await opening.listener.close()
        await opening.watch.close()
        await opening.fleet.close()

    def _note_loss(self) -> None:
        # What the lost replies would have rung is not known.
        self._bell.ring([Hint(HintKind.DUE)])

    @property
    def round_trips(self) -> int:
        """How many times something was sent that had to be replied to; what went together counts once."""
        return self._counter.round_trips

    @property
    def commands(self) -> int:
        """How many commands were sent."""
        return self._counter.commands

    @property
    def bytes_sent(self) -> int:
        """How many bytes they had."""
        return self._counter.bytes_sent

    def new_id(self, function: str, name: str) -> str:
        """A new execution id, of the shard that the name determines."""
        return self._keyspace.new_id(function, name)

    def child_id(self, id: str, operation: str) -> str:
        """The id of the execution that an operation of another starts."""
        return self._keyspace.child_id(id, operation)

    def shard_of(self, id: str) -> int:
        """Which shard keeps the execution of this id."""
        return self._keyspace.shard_of(id)

    # ---------------------------------------------------------------------------------------------------- scripts

    @property
    def _opened(self) -> _Opening:
        if self._opening is None:
            raise StoreError(f"the Redis store at {self.location.place} is not open; await its open() first")
        return self._opening

    async def _run(
        self, shard: int, verb: str, *arguments: str | bytes | int, keys: Iterable[str] = (), is_bulk: bool = False
    ) -> Any:
        """The reply of a script, without what it has rung."""
        call = Call(shard, self._library[verb], arguments, keys, is_bulk)
        await self._run_all([call])
        return call.reply

    async def _run_all(self, calls: Sequence[Call]) -> None:
        await self._opened.wire.run_all(calls)
        for call in calls:
            if call.script is not None and not call.script.is_reading and (text := call.reply.pop()):
                self._bell.ring(rung(text, call.shard))

    def _place(self, id: str) -> tuple[int, tuple[str, ...]]:
        """The shard of an execution, and its keys where they have to be named."""
        shard = self._keyspace.shard_of(id)
        if not self.location.is_cluster:
            return shard, ()
        return shard, (f"x:{id}", f"j:{id}", f"a:{id}", f"k:{id}", *_INDEXES)

    # ----------------------------------------------------------------------------------------------------- owners

    async def register(self, owner: str, functions: Sequence[Function], lease: int) -> Answer:
        """Make or extend the lease of `owner` in every shard, and upsert functions."""
        told: list[str | int] = []
        for function in functions:
            timeout = "" if function.timeout is None else function.timeout
            told += [function.name, function.version, timeout, function.retention]
        calls = [
            Call(
                shard,
                self._library["register"],
                (owner, lease, *(() if shard else told)),
                ("lease", f"l:{owner}", *(() if shard else (f"f:{function.name}" for function in functions))),
            )
            for shard in range(self.shards)
        ]
        self._owners.add(owner)
        await self._run_all(calls)
        replies = {_ANSWERS[call.reply[0]] for call in calls}
        return Answer.LEASE_LOST if Answer.LEASE_LOST in replies else Answer.OK

    async def functions(self, name: str) -> list[Function]:
        """All registered versions of a function, latest registration last."""
        call = Call(0, None, ("HGETALL", self._keyspace.of(0, f"f:{name}")))
        await self._run_all([call])
        found = []
        for version, text in zip(call.reply[::2], call.reply[1::2], strict=True):
            timeout, retention, registered = text.split(b" ")
            found.append(
                Function(
                    name=name,
                    version=version.decode(),
                    timeout=int(timeout) if timeout else None,
                    retention=int(retention),
                    registered=int(registered),
                )
            )
        return sorted(found, key=lambda function: (function.registered, function.version))

    async def claim(
        self,
        owner: str,
        number: int,
        token: str,
        functions: Sequence[FunctionVersion],
        limit: int,
        format: int,
        shard: int = 0,
    ) -> Claimed | Answer:
        """Own up to `limit` executions of these functions that are due."""
        due = [
            due_index(function.name, function.version, known)
            for function in dict.fromkeys(functions)
            for known in range(1, format + 1)
        ]
        keys = ("lease", f"l:{owner}", f"own:{owner}", *due)
        reply = await self._run(shard, "claim", owner, number, plain(token), limit, *due, keys=keys)
        if reply[0] != b"claimed":
            return _ANSWERS[reply[0]]
        _, now, wake, headers = reply
        return Claimed(tuple(map(record.header, headers)), now, _instant(wake))

    async def renew(self, owner: str, shard: int = 0) -> list[Held] | Answer:
        """Extend the lease and list all that is held; look whether the server is still the same one."""
        call = Call(shard, self._library["renew"], (owner,), ("lease", f"l:{owner}", f"own:{owner}"))
        info = Call(shard, None, ("INFO", "replication"))
        await self._run_all([call, info])
        node = self._opened.fleet.keeper(self._keyspace.layout_keys[shard])
        node.hear(info.reply)
        if (settling := self._opened.watch.check(shard, node)) is not None:
            await settling
        if call.reply[0] != b"held":
            return _ANSWERS[call.reply[0]]
        return [Held(id.decode(), token.decode(), seq, length) for id, token, seq, length in call.reply[1]]

    async def reap(self, limit: int, shard: int = 0) -> Swept:
        """Free what is owned without a live lease."""
        count, following = await self._run(shard, "reap", limit, keys=("lease", "dead"))
        return Swept(count, _instant(following))

    async def leases(self, shard: int = 0) -> Leases:
        """Who is alive, since when, and what each holds."""
        now, found = await self._run(shard, "leases", keys=("lease",))
        leases = [
            Lease(
                owner=owner.decode(),
                since=int(since),
                renewed=until - int(span),
                until=until,
                held=tuple(sorted(id.decode() for id in held)),
            )
            for owner, since, span, until, held in found
        ]
        return Leases(tuple(sorted(leases, key=lambda lease: (lease.since, lease.owner))), now)

    # -------------------------------------------------------------------------------------------------- executions

    async def create(self, new: New, claim: Claim | None) -> Created | Exists | Outdated | Answer:
        """Begin an execution, due at once or owned from the start."""
        shard, keys = self._place(new.id)
        owner, token = (claim.owner, plain(claim.token)) if claim else ("", "")
        if self.location.is_cluster:
            due, ix = due_index(new.function, new.version, new.draft.format), f"ix:RUNNING:{new.function}"
            keys = (*keys, f"t:{new.id}", "name", "functions", due, ix)
            keys += ("lease", f"l:{owner}", f"own:{owner}") if claim else ()
        reply = await self._run(
            shard,
            "create",
            new.id,
            new.function,
            new.version,
            new.name,
            new.digest,
            "" if new.timeout is None else new.timeout,
            new.retention,
            int(new.parent is not None),
            new.parent or "",
            *encoded_draft(new.draft),
            owner,
            token,
            keys=keys,
            is_bulk=len(new.draft.body) >= BULK,
        )
        kind = reply[0]
        if kind not in _EXECUTIONS:
            return _ANSWERS[kind]
        _, now, flat = reply
        header = record.header(flat)
        return Created(header, now) if kind == b"created" else _EXECUTIONS[kind](header)

    async def entries(self, id: str, after: int, max_bytes: int) -> Page | Answer:
        """Rows behind index `after`."""
        shard, keys = self._place(id)
        left, *rest = await self._run(shard, "entries", id, after, max_bytes, keys=keys[:2], is_bulk=True)
        if left < 0:
            return Answer.UNKNOWN
        rows = tuple(record.row(index, raw) for index, raw in enumerate(rest[0], after + 1))
        return Page(rows, left > 0)

    async def commit(self, batch: Sequence[Commit]) -> list[CommitAnswer]:
        """Append for several executions at once, each fenced on its own."""
        calls = []
        try:
            for commit in batch:
                verb, arguments = committing.encoded(commit)
                shard, keys = self._place(commit.id)
                is_bulk = commit.draft is not None and len(commit.draft.body) >= BULK
                calls.append(Call(shard, self._library[verb], arguments, keys, is_bulk))
            await self._run_all(calls)
        except StoreError as error:
            if is_data_error(error):
                return [Rejected(str(error))] * len(batch)
            raise
        return [committing.answered(call.reply) for call in calls]

    async def deliver(self, await_id: str, secret: str, draft: Draft, nonce: str) -> Answer:
        """Complete an await from outside, and wake its execution."""
        id, _, operation = await_id.partition("/")
        shard, keys = self._place(id)
        entry, is_bulk = encoded_draft(draft), len(draft.body) >= BULK
        reply = await self._run(shard, "deliver", id, operation, secret, nonce, *entry, keys=keys, is_bulk=is_bulk)
        return _ANSWERS[reply[0]]

    async def heartbeat(self, await_id: str, secret: str) -> Answer:
        """Restart an await's heartbeat timer."""
        id, _, operation = await_id.partition("/")
        shard, keys = self._place(id)
        reply = await self._run(shard, "heartbeat", id, operation, secret, keys=keys)
        return _ANSWERS[reply[0]]

    async def expire(self, limit: int, timeouts: Timeouts, shard: int = 0) -> Swept:
        """Turn deadlines that have passed into entries, of awaits first."""
        bodies = timeouts.callback, timeouts.heartbeat, timeouts.execution
        tag = secrets.token_hex(7)
        count, following = await self._run(
            shard, "expire", limit, tag, timeouts.format, *bodies, keys=("await", "deadline")
        )
        return Swept(count, _instant(following))

    async def signal(
        self, id: str, kind: SignalKind, draft: Draft, key: str, keep_timeout: bool = True
    ) -> Signalled | Refused | Answer:
        """Stop, pause, resume or delete from outside."""
        shard, keys = self._place(id)
        arguments = (id, kind.value, key, *encoded_draft(draft), int(keep_timeout))
        reply = await self._run(shard, "signal", *arguments, keys=keys)
        if len(reply) == 1:
            return _ANSWERS[reply[0]]
        header = record.header(reply[1])
        return Signalled(header) if reply[0] == b"signalled" else Refused(header)

    async def unsettled(self, limit: int, shard: int = 0) -> Unsettled:
        """Executions whose effects are due to be carried out by anybody."""
        following, headers = await self._run(shard, "unsettled", limit, keys=("effect",))
        return Unsettled(tuple(map(record.header, headers)), _instant(following))

    async def settle(self, id: str, through: int, tip: Tip, epoch: int) -> Answer:
        """Effects through that row are carried out."""
        shard, keys = self._place(id)
        reply = await self._run(shard, "settle", id, through, tip.at, tip.tag, epoch, keys=keys)
        return _ANSWERS[reply[0]]

    async def purge(self, limit: int, shard: int = 0) -> int:
        """Remove what is deleted or past its retention, once settled."""
        (count,) = await self._run(shard, "purge", limit, keys=("done", "name"), is_bulk=True)
        removed: int = count
        return removed

    # --------------------------------------------------------------------------------------------------- read side

    async def describe(self, id: str) -> Header | None:
        """The header of an execution."""
        shard, keys = self._place(id)
        found = await self._run(shard, "describe", id, keys=keys[:2])
        return record.header(found[0]) if found else None

    async def find(self, function: str, name: str) -> Header | None:
        """The execution of this name."""
        shards = self._keyspace.shards_of(function, name)
        calls = [Call(shard, self._library["find"], (function, name), ("name",)) for shard in shards]
        await self._run_all(calls)
        return next((record.header(call.reply) for call in calls if call.reply), None)

    async def list(self, query: Query) -> list[Header]:
        """Executions by (created, id), newest first unless asked otherwise."""
        if query.function is not None and query.name is not None:
            header = await self.find(query.function, query.name)
            return [header] if header is not None and query.limit > 0 and answers(header, query) else []
        return await list_executions(self._list_shard, self.shards, query)

    async def _list_shard(self, shard: int, arguments: Sequence[str | int]) -> Any:
        return await self._run(shard, "list", *arguments, keys=("functions",), is_bulk=True)

    def watch(self, listener: Callable[[Hint], None]) -> Callable[[], None]:
        """Have `listener` called, on the running loop, for every hint from now on, other processes' included."""
        opened = self._opened
        end = self._bell.add(listener)
        if self.location.notify:
            opened.listener.begin()
        return end


def _instant(value: Any) -> int | None:
    return None if value == b"" else value
