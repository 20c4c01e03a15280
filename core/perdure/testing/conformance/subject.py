"""What the kit needs to know of a store to test it, and how its tests are run."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import TYPE_CHECKING, Any

import attrs

from perdure.testing.conformance.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from perdure.storage import Store


@attrs.frozen
class Subject:
    """
    A store under test, over empty data of its own and with a single shard.

    Attributes:
        open: Makes a store object over this data; the kit opens and closes it. Called again it makes another one, as a
            second process would have it. A store that lives in one process only may return the same one.
        advance: Takes the store's clock on by that many microseconds, or back by a negative number; may be awaitable.
            In between the clock stands still, be it the machine's or a server's: give the store one of the kit's own.
    """

    open: Callable[[], Store]
    advance: Callable[[int], Awaitable[None] | None]

    def play(self, scene: Callable[[Stage], Coroutine[Any, Any, None]]) -> None:
        """Run a coroutine function over the opened store."""
        asyncio.run(self._play(scene))

    async def _play(self, scene: Callable[[Stage], Coroutine[Any, Any, None]]) -> None:
        async with Stage(self.open, self.advance) as stage:
            await scene(stage)


class Conformance:
    """
    Base of the kit's classes: its `async` tests get an opened store instead of the fixture `new_subject`.

    That fixture is the only thing the tests of a store define: a callable that makes a `Subject` each time.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, test in list(vars(cls).items()):
            if name.startswith("test_") and inspect.iscoroutinefunction(test):
                setattr(cls, name, _blocking(test))


def _blocking(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(self: Conformance, new_subject: Callable[[], Subject], **arguments: Any) -> None:
        new_subject().play(lambda stage: test(self, stage, **arguments))

    # pytest reads from the signature which fixtures a test wants.
    parameters = list(inspect.signature(test).parameters.values())
    fixture = parameters[1].replace(name="new_subject", annotation=inspect.Parameter.empty)
    rest = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters[2:]]
    run.__signature__ = inspect.Signature([parameters[0], fixture, *rest])  # type: ignore[attr-defined]
    del run.__wrapped__
    return run
