"""The statements of awaits: deliver, heartbeat, expire, and the inbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from perdure.backends.postgres.parameter import Bigints, Blobs, Texts
from perdure.backends.postgres.record import Call, News, Rows, digest_of, ended, grew, intruded
from perdure.storage import Answer, Draft

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.backends.postgres.statement import Library
    from perdure.storage import Timeouts

_ANSWERS = {
    "accepted": Answer.DELIVERED,
    "delivered": Answer.DELIVERED,
    "closed": Answer.CLOSED,
    "expired": Answer.EXPIRED,
    "unknown": Answer.UNKNOWN,
}


@attrs.frozen
class Delivery:
    """
    The completion of an await.

    Attributes:
        execution, operation: What the await's id is made of.
        digest: Of its secret.
        draft: The entry.
        nonce: Of this delivery.
        written: When it was put into the inbox, or None.
    """

    execution: str
    operation: str
    digest: str
    draft: Draft
    nonce: str
    written: int | None = None

    @classmethod
    def of(cls, await_id: str, digest: str, draft: Draft, nonce: str, written: int | None = None) -> Delivery:
        """The delivery to an await of this id."""
        execution, _, operation = await_id.partition("/")
        return cls(execution, operation, digest, draft, nonce, written)


def deliver(library: Library, batch: Sequence[Delivery], *, waits: bool) -> Call[list[Answer]]:
    """
    Complete awaits of different executions.

    Args:
        library: The statements.
        batch: What to deliver.
        waits: For what others have locked; else those are answered BUSY.
    """

    def read(rows: Rows) -> list[Answer]:
        answers = [Answer.UNKNOWN if waits else Answer.BUSY] * len(batch)
        for place, verdict, *_ in rows:
            answers[place - 1] = _ANSWERS[verdict]
        return answers

    def news(rows: Rows) -> list[News]:
        return [
            told
            for place, verdict, function, owner, is_due in rows
            if verdict == "accepted"
            for told in intruded(batch[place - 1].execution, function, owner, is_due)
        ]

    parameters = {
        "execution": Texts(delivery.execution for delivery in batch),
        "operation": Texts(delivery.operation for delivery in batch),
        "secret": Texts(delivery.digest for delivery in batch),
        "body": Blobs(delivery.draft.body for delivery in batch),
        "tag": Texts(delivery.draft.tag for delivery in batch),
        "format": Bigints(delivery.draft.format for delivery in batch),
        "nonce": Texts(delivery.nonce for delivery in batch),
        "written": Bigints(delivery.written for delivery in batch),
    }
    return Call(library["await", "alone" if waits else "batch"], parameters, read, news)


def heartbeat(library: Library, await_id: str, secret: str) -> Call[Answer]:
    """Restart an await's heartbeat timer."""

    def read(rows: Rows) -> Answer:
        verdict = rows[0][0] if rows else "unknown"
        return Answer.OK if verdict == "accepted" else _ANSWERS[verdict]

    parameters = {"execution": await_id.partition("/")[0], "await": await_id, "secret": digest_of(secret)}
    return Call(library["await", "heartbeat"], parameters, read)


# ------------------------------------------------------------------------------------------------------------ expire


@attrs.frozen
class Deadlines:
    """What `expire` has to do: the time, the first deadlines there are, and whether deliveries are in the inbox."""

    now: int
    awaits: int | None
    executions: int | None
    has_post: bool

    @property
    def next(self) -> int | None:
        """When there is something to do."""
        instants = [self.awaits, self.executions, self.now if self.has_post else None]
        return min((instant for instant in instants if instant is not None), default=None)


def deadlines(library: Library) -> Call[Deadlines]:
    """What there is to do."""
    return Call(library["await", "next"], {}, lambda rows: Deadlines(*rows[0]))


def expire_awaits(library: Library, limit: int, timeouts: Timeouts) -> Call[int]:
    """Turn deadlines of awaits into rows; the answer is how many."""
    parameters = {
        "limit": limit,
        "callback": timeouts.callback,
        "heartbeat": timeouts.heartbeat,
        "format": timeouts.format,
    }

    def news(rows: Rows) -> list[News]:
        return [told for id, function, owner, is_due in rows for told in intruded(id, function, owner, is_due)]

    return Call(library["await", "expire"], parameters, len, news)


def expire_executions(library: Library, limit: int, timeouts: Timeouts, salt: str) -> Call[int]:
    """End executions past their deadline; the answer is how many. Tags are made with the random `salt`."""
    parameters = {
        "limit": limit,
        "body": timeouts.execution,
        "format": timeouts.format,
        "salt": salt,
    }

    def news(rows: Rows) -> list[News]:
        told = [ended(id, function) for id, function, _, _ in rows]
        return told + [grew(id, function, owner) for id, function, owner, _ in rows if owner is not None]

    return Call(library["await", "time_out"], parameters, len, news)


# ------------------------------------------------------------------------------------------------------------- inbox


def submit(library: Library, await_id: str, secret: str, draft: Draft, nonce: str) -> Call[Answer]:
    """Put a delivery into the inbox, as part of whatever transaction is open; no execution is locked."""

    def read(rows: Rows) -> Answer:
        return _ANSWERS[rows[0][0]] if rows else Answer.UNKNOWN

    parameters = {
        "execution": await_id.partition("/")[0],
        "await": await_id,
        "secret": digest_of(secret),
        "body": draft.body,
        "tag": draft.tag,
        "format": draft.format,
        "nonce": nonce,
    }
    return Call(library["await", "submit"], parameters, read)


def posted(library: Library, after: int, limit: int) -> Call[list[tuple[int, Delivery]]]:
    """The first deliveries in the inbox behind a position, each with its own."""

    def read(rows: Rows) -> list[tuple[int, Delivery]]:
        return [
            (position, Delivery.of(await_id, digest, Draft(body, tag, format), nonce, at))
            for position, at, await_id, digest, body, tag, format, nonce in rows
        ]

    return Call(library["await", "posted"], {"after": after, "limit": limit}, read)


def discard(library: Library, positions: Sequence[int]) -> Call[None]:
    """Take out of the inbox what was delivered."""
    return Call(library["await", "discard"], {"position": Bigints(positions)}, lambda _: None)
