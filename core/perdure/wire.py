"""
The mapping between model classes and the wire's JSON (protocol.md §5).

Member names follow from the attribute names (`parent_id` → `ParentId`) but for a few that the wire names otherwise.
Absent and null members mean the same and unknown ones are ignored on the way in; members that are None are left out
on the way out.

It is read off the classes when first needed, without cattrs: on AWS Lambda a cold start pays for every import.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import attrs

from perdure import model
from perdure.errors import ValidationError
from perdure.model import CheckpointAnswer, ErrorObject, Event, InvocationInput, Operation, StatePage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Read: TypeAlias = Callable[[Any], Any]

T = TypeVar("T")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_RENAMED = {"operation_id": "Id", "operation_type": "Type"}
_RENAMED_IN_ERRORS = {"message": "ErrorMessage", "type": "ErrorType", "data": "ErrorData", "stack_trace": "StackTrace"}
_NOT_ON_THE_WIRE = {(Operation, "position")}


class Instants(Enum):
    """How instants are written; the value is the number of microseconds in a unit."""

    SECONDS = 1_000_000
    MILLISECONDS = 1_000
    MICROSECONDS = 1


def to_wire(value: object, *, millis: bool = False) -> dict[str, Any]:
    """
    The wire's members of a model value.

    Args:
        value: An instance of a class of `perdure.model`.
        millis: Write instants as integer milliseconds, as an invocation's input has them (protocol.md §4.1), instead
            of seconds with a fraction that is exact to the microsecond.
    """
    members: dict[str, Any] = _plain(value, Instants.MILLISECONDS if millis else Instants.SECONDS)
    return members


def from_wire(cls: type[T], members: Mapping[str, Any], *, millis: bool = False) -> T:
    """
    The model value of the wire's members; instants may be datetimes too, as boto3 gives them.

    Raises:
        ValidationError: A member is missing or not of its type.
    """
    kind: Any = cls
    try:
        read = _reader(kind, Instants.MILLISECONDS if millis else Instants.SECONDS)
        value: T = read(members)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        cause = f"member {error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValidationError(f"not the members of {article(cls.__name__)}: {cause}") from error
    return value


# ---------------------------------------------------------------------------------------------------------- instants


def microseconds(instant: datetime) -> int:
    """An aware datetime as a store's time: whole microseconds since the epoch."""
    return (instant - EPOCH) // _MICROSECOND


def instant(at: int) -> datetime:
    """A store's time as an aware datetime."""
    return EPOCH + timedelta(microseconds=at)


def written(value: datetime, unit: Instants) -> float:
    """An instant as a number."""
    match unit:
        case Instants.SECONDS:
            return microseconds(value) / 1_000_000
        case Instants.MILLISECONDS:
            return microseconds(value) // 1_000
        case Instants.MICROSECONDS:
            return microseconds(value)


def read_instant(value: object, unit: Instants) -> datetime:
    """An instant that was written as a number; a datetime is one already."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not an instant")
    if isinstance(value, int):
        return instant(value * unit.value)
    # Taken apart first: the product of large seconds would be rounded to a neighbouring microsecond.
    fraction, whole = math.modf(value)
    return instant(int(whole) * unit.value + round(fraction * unit.value))


# ------------------------------------------------------------------------------------------------- members and texts


@cache
def names(cls: Any) -> dict[str, str]:
    """The wire's names of the attributes of a model class that are on the wire."""
    renamed = _RENAMED_IN_ERRORS if cls is ErrorObject else _RENAMED
    return {
        field.name: renamed.get(field.name) or member(field.name)
        for field in attrs.fields(cls)
        if (cls, field.name) not in _NOT_ON_THE_WIRE
    }


def member(attribute: str) -> str:
    """The name of a member that has no other."""
    return "".join(part.capitalize() for part in attribute.split("_"))


def article(name: str) -> str:
    """With its article."""
    return f"an {name}" if name[0] in "AEIO" else f"a {name}"


def read_text(value: object) -> str:
    """A string; raises TypeError for what is none."""
    if isinstance(value, str):
        return value
    # Not the value itself: it may be somebody's data.
    raise TypeError(f"{article(type(value).__name__)} is not a string")


