"""Names of owners in a store: those who look must be able to tell whose process is whose, and none to guess a name."""

from __future__ import annotations

import os
import re
import secrets
import socket
from typing import Self

import attrs

LONGEST_HOST = 64
_FORM = re.compile(r"(?P<host>[A-Za-z0-9_.-]+):(?P<pid>[0-9]+):[A-Za-z0-9_.-]+")


@attrs.frozen
class OwnerId:
    """
    The owner id of a worker, as `host:pid:random`.

    Attributes:
        text: At most 128 of `[A-Za-z0-9_.:-]`.
        host, pid: Where its process runs or ran; None where an id has another form.
    """

    text: str
    host: str | None = None
    pid: int | None = None

    @classmethod
    def mint(cls) -> Self:
        """A new one for this process, which nobody can guess."""
        host = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:LONGEST_HOST] or "-"
        return cls(f"{host}:{os.getpid()}:{secrets.token_hex(12)}", host, os.getpid())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one, of whatever form."""
        match = _FORM.fullmatch(text)
        return cls(text, match["host"], int(match["pid"])) if match else cls(text)
