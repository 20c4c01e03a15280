"""The context object of `async def` workflows."""

from __future__ import annotations

from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from perdure.engine.calls import (
    draw_callback,
    draw_child,
    draw_invoke,
    draw_map,
    draw_parallel,
    draw_step,
    draw_transaction,
    draw_wait,
    draw_wait_for_callback,
    draw_wait_for_condition,
)
from perdure.engine.context import ContextBase
from perdure.engine.operations.callback import callback_result
from perdure.engine.operations.retry import Attempts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from perdure.batch import BatchResult
    from perdure.config import (
        CallbackConfig,
        ChildConfig,
        Duration,
        InvokeConfig,
        MapConfig,
        ParallelBranch,
        ParallelConfig,
        StepConfig,
        WaitForCallbackConfig,
    )
    from perdure.engine.activity import Activity
    from perdure.engine.awaiting import AwaitingDriver
    from perdure.engine.commands import Procedure
    from perdure.engine.future import DurableFuture
    from perdure.engine.ids import Identity
    from perdure.engine.promise import Promise
    from perdure.engine.scope import Scope
    from perdure.retries import WithRetryConfig
    from perdure.serdes import SerDes
    from perdure.types import LambdaContext, StepContext, WaitForCallbackContext, WaitForConditionCheckContext
    from perdure.waits import WaitForConditionConfig

T = TypeVar("T")
U = TypeVar("U")
T_co = TypeVar("T_co", covariant=True)


class AsyncCallback(Generic[T_co]):
    """
    A callback that was created.

    Attributes:
        callback_id: What an external system completes it by.
    """

    def __init__(
        self, context: AsyncDurableContext, identity: Identity, callback_id: str, serdes: SerDes[T_co] | None
    ) -> None:
        self.callback_id = callback_id
        self._context = context
        self._identity = identity
        self._serdes = serdes

    def result(self) -> DurableFuture[T_co | None]:
        """
        What the external system sends, however long that takes.

        Raises:
            CallbackExternalError: On await: the external system reported a failure.
            CallbackTimeoutError: On await: nothing came in time.
        """
        return self._context._callback_result(self._identity, self._serdes)  # noqa: SLF001 - two halves of one thing


