"""What the host of an invocation may choose."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import attrs

from perdure.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable

PAYLOAD_LIMIT = 1_048_576
"""Bytes of one operation's payload in UTF-8 (protocol.md §2)."""

REPLAY_CHILDREN_THRESHOLD = 262_144
"""Characters of a context's result above which its children are replayed instead (protocol.md §10.7)."""

RESULT_LIMIT = 6 * 1024 * 1024
"""Bytes of an execution's result (protocol.md §2)."""

RESULT_INLINE_LIMIT = 6 * 1024 * 1024 - 50
"""Bytes of an execution's result that still fit into the invocation's output (protocol.md §2)."""

FLUSH_AGE = 0.1
"""Seconds after which an update that nobody waits for is sent by itself, while bodies run."""


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Settings(Value):
    """
    Limits and clock of an invocation.

    Attributes:
        payload_limit: Bytes; own stores may accept more than AWS.
        replay_children_threshold: Characters.
        result_limit, result_inline_limit: Bytes.
        now: The clock that the service's instants are compared with. A virtual one makes `Invocation.nudge` the only
            way to learn that its time has moved.
        refusal: Asked before a body of a step, submitter or check begins, by the thread that runs the operation; what
            it returns interrupts the invocation as `Invocation.interrupt` does. The first body of an invocation begins
            unasked: else an execution might never go on. It must not raise.
        grace: How many seconds an observed invocation waits, after its workflow has ended, for threads that are still
            in the workflow's code, so that observers are told of its end last; None for as long as it takes.
        flush_age: Seconds after which an update that nobody waits for is sent by itself. Infinite where the machine's
            speed must not decide what is recorded together.
    """

    payload_limit: int = PAYLOAD_LIMIT
    replay_children_threshold: int = REPLAY_CHILDREN_THRESHOLD
    result_limit: int = RESULT_LIMIT
    result_inline_limit: int = RESULT_INLINE_LIMIT
    now: Callable[[], datetime] = utc_now
    refusal: Callable[[], Exception | None] | None = None
    grace: Callable[[], float | None] = float
    flush_age: float = attrs.field(factory=lambda: FLUSH_AGE)
