"""
The store SPI: what a backend is, and nothing more.

A store keeps journals, lets exactly one owner at a time append its own work to each, and keeps one index "which
execution is due when". It never looks into an entry. Nobody needs to read the engine or the service to write one:
implement `Store`, pass `perdure.testing.conformance`, and register a factory for your URL scheme in the entry-point
group `perdure.backends`.

Conventions of every verb:

* Times are integer microseconds since the epoch by **the store's own clock**, spans integer microseconds. "At once" is
  the clock's time, even where a row is stamped later because the clock was set back.
* Each verb is atomic per execution, and never waits for the lock of a second execution.
* Callers choose tokens, numbers, nonces and tags, so that repeating a verb whose answer was lost gives the same answer
  and changes nothing more.
* A store that cannot answer raises `StoreError`, `retryable` set rightly; every other outcome is one of the answers.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import attrs

from perdure.errors import BackendUrlError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MICROSECONDS = 1_000_000
EFFECT_GRACE = 2 * MICROSECONDS
"""How long a commit's effects are left to its owner before any process may carry them out."""
EFFECT_RETRY = 5 * MICROSECONDS
"""How long `unsettled` hides an execution that it handed to a carrier."""
TOMBSTONE_SPAN = 86_400 * MICROSECONDS
"""How long, at least, a purged id is remembered."""


