"""
From values to payloads and back (protocol.md §10.9).

The default writes plain JSON where that keeps a value as it is, else an envelope `{"t": tag, "v": value}` around it
and everything within it. Bytes are those of AWS's Python SDK, so either reads what the other wrote.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from base64 import b64decode, b64encode
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast
from uuid import UUID

import attrs

from perdure.batch import BatchItem, BatchResult
from perdure.errors import PayloadTooLargeError, RetryableSerDesError, SerDesError
from perdure.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "DEFAULT_JSON_SERDES",
    "EXTENDED_TYPES_SERDES",
    "PASS_THROUGH_SERDES",
    "PAYLOAD_LIMIT_BYTES",
    "ExtendedTypeSerDes",
    "JsonSerDes",
    "PassThroughSerDes",
    "SerDes",
    "SerDesContext",
    "check_size",
    "deserialize",
    "serialize",
]

_T = TypeVar("_T")
_Payload = TypeVar("_Payload", bound="str | None")

PAYLOAD_LIMIT_BYTES = 1_048_576
"""The largest payload of an operation, in bytes of UTF-8."""


@attrs.frozen(eq=False, repr=False)
class SerDesContext(Value):
    """
    Whose value it is.

    Attributes:
        operation_id: Of the operation; empty for the input and result of the execution.
        durable_execution_arn: Of the execution.
    """

    operation_id: str = ""
    durable_execution_arn: str = ""


class SerDes(ABC, Generic[_T]):
    """
    Makes payloads of values of type `_T`, and values of payloads.

    What it raises becomes a `SerDesError`, which is recorded and not retried; a `RetryableSerDesError` ends the
    invocation instead, and the next one tries again.
    """

    @abstractmethod
    def serialize(self, value: _T, serdes_context: SerDesContext) -> str:
        """The payload for `value`."""

    @abstractmethod
    def deserialize(self, data: str, serdes_context: SerDesContext) -> _T:
        """The value for a payload that `serialize` made, maybe in another process and by an older version."""

    @staticmethod
    def is_primitive(obj: Any) -> bool:
        """Whether plain JSON keeps this as it is: None, bool, int, float, str, and lists of these."""
        if obj is None or isinstance(obj, (str, int, float)):
            return True
        return isinstance(obj, list) and all(SerDes.is_primitive(item) for item in obj)


class PassThroughSerDes(SerDes[_T]):
    """Takes texts as they are."""

    def serialize(self, value: _T, _: SerDesContext) -> str:
        """The value itself."""
        return cast("str", value)

    def deserialize(self, data: str, _: SerDesContext) -> _T:
        """The payload itself."""
        return cast("_T", data)


class JsonSerDes(SerDes[_T]):
    """Plain JSON: a tuple comes back as a list, a key as a text."""

    def serialize(self, value: _T, _: SerDesContext) -> str:
        """As JSON; raises `SerDesError` naming the place of what JSON does not have."""
        try:
            return json.dumps(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise _refusal(value, JSON_TYPES, error) from error

    def deserialize(self, data: str, _: SerDesContext) -> _T:
        """From JSON."""
        return cast("_T", json.loads(data))


class ExtendedTypeSerDes(SerDes[_T]):
    """
    The default: keeps what JSON has, and bytes, UUID, Decimal, datetime, date, tuple and `BatchResult`.

    Keys of dicts become texts, bytearray and memoryview become bytes, time zones become their offset, and instances
    of subclasses become those of the class named above.
    """

    def serialize(self, value: _T, context: SerDesContext | None = None) -> str:  # noqa: ARG002 - AWS's name
        """As JSON or an envelope; raises `SerDesError` naming the place of what has no tag."""
        try:
            return _COMPACT.encode(value if SerDes.is_primitive(value) else _envelope(value))
        except (TypeError, ValueError, RecursionError) as error:
            raise _refusal(value, _EXTENDED_TYPES, error) from error

    def deserialize(self, data: str, context: SerDesContext | None = None) -> _T:  # noqa: ARG002
        """From JSON or an envelope."""
        payload: Any = json.loads(data)
        if SerDes.is_primitive(payload):
            value: _T = payload
            return value
        if not _is_envelope(payload):
            raise SerDesError(
                'the payload is JSON, but neither plain nor an envelope with "t" and "v"; '
                "read it with the serdes that wrote it, such as JsonSerDes()"
            )
        return cast("_T", _open(payload))


# ------------------------------------------------------------------------------------------------------------ envelope

_COMPACT = json.JSONEncoder(separators=(",", ":"))


def _same(value: Any) -> Any:
    return value


def _encode_list(value: Any) -> list[Any]:
    return [_envelope(item) for item in value]


def _encode_dict(value: Any) -> dict[Any, Any]:
    if any(isinstance(key, tuple) for key in value):
        raise TypeError("a key is a tuple")
    return {key: _envelope(item) for key, item in value.items()}


def _decode_none(_: Any) -> None:
    return None


def _decode_list(value: Any) -> list[Any]:
    return [_open(item) for item in _expect(list, value)]


def _decode_dict(value: Any) -> dict[str, Any]:
    return {key: _open(item) for key, item in _expect(dict, value).items()}


def _expect(kind: type[_T], value: Any) -> _T:
    if not isinstance(value, kind):
        raise SerDesError(f"an envelope holds a {type(value).__name__} where its tag means a {kind.__name__}")
    return value


class _Codec(NamedTuple):
    types: tuple[type, ...]
    tag: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


# The first whose types a value is an instance of is its codec: bool before int, datetime before date.
_CODECS = (
    _Codec((type(None),), "n", _same, _decode_none),
    _Codec((str,), "s", _same, str),
    _Codec((bool,), "b", _same, bool),
    _Codec((int,), "i", _same, int),
    _Codec((float,), "f", _same, float),
    _Codec((bytes, bytearray, memoryview), "B", lambda value: b64encode(bytes(value)).decode(), b64decode),
    _Codec((UUID,), "u", str, UUID),
    _Codec((Decimal,), "d", str, Decimal),
    _Codec((datetime,), "dt", datetime.isoformat, datetime.fromisoformat),
    _Codec((date,), "D", date.isoformat, date.fromisoformat),
    _Codec(
        (BatchResult,),
        "br",
        lambda value: _encode_dict(value.to_dict()),
        lambda value: BatchResult.from_dict(_decode_dict(value)),
    ),
    _Codec((list,), "l", _encode_list, _decode_list),
    _Codec((tuple,), "t", _encode_list, lambda value: tuple(_decode_list(value))),
    _Codec((dict,), "m", _encode_dict, _decode_dict),
)
_BY_TYPE = {kind: codec for codec in _CODECS for kind in codec.types}
_BY_TAG = {codec.tag: codec for codec in _CODECS}


def _envelope(value: Any) -> dict[str, Any]:
    codec = _BY_TYPE.get(type(value))
    if codec is None:
        codec = next((codec for codec in _CODECS if isinstance(value, codec.types)), None)
    if codec is None:
        raise TypeError(f"no tag for {type(value)!r}")
    return {"t": codec.tag, "v": codec.encode(value)}


def _is_envelope(payload: Any) -> bool:
    return isinstance(payload, dict) and "t" in payload and "v" in payload


def _open(payload: Any) -> Any:
    if not _is_envelope(payload):
        return payload
    codec = _BY_TAG.get(payload["t"])
    if codec is None:
        raise SerDesError(
            f"an envelope has the tag {payload['t']!r}, which this version does not know; upgrade perdure"
        )
    return codec.decode(payload["v"])


# ------------------------------------------------------------------------------------------------------------- refusal

JSON_TYPES: tuple[type, ...] = (type(None), str, bool, int, float, list, tuple, dict)
"""What plain JSON has a form for."""
_EXTENDED_TYPES = tuple(_BY_TYPE)
_KEY_TYPES = (str, int, float, bool, type(None))
_LONGEST_PATH = 20


class _Place(NamedTuple):
    parent: _Place | None
    step: str

    def __str__(self) -> str:
        steps: list[str] = []
        place: _Place | None = self
        while place is not None:
            steps.append(place.step)
            place = place.parent
        if len(steps) > _LONGEST_PATH:
            steps[_LONGEST_PATH // 2 : -_LONGEST_PATH // 2] = ["…"]
        return "".join(reversed(steps))


_CONVERT = "convert it to a supported type, or pass a serdes that takes it"


def _refusal(value: Any, supported: tuple[type, ...], cause: Exception) -> SerDesError:
    fault = find_fault(value, lambda inner: isinstance(inner, supported), _CONVERT)
    if fault is None and isinstance(cause, RecursionError):
        fault = "value is nested too deeply; store it in parts, or pass a serdes that flattens it"
    return SerDesError(fault or f"value cannot be serialized: {cause}")


def find_fault(value: Any, is_supported: Callable[[Any], bool], remedy: str) -> str | None:
    """
    What is wrong with `value`, where, and what helps; None if nothing is found.

    Args:
        value: Looked through without recursion, for it may be circular.
        is_supported: Whether a value somewhere in it has a form.
        remedy: Where one has not.
    """
    around: dict[int, _Place] = {}
    todo: list[tuple[Any, _Place] | int] = [(value, _Place(None, "value"))]
    while todo:
        item = todo.pop()
        if isinstance(item, int):
            del around[item]
            continue
        inner, place = item
        if not is_supported(inner):
            return f"{place} is {_a(inner)}; {'await it' if hasattr(type(inner), '__await__') else remedy}"
        if not isinstance(inner, (list, tuple, dict, BatchResult)):
            continue
        if id(inner) in around:
            return f"{place} is circular, being {around[id(inner)]} again; store what it refers to by a key instead"
        if isinstance(inner, dict):
            for key in inner:
                if not isinstance(key, _KEY_TYPES):
                    return f"{place} has the key {key!r}, {_a(key)}; use texts or numbers as keys"
        around[id(inner)] = place
        todo.append(id(inner))
        todo.extend(reversed(list(_inside(inner, place))))
    return None


def _inside(value: Any, place: _Place) -> Iterator[tuple[Any, _Place]]:
    if isinstance(value, BatchResult):
        for number, item in enumerate(value.all):
            yield item.result, _Place(place, f".all[{number}].result")
    else:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield inner, _Place(place, f"[{key!r}]")


def _a(value: Any) -> str:
    name = type(value).__qualname__
    return f"an {name}" if name[0] in "AEIOUaeiou" else f"a {name}"


# ------------------------------------------------------------------------------------------------------ of the engine


def serialize(serdes: SerDes[Any] | None, value: Any, operation_id: str, durable_execution_arn: str) -> str | None:
    """
    The payload for a value; None where a serdes answers with nothing, and then none is stored.

    Args:
        serdes: None is the default.
        value: What to store.
        operation_id: Whose it is.
        durable_execution_arn: In which execution.

    Raises:
        SerDesError: Whatever went wrong, for good.
        RetryableSerDesError: As raised by the serdes.
    """
    return write(serdes, value, SerDesContext(operation_id, durable_execution_arn), f"operation {operation_id!r}")


def write(serdes: SerDes[Any] | None, value: Any, context: SerDesContext, whose: object) -> str | None:
    """As `serialize`; `whose` names the operation in errors."""
    serdes = EXTENDED_TYPES_SERDES if serdes is None else serdes
    try:
        payload = serdes.serialize(value, context)
    except (RetryableSerDesError, SerDesError):
        raise
    except Exception as error:
        raise SerDesError(
            f"{type(serdes).__qualname__} could not serialize {_a(value)} for {whose}, {error!r}; "
            "give it what it takes, or raise RetryableSerDesError where another try may help"
        ) from error
    if payload is not None and not isinstance(payload, str):
        raise SerDesError(f"{type(serdes).__qualname__} made {_a(payload)} for {whose}; make a text, or None")
    return payload


def deserialize(serdes: SerDes[Any] | None, data: str, operation_id: str, durable_execution_arn: str) -> Any:
    """
    The value for a payload.

    Args:
        serdes: None is the default.
        data: The payload.
        operation_id: Whose it is.
        durable_execution_arn: In which execution.

    Raises:
        SerDesError: Whatever went wrong, for good.
        RetryableSerDesError: As raised by the serdes.
    """
    return read(serdes, data, SerDesContext(operation_id, durable_execution_arn), f"operation {operation_id!r}")


def read(serdes: SerDes[Any] | None, data: str, context: SerDesContext, whose: object) -> Any:
    """As `deserialize`; `whose` names the operation in errors."""
    serdes = EXTENDED_TYPES_SERDES if serdes is None else serdes
    try:
        return serdes.deserialize(data, context)
    except (RetryableSerDesError, SerDesError):
        raise
    except Exception as error:
        raise SerDesError(
            f"{type(serdes).__qualname__} could not read the payload of {whose}, {error!r}; "
            "use the serdes that wrote it, or raise RetryableSerDesError where another try may help"
        ) from error


def copy_of(serdes: SerDes[Any] | None, value: Any) -> tuple[Any] | None:
    """
    A copy of a value, alone in a tuple, if `read` would make the same of what `write` makes of it.

    Write the copy: nobody else can change it before it is written.
    """
    if serdes is not None and type(serdes) is not ExtendedTypeSerDes:
        return None
    try:
        return (_copy(value, _COPIED_DEPTH),)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, writing it will tell
        return None


class _NoCopyError(Exception):
    """Maybe something else would be read than is written."""


_COPIED_DEPTH = 20
_UNCHANGED = frozenset({int, bool, type(None)})


def _copy(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind in _UNCHANGED:
        return value
    if kind is str:
        if value.isascii() or value.isprintable():  # two halves of a surrogate pair, which are not, become one
            return value
    elif kind is float:
        if value == value:  # noqa: PLR0124 - NaN is read as another one
            return value
    elif depth and (copy := _COPIES.get(kind)) is not None:
        return copy(value, depth - 1)
    raise _NoCopyError


def _copy_dict(value: dict[Any, Any], depth: int) -> dict[str, Any]:
    if not all(type(key) is str for key in value):
        raise _NoCopyError
    return {_copy(key, 0): _copy(item, depth) for key, item in value.items()}


def _copy_batch(value: BatchResult[Any], depth: int) -> BatchResult[Any]:
    if any(item.error is not None for item in value.all):
        raise _NoCopyError
    items = [BatchItem(_copy(item.index, 0), item.status, _copy(item.result, depth)) for item in value.all]
    return BatchResult(items, value.completion_reason)


_COPIES: dict[type, Callable[[Any, int], Any]] = {
    list: lambda value, depth: [_copy(item, depth) for item in value],
    tuple: lambda value, depth: tuple([_copy(item, depth) for item in value]),
    dict: _copy_dict,
    BatchResult: _copy_batch,
}


OFFLOAD = "store it elsewhere and return a reference to it, or pass a serdes that compresses or offloads it"


def check_size(payload: _Payload, what: str, limit: int = PAYLOAD_LIMIT_BYTES, remedy: str = OFFLOAD) -> _Payload:
    """
    The payload, if it is not too large to be stored.

    Args:
        payload: A text or None.
        what: Whose it is, for the error: `result of step 'pay'`.
        limit: In bytes of UTF-8.
        remedy: What helps if it is longer.

    Raises:
        PayloadTooLargeError: If it is longer.
        SerDesError: If it is no valid text, having half a surrogate pair.
    """
    if payload is None:
        return payload
    try:
        size = len(payload) if payload.isascii() else len(payload.encode())
    except UnicodeEncodeError as error:
        raise SerDesError(
            f"{what} has half a surrogate pair at character {error.start}; encode it in a serdes of your own"
        ) from error
    if size > limit:
        raise PayloadTooLargeError(f"{what} has {size} bytes, and {limit} are allowed; {remedy}")
    return payload


PASS_THROUGH_SERDES: SerDes[Any] = PassThroughSerDes()
DEFAULT_JSON_SERDES: SerDes[Any] = JsonSerDes()
EXTENDED_TYPES_SERDES: SerDes[Any] = ExtendedTypeSerDes()
