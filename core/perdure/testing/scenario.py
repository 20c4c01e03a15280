"""What a test gives: a workflow, the functions that it invokes, and who completes its callbacks."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from perdure.durable import DurableFunction, durable_execution
from perdure.errors import ValidationError
from perdure.service.target import LATEST, FunctionIdentifier

if TYPE_CHECKING:
    from perdure.testing.callback import PendingCallback

Functions: TypeAlias = Sequence[Any] | Mapping[str, Any]
"""
Functions for chained invokes: durable ones, and plain ones of an event, or of an event and a context, which stand for
others. By their own names, or by those they are given here.
"""

Answer: TypeAlias = "Callable[[PendingCallback], object] | str | bytes | None"
"""What is done about a callback: a function that is given it, or the text that it succeeds with."""

UNNAMED = "handler"
"""What a handler is called that has no name of its own, such as a lambda."""


@attrs.frozen
class Plan:
    """
    What is done about callbacks of a name.

    Attributes:
        name: Of the callback, or of its `wait_for_callback`; None: of any.
        answer: What is done.
        after: How long after the callback was created (µs).
    """

    name: str | None
    answer: Answer
    after: int = 0

    def carry_out(self, callback: PendingCallback) -> None:
        """Do it."""
        if callable(self.answer):
            self.answer(callback)
        else:
            callback.succeed(self.answer)


def durable_function(handler: Any) -> DurableFunction[Any, Any]:
    """A workflow, decorated or not."""
    if isinstance(handler, DurableFunction):
        return handler
    if not callable(handler):
        raise ValidationError(f"a handler is a function of (event, context), not {handler!r}")
    name = getattr(handler, "__name__", "")
    return _decorated(handler, name if name.isidentifier() else UNNAMED)


def durable_functions(functions: Functions) -> list[DurableFunction[Any, Any]]:
    """
    Those for chained invokes.

    Raises:
        ValidationError: One is no function, or has no name that it could be invoked by.
    """
    if isinstance(functions, Mapping):
        return [_under(name, each) for name, each in functions.items()]
    return [each if isinstance(each, DurableFunction) else _stand_in(each, _own_name(each)) for each in functions]


def _under(name: str, function: Any) -> DurableFunction[Any, Any]:
    identifier = FunctionIdentifier.parse(name)
    if isinstance(function, DurableFunction):
        known = copy.copy(function)
        known.name = identifier.name
        known.version = identifier.qualifier or function.version
        return known
    return _stand_in(function, identifier.name, identifier.qualifier or LATEST)


def _own_name(function: Any) -> str:
    name = getattr(function, "__name__", "")
    if not callable(function) or not name.isidentifier():
        raise ValidationError(f"{function!r} has no name that it is invoked by; pass functions={{'name': function}}")
    return str(name)


class _NoContext:
    """The context of a stand-in, which has none: it is no workflow, and runs on no Lambda."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"a plain function given by functions= has no context, and so no {name!r}; "
            "if it is a workflow, decorate it with @durable_execution"
        )


def _stand_in(function: Any, name: str, version: str = LATEST) -> DurableFunction[Any, Any]:
    """A durable function without operations that does what a plain one does."""
    if not callable(function):
        raise ValidationError(f"{name!r} is to stand for a function, and is {function!r}")
    takes_context = _takes_two(function)

    def arguments(event: Any) -> tuple[Any, ...]:
        return (event, _NoContext()) if takes_context else (event,)

    if inspect.iscoroutinefunction(function):

        async def awaited(event: Any, _: Any) -> Any:
            return await function(*arguments(event))

        return _decorated(awaited, name, version)

    def called(event: Any, _: Any) -> Any:
        return function(*arguments(event))

    return _decorated(called, name, version)


def _takes_two(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind(None, None)
    except (TypeError, ValueError):
        return False
    return True


def _decorated(handler: Any, name: str, version: str = LATEST) -> DurableFunction[Any, Any]:
    made: DurableFunction[Any, Any] = durable_execution(handler, name=name, version=version)
    return made
