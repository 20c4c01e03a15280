"""A store, opened for a test, and the roles that act on it."""

from __future__ import annotations

import inspect
import itertools
from typing import TYPE_CHECKING, Any, Self

import attrs

from perdure.storage import (
    MICROSECONDS,
    Answer,
    Claim,
    Claimed,
    Commit,
    Committed,
    Created,
    Draft,
    End,
    Function,
    FunctionVersion,
    Header,
    Held,
    Keep,
    New,
    OpenAwait,
    Page,
    Row,
    SignalKind,
    Status,
    Store,
    Suspend,
    Timeouts,
    Tip,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from perdure.storage import CommitAnswer, Refused, Signalled

SECOND = MICROSECONDS
LEASE = 10 * SECOND
RETENTION = 1000 * SECOND
PAGE = 1 << 20
ORDER = FunctionVersion("order", "1")
TIMEOUTS = Timeouts(callback=b"callback", heartbeat=b"heartbeat", execution=b"execution", format=1)
SECRET = "5ec2e7" * 4


class Stage:
    """
    One store for one test.

    Attributes:
        store: The store as the process of the test has it.
    """

    store: Store

    def __init__(self, make: Callable[[], Store], advance: Callable[[int], Awaitable[None] | None]) -> None:
        self._make = make
        self._advance = advance
        self._opened: list[Store] = []
        self._numbers = itertools.count(1)

    async def __aenter__(self) -> Self:
        self.store = await self.another()
        return self

    async def __aexit__(self, *exception: object) -> None:
        for store in reversed(self._opened):
            await store.close()

    async def another(self) -> Store:
        """The same data as another process has it."""
        store = self._make()
        await store.open()
        self._opened.append(store)
        return store

    async def advance(self, span: int) -> None:
        """Take the store's clock on by `span` µs."""
        advanced = self._advance(span)
        if inspect.isawaitable(advanced):
            await advanced

    async def now(self) -> int:
        """The store's time."""
        owner = await self.owner()
        answer = await self.store.claim(owner.id, 1, self.token(), [], 1, 1)
        assert isinstance(answer, Claimed), answer
        return answer.now

    # ------------------------------------------------------------------------------------------- what callers mint

    def word(self, kind: str) -> str:
        """A text of 32 characters that this stage never answers again."""
        return f"{kind}{next(self._numbers):0{32 - len(kind)}}"

    def token(self) -> str:
        """A new token, as a claimer mints it."""
        return f"{next(self._numbers):032x}"

    def draft(self, body: bytes = b"entry", format: int = 1) -> Draft:
        """An entry with a new tag."""
        return Draft(body, f"{next(self._numbers):016x}", format)

    def new(self, **changes: Any) -> New:
        """An execution to create, of a new name unless told otherwise."""
        function = changes.get("function", ORDER.name)
        name = changes.get("name", self.word("name"))
        defaults: dict[str, Any] = {
            "id": self.store.new_id(function, name),
            "function": function,
            "version": ORDER.version,
            "name": name,
            "digest": "d1g357",
            "timeout": None,
            "retention": RETENTION,
            "draft": self.draft(b"started"),
        }
        return New(**(defaults | changes))

    # --------------------------------------------------------------------------------------------- arranging things

    async def owner(self, id: str | None = None, lease: int = LEASE, store: Store | None = None) -> Owner:
        """A worker with a lease."""
        owner = Owner(self, store or self.store, id or self.word("owner"))
        assert await owner.register(lease) is Answer.OK
        return owner

    async def create(self, claim: Claim | None = None, **changes: Any) -> Header:
        """Create an execution that does not exist yet."""
        answer = await self.store.create(self.new(**changes), claim)
        assert isinstance(answer, Created), answer
        return answer.header

    async def held(self, **changes: Any) -> Holding:
        """Create an execution, and claim it for a new owner."""
        owner = await self.owner()
        header = await self.create(Claim(owner.id, self.token()), **changes)
        assert header.owner == owner.id, header
        return owner.hold(header)

    async def sleeping(self, then: Suspend | None = None, **changes: Any) -> Header:
        """Create an execution, and suspend it for good unless told otherwise."""
        holding = await self.held(**changes)
        await holding.write(b"suspended", then or Suspend())
        return await self.header(holding.id)

    async def ended(self, status: Status = Status.SUCCEEDED, **changes: Any) -> Header:
        """Create an execution, and end it."""
        holding = await self.held(**changes)
        await holding.write(b"ended", End(status))
        return await self.header(holding.id)

    async def waiting(self, **options: Any) -> tuple[Holding, str]:
        """An owned execution and the id of an await it has opened."""
        holding = await self.held()
        operation = options.pop("operation", "op-1")
        opened = OpenAwait(operation=operation, **({"secret": SECRET} | options))
        await holding.write(b"waits", opens=(opened,))
        return holding, f"{holding.id}/{operation}"

    # -------------------------------------------------------------------------------------------------- looking on

    async def header(self, id: str) -> Header:
        """The header of an execution that exists."""
        header = await self.store.describe(id)
        assert header is not None, id
        return header

    async def rows(self, id: str, after: int = 0) -> list[Row]:
        """Its journal."""
        rows: list[Row] = []
        while True:
            page = await self.store.entries(id, after + len(rows), PAGE)
            assert isinstance(page, Page), page
            rows += page.rows
            if not page.more:
                return rows

    async def bodies(self, id: str) -> list[bytes]:
        """The bodies of its journal."""
        return [row.body for row in await self.rows(id)]

    async def due(self) -> set[str]:
        """Ids of the executions that are due for `ORDER`; they are claimed by that."""
        claimant = await self.owner()
        return {holding.id for holding in await claimant.claim(100)}

    async def expire(self, limit: int = 10, timeouts: Timeouts = TIMEOUTS, store: Store | None = None) -> int:
        """Turn deadlines into rows; returns how many."""
        return (await (store or self.store).expire(limit, timeouts)).count

    async def reap(self, limit: int = 10, store: Store | None = None) -> int:
        """End leases; returns how many executions that freed."""
        return (await (store or self.store).reap(limit)).count

    async def unsettled(self, limit: int = 10, store: Store | None = None) -> list[Header]:
        """Executions whose effects are due to anybody."""
        return list((await (store or self.store).unsettled(limit)).headers)

    async def next_of(self, verb: str) -> int | None:
        """The `next` that `expire`, `reap` or `unsettled` answers, expecting that nothing is due."""
        if verb == "unsettled":
            answer = await self.store.unsettled(10)
            assert answer.headers == ()
            return answer.next
        swept = await (self.store.expire(10, TIMEOUTS) if verb == "expire" else self.store.reap(10))
        assert swept.count == 0
        return swept.next

    async def advance_to(self, instant: int | None) -> None:
        """Take the store's clock on to that instant."""
        assert instant is not None
        await self.advance(instant - await self.now())

    async def signal(self, id: str, kind: SignalKind, **options: Any) -> Signalled | Refused | Answer:
        """Send a signal with a new key."""
        key = options.pop("key", None) or self.word("key")
        return await self.store.signal(id, kind, self.draft(kind.value.encode()), key, **options)

    async def deliver(self, await_id: str, body: bytes = b"delivered", secret: str = SECRET) -> Answer:
        """Complete an await with a new nonce."""
        return await self.store.deliver(await_id, secret, self.draft(body), self.word("nonce"))


@attrs.define
class Owner:
    """A worker: an owner id with claim numbers."""

    stage: Stage
    store: Store
    id: str
    number: int = 0

    async def register(self, lease: int = LEASE, functions: Sequence[Function] = ()) -> Answer:
        """Make or extend its lease."""
        return await self.store.register(self.id, functions, lease)

    async def ask(
        self,
        limit: int = 10,
        *,
        number: int | None = None,
        token: str | None = None,
        functions: Sequence[FunctionVersion] = (ORDER,),
        format: int = 1,
    ) -> Claimed | Answer:
        """Claim with the next number and a new token unless told otherwise."""
        if number is None:
            self.number += 1
            number = self.number
        return await self.store.claim(self.id, number, token or self.stage.token(), functions, limit, format)

    async def claim(self, limit: int = 10, **options: Any) -> list[Holding]:
        """Claim, expecting to be allowed to."""
        answer = await self.ask(limit, **options)
        assert isinstance(answer, Claimed), answer
        return [self.hold(header) for header in answer.headers]

    async def renew(self) -> list[Held]:
        """Renew its lease, expecting it to be live."""
        held = await self.store.renew(self.id)
        assert not isinstance(held, Answer), held
        return held

    def hold(self, header: Header) -> Holding:
        """What it knows of an execution it has claimed and read."""
        return Holding(self.stage, self.store, header, header.seq, header.length, header.tip)


@attrs.define
class Holding:
    """An owner's view of an execution: what it has folded, and the number of its last commit."""

    stage: Stage
    store: Store
    header: Header
    seq: int
    seen: int
    tip: Tip

    @property
    def id(self) -> str:
        """The execution's id."""
        return self.header.id

    def next(self, body: bytes | None = b"entry", then: Keep | Suspend | End | None = None, **options: Any) -> Commit:
        """The next commit, not sent yet."""
        defaults: dict[str, Any] = {
            "id": self.id,
            "token": self.header.token,
            "seq": self.seq + 1,
            "seen": self.seen,
            "tip": self.tip,
            "draft": None if body is None else self.stage.draft(body),
            "then": then or Keep(),
        }
        return Commit(**(defaults | options))

    async def send(self, commit: Commit) -> CommitAnswer:
        """Send one commit alone; what is known does not change."""
        (answer,) = await self.store.commit([commit])
        return answer

    async def commit(
        self, body: bytes | None = b"entry", then: Keep | Suspend | End | None = None, **options: Any
    ) -> CommitAnswer:
        """Send the next commit, and fold its entry if nothing unseen lies before it."""
        commit = self.next(body, then, **options)
        answer = await self.send(commit)
        if isinstance(answer, Committed):
            self.seq = commit.seq
            if commit.draft and answer.length == self.seen + 1:
                self.seen, self.tip = answer.length, Tip(answer.at, commit.draft.tag)
        return answer

    async def write(
        self, body: bytes | None = b"entry", then: Keep | Suspend | End | None = None, **options: Any
    ) -> Committed:
        """Commit, expecting it to be accepted."""
        answer = await self.commit(body, then, **options)
        assert isinstance(answer, Committed), answer
        return answer

    async def read(self) -> list[Row]:
        """Fold what the journal has more."""
        rows = await self.stage.rows(self.id, self.seen)
        if rows:
            self.seen, self.tip = rows[-1].index, Tip(rows[-1].at, rows[-1].tag)
        return rows
