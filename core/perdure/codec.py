"""
The one mapping between model classes and JSON: the wire's (protocol.md §5) and, with other instants, the journal's.

Member names follow from the attribute names (`parent_id` → `ParentId`) but for a few that the wire names otherwise.
Absent and null members mean the same and unknown ones are ignored on the way in; members that are None are left out
on the way out.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache
from types import NoneType
from typing import Any, TypeVar, get_args

import attrs
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from perdure import model
from perdure.errors import ValidationError
from perdure.model import CheckpointAnswer, ErrorObject, Event, InvocationInput, Operation, StatePage

T = TypeVar("T")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_RENAMED = {"operation_id": "Id", "operation_type": "Type"}
_RENAMED_IN_ERRORS = {"message": "ErrorMessage", "type": "ErrorType", "data": "ErrorData", "stack_trace": "StackTrace"}
_NOT_ON_THE_WIRE = {(Operation, "position")}
_NAMES = {"datetime": datetime, "Mapping": Mapping}


class Instants(Enum):
    """How instants are written; the value is the number of microseconds in a unit."""

    SECONDS = 1_000_000
    MILLISECONDS = 1_000
    MICROSECONDS = 1


def microseconds(instant: datetime) -> int:
    """An aware datetime as a store's time: whole microseconds since the epoch."""
    return (instant - EPOCH) // _MICROSECOND


def instant(at: int) -> datetime:
    """A store's time as an aware datetime."""
    return EPOCH + timedelta(microseconds=at)


# ------------------------------------------------------------------------------------------------------- public calls


def to_wire(value: object, *, millis: bool = False) -> dict[str, Any]:
    """
    The wire's members of a model value.

    Args:
        value: An instance of a class of `perdure.model`.
        millis: Write instants as integer milliseconds, as an invocation's input has them (protocol.md §4.1), instead
            of seconds with a fraction that is exact to the microsecond.
    """
    members: dict[str, Any] = converter(_instants(millis)).unstructure(value)
    return members


def from_wire(cls: type[T], members: Mapping[str, Any], *, millis: bool = False) -> T:
    """
    The model value of the wire's members; instants may be datetimes too, as boto3 gives them.

    Raises:
        ValidationError: A member is missing or not of its type.
    """
    try:
        return converter(_instants(millis)).structure(members, cls)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        cause = f"member {error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValidationError(f"not the members of {_article(cls.__name__)}: {cause}") from error


def canonical(json_text: str) -> str:
    """JSON with sorted keys and no spaces: equal for equal values. Raises ValueError for what is not JSON."""
    return json.dumps(json.loads(json_text), sort_keys=True, separators=(",", ":"))


def digest(json_text: str) -> str:
    """SHA-256, in hex, of the canonical form of a payload; of the text itself where that is not JSON."""
    try:
        text = canonical(json_text)
    except (ValueError, RecursionError):
        text = json_text
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _instants(millis: bool) -> Instants:
    return Instants.MILLISECONDS if millis else Instants.SECONDS


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "AEIO" else f"a {name}"


# ------------------------------------------------------------------------------------------------------- the converter


@cache
def converter(instants: Instants) -> Converter:
    """The converter of every class of the model, writing instants in this unit."""
    made = Converter(detailed_validation=False)
    made.register_structure_hook(str, _text)
    made.register_structure_hook(int, _integer)
    made.register_structure_hook(bool, _boolean)
    made.register_structure_hook(datetime, lambda value, _: _read_instant(value, instants))
    made.register_unstructure_hook(datetime, _instant_writer(instants))
    for cls in vars(model).values():
        if isinstance(cls, type) and issubclass(cls, Enum) and cls is not Enum:
            register_enum(made, cls)
        elif isinstance(cls, type) and attrs.has(cls):
            register_class(made, cls)
    _register_frames(made)
    return made


def register_enum(made: Converter, cls: type[Enum]) -> None:
    """Have members of `cls` written as their values."""
    members = {member.value: member for member in cls}

    def structure(value: object, _: object) -> Enum:
        try:
            return members[value]
        except (KeyError, TypeError):
            raise ValueError(f"{value!r} is not {_article(cls.__name__)}") from None

    made.register_structure_hook(cls, structure)
    made.register_unstructure_hook(cls, lambda member: member.value)


def register_class(
    made: Converter, cls: type, *, renamed: Mapping[str, str] | None = None, omit_defaults: bool = False
) -> None:
    """
    Have instances of the attrs class `cls` written as JSON objects.

    Args:
        made: The converter.
        cls: Classes of its members must be registered before it.
        renamed: Members whose name does not follow from the attribute's.
        omit_defaults: Leave out every member that has its default value, not only those that are None.
    """
    attrs.resolve_types(cls, localns=_NAMES)
    names = {**(_RENAMED_IN_ERRORS if cls is ErrorObject else _RENAMED), **(renamed or {})}
    overrides = {
        field.name: override(
            rename=names.get(field.name, _member(field.name)),
            omit_if_default=omit_defaults or field.default is None,
            omit=(cls, field.name) in _NOT_ON_THE_WIRE,
            struct_hook=_present_hook(made, field.type),
        )
        for field in attrs.fields(cls)
    }
    structure: Callable[..., Any] = make_dict_structure_fn(cls, made, **overrides)  # type: ignore[arg-type]

    def structure_present(members: Mapping[str, Any], _: object) -> Any:
        if None in members.values():
            members = {name: value for name, value in members.items() if value is not None}
        return structure(members, cls)

    made.register_structure_hook(cls, structure_present)
    made.register_unstructure_hook(cls, make_dict_unstructure_fn(cls, made, **overrides))  # type: ignore[arg-type]


