"""The statements of owners: register, claim, renew, reap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from perdure.backends.postgres.parameter import Bigints, Texts
from perdure.backends.postgres.record import Call, News, Rows, due, read_header
from perdure.storage import Answer, Claimed, Held, Lease, Leases, Swept

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.backends.postgres.statement import Library
    from perdure.storage import Function, FunctionVersion


@attrs.frozen
class Lock:
    """The advisory lock of an owner: its key, and when the server was started on which a session holds it."""

    key: int
    boot: int


@attrs.frozen(kw_only=True)
class ClaimRequest:
    """
    The arguments of a claim.

    Attributes:
        since: Nothing that is due earlier has to be looked for, if the clock shows `since_now` at least.
    """

    owner: str
    number: int
    token: str = attrs.field(repr=False)
    functions: tuple[FunctionVersion, ...]
    limit: int
    format: int
    since: int = 0
    since_now: int = 0


def register(library: Library, owner: str, functions: Sequence[Function], span: int, lock: Lock | None) -> Call[Answer]:
    """Make or extend a lease, and upsert functions."""
    latest = {(function.name, function.version): function for function in functions}.values()
    parameters = {
        "owner": owner,
        "span": span,
        "lock": lock and lock.key,
        "boot": lock and lock.boot,
        "name": Texts(function.name for function in latest),
        "version": Texts(function.version for function in latest),
        "timeout": Bigints(function.timeout for function in latest),
        "retention": Bigints(function.retention for function in latest),
    }
    return Call(library["lease", "register"], parameters, lambda rows: Answer.OK if rows else Answer.LEASE_LOST)


def locked(library: Library, owner: str, lock: Lock | None) -> Call[None]:
    """Note whether a session of the owner's process holds its lock."""
    parameters = {"owner": owner, "lock": lock and lock.key, "boot": lock and lock.boot}
    return Call(library["lease", "locked"], parameters, lambda _: None)


def ring(library: Library, boot: int) -> Call[list[tuple[str, int]]]:
    """Owners whose death would show, with the keys of their locks."""
    return Call(library["lease", "ring"], {"boot": boot}, list)


def claim(library: Library, request: ClaimRequest) -> Call[Claimed | Answer | None]:
    """
    Own what is due.

    The answer is None for a number that was used before: then `held` tells what it took, in a statement of its own, as
    the first one may have been committed after this one had begun.
    """

    def read(rows: Rows) -> Claimed | Answer | None:
        now, is_live, is_repeated, next_wake, *_ = rows[0]
        if not is_live:
            return Answer.LEASE_LOST
        if is_repeated:
            return None
        headers = [read_header(row[5:]) for row in rows if row[5] is not None]
        return Claimed(tuple(headers), now, next_wake)

    parameters = {
        "owner": request.owner,
        "number": request.number,
        "token": request.token,
        "function": Texts(function.name for function in dict.fromkeys(request.functions)),
        "version": Texts(function.version for function in dict.fromkeys(request.functions)),
        "limit": request.limit,
        "format": request.format,
        "since": request.since,
        "since_now": request.since_now,
    }
    return Call(library["lease", "claim"], parameters, read)


def held(library: Library, request: ClaimRequest) -> Call[Claimed]:
    """What a claim took that was made before."""

    def read(rows: Rows) -> Claimed:
        now, next_wake = rows[0][:2]
        return Claimed(tuple(read_header(row[2:]) for row in rows if row[2] is not None), now, next_wake)

    parameters = {
        "owner": request.owner,
        "token": request.token,
        "function": Texts(function.name for function in dict.fromkeys(request.functions)),
        "version": Texts(function.version for function in dict.fromkeys(request.functions)),
        "format": request.format,
    }
    return Call(library["lease", "held"], parameters, read)


def renew(library: Library, owner: str) -> Call[list[Held] | Answer]:
    """Extend a lease, and list what is held."""

    def read(rows: Rows) -> list[Held] | Answer:
        return [Held(*row) for row in rows if row[0] is not None] if rows else Answer.LEASE_LOST

    return Call(library["lease", "renew"], {"owner": owner}, read)


@attrs.frozen
class Reaping:
    """What a round of reaping did, whose leases it ended, and who may be dead as well: their locks are free."""

    swept: Swept
    owners: tuple[str, ...]
    suspects: tuple[str, ...]


def reap(library: Library, limit: int, boot: int | None, suspects: Sequence[str] = ()) -> Call[Reaping]:
    """
    End leases that have run out, or whose lock is free again, and free what they held.

    Args:
        library: The statements.
        limit: Of executions.
        boot: When the server was started, or None: then locks are no evidence.
        suspects: Owners whose locks were free some time ago.
    """

    def read(rows: Rows) -> Reaping:
        now, is_more, next_lapse, owners, found, *_ = rows[0]
        count = sum(row[5] is not None for row in rows)
        return Reaping(Swept(count, now if is_more else next_lapse), tuple(owners), tuple(found))

    def news(rows: Rows) -> list[News]:
        return [due(id, function) for *_, id, function, is_due in rows if is_due]

    parameters = {"limit": limit, "boot": boot, "suspect": Texts(suspects)}
    return Call(library["lease", "reap"], parameters, read, news)


def leases(library: Library) -> Call[Leases]:
    """The leases that live, and what their owners hold."""

    def read(rows: Rows) -> Leases:
        living = [
            Lease(owner=owner, since=since, renewed=until - span, until=until, held=tuple(held))
            for _, owner, since, span, until, held in rows
            if owner is not None
        ]
        return Leases(tuple(living), rows[0][0])

    return Call(library["lease", "living"], {}, read)
