"""Commits as the scripts take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.backends.redis.fault import UnstorableError
from perdure.storage import Answer, Committed, End, Suspend

if TYPE_CHECKING:
    from perdure.storage import Commit, CommitAnswer, Draft

LARGEST = 500 << 20
"""Bytes; servers close the connection on an argument of more than 512 MiB."""

PLAIN, FULL = "append", "commit"
ACCEPTED = 1

Arguments = tuple[str | bytes | int, ...]


def encoded(commit: Commit) -> tuple[str, Arguments]:
    """The script that carries a commit out, and its arguments. Raises `UnstorableError`."""
    draft, then = commit.draft, commit.then
    entry = ("", "", "") if draft is None else encoded_draft(draft)
    head = (commit.id, commit.token, commit.seq, commit.seen, commit.tip.at, commit.tip.tag, *entry)
    is_suspend, is_end = isinstance(then, Suspend), isinstance(then, End)
    if draft is not None and not (is_suspend or is_end or commit.opens or commit.effects or commit.reopen):
        return PLAIN, head
    return FULL, (*head, *_fate(then), int(commit.effects), int(commit.reopen), *_opens(commit))


def encoded_draft(draft: Draft) -> tuple[str, int, bytes]:
    """Tag, format and body of an entry. Raises `UnstorableError`."""
    if len(draft.body) > LARGEST:
        raise UnstorableError(f"an entry has {len(draft.body)} bytes, expected {LARGEST} at most; keep it elsewhere")
    return plain(draft.tag), draft.format, draft.body


def plain(text: str) -> str:
    """A text that callers mint, which is kept between spaces. Raises `UnstorableError`."""
    if text.split() != [text]:
        raise UnstorableError(f"a tag, token or operation is {text!r}, expected no white space")
    return text


def _fate(then: Any) -> Arguments:
    if isinstance(then, Suspend):
        at = "" if then.wake_at is None else then.wake_at
        after = "" if then.wake_after is None else then.wake_after
        return ("suspend", int(then.clean), at, after, int(then.quarantine))
    return (then.status.value if isinstance(then, End) else "keep", 0, "", "", 0)


def _opens(commit: Commit) -> Arguments:
    return tuple(
        value
        for opened in commit.opens
        for value in (
            plain(opened.operation),
            opened.secret,
            "" if opened.timeout is None else opened.timeout,
            "" if opened.heartbeat is None else opened.heartbeat,
        )
    )


def answered(reply: Any) -> CommitAnswer:
    """What a script's reply means."""
    if reply[0] != ACCEPTED:
        return Answer.FENCED
    _, length, at, now, *_ = reply
    return Committed(length, at, now)