def _present_hook(made: Converter, type: Any) -> Callable[[Any, Any], Any] | None:
    """How a member that may be None is read where it is not: those that are were taken out before."""
    inner = [each for each in get_args(type) if each is not NoneType]
    return made.get_structure_hook(inner[0]) if NoneType in get_args(type) and len(inner) == 1 else None


def _member(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _text(value: object, _: object) -> str:
    if isinstance(value, str):
        return value
    raise TypeError(f"{value!r} is not a string")


def _integer(value: object, _: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise TypeError(f"{value!r} is not an integer")


def _boolean(value: object, _: object) -> bool:
    if isinstance(value, bool):
        return value
    raise TypeError(f"{value!r} is not true or false")


def _instant_writer(instants: Instants) -> Callable[[datetime], float]:
    match instants:
        case Instants.SECONDS:
            return lambda value: microseconds(value) / 1_000_000
        case Instants.MILLISECONDS:
            return lambda value: microseconds(value) // 1_000
        case Instants.MICROSECONDS:
            return microseconds


def _read_instant(value: object, instants: Instants) -> datetime:
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not an instant")
    if isinstance(value, int):
        return instant(value * instants.value)
    # Taken apart first: the product of large seconds would be rounded to a neighbouring microsecond.
    fraction, whole = math.modf(value)
    return instant(int(whole) * instants.value + round(fraction * instants.value))


# ------------------------------------------------------------------------------- classes whose frame is not their own


def _register_frames(made: Converter) -> None:
    made.register_structure_hook(InvocationInput, lambda members, _: _read_input(made, members))
    made.register_unstructure_hook(InvocationInput, lambda value: _write_input(made, value))
    made.register_structure_hook(CheckpointAnswer, lambda members, _: _read_answer(made, members))
    made.register_unstructure_hook(CheckpointAnswer, lambda value: _write_answer(made, value))
    made.register_structure_hook(Event, lambda members, _: _read_event(made, members))
    made.register_unstructure_hook(Event, lambda value: _write_event(made, value))


def _read_page(made: Converter, members: Mapping[str, Any] | None) -> StatePage:
    return made.structure(members or {}, StatePage)


def _read_input(made: Converter, members: Mapping[str, Any]) -> InvocationInput:
    page = _read_page(made, members.get("InitialExecutionState"))
    return InvocationInput(
        durable_execution_arn=made.structure(members["DurableExecutionArn"], str),
        checkpoint_token=made.structure(members["CheckpointToken"], str),
        operations=page.operations,
        next_marker=page.next_marker or None,
        updated_operation_ids=made.structure(members.get("UpdatedOperationIds") or (), tuple[str, ...]),
    )


def _write_input(made: Converter, value: InvocationInput) -> dict[str, Any]:
    members = {
        "DurableExecutionArn": value.durable_execution_arn,
        "CheckpointToken": value.checkpoint_token,
        "InitialExecutionState": made.unstructure(StatePage(value.operations, value.next_marker)),
    }
    if value.updated_operation_ids:
        members["UpdatedOperationIds"] = list(value.updated_operation_ids)
    return members


def _read_answer(made: Converter, members: Mapping[str, Any]) -> CheckpointAnswer:
    page = _read_page(made, members.get("NewExecutionState"))
    # An empty token is none: a client must never send one (protocol.md §2).
    return CheckpointAnswer(members.get("CheckpointToken") or None, page.operations, page.next_marker or None)


def _write_answer(made: Converter, value: CheckpointAnswer) -> dict[str, Any]:
    members = {"NewExecutionState": made.unstructure(StatePage(value.operations, value.next_marker))}
    return members if value.token is None else {"CheckpointToken": value.token, **members}


_EVENT_MEMBERS = {
    "event_id": "EventId",
    "event_type": "EventType",
    "event_timestamp": "EventTimestamp",
    "operation_id": "Id",
    "name": "Name",
    "sub_type": "SubType",
    "parent_id": "ParentId",
}


def _write_event(made: Converter, event: Event) -> dict[str, Any]:
    members = {
        member: made.unstructure(value)
        for field, member in _EVENT_MEMBERS.items()
        if (value := getattr(event, field)) is not None
    }
    members[f"{event.event_type}Details"] = made.unstructure(dict(event.details))
    return members


def _read_event(made: Converter, members: Mapping[str, Any]) -> Event:
    details = members.get(f"{members['EventType']}Details") or {}
    return Event(
        event_id=made.structure(members["EventId"], int),
        event_type=made.structure(members["EventType"], str),
        event_timestamp=made.structure(members["EventTimestamp"], datetime),
        operation_id=members.get("Id"),
        name=members.get("Name"),
        sub_type=members.get("SubType"),
        parent_id=members.get("ParentId"),
        details={
            name: made.structure(value, datetime) if name.endswith("Timestamp") else value
            for name, value in details.items()
        },
    )
