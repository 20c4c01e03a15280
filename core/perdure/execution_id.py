"""Ids of executions, for stores of one shard."""

from __future__ import annotations

from hashlib import blake2b

from perdure.nonce import nonce


def minted(now: int) -> str:
    """
    A new id, 80 bits of it random.

    Args:
        now: Microseconds since the epoch. Ids of one time lie together, so that a group commit dirties few pages.
    """
    return f"{now // 1000:012x}{nonce()[:20]}"


def derived(id: str, operation: str) -> str:
    """The id of the execution that an operation of another starts: always the same for the same arguments."""
    return blake2b(f"{id}/{operation}".encode(), digest_size=16).hexdigest()