class AsyncDurableContext(ContextBase):
    """
    What an `async def` workflow, and the body of every context below it, is given to call its operations on.

    An operation takes its id and starts when it is called; what is returned can be awaited then or later, alone or
    together with others: `await asyncio.gather(context.step(a), context.step(b))`. One that is unfinished when its
    context ends is dropped with a warning.

    The context may be used only by the task it was given to. A helper coroutine in a task of its own may await
    futures, but not call operations; use run_in_child_context, parallel or map for that. Not inside steps, and not in
    the body of a context below it, which has one of its own.
    """

    def __init__(
        self, scope: Scope, driver: AwaitingDriver, activity: Activity, lambda_context: LambdaContext | None = None
    ) -> None:
        super().__init__(scope, lambda_context)
        self._driver = driver
        self._activity = activity

    # -------------------------------------------------------------------------------------------------- operations

    @overload
    def step(
        self, func: Callable[[StepContext], Awaitable[T]], name: str | None = None, config: StepConfig | None = None
    ) -> DurableFuture[T]: ...
    @overload
    def step(
        self, func: Callable[[StepContext], T], name: str | None = None, config: StepConfig | None = None
    ) -> DurableFuture[T]: ...
    def step(
        self, func: Callable[[StepContext], Any], name: str | None = None, config: StepConfig | None = None
    ) -> DurableFuture[Any]:
        """
        Run a function once and record its result.

        Args:
            func: Called with a `StepContext`: a coroutine function on the host's loop, any other in a thread.
            name: For the history.
            config: Retries, semantics and serializer.

        Raises:
            StepError: On await: it failed, and is not tried again.
        """
        return self._parked() or self._start(*draw_step(self._scope, func, name, config))

    @overload
    def transaction(
        self,
        func: Callable[[StepContext, Any], Awaitable[T]],
        name: str | None = None,
        config: StepConfig | None = None,
    ) -> DurableFuture[T]: ...
    @overload
    def transaction(
        self, func: Callable[[StepContext, Any], T], name: str | None = None, config: StepConfig | None = None
    ) -> DurableFuture[T]: ...
    def transaction(
        self, func: Callable[[StepContext, Any], Any], name: str | None = None, config: StepConfig | None = None
    ) -> DurableFuture[Any]:
        """
        Write to the application's own tables, exactly once.

        What `func` writes through the connection is committed in one database transaction with the step's recorded
        result: there is no moment at which one is durable and the other is not. If it raises, or the process dies,
        what it wrote is rolled back, and it is tried again as any step is.

        The connection is that of the backend's driver: `sqlite3.Connection`; `psycopg.Connection`, or
        `psycopg.AsyncConnection` for a coroutine function. It is good for this call, and in a transaction already:
        `func` neither commits nor rolls back, though savepoints may. Keep it short; others may wait for its locks.

        Args:
            func: Called with a `StepContext` and the connection. May be a coroutine function.
            name: For the history.
            config: Retries, semantics and serializer.

        Raises:
            StepError: On await: it failed, and is not tried again.
            TransactionsUnsupportedError: On await: the backend has no transactions; nothing was recorded.
        """
        check = self._driver.check_transactions
        return self._parked() or self._start(*draw_transaction(self._scope, func, name, config, check))

    def wait(self, duration: Duration, name: str | None = None) -> DurableFuture[None]:
        """
        Wait; no process is needed meanwhile.

        Args:
            duration: At least a second.
            name: For the history.
        """
        return self._parked() or self._start(*draw_wait(self._scope, duration, name))

    def create_callback(
        self, name: str | None = None, config: CallbackConfig | None = None
    ) -> DurableFuture[AsyncCallback[Any]]:
        """
        Open a callback, to be completed from outside by its id; ask for `result()` later.

        Args:
            name: For the history.
            config: Timeouts and serializer.
        """
        parked = self._parked()
        if parked is not None:
            return parked
        identity, procedure = draw_callback(self._scope, name, config)
        opened = self._opened(identity, procedure, config.serdes if config else None)
        return self._start(identity, opened, prompt=True)

    def wait_for_callback(
        self,
        submitter: Callable[[str, WaitForCallbackContext], Any],
        name: str | None = None,
        config: WaitForCallbackConfig | None = None,
    ) -> DurableFuture[Any]:
        """
        Open a callback, have `submitter` give its id to an external system, and wait for the result.

        Args:
            submitter: Called, as a step, with the id and a context. May be a coroutine function.
            name: For the history.
            config: Timeouts, serializer, and the retries of the submitter.

        Raises:
            CallbackError: On await: it failed, timed out, or could not be submitted; each has a class of its own.
        """
        return self._parked() or self._start(*draw_wait_for_callback(self._scope, submitter, name, config))

    @overload
    def wait_for_condition(
        self,
        check: Callable[[T, WaitForConditionCheckContext], Awaitable[T]],
        config: WaitForConditionConfig[T],
        name: str | None = None,
    ) -> DurableFuture[T]: ...
    @overload
    def wait_for_condition(
        self,
        check: Callable[[T, WaitForConditionCheckContext], T],
        config: WaitForConditionConfig[T],
        name: str | None = None,
    ) -> DurableFuture[T]: ...
    def wait_for_condition(
        self,
        check: Callable[[Any, WaitForConditionCheckContext], Any],
        config: WaitForConditionConfig[Any],
        name: str | None = None,
    ) -> DurableFuture[Any]:
        """
        Repeat `check` until the wait strategy is content with the state it returns; that is the result.

        Args:
            check: Called with the last state and a context. May be a coroutine function.
            config: First state, strategy and serializer.
            name: For the history.

        Raises:
            WaitForConditionError: On await: the check failed, or its attempts are exhausted.
        """
        return self._parked() or self._start(*draw_wait_for_condition(self._scope, check, config, name))

    def invoke(
        self, function_name: str, payload: U, name: str | None = None, config: InvokeConfig[U, Any] | None = None
    ) -> DurableFuture[Any]:
        """
        Invoke another function and wait for its result.

        Args:
            function_name: `name` or `name:version`.
            payload: Its input.
            name: For the history.
            config: Serializers and tenant.

        Raises:
            InvokeError: On await: it failed, timed out, was stopped or does not exist.
        """
        return self._parked() or self._start(*draw_invoke(self._scope, function_name, payload, name, config))

    def run_in_child_context(
        self,
        func: Callable[[AsyncDurableContext], Awaitable[T]],
        name: str | None = None,
        config: ChildConfig[T] | None = None,
    ) -> DurableFuture[T]:
        """
        Run a function with a context of its own, and record its result as one.

        Args:
            func: Called with the new context, in a task of its own; returns an awaitable.
            name: For the history.
            config: Serializer, summary, and whether it is recorded at all.

        Raises:
            ChildContextError: On await: it failed.
        """
        return self._parked() or self._start(*draw_child(self._scope, func, name, config))

    @overload
    def parallel(
        self,
        functions: Sequence[Callable[[AsyncDurableContext], Awaitable[T]]],
        name: str | None = None,
        config: ParallelConfig | None = None,
    ) -> DurableFuture[BatchResult[T]]: ...
    @overload
    def parallel(
        self,
        functions: Sequence[Callable[[AsyncDurableContext], Awaitable[Any]] | ParallelBranch[Awaitable[Any]]],
        name: str | None = None,
        config: ParallelConfig | None = None,
    ) -> DurableFuture[BatchResult[Any]]: ...
    def parallel(
        self,
        functions: Sequence[Callable[[AsyncDurableContext], Awaitable[Any]] | ParallelBranch[Awaitable[Any]]],
        name: str | None = None,
        config: ParallelConfig | None = None,
    ) -> DurableFuture[BatchResult[Any]]:
        """
        Run functions side by side, each with a context and a task of its own.

        Args:
            functions: Each called with its context; returns an awaitable.
            name: For the history.
            config: Concurrency, when it is over, serializers.
        """
        return self._parked() or self._start(*draw_parallel(self._scope, functions, name, config))

    def map(
        self,
        inputs: Sequence[U],
        func: Callable[[AsyncDurableContext, U, int, Sequence[U]], Awaitable[T]],
        name: str | None = None,
        config: MapConfig[U] | None = None,
    ) -> DurableFuture[BatchResult[T]]:
        """
        Run a function for each input side by side, each with a context and a task of its own.

        Args:
            inputs: What to map.
            func: Called with context, input, index and all inputs; returns an awaitable.
            name: For the history.
            config: Concurrency, when it is over, serializers, names.
        """
        return self._parked() or self._start(*draw_map(self._scope, inputs, func, name, config))

    @property
    def promise(self) -> Promise:
        """Combinators of futures: `all`, `any`, `race`, `all_settled`."""
        from perdure.engine.promise import Promise  # noqa: PLC0415 - `perdure.durable` loads without asyncio

        return Promise(self._scope, self._driver, self._start)

    # ---------------------------------------------------------------------------------------------------- the driver

    def _enter(self) -> None:
        self._driver.enter(self._scope)

    def _parked(self) -> DurableFuture[Any] | None:
        return self._driver.enter(self._scope)

    def _start(self, identity: Identity, procedure: Procedure[Any], *, prompt: bool = False) -> DurableFuture[Any]:
        received = partial(self._scope.received, identity)
        return self._driver.start(self._activity, self._scope, identity, procedure, received, prompt=prompt)

    def _opened(
        self, identity: Identity, procedure: Procedure[str], serdes: SerDes[Any] | None
    ) -> Procedure[AsyncCallback[Any]]:
        callback_id = yield from procedure
        return AsyncCallback(self, identity, callback_id, serdes)

    def _callback_result(self, identity: Identity, serdes: SerDes[Any] | None) -> DurableFuture[Any]:
        parked = self._parked()
        if parked is not None:
            return parked
        scope = self._scope
        procedure = callback_result(scope, identity, serdes)
        return self._driver.start(self._activity, scope, identity, procedure, partial(scope.answered, identity))


def with_retry(
    context: AsyncDurableContext,
    func: Callable[[AsyncDurableContext, int], Any],
    config: WithRetryConfig[Any],
    name: str | None = None,
) -> Awaitable[Any]:
    """
    `with_retry` for `async def` workflows.

    Args:
        context: Where to run it.
        func: Called with a context and the attempt, from 1; returns an awaitable.
        config: Strategy, and whether the attempts share a child context.
        name: For the history.

    Returns:
        A future; without a child context a coroutine, to be awaited in the context's own task.
    """

    async def attempts(inner: AsyncDurableContext) -> Any:
        attempts = Attempts(config.retry_strategy, name)
        while True:
            try:
                outcome = func(inner, attempts.attempt)
                return await outcome if isawaitable(outcome) else outcome
            except Exception as error:
                backoff = attempts.backoff(error)
                if backoff is None:
                    raise
            await inner.wait(*backoff)

    if not config.wrap_with_run_in_child_context:
        return attempts(context)
    return context.run_in_child_context(attempts, name=name, config=config.child_context_config)
