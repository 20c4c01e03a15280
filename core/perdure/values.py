"""
Values at the edges of a workflow: its input and result, as JSON (protocol.md §10.9).

A parameter or return annotation that is an attrs class or a dataclass is structured by cattrs, which is imported only
then.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from typing import TYPE_CHECKING, Any

import attrs

from perdure.errors import SerDesError
from perdure.serdes import JSON_TYPES, find_fault

if TYPE_CHECKING:
    from collections.abc import Callable


def dump(value: Any, what: str) -> str:
    """
    JSON text of an input or result.

    Raises:
        SerDesError: JSON has no form for it.
    """
    try:
        return json.dumps(value if _is_plain(value) else _unstructured(value))
    except (TypeError, ValueError, RecursionError) as error:
        fault = find_fault(value, _has_form, _REMEDY) or f"{error}; {_REMEDY}"
        raise SerDesError(f"{what} cannot be written as JSON: {fault}") from error


def load(text: str | None, annotation: object, what: str) -> Any:
    """
    The value of JSON text, structured as `annotation` says if that is a class of fields.

    Raises:
        SerDesError: It is no JSON, or does not fit the annotation.
    """
    if text is None or not text.strip():
        return None
    try:
        value = json.loads(text)
        return _structured(value, annotation) if has_fields(annotation) else value
    except Exception as error:
        raise SerDesError(f"{what} cannot be read: {error}") from error


def has_fields(annotation: object) -> bool:
    """Whether an annotation is an attrs class or a dataclass."""
    return isinstance(annotation, type) and (attrs.has(annotation) or dataclasses.is_dataclass(annotation))


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


def _structured(value: Any, annotation: Any) -> Any:
    return _converter().structure(value, annotation)


def _converter() -> Any:
    global _made  # noqa: PLW0603 - made once, on first need
    if _made is None:
        from cattrs.preconf.json import make_converter  # noqa: PLC0415 - a cold start pays for every import

        _made = make_converter()
    return _made


_made: Any = None
