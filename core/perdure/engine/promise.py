"""`context.promise`: combinators of futures, as in AWS's JavaScript SDK."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import attrs

from perdure.engine.future import DurableFuture
from perdure.engine.operations.choice import NONE, choice, recorded_choice
from perdure.errors import ValidationError
from perdure.model import OperationSubType, OperationType

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perdure.engine.commands import Procedure
    from perdure.engine.ids import Identity
    from perdure.engine.loop import DurableLoop
    from perdure.engine.scope import Scope

T = TypeVar("T")


@attrs.frozen
class Settled(Generic[T]):
    """
    How one future of `all_settled` ended.

    Attributes:
        status: `fulfilled` or `rejected`.
        value: Its result, if it has one.
        reason: Its error, if it failed.
    """

    status: Literal["fulfilled", "rejected"]
    value: T | None = None
    reason: BaseException | None = None


class Promise:
    """
    Combinators of the futures of one async context.

    `race` and `any` are operations: they take their id when called and record which future won. `all` and
    `all_settled` record nothing.
    """

    def __init__(
        self,
        scope: Scope,
        loop: DurableLoop,
        enter: Callable[[], DurableFuture[Any] | None],
        start: Callable[[Identity, Procedure[Any]], DurableFuture[Any]],
    ) -> None:
        self._scope = scope
        self._loop = loop
        self._enter = enter
        self._start = start

    def all(self, futures: Iterable[Awaitable[T]]) -> DurableFuture[list[T]]:
        """All results, in the order of `futures`; or the error of the first that failed."""
        members = self._members(futures)
        combined: DurableFuture[list[T]] = DurableFuture(self._loop, "promise.all")

        def ended(_: object) -> None:
            if combined.done():
                return
            failed = next((each for each in members if each.done() and _error(each) is not None), None)
            if failed is not None:
                combined.settle(None, _error(failed))
            elif all(each.done() for each in members):
                combined.settle([each.result() for each in members], None)

        return self._combined(combined, members, ended)
