"""The names of keys, and the ids that carry their shard."""

from __future__ import annotations

import re
import secrets
from base64 import urlsafe_b64encode
from hashlib import blake2b
from zlib import crc32

_SHARD = re.compile(r"([0-9a-f]{1,3})-")
ID_BYTES = 16


class Keyspace:
    """
    The keys of one store.

    All keys of a shard begin with the name of its permanent key, `{namespace:number}`, whose braces keep them together
    in one hash slot of a cluster. A name determines the shard of its execution; an id begins with the shard's number,
    so that whatever is done to an execution, its awaits and its effects is done within one shard.
    """

    def __init__(self, namespace: str, shards: int) -> None:
        self.shards = shards
        self.layout_keys = tuple(layout_key(namespace, number) for number in range(shards))

    def of(self, shard: int, name: str) -> str:
        """The full name of a key."""
        return f"{self.layout_keys[shard]}:{name}"

    def shard_of(self, id: str) -> int:
        """The shard of an execution."""
        return self._stated(id) if self.shards > 1 else 0

    def _stated(self, id: str) -> int:
        found = _SHARD.match(id)
        number = int(found[1], 16) if found else self.shards
        return number if number < self.shards else self._spread(id)

    def shards_of(self, function: str, name: str) -> list[int]:
        """The shards in which an execution of that name may be: a child has its id for a name."""
        return list(dict.fromkeys((self._spread(f"{function}/{name}"), self.shard_of(name))))

    def _spread(self, text: str) -> int:
        return crc32(text.encode("utf-8", "surrogatepass")) % self.shards

    def new_id(self, function: str, name: str) -> str:
        """A new id for an execution of that name."""
        return f"{self._spread(f'{function}/{name}'):x}-{secrets.token_urlsafe(ID_BYTES)}"

    def child_id(self, id: str, operation: str) -> str:
        """The id of the execution that an operation of another starts."""
        digest = blake2b(f"{id}/{operation}".encode(), digest_size=ID_BYTES).digest()
        text = urlsafe_b64encode(digest).rstrip(b"=").decode()
        return f"{crc32(digest) % self.shards:x}-{text}"


def layout_key(namespace: str, shard: int) -> str:
    """The permanent key of a shard."""
    return f"{{{namespace}:{shard}}}"


def due_index(function: str, version: str, format: int) -> str:
    """The name of the index of what is due for a version of a function, with entries up to that format."""
    return f"due:{format}:{len(version.encode())}:{version}{function}"
