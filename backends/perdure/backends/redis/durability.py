"""What must have happened to a write before it is acknowledged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

ASYNC, FSYNC, REPLICATED = LEVELS = ("async", "fsync", "replicated")
"""
`async`: the server's memory has it, its append-only file will have it as `appendfsync` says. `fsync`: its disk has it.
`replicated`: the memory of so many replicas has it too.
"""


@attrs.frozen
class Seal:
    """
    What ends every pipeline, and tells whether all that stands before it, or is shown by it, is safe.

    Both commands wait for the last write *of their connection*: a pipeline that only repeats or reads would be sealed
    at once, though what it found may be a write of a connection that was lost. Hence a write of its own goes first.

    Attributes:
        wait: `WAIT` or `WAITAOF` with its arguments; `needed`: what it must answer at least.
    """

    wait: tuple[str | int, ...]
    needed: int

    def commands(self, key: str) -> Sequence[tuple[str | int, ...]]:
        """The commands; `key` is one that this node keeps."""
        return ("SET", key, "1"), self.wait

    def holds(self, reply: object) -> bool:
        """Whether the reply to the last of them is enough."""
        number = reply[0] if isinstance(reply, list) else reply
        return isinstance(number, int) and number >= self.needed