def read_integer(value: object) -> int:
    """An integer; raises TypeError for what is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise TypeError(f"{value!r} is not an integer")


def read_boolean(value: object) -> bool:
    """True or false; raises TypeError for what is neither."""
    if isinstance(value, bool):
        return value
    raise TypeError(f"{value!r} is not true or false")


def read_enum(cls: type[Enum]) -> Callable[[Any], Enum]:
    """Reads a member of `cls` from its value; raises ValueError for what is none."""
    found = {each.value: each for each in cls}

    def read(value: Any) -> Enum:
        try:
            return found[value]
        except (KeyError, TypeError):
            raise ValueError(f"{value!r} is not {article(cls.__name__)}") from None

    return read


# ----------------------------------------------------------------------------------------------------------- reading


@cache
def _reader(cls: Any, unit: Instants) -> Read:
    own = _FRAMES.get(cls)
    if own is not None:
        return partial(own, unit)
    if issubclass(cls, Enum):
        return read_enum(cls)
    wire_names = names(cls)
    required = [wire_names[field.name] for field in attrs.fields(cls) if field.default is attrs.NOTHING]
    # The annotations as they were written: a converter may have resolved those in the fields.
    annotations = cls.__annotations__
    readers = {name: (attribute, _by_text(annotations[attribute], unit)) for attribute, name in wire_names.items()}

    def read(members: Mapping[str, Any]) -> Any:
        values = {}
        for name, value in members.items():
            if value is not None and (found := readers.get(name)) is not None:
                values[found[0]] = found[1](value)
        for name in required:
            if members.get(name) is None:
                raise KeyError(name)
        return cls(**values)

    return read


def _by_text(annotation: str, unit: Instants) -> Read:
    """Reads a member whose attribute is annotated so."""
    text = annotation.removesuffix(" | None")
    simple = {"str": read_text, "int": read_integer, "bool": read_boolean}.get(text)
    if simple is not None:
        return simple
    if text == "datetime":
        return partial(read_instant, unit=unit)
    if text.startswith(("list[", "tuple[")):
        kind = list if text.startswith("list[") else tuple
        each = _by_text(text[text.index("[") + 1 : -1].removesuffix(", ..."), unit)
        return lambda values: kind(map(each, values))
    return _reader(getattr(model, text), unit)


def _read_input(unit: Instants, members: Mapping[str, Any]) -> InvocationInput:
    page = _read_page(unit, members.get("InitialExecutionState"))
    return InvocationInput(
        durable_execution_arn=read_text(members["DurableExecutionArn"]),
        checkpoint_token=read_text(members["CheckpointToken"]),
        operations=page.operations,
        next_marker=page.next_marker or None,
        updated_operation_ids=tuple(map(read_text, members.get("UpdatedOperationIds") or ())),
    )


def _read_answer(unit: Instants, members: Mapping[str, Any]) -> CheckpointAnswer:
    page = _read_page(unit, members.get("NewExecutionState"))
    # An empty token is none: a client must never send one (protocol.md §2).
    token = members.get("CheckpointToken") or None
    return CheckpointAnswer(None if token is None else read_text(token), page.operations, page.next_marker or None)


def _read_page(unit: Instants, members: Mapping[str, Any] | None) -> StatePage:
    page: StatePage = _reader(StatePage, unit)(members or {})
    return page


_EVENT_MEMBERS = {
    "event_id": "EventId",
    "event_type": "EventType",
    "event_timestamp": "EventTimestamp",
    "operation_id": "Id",
    "name": "Name",
    "sub_type": "SubType",
    "parent_id": "ParentId",
}


def _read_event(unit: Instants, members: Mapping[str, Any]) -> Event:
    details = members.get(f"{members['EventType']}Details") or {}
    return Event(
        event_id=read_integer(members["EventId"]),
        event_type=read_text(members["EventType"]),
        event_timestamp=read_instant(members["EventTimestamp"], unit),
        operation_id=members.get("Id"),
        name=members.get("Name"),
        sub_type=members.get("SubType"),
        parent_id=members.get("ParentId"),
        details={
            name: read_instant(value, unit) if name.endswith("Timestamp") else value for name, value in details.items()
        },
    )


# Classes whose frame is not their own.
_FRAMES: dict[type, Callable[[Instants, Any], Any]] = {
    InvocationInput: _read_input,
    CheckpointAnswer: _read_answer,
    Event: _read_event,
}


# ----------------------------------------------------------------------------------------------------------- writing


def _plain(value: Any, unit: Instants) -> Any:
    if value is None or type(value) in _PLAIN:
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return written(value, unit)
    if isinstance(value, list | tuple):
        return [_plain(each, unit) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each, unit) for name, each in value.items()}
    return _WRITERS.get(type(value), _write)(value, unit)


def _write(value: Any, unit: Instants) -> Any:
    cls: Any = type(value)
    for kind, exactly in _EXACTLY:  # names and payloads may be of classes of the author's
        if isinstance(value, kind):
            return exactly(value)
    return {
        name: _plain(found, unit)
        for attribute, name in names(cls).items()
        if (found := getattr(value, attribute)) is not None
    }


def _write_input(value: InvocationInput, unit: Instants) -> dict[str, Any]:
    members = {
        "DurableExecutionArn": value.durable_execution_arn,
        "CheckpointToken": value.checkpoint_token,
        "InitialExecutionState": _plain(StatePage(value.operations, value.next_marker), unit),
    }
    if value.updated_operation_ids:
        members["UpdatedOperationIds"] = list(value.updated_operation_ids)
    return members


def _write_answer(value: CheckpointAnswer, unit: Instants) -> dict[str, Any]:
    members = {"NewExecutionState": _plain(StatePage(value.operations, value.next_marker), unit)}
    return members if value.token is None else {"CheckpointToken": value.token, **members}


def _write_event(event: Event, unit: Instants) -> dict[str, Any]:
    members = {
        name: _plain(value, unit)
        for attribute, name in _EVENT_MEMBERS.items()
        if (value := getattr(event, attribute)) is not None
    }
    members[f"{event.event_type}Details"] = _plain(dict(event.details), unit)
    return members


_PLAIN = {str, int, float, bool}
_EXACTLY: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
)
_WRITERS: dict[type, Callable[[Any, Instants], Any]] = {
    InvocationInput: _write_input,
    CheckpointAnswer: _write_answer,
    Event: _write_event,
}
