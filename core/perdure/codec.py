"""
How values are kept: the journal's converter between model classes and JSON, and digests of payloads.

Members are named as on the wire (`perdure.wire`); absent and null members mean the same, unknown ones are ignored on
the way in, and members that are None are left out on the way out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum
from functools import cache, partial
from operator import attrgetter
from types import NoneType
from typing import Any, get_args

import attrs
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from perdure import model
from perdure.wire import (
    EPOCH,
    Instants,
    from_wire,
    instant,
    member,
    microseconds,
    names,
    read_boolean,
    read_enum,
    read_instant,
    read_integer,
    read_text,
    to_wire,
    written,
)

__all__ = [
    "EPOCH",
    "Instants",
    "canonical",
    "converter",
    "digest",
    "from_wire",
    "instant",
    "microseconds",
    "register_class",
    "register_enum",
    "to_wire",
]

_to_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_NAMES = {"datetime": datetime, "Mapping": Mapping}


def canonical(json_text: str) -> str:
    """JSON with sorted keys and no spaces: equal for equal values. Raises ValueError for what is not JSON."""
    return _to_canonical(json.loads(json_text))


def digest(json_text: str) -> str:
    """SHA-256, in hex, of the canonical form of a payload; of the text itself where that is not JSON."""
    try:
        text = canonical(json_text)
    except (ValueError, RecursionError):
        text = json_text
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@cache
def converter(instants: Instants) -> Converter:
    """The converter of every class of the model, writing instants in this unit."""
    made = Converter(detailed_validation=False)
    made.register_structure_hook(str, lambda value, _: read_text(value))
    made.register_structure_hook(int, lambda value, _: read_integer(value))
    made.register_structure_hook(bool, lambda value, _: read_boolean(value))
    made.register_structure_hook(datetime, lambda value, _: read_instant(value, instants))
    made.register_unstructure_hook(datetime, partial(written, unit=instants))
    for cls in vars(model).values():
        if isinstance(cls, type) and issubclass(cls, Enum) and cls is not Enum:
            register_enum(made, cls)
        elif isinstance(cls, type) and attrs.has(cls):
            register_class(made, cls)
    return made


def register_enum(made: Converter, cls: type[Enum]) -> None:
    """Have members of `cls` written as their values."""
    read = read_enum(cls)
    made.register_structure_hook(cls, lambda value, _: read(value))
    made.register_unstructure_hook(cls, attrgetter("_value_"))


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
    on_the_wire = names(cls)
    overrides = {
        field.name: override(
            rename=(renamed or {}).get(field.name) or on_the_wire.get(field.name) or member(field.name),
            omit_if_default=omit_defaults or field.default is None,
            omit=field.name not in on_the_wire,
            struct_hook=_present_hook(made.get_structure_hook, field.type),
            unstruct_hook=_present_hook(made.get_unstructure_hook, field.type) if field.default is None else None,
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


def _present_hook(hook_of: Callable[[Any], Any], type: Any) -> Callable[..., Any] | None:
    """How a member that may be None is read or written where it is not: those that are were taken out before."""
    inner = [each for each in get_args(type) if each is not NoneType]
    return hook_of(inner[0]) if NoneType in get_args(type) and len(inner) == 1 else None
