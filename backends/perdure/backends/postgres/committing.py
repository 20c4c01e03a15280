"""The statement of `commit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.backends.postgres.parameter import Bigints, Blobs, Flags, Texts
from perdure.backends.postgres.record import MARGIN, Call, News, Rows, digest_of, due, ended
from perdure.storage import EFFECT_GRACE, Answer, Committed, End, Suspend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.backends.postgres.statement import Library
    from perdure.storage import Commit, CommitAnswer


def commit(library: Library, batch: Sequence[Commit], *, waits: bool) -> Call[list[CommitAnswer]]:
    """
    Append for several executions at once, in one statement.

    Args:
        library: The statements.
        batch: At most one commit per execution.
        waits: For what others have locked; else those are answered BUSY.
    """

    def read(rows: Rows) -> list[CommitAnswer]:
        answers: list[CommitAnswer] = [Answer.FENCED if waits else Answer.BUSY] * len(batch)
        for place, verdict, length, at, former_length, former_at, now, *_ in rows:
            if verdict == "accepted":
                answers[place - 1] = Committed(length, at, now)
            elif verdict == "repeated":
                answers[place - 1] = Committed(former_length, former_at, now)
            else:
                answers[place - 1] = Answer.FENCED
        return answers

    def news(rows: Rows) -> list[News]:
        told = []
        for place, verdict, *_, function, is_due, is_late in rows:
            commit = batch[place - 1]
            if isinstance(commit.then, End) and verdict == "accepted":
                told.append(ended(commit.id, function))
            elif is_due:
                told.append(due(commit.id, function, is_late=is_late))
        return told

    parameters = _parameters(batch) | _opens(batch)
    return Call(library["commit", "alone" if waits else "batch"], parameters, read, news)


def _parameters(batch: Sequence[Commit]) -> dict[str, Any]:
    drafts = [commit.draft for commit in batch]
    suspends = [commit.then if isinstance(commit.then, Suspend) else None for commit in batch]
    return {
        "id": Texts(commit.id for commit in batch),
        "token": Texts(commit.token for commit in batch),
        "seq": Bigints(commit.seq for commit in batch),
        "seen": Bigints(commit.seen for commit in batch),
        "tip_at": Bigints(commit.tip.at for commit in batch),
        "tip_tag": Texts(commit.tip.tag for commit in batch),
        "body": Blobs(draft.body if draft else None for draft in drafts),
        "tag": Texts(draft.tag if draft else None for draft in drafts),
        "format": Bigints(draft.format if draft else None for draft in drafts),
        "suspends": Flags(then is not None for then in suspends),
        "status": Texts(commit.then.status.value if isinstance(commit.then, End) else None for commit in batch),
        "wake_at": Bigints(then.wake_at if then else None for then in suspends),
        "wake_after": Bigints(then.wake_after if then else None for then in suspends),
        "clean": Flags(bool(then and then.clean) for then in suspends),
        "quarantine": Flags(bool(then and then.quarantine) for then in suspends),
        "effects": Flags(commit.effects for commit in batch),
        "reopen": Flags(commit.reopen for commit in batch),
        "grace": EFFECT_GRACE,
        "margin": MARGIN,
    }


def _opens(batch: Sequence[Commit]) -> dict[str, Any]:
    opens = [(place, opened) for place, commit in enumerate(batch, 1) for opened in commit.opens]
    return {
        "open_place": Bigints(place for place, _ in opens),
        "open_operation": Texts(opened.operation for _, opened in opens),
        "open_secret": Texts(digest_of(opened.secret) for _, opened in opens),
        "open_timeout": Bigints(opened.timeout for _, opened in opens),
        "open_heartbeat": Bigints(opened.heartbeat for _, opened in opens),
    }
