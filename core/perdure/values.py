"""
Values at the edges of a workflow: its input and result, as JSON (protocol.md §10.9).

A parameter or return annotation that is an attrs class or a dataclass, or is made of such (`list[Order]`,
`Order | None`), is structured by cattrs, which is imported only then.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from typing import TYPE_CHECKING, Any, get_args

import attrs

from perdure.errors import SerDesError
from perdure.serdes import JSON_TYPES, find_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def dump(value: Any, what: str) -> str:
    """
    JSON text of an input or result.

    Raises:
        SerDesError: JSON has no form for it.
    """
    try:
        return json.dumps(value if _is_plain(value) else _unstructured(value))
    except Exception as error:
        fault = find_fault(value, _has_form, _REMEDY) or _fault_below(value) or f"{error}; {_REMEDY}"
        raise SerDesError(f"{what} cannot be written as JSON: {fault}") from error


def load(text: str | None, annotation: object, what: str) -> Any:
    """
    The value of JSON text, structured as `annotation` says if that has classes of fields in it.

    Raises:
        SerDesError: It is no JSON, or does not fit the annotation; the message names the fields that do not.
    """
    if text is None or not text.strip():
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SerDesError(f"{what} cannot be read: {error}; write it as JSON") from error
    if not _is_structured(annotation):
        return value
    try:
        return _converter().structure(value, annotation)
    except Exception as error:
        name = annotation.__qualname__ if isinstance(annotation, type) else str(annotation)
        misfits = _misfits(value, annotation, error)
        raise SerDesError(f"{what} does not fit {name}: {misfits}; give what fits, or new fields a default") from error


def has_fields(annotation: object) -> bool:
    """Whether an annotation is an attrs class or a dataclass."""
    return isinstance(annotation, type) and (attrs.has(annotation) or dataclasses.is_dataclass(annotation))


def _is_structured(annotation: object) -> bool:
    return has_fields(annotation) or any(map(_is_structured, get_args(annotation)))


def _misfits(value: Any, annotation: Any, error: Exception) -> str:
    """What does not fit, and where."""
    from cattrs import transform_error  # noqa: PLC0415 - loaded by now

    if has_fields(annotation) and not isinstance(value, dict):
        names = ", ".join(field.name for field in _fields(annotation))
        return f"value is {type(value).__name__}, where an object with the fields {names} was expected"
    return "; ".join(transform_error(error, path="value"))


def _fields(owner: Any) -> Iterable[Any]:
    return attrs.fields(owner) if attrs.has(owner) else dataclasses.fields(owner)


def _fault_below(value: Any) -> str | None:
    """What has no form within classes of fields."""
    try:
        return find_fault(_laid_open(value), _has_form, _REMEDY)
    except RecursionError:
        return None


def _laid_open(value: Any) -> Any:
    if has_fields(type(value)):
        return {field.name: _laid_open(getattr(value, field.name)) for field in _fields(type(value))}
    if isinstance(value, list | tuple):
        return [_laid_open(item) for item in value]
    if isinstance(value, dict):
        return {key: _laid_open(item) for key, item in value.items()}
    return value


def edge_types(function: Callable[..., Any]) -> tuple[object, object]:
    """The resolved annotations of a workflow's first parameter and of its result; None where there are none."""
    try:
        signature = inspect.signature(function, eval_str=True)
    except (NameError, TypeError, ValueError):
        # A name that exists only for type checkers: then nothing is structured.
        return None, None
    first = next(iter(signature.parameters.values()), None)
    given = None if first is None else first.annotation
    empty = inspect.Signature.empty
    return (None if given is empty else given), (
        None if signature.return_annotation is empty else signature.return_annotation
    )


_REMEDY = "use plain values, attrs classes or dataclasses"


def _has_form(value: Any) -> bool:
    return isinstance(value, JSON_TYPES) or has_fields(type(value))


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _unstructured(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_unstructured(item) for item in value]
    if isinstance(value, dict):
        return {key: _unstructured(item) for key, item in value.items()}
    if has_fields(type(value)):
        return _converter().unstructure(value)
    return value


def _converter() -> Any:
    global _made  # noqa: PLW0603 - made once, on first need
    if _made is None:
        from cattrs.preconf.json import make_converter  # noqa: PLC0415 - a cold start pays for every import

        _made = make_converter()
    return _made


_made: Any = None
