"""`context.promise`: combinators of futures, as in AWS's JavaScript SDK."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar

import attrs

from perdure.engine.commands import stand_in
from perdure.engine.future import DurableFuture
from perdure.engine.operations.choice import NONE, choice
from perdure.errors import ValidationError
from perdure.model import OperationSubType, OperationType

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from perdure.engine.awaiting import AwaitingDriver
    from perdure.engine.commands import Procedure
    from perdure.engine.ids import Identity
    from perdure.engine.scope import Scope

T = TypeVar("T")
Member: TypeAlias = "DurableFuture[Any] | asyncio.Future[Any]"


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
    Combinators of futures.

    `race` and `any` are operations: they take their id when called and record which future won. `all` and
    `all_settled` record nothing. Members may be any awaitables; what is no future yet becomes a task.
    """

    def __init__(
        self, scope: Scope, driver: AwaitingDriver, start: Callable[[Identity, Procedure[Any]], DurableFuture[Any]]
    ) -> None:
        self._scope = scope
        self._driver = driver
        self._start = start

    def all(self, futures: Iterable[Awaitable[T]]) -> DurableFuture[list[T]]:
        """All results, in the order of `futures`; or the error of the first that fails."""
        members = self._members(futures)
        combined = self._future("all")

        def ended(member: Member) -> None:
            if combined.done():
                return
            if (error := _error(member)) is not None:
                combined.settle(None, error)
            elif all(each.done() for each in members):
                combined.settle([each.result() for each in members], None)

        if not members:
            self._driver.loop.call_soon(combined.settle, [], None)
        _observe(members, ended)
        return combined

    def all_settled(self, futures: Iterable[Awaitable[T]]) -> DurableFuture[list[Settled[T]]]:
        """How each of `futures` ended, in their order; never fails."""
        members = self._members(futures)
        combined = self._future("all_settled")

        def ended(_: Member) -> None:
            if not combined.done() and all(each.done() for each in members):
                combined.settle([_settled(each) for each in members], None)

        if not members:
            self._driver.loop.call_soon(combined.settle, [], None)
        _observe(members, ended)
        return combined

    def race(self, futures: Iterable[Awaitable[T]], name: str | None = None) -> DurableFuture[T]:
        """
        The outcome of the first that ends, be it a result or an error.

        Args:
            futures: At least one.
            name: For the history.
        """

        def winner(members: list[Member]) -> int | None:
            return next((index for index, each in enumerate(members) if each.done()), None)

        return self._chosen(futures, name or "race", winner)

    def any(self, futures: Iterable[Awaitable[T]], name: str | None = None) -> DurableFuture[T]:
        """
        The result of the first that succeeds.

        Args:
            futures: At least one.
            name: For the history.

        Raises:
            ExceptionGroup: All have failed; with their errors, in the order of `futures`.
        """

        def winner(members: list[Member]) -> int | None:
            if all(each.done() and _error(each) is not None for each in members):
                return NONE
            return next((index for index, each in enumerate(members) if each.done() and _error(each) is None), None)

        return self._chosen(futures, name or "any", winner)

    # --------------------------------------------------------------------------------------------------- choosing

    def _chosen(
        self, futures: Iterable[Awaitable[T]], name: str, winner: Callable[[list[Member]], int | None]
    ) -> DurableFuture[T]:
        parked = self._driver.enter(self._scope)
        if parked is not None:
            return parked
        members = self._members(futures)
        if not members:
            message = f"{name!r} is to choose among no futures; give at least one"
            raise ValidationError(message)
        scope = self._scope
        identity = scope.draw(OperationType.STEP, OperationSubType.STEP, name)

        body = asyncio.current_task()
        assert body is not None  # noqa: S101 - `enter` has found it to be the context's own

        def record(index: int) -> DurableFuture[int]:
            if body.done():  # a member went on after the context had ended
                return self._future(name)
            return self._start(identity, choice(scope, identity, len(members), index))

        chosen = _Choice(self._future(name), members, winner, record)
        if identity.operation_id in scope.replay.records:
            chosen.record(NONE)
        _observe(members, chosen.ended)
        return chosen.result

    def _future(self, name: str) -> DurableFuture[Any]:
        return DurableFuture(self._driver.loop, name)

    def _members(self, futures: Iterable[Awaitable[Any]]) -> list[Member]:
        return [
            each if isinstance(each, (DurableFuture, asyncio.Future)) else self._driver.loop.create_task(each)
            for each in futures
        ]


class _Choice:
    """One `race` or `any` under way."""

    def __init__(
        self,
        result: DurableFuture[Any],
        members: list[Member],
        winner: Callable[[list[Member]], int | None],
        start: Callable[[int], DurableFuture[int]],
    ) -> None:
        self.result = result
        self._members = members
        self._winner = winner
        self._start = start
        self._recording: DurableFuture[int] | None = None

    def record(self, index: int) -> None:
        """Have the choice recorded, or read, if it is recorded already."""
        self._recording = self._start(index)
        self._recording.add_done_callback(self.ended)

    def ended(self, _: object) -> None:
        """A member, or the record of the choice, is done."""
        if self._recording is None:
            index = self._winner(self._members)
            if index is not None:
                self.record(index)
        elif self._recording.done() and not self.result.done():
            self._settle(self._recording.result())

    def _settle(self, index: int) -> None:
        if index != NONE:
            member = self._members[index]
            if member.done():
                error = _error(member)
                self.result.settle(None if error else member.result(), error)
        elif all(each.done() for each in self._members):
            errors = [error for each in self._members if (error := _error(each)) is not None]
            message = f"all {len(errors)} futures of {self.result.name!r} failed"
            self.result.settle(None, BaseExceptionGroup(message, errors))


def _observe(members: list[Member], callback: Callable[[Any], object]) -> None:
    for each in members:
        each.add_done_callback(callback)


def _error(member: Member) -> BaseException | None:
    return stand_in(asyncio.CancelledError()) if member.cancelled() else member.exception()


def _settled(member: Member) -> Settled[Any]:
    error = _error(member)
    return Settled("fulfilled", member.result()) if error is None else Settled("rejected", reason=error)
