"""Parameters in the server's binary form, of types that do not depend on values: one prepared statement serves."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types.bool import BoolBinaryDumper
from psycopg.types.numeric import Int8BinaryDumper
from psycopg.types.string import BytesBinaryDumper, StrBinaryDumper

if TYPE_CHECKING:
    from collections.abc import Iterable

    from psycopg.adapt import AdaptersMap

Item = TypeVar("Item")

_HEADER = struct.Struct("!iiIii")
_LENGTH = struct.Struct("!i")
_BIGINT = struct.Struct("!iq")
_NULL = _LENGTH.pack(-1)
_FLAGS = {None: _NULL, False: b"\0\0\0\1\0", True: b"\0\0\0\1\1"}


class Array(Generic[Item]):
    """A column of a statement that works on several rows at once."""

    __slots__ = ("items",)

    def __init__(self, items: Iterable[Item | None]) -> None:
        self.items = list(items)


class Bigints(Array[int]):
    """`bigint[]`."""

    __slots__ = ()


class Texts(Array[str]):
    """`text[]`."""

    __slots__ = ()


class Blobs(Array[bytes]):
    """`bytea[]`."""

    __slots__ = ()


class Flags(Array[bool]):
    """`boolean[]`."""

    __slots__ = ()


class _ArrayDumper(Dumper):
    format = Format.BINARY
    element: ClassVar[int]

    def dump(self, obj: Array[Any]) -> bytes:
        items = obj.items
        if not items:
            return _HEADER.pack(0, 0, self.element, 0, 1)[:12]
        parts = [_HEADER.pack(1, 1, self.element, len(items), 1)]
        parts += self.parts(items)
        return b"".join(parts)

    def parts(self, items: list[Any]) -> Iterable[bytes]:
        raise NotImplementedError


class _BigintsDumper(_ArrayDumper):
    oid = 1016
    element = 20

    def parts(self, items: list[Any]) -> Iterable[bytes]:
        pack = _BIGINT.pack
        return [_NULL if item is None else pack(8, item) for item in items]


class _TextsDumper(_ArrayDumper):
    oid = 1009
    element = 25

    def parts(self, items: list[Any]) -> Iterable[bytes]:
        return _sized([None if item is None else item.encode() for item in items])


class _BlobsDumper(_ArrayDumper):
    oid = 1001
    element = 17

    def parts(self, items: list[Any]) -> Iterable[bytes]:
        return _sized(items)


class _FlagsDumper(_ArrayDumper):
    oid = 1000
    element = 16

    def parts(self, items: list[Any]) -> Iterable[bytes]:
        return [_FLAGS[item] for item in items]


def _sized(items: list[bytes | None]) -> list[bytes]:
    pack = _LENGTH.pack
    parts = []
    for item in items:
        if item is None:
            parts.append(_NULL)
        else:
            parts += (pack(len(item)), item)
    return parts


def adapt(adapters: AdaptersMap) -> None:
    """Have a connection or a cursor know these parameters, and send all others in one type each."""
    adapters.register_dumper(int, Int8BinaryDumper)
    adapters.register_dumper(str, StrBinaryDumper)
    adapters.register_dumper(bytes, BytesBinaryDumper)
    adapters.register_dumper(bool, BoolBinaryDumper)
    adapters.register_dumper(Bigints, _BigintsDumper)
    adapters.register_dumper(Texts, _TextsDumper)
    adapters.register_dumper(Blobs, _BlobsDumper)
    adapters.register_dumper(Flags, _FlagsDumper)