class Status(StrEnum):
    """Status of an execution as a store knows it; the last four are ends."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    STOPPED = "STOPPED"

    @property
    def is_end(self) -> bool:
        """Whether the execution has ended."""
        return self is not Status.RUNNING


class SignalKind(StrEnum):
    """What `signal` does."""

    STOP = "stop"
    PAUSE = "pause"
    RESUME = "resume"
    DELETE = "delete"


# ------------------------------------------------------------------------------------------------------------ state


@attrs.frozen
class Tip:
    """Identity of a journal row: when it was written, and its random tag. A tag alone may occur twice."""

    at: int
    tag: str


EMPTY = Tip(0, "")
"""The tip before the first row."""


@attrs.frozen
class OpenInvocation:
    """An invocation that has begun and not ended: the token it was claimed under, and when."""

    id: str = attrs.field(repr=False)
    at: int


@attrs.frozen(kw_only=True)
class Row:
    """
    One entry of a journal as stored.

    Attributes:
        index: From 1, without gaps.
        at: When it was appended; never before its predecessor.
        tag: The random tag its writer chose.
        seen: For an owner's row: how many rows the owner had folded when it wrote this one. Else None.
        invocation: The invocation that a stop or an execution timeout closed, if one was open. Else None.
        operation: For rows of `deliver` and of await timeouts: the operation whose await was closed. Else None.
        body: The entry; opaque to the store.
    """

    index: int
    at: int
    tag: str
    seen: int | None = None
    invocation: OpenInvocation | None = None
    operation: str | None = None
    body: bytes


@attrs.frozen(kw_only=True)
class Header:
    """
    Everything a store knows of one execution besides its journal.

    Attributes:
        id: The execution's id; function, version, name: what it runs and is called; digest: of its input.
        status: RUNNING or how it ended; `deleting`: to be purged as soon as its effects are settled.
        created: When its first row was written; `ended`: when its last was, or None.
        timeout: The execution timeout it was created with, or None; `deadline`: when that falls, or None while paused,
            without timeout, or ended; `left`: what remained of it when it was paused, at least 0.
        retention: How long it is kept after its end.
        paused: No invocation may begin.
        owner: Who holds it, or None; `token`: what its writes carry (kept after release, so that a repeated last
            commit is recognized); `seq`: number of the last accepted commit, never reset; `seq_at` and `seq_length`:
            what that commit was answered with.
        length, tip: Of its journal.
        wake: When it is due for a claim, or None.
        invocation: The invocation that is open, or None.
        crashes: Invocations in a row that did not end cleanly; nothing but `Commit.reopen` counts one.
        quarantined: Too many of them: due for nothing until resumed.
        format: Highest entry format in its journal.
        parent: The await of another execution that its end completes, or None.
        effect_last: Row of the last effect; `settled`: through which row effects are known to be carried out;
            `effect_due`: when any process may carry out the rest, or None if nothing is left; `epoch`: raised when a
            failover made settled effects doubtful.
    """

    id: str
    function: str
    version: str
    name: str
    digest: str
    status: Status = Status.RUNNING
    deleting: bool = False
    created: int
    ended: int | None = None
    timeout: int | None = None
    deadline: int | None = None
    left: int | None = None
    retention: int
    paused: bool = False
    owner: str | None = None
    token: str | None = attrs.field(default=None, repr=False)
    seq: int = 0
    seq_at: int = 0
    seq_length: int = 0
    length: int
    tip: Tip
    wake: int | None = None
    invocation: OpenInvocation | None = None
    crashes: int = 0
    quarantined: bool = False
    format: int
    parent: str | None = None
    effect_last: int = 0
    settled: int = 0
    effect_due: int | None = None
    epoch: int = 0

    @property
    def is_settled(self) -> bool:
        """Whether no effect is left to be carried out."""
        return self.settled >= self.effect_last

    @property
    def expires(self) -> int | None:
        """When its retention is over, or None while it runs."""
        return None if self.ended is None else self.ended + self.retention


@attrs.frozen(kw_only=True)
class Function:
    """A function that a worker has registered; spans in microseconds."""

    name: str
    version: str
    timeout: int | None
    retention: int
    registered: int = 0


@attrs.frozen
class FunctionVersion:
    """What a claim is ready to run."""

    name: str
    version: str


# -------------------------------------------------------------------------------------------------------- arguments


@attrs.frozen
class Draft:
    """An entry to be appended: its body, the random tag of its row, the format it is written in."""

    body: bytes
    tag: str
    format: int


@attrs.frozen(kw_only=True)
class New:
    """An execution to be created; `draft` is its first entry. Spans in microseconds."""

    id: str
    function: str
    version: str
    name: str
    digest: str
    timeout: int | None
    retention: int
    parent: str | None = None
    draft: Draft


@attrs.frozen
class Claim:
    """Who wants to own an execution as soon as it is created, and under which token."""

    owner: str
    token: str = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class OpenAwait:
    """
    An await that a commit opens: something outside will complete `operation`.

    Attributes:
        secret: 128 random bits in hex that `deliver` and `heartbeat` must show; empty where only the service itself
            delivers (a chained invoke).
        timeout, heartbeat: Spans from the commit's time, or None.
    """

    operation: str
    secret: str = attrs.field(default="", repr=False)
    timeout: int | None = None
    heartbeat: int | None = None


@attrs.frozen
class Keep:
    """The owner goes on owning."""


@attrs.frozen(kw_only=True)
class Suspend:
    """
    The owner lets go, and the invocation is over.

    The execution is due at the earliest of `wake_at` (an instant) and `wake_after` (a span from the commit's time), and
    at once if there are rows its owner had not seen. `clean` resets the count of crashes, else it stays as it is.
    `quarantine` keeps the execution from ever being due until it is resumed.
    """

    wake_at: int | None = None
    wake_after: int | None = None
    clean: bool = True
    quarantine: bool = False


@attrs.frozen
class End:
    """The owner ends the execution."""

    status: Status


@attrs.frozen(kw_only=True)
class Commit:
    """
    One write of an owner.

    Attributes:
        id, token: The execution, and the token it was claimed under.
        seq: One more than the last accepted commit's; the same again repeats it.
        seen: How many rows the owner has folded; `tip`: the tip of the last of them.
        draft: The entry, or None to append nothing.
        then: What becomes of the ownership.
        opens: Awaits that begin with this entry.
        effects: The entry asks for something elsewhere.
        reopen: The entry records that the open invocation crashed, which is counted; this owner's invocation is open
            from now on.
    """

    id: str
    token: str = attrs.field(repr=False)
    seq: int
    seen: int
    tip: Tip
    draft: Draft | None
    then: Keep | Suspend | End = Keep()
    opens: tuple[OpenAwait, ...] = ()
    effects: bool = False
    reopen: bool = False


@attrs.frozen(kw_only=True)
class Timeouts:
    """The entries that `expire` appends; the store stamps the operation beside the first two."""

    callback: bytes
    heartbeat: bytes
    execution: bytes
    format: int


@attrs.frozen(kw_only=True)
class Query:
    """
    Which executions to list.

    Attributes:
        function, version, name: Exact, or None for any.
        statuses: Any of these, or empty for all.
        created_after, created_before: Bounds on `created`, exclusive, or None.
        oldest_first: Order by (created, id), ascending instead of descending.
        cursor: (created, id) of the last one of the page before, or None.
        limit: At most this many.
    """

    function: str | None = None
    version: str | None = None
    name: str | None = None
    statuses: tuple[Status, ...] = ()
    created_after: int | None = None
    created_before: int | None = None
    oldest_first: bool = False
    cursor: tuple[int, str] | None = None
    limit: int = 100


# ---------------------------------------------------------------------------------------------------------- answers


class Answer(Enum):
    """Answers that carry nothing but themselves."""

    OK = "ok"
    LEASE_LOST = "lease lost"
    GONE = "gone"
    FENCED = "fenced"
    BUSY = "busy"
    DELIVERED = "delivered"
    CLOSED = "closed"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


@attrs.frozen
class Created:
    """The execution exists now, made by this call or by an earlier one with the same id."""

    header: Header
    now: int


@attrs.frozen
class Exists:
    """The name is taken by another execution."""

    header: Header


@attrs.frozen
class Outdated:
    """The name is taken by an execution whose retention is over, or that was deleted: purge it and create again."""

    header: Header


@attrs.frozen
class Claimed:
    """What was claimed, the store's time, and when something else these functions could run will be due."""

    headers: tuple[Header, ...]
    now: int
    next_wake: int | None


@attrs.frozen
class Swept:
    """
    What a round of `expire` or `reap` did.

    Attributes:
        count: How many; a full `limit` means there may be more.
        next: The earliest instant at which, as far as is known now, there will be more to do in this shard, or None.
            It may lie in the past when there is more already. Nobody need ask before it, unless a hint or a commit of
            its own says otherwise.
    """

    count: int
    next: int | None


@attrs.frozen
class Unsettled:
    """Executions whose effects were handed to the caller, and when others will be due, as far as is known."""

    headers: tuple[Header, ...]
    next: int | None


@attrs.frozen(kw_only=True)
class Lease:
    """
    What is known of an owner whose lease lives.

    Attributes:
        owner: Its id.
        since: When it registered; `renewed`: when it last extended its lease; `until`: how long that lasts.
        held: Ids of the executions it holds, sorted.
    """

    owner: str
    since: int
    renewed: int
    until: int
    held: tuple[str, ...]


@attrs.frozen
class Leases:
    """The live leases of a shard, oldest registration first, and the store's time."""

    leases: tuple[Lease, ...]
    now: int


@attrs.frozen
class Page:
    """Rows in order; `more`: the journal has others behind them."""

    rows: tuple[Row, ...]
    more: bool


@attrs.frozen
class Committed:
    """
    The write is durable.

    Attributes:
        length: Of the journal, the appended row included. What lies between `seen` and it was not seen.
        at: When the row was appended.
        now: The store's time.
    """

    length: int
    at: int
    now: int


@attrs.frozen
class Rejected:
    """The store cannot keep this data; nothing of the batch was written. Alone, that commit is the offender."""

    error: str


@attrs.frozen
class Held:
    """An execution that an owner holds, as `renew` sees it."""

    id: str
    token: str = attrs.field(repr=False)
    seq: int
    length: int


@attrs.frozen
class Signalled:
    """The signal was accepted, by this call or an earlier one with the same key."""

    header: Header


@attrs.frozen
class Refused:
    """The execution's status does not allow it."""

    header: Header


CommitAnswer = Committed | Rejected | Answer  # Answer.FENCED or Answer.BUSY


class HintKind(StrEnum):
    """What a hint is about."""

    DUE = "due"
    GREW = "grew"
    ENDED = "ended"
    DIED = "died"


@attrs.frozen
class Hint:
    """Something may have happened; id, function and shard where known. Hints get lost; polling stays the truth."""

    kind: HintKind
    id: str | None = None
    function: str | None = None
    shard: int | None = None


# -------------------------------------------------------------------------------------------------------------- SPI


class Store(Protocol):
    """
    The verbs of a backend (see the module's text for what holds of all).

    Verbs with a `shard` concern that shard only: owners, leases and claim numbers exist per shard. Most stores have
    one shard, number 0.
    """

    shards: int

    async def open(self) -> None:
        """Connect, and bring the schema to this version. Raises `StoreError`."""

    async def close(self) -> None:
        """Let go of everything; the journals stay."""

    def new_id(self, function: str, name: str) -> str:
        """A new execution id: 1–64 of `[A-Za-z0-9_-]`, unguessable, carrying its shard."""

    def child_id(self, id: str, operation: str) -> str:
        """The id of the execution that an operation of another starts: always the same for the same arguments."""

    def shard_of(self, id: str) -> int:
        """Which shard keeps the execution of this id."""

    async def register(self, owner: str, functions: Sequence[Function], lease: int) -> Answer:
        """
        Make or extend the lease of `owner`, to last this span from now, and upsert functions by (name, version).

        A lease that has run out is live until it is reaped. Whatever extends it later gives it the same span.

        Returns:
            OK, or LEASE_LOST if this owner was reaped: an owner id that was reaped never returns.
        """

    async def functions(self, name: str) -> list[Function]:
        """All registered versions of a function, latest registration last."""

    async def create(self, new: New, claim: Claim | None) -> Created | Exists | Outdated | Answer:
        """
        Begin an execution: header and first row, due at once.

        With a claim it is owned from the start, if the claim's owner has a live lease (which this extends) and the
        execution is made by this very call. Returns GONE for a purged id. The same id again is Created, changing
        nothing; another id of the same (function, name) is Exists, or Outdated once `purge` would remove it: its
        retention is over or it is marked deleted, and its effects are settled.
        """

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
        """
        Own up to `limit` executions of these functions that are due, not owned, paused, quarantined or ended.

        The earliest due comes first, then by id. Always extends the owner's lease in the same step; LEASE_LOST
        without one. A claim number takes at most once: with `number` not above the owner's last, only what is still
        held under `token` is answered. Where no invocation is open, one opens under `token`. Executions with entries
        in a newer format than `format` are left alone.
        """

    async def entries(self, id: str, after: int, max_bytes: int) -> Page | Answer:
        """
        Rows behind index `after`: as many as `max_bytes` of bodies allow, but at least one if there is one.

        UNKNOWN without such an execution.
        """

    async def commit(self, batch: Sequence[Commit]) -> list[CommitAnswer]:
        """
        Append for several executions at once, each fenced on its own; at most one commit per execution in a batch.

        Accepted only with the header's token, while owned and not ended, with `seq` one above the header's, `seen`
        not above the length and `tip` that of row `seen`. The header's own `seq` with its token answers as before,
        also after the ownership ended. Anything else is FENCED: the caller abandons the execution. BUSY: locked by
        somebody; retry alone.

        Suspending without an entry closes the open invocation only if it is this owner's, and leaves `crashes` as it
        is. Whatever ends an execution with a `parent`, here or elsewhere, arms its effects, as `effects` does: they
        are due to anybody `EFFECT_GRACE` after the row. `crashes` and `quarantined` stay as they are at an end.
        """

    async def deliver(self, await_id: str, secret: str, draft: Draft, nonce: str) -> Answer:
        """
        Complete an await from outside, and wake its execution.

        `await_id` is `<execution id>/<operation id>`. Returns DELIVERED, also again for the same nonce; CLOSED if it
        was completed or its execution ended; EXPIRED if its time is over, whether `expire` has been there or not;
        UNKNOWN, also for a wrong secret.
        """

    async def heartbeat(self, await_id: str, secret: str) -> Answer:
        """Restart an await's heartbeat timer; leaves no row. Returns OK, CLOSED, EXPIRED or UNKNOWN."""

    async def expire(self, limit: int, timeouts: Timeouts, shard: int = 0) -> Swept:
        """
        Turn deadlines that have passed into entries: of open awaits, and of executions, which this ends.

        Awaits come before executions, the earliest first, then by id. An await is out of time for want of a heartbeat
        only if that falls before its timeout. A paused execution's awaits time out like others. `next` is the earliest
        deadline that is left. What this ends has its effects due at once: nobody else knows of them.
        """

    async def signal(
        self, id: str, kind: SignalKind, draft: Draft, key: str, keep_timeout: bool = True
    ) -> Signalled | Refused | Answer:
        """
        Stop, pause, resume or delete from outside; UNKNOWN without such an execution.

        Stop ends a running one. Pause is refused unless running and not paused; `keep_timeout` stops the clock of its
        timeout too. Resume clears pause, quarantine and the count of crashes, and always wakes; refused unless paused
        or quarantined. Delete marks an ended one for `purge` and appends nothing; refused while it runs.
        """

    async def unsettled(self, limit: int, shard: int = 0) -> Unsettled:
        """Executions whose effects are due to be carried out by anybody, hidden from others for `EFFECT_RETRY`."""

    async def settle(self, id: str, through: int, tip: Tip, epoch: int) -> Answer:
        """
        Effects through that row are carried out: a monotone maximum. The tip of row 0 is `EMPTY`.

        Returns:
            OK; FENCED, changing nothing, if that row has another tip or the execution another epoch; UNKNOWN.
        """

    async def renew(self, owner: str, shard: int = 0) -> list[Held] | Answer:
        """Extend the lease and list all that is held, or LEASE_LOST."""

    async def reap(self, limit: int, shard: int = 0) -> Swept:
        """
        End leases that have run out or belong to a process known to be dead, and free what they held; due at once.

        All those leases end with this call; what it does not free for want of `limit`, later ones do. `count` is of
        executions, `next` when the first of the leases that live runs out.
        """

    async def leases(self, shard: int = 0) -> Leases:
        """Who is alive, since when, and what each holds; extends nothing."""

    async def purge(self, limit: int, shard: int = 0) -> int:
        """Remove what is deleted or past its retention, once settled, leaving tombstones."""

    async def describe(self, id: str) -> Header | None:
        """The header of an execution."""

    async def find(self, function: str, name: str) -> Header | None:
        """The execution of this name."""

    async def list(self, query: Query) -> list[Header]:
        """Executions by (created, id), newest first unless asked otherwise."""

    def watch(self, listener: Callable[[Hint], None]) -> Callable[[], None]:
        """
        Have `listener` called, on the loop of the caller, for every hint from now on.

        Returns:
            What ends it.
        """


# ---------------------------------------------------------------------------------------------------------- backends


@attrs.frozen(kw_only=True)
class Backend:
    """
    What a URL scheme's entry point makes of a URL.

    Attributes:
        url: As given, passwords masked.
        store: Where executions are kept, or None if the service is elsewhere.
        client: Makes what each client works with where there is no store (`perdure.desk.port.Desk`), or None.
    """

    url: str
    store: Store | None = None
    client: Callable[[], Any] | None = None


@runtime_checkable
class Migratory(Protocol):
    """A store whose schema `perdure migrate` can bring to this version; both verbs connect by themselves."""

    async def missing_migrations(self) -> Sequence[str]:
        """The names of those that are still to be applied, in their order. Changes nothing."""
        ...

    async def migrate(self) -> Sequence[str]:
        """Apply them; answers the names of those that it did apply. Raises `SchemaVersionError` if it is newer."""
        ...


ENTRY_POINTS = "perdure.backends"


def open_backend(url: str) -> Backend:
    """
    The backend that a URL names, not yet connected.

    Schemes are found in the entry-point group `perdure.backends`: a callable `(url) -> Backend`.

    Raises:
        BackendUrlError: The URL is malformed, its scheme unknown, an extra missing, or an option wrong.
    """
    from importlib.metadata import entry_points  # noqa: PLC0415 - costs a scan of site-packages, once

    scheme, separator, _ = url.partition("://")
    known = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if not separator or scheme not in known:
        schemes = ", ".join(f"{name}://" for name in sorted(known))
        raise BackendUrlError(f"{mask(url)!r} is no backend URL; it starts with one of {schemes}")
    try:
        factory = known[scheme].load()
    except ModuleNotFoundError as error:
        distribution = known[scheme].dist
        owner = distribution.name if distribution else "perdure"
        # Our extras are named as the modules that need them.
        extra = known[scheme].module.rpartition(".")[2]
        remedy = f"pip install 'perdure[{extra}]'" if owner == "perdure" else f"see the documentation of {owner!r}"
        raise BackendUrlError(f"{scheme}:// needs the module {error.name!r}; {remedy}") from error
    backend: Backend = factory(url)
    return backend


def mask(url: str) -> str:
    """A URL as it may be shown: without its password, and without the values of its options."""
    scheme, separator, rest = url.partition("://")
    start = rest.partition("?")[0].partition("/")[0]
    behind = rest[len(start) :]
    if ":" in start and "@" in (behind.partition("?")[0] if "@" in start else behind):
        # Slashes and question marks of a password ought to be percent-encoded; where they are not, they are part of it.
        rest = f"{start.partition(':')[0]}:***@{rest.rpartition('@')[2]}"
    rest, mark, query = rest.partition("?")
    place, slash, path = rest.partition("/")
    user, at, host = place.rpartition("@")
    name, colon, _ = user.partition(":")
    options = "&".join(option.partition("=")[0] + "=***" for option in query.split("&")) if mark else ""
    return f"{scheme}{separator}{name}{colon and ':***'}{at}{host}{slash}{path}{mark}{options}"
