"""What the operations of an async context return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextvars import Context

    from perdure.engine.loop import DurableLoop

T_co = TypeVar("T_co", covariant=True)


class Waiter:
    """
    What one await of a future waits for: as much of an `asyncio.Future` as a task needs.

    It is queued as its own callback, for replay does little else.
    """

    __slots__ = ("_asyncio_future_blocking", "_callback", "_context", "_error", "_is_over", "_loop")

    _cancelled = False

    def __init__(self, loop: DurableLoop) -> None:
        self._asyncio_future_blocking = True
        self._loop = loop
        self._callback: Callable[[Waiter], object] | None = None
        self._error: BaseException | None = None
        self._is_over = False

    def add_done_callback(self, callback: Callable[[Waiter], object], *, context: Context) -> None:
        """As a task does, once."""
        self._callback = callback
        self._context = context
        if self._is_over:
            self._loop.resume(self)

    def end(self) -> None:
        """Let the task go on."""
        if not self._is_over:
            if self._callback is not None and not self._loop.resume(self):
                self._callback = None  # it and the task that waits would keep each other
            self._is_over = True

    def cancel(self, msg: str | None = None) -> bool:
        """As `asyncio.Future.cancel`."""
        if self._is_over:
            return False
        from asyncio import CancelledError  # noqa: PLC0415 - `perdure.durable` loads without asyncio

        self.end()
        self._error = CancelledError() if msg is None else CancelledError(msg)
        return True

    def result(self) -> None:
        """As `asyncio.Future.result`."""
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # its traceback has this frame: they would keep each other

    def _run(self) -> None:
        assert self._callback is not None  # noqa: S101 - or it would not be queued
        self._context.run(self._callback, self)


class DurableFuture(Generic[T_co]):
    """
    The outcome of an operation that has been started; awaitable any number of times.

    It is no `asyncio.Future`. Every await waits for itself: cancelling one cancels neither the operation nor other
    awaits, and it can be awaited again afterwards. `asyncio.gather`, `wait`, `as_completed`, `shield` and
    `TaskGroup.create_task` take it as it is. It is never done when the call that made it returns.

    Attributes:
        name: Of the operation, or None.
    """

    __slots__ = (
        "__weakref__",
        "_callbacks",
        "_done",
        "_error",
        "_loop",
        "_number",
        "_observed",
        "_value",
        "_waiters",
        "name",
    )

    def __init__(self, loop: DurableLoop, name: str | None = None) -> None:
        self.name = name
        self._loop = loop
        self._number = next(loop.operation_numbers)
        self._done = self._observed = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._waiters: list[Waiter] = []
        self._callbacks: list[tuple[Callable[[Any], object], Context | None]] = []

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        state = "pending" if not self._done else f"error={self._error!r}" if self._error else f"result={self._value!r}"
        return f"<DurableFuture {self.name or self._number!r} {state}>"

    def __await__(self) -> Generator[Any, None, T_co]:
        if not self._done:
            waiter = Waiter(self._loop)
            self._waiters.append(waiter)
            try:
                yield waiter
            except BaseException:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                raise
        return self.result()

    def done(self) -> bool:
        """Whether the operation has ended and the workflow has been told."""
        return self._done

    def cancelled(self) -> bool:
        """Never: what has been recorded as started cannot be taken back."""
        return False

    def result(self) -> T_co:
        """
        The operation's result.

        Raises:
            asyncio.InvalidStateError: It is not done.
            DurableOperationError: It failed.
        """
        error = self.exception()
        if error is not None:
            raise error.with_traceback(None)
        return self._value  # type: ignore[no-any-return]

    def exception(self) -> BaseException | None:
        """
        The error that the operation failed with, or None.

        Raises:
            asyncio.InvalidStateError: It is not done.
        """
        if not self._done:
            from asyncio import InvalidStateError  # noqa: PLC0415 - `perdure.durable` loads without asyncio

            message = f"the outcome of operation {self.name or self._number!r} was asked for before it ended; await it"
            raise InvalidStateError(message)
        self._observed = True
        return self._error

    def add_done_callback(
        self, callback: Callable[[DurableFuture[T_co]], object], *, context: Context | None = None
    ) -> None:
        """Have `callback(self)` called soon after the operation has ended, at once if it has."""
        if self._done:
            self._loop.call_soon(callback, self, context=context)
        else:
            self._callbacks.append((callback, context))

    def remove_done_callback(self, callback: Callable[[DurableFuture[T_co]], object]) -> int:
        """Forget a callback; how many there were."""
        kept = [each for each in self._callbacks if each[0] != callback]
        removed = len(self._callbacks) - len(kept)
        self._callbacks = kept
        return removed

    def close(self) -> None:
        """Nothing; asyncio closes what a task group that is shutting down was given. The operation goes on."""

    # ------------------------------------------------------------------------------------------ for the driver

    @property
    def observed(self) -> bool:
        """Whether anybody has looked at the outcome."""
        return self._observed

    def settle(self, value: Any, error: BaseException | None) -> None:
        """End it; inside the loop."""
        self._done = True
        self._value = value
        self._error = error
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.end()
        callbacks, self._callbacks = self._callbacks, []
        for callback, context in callbacks:
            self._loop.call_soon(callback, self, context=context)
