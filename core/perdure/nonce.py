"""Random texts that nobody can guess and that never come twice."""

from __future__ import annotations

import os
from collections import deque

_BYTES = 16
_SUPPLY = 256

_supply: deque[str] = deque()


def nonce() -> str:
    """128 random bits, in hex."""
    try:
        return _supply.popleft()
    except IndexError:
        # One system call for many: each hands the interpreter to another thread, and then waits to get it back.
        digits = os.urandom(_BYTES * _SUPPLY).hex()
        first, *others = (digits[at : at + 2 * _BYTES] for at in range(0, len(digits), 2 * _BYTES))
        _supply.extend(others)
        return first


def tag() -> str:
    """The tag of a journal's row: 64 of these bits."""
    return nonce()[:_BYTES]


if hasattr(os, "register_at_fork"):
    # Or a forked child would use what its parent uses.
    os.register_at_fork(after_in_child=_supply.clear)
