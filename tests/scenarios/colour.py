"""
One source for both colours: a workflow written as `async def` also runs as a `def`, on the engine's blocking driver.

In the blocking colour the coroutine is only a way of writing: every operation blocks when it is called and hands back
something that is complete already, so that the coroutine runs from start to end without ever being suspended.
"""

from __future__ import annotations

import inspect
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import attrs

from perdure.config import ParallelBranch
from perdure.durable import DurableFunction, durable_execution, with_retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Sequence


class Colour(StrEnum):
    DEF = "def"
    ASYNC = "async"


class Complete:
    """What has its value already."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._value
        yield


def drive(awaitable: Any) -> Any:
    """The value of an awaitable that never waits."""
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration as end:
        return end.value
    steps.close()
    raise AssertionError(f"{awaitable!r} waited for something that is not durable")


class Colourless:
    """A blocking context that can be awaited."""

    def __init__(self, context: Any) -> None:
        self.context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self.context, name)

    def step(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        return Complete(self.context.step(*args, **kwargs))

    def transaction(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        return Complete(self.context.transaction(*args, **kwargs))

    def wait(self, *args: Any, **kwargs: Any) -> Awaitable[None]:
        return Complete(self.context.wait(*args, **kwargs))

    def invoke(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        return Complete(self.context.invoke(*args, **kwargs))

    def create_callback(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        return Complete(ColourlessCallback(self.context.create_callback(*args, **kwargs)))

    def wait_for_callback(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        return Complete(self.context.wait_for_callback(*args, **kwargs))

    def wait_for_condition(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        return Complete(self.context.wait_for_condition(*args, **kwargs))

    def run_in_child_context(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Awaitable[Any]:
        return Complete(self.context.run_in_child_context(blocking(func), *args, **kwargs))

    def parallel(self, functions: Sequence[Any], *args: Any, **kwargs: Any) -> Awaitable[Any]:
        return Complete(self.context.parallel([blocking(each) for each in functions], *args, **kwargs))

    def map(self, inputs: Sequence[Any], func: Callable[..., Any], *args: Any, **kwargs: Any) -> Awaitable[Any]:
        return Complete(self.context.map(inputs, blocking(func), *args, **kwargs))


class ColourlessCallback:
    """A blocking callback whose result can be awaited."""

    def __init__(self, callback: Any) -> None:
        self._callback = callback
        self.callback_id = callback.callback_id

    def result(self) -> Awaitable[Any]:
        return Complete(self._callback.result())


def blocking(func: Any) -> Any:
    """A function of a context, as `def`."""
    if isinstance(func, ParallelBranch):
        return attrs.evolve(func, func=blocking(func.func))

    def called(context: Any, *args: Any) -> Any:
        value = func(Colourless(context), *args)
        return drive(value) if inspect.isawaitable(value) else value

    # By this name operations are called that are given none.
    if original := getattr(func, "_original_name", None):
        called._original_name = original
    return called


def retried(context: Any, func: Callable[..., Any], config: Any, name: str | None = None) -> Awaitable[Any]:
    """`with_retry` in the colour of the context."""
    if isinstance(context, Colourless):
        return Complete(with_retry(context.context, blocking(func), config, name))
    return with_retry(context, func, config, name)


def durable(colour: Colour, workflow: Callable[..., Any], **options: Any) -> DurableFunction[Any, Any]:
    """A workflow written as `async def`, as a durable function of one colour."""
    if colour is Colour.ASYNC:
        return durable_execution(workflow, **options)

    def called(event: Any, context: Any) -> Any:
        return drive(workflow(event, Colourless(context)))

    called.__name__ = workflow.__name__
    called.__signature__ = inspect.signature(workflow, eval_str=True)
    return durable_execution(called, **options)
