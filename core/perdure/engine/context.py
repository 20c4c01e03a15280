"""The context object of `def` workflows, and what it shares with the one of `async def` workflows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, overload

import attrs

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
from perdure.engine.operations.callback import callback_result
from perdure.engine.scope import ACTIVE, Scope
from perdure.errors import ContextMisuseError
from perdure.value import Value

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime
    from random import Random
    from uuid import UUID

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
    from perdure.engine.blocking import BlockingDriver
    from perdure.engine.ids import Identity
    from perdure.logger import Logger
    from perdure.serdes import SerDes
    from perdure.types import (
        LambdaContext,
        LoggerInterface,
        StepContext,
        WaitForCallbackContext,
        WaitForConditionCheckContext,
    )
    from perdure.waits import WaitForConditionConfig

T = TypeVar("T")
U = TypeVar("U")
T_co = TypeVar("T_co", covariant=True)


@attrs.frozen(eq=False, repr=False)
class ExecutionContext(Value):
    """
    Of which execution a context is.

    Attributes:
        durable_execution_arn: Its ARN.
    """

    durable_execution_arn: str


class ContextBase:
    """
    What a context of either colour can tell.

    Attributes:
        execution_context: Of which execution it is.
        lambda_context: What AWS Lambda gave the handler; None elsewhere.
    """

    def __init__(self, scope: Scope, lambda_context: LambdaContext | None) -> None:
        self._scope = scope
        self.execution_context = ExecutionContext(scope.replay.arn)
        self.lambda_context = lambda_context

    def _enter(self) -> None:
        """Check that the caller may use this context."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------------- inspection

    @property
    def execution_id(self) -> str:
        """The id of the execution, the last part of its ARN."""
        return self._scope.replay.execution_id

    def is_replaying(self) -> bool:
        """Whether the code is still before the point that an earlier invocation had reached."""
        return self._scope.replaying

    # ---------------------------------------------------------------------------------------------------- logging

    @property
    def logger(self) -> Logger:
        """Logs what is not replayed, with the execution and the context in the record."""
        return self._scope.logger

    def set_logger(self, new_logger: LoggerInterface) -> None:
        """Log to `new_logger` from here on, in this context and those below it."""
        self.configure_logger(custom_logger=new_logger)

    def configure_logger(self, *, custom_logger: LoggerInterface | None = None, mode_aware: bool | None = None) -> None:
        """
        Change how this context and those below it log.

        Args:
            custom_logger: Where to log; None leaves it.
            mode_aware: Whether records are dropped while replaying; None leaves it.
        """
        self._scope.logger = self._scope.logger.configured(custom_logger, mode_aware)

    # ------------------------------------------------------------------------------------------ values, replayable

    def now(self) -> datetime:
        """The time at which the last operation received here ended, or the execution began; equal on replay."""
        return self._scope.now()

    def uuid4(self) -> UUID:
        """A random UUID; equal on replay."""
        self._enter()
        return self._scope.uuid4()

    def random(self) -> Random:
        """A random number generator, seeded anew by each call; equal on replay. Not for secrets."""
        self._enter()
        return self._scope.random()


class Callback(Generic[T_co]):
    """
    A callback that was created.

    Attributes:
        callback_id: What an external system completes it by.
    """

    def __init__(
        self, driver: BlockingDriver, scope: Scope, identity: Identity, callback_id: str, serdes: SerDes[T_co] | None
    ) -> None:
        self.callback_id = callback_id
        self._driver = driver
        self._scope = scope
        self._identity = identity
        self._serdes = serdes

    def result(self) -> T_co | None:
        """
        Wait for the result, however long that takes; also in the body of a context below the one that made it.

        Raises:
            CallbackExternalError: The external system reported a failure.
            CallbackTimeoutError: Nothing came in time.
        """
        # It takes no id, so whichever strand asks may wait for it.
        active = ACTIVE.get()
        if not isinstance(active, Scope) or active.replay is not self._scope.replay:
            active = self._scope
        self._driver.enter(active)
        procedure = callback_result(active, self._identity, self._serdes)
        try:
            return self._driver.perform(procedure, active.run)  # type: ignore[no-any-return]
        finally:
            active.answered(self._identity)


class DurableContext(ContextBase):
    """
    What a `def` workflow, and the body of every context below it, is given to call its operations on.

    It may be used only by the code it was given to: not from other threads, not inside steps, not in the body of a
    context below it, which has one of its own.
    """

    def __init__(self, scope: Scope, driver: BlockingDriver, lambda_context: LambdaContext | None = None) -> None:
        super().__init__(scope, lambda_context)
        self._driver = driver

    def _enter(self) -> None:
        self._driver.enter(self._scope)

    @overload
    def step(
        self, func: Callable[[StepContext], Awaitable[T]], name: str | None = None, config: StepConfig | None = None
    ) -> T: ...

    @overload
    def step(
        self, func: Callable[[StepContext], T], name: str | None = None, config: StepConfig | None = None
    ) -> T: ...

    def step(
        self, func: Callable[[StepContext], Any], name: str | None = None, config: StepConfig | None = None
    ) -> Any:
        """
        Run a function once and record its result.

        Args:
            func: Called with a `StepContext`. May be a coroutine function.
            name: For the history.
            config: Retries, semantics and serializer.

        Raises:
            StepError: It failed, and is not tried again.
        """
        self._driver.enter(self._scope)
        return self._driver.operate(self._scope, *draw_step(self._scope, func, name, config))

    @overload
    def transaction(
        self,
        func: Callable[[StepContext, Any], Awaitable[T]],
        name: str | None = None,
        config: StepConfig | None = None,
    ) -> T: ...

    @overload
    def transaction(
        self, func: Callable[[StepContext, Any], T], name: str | None = None, config: StepConfig | None = None
    ) -> T: ...

    def transaction(
        self, func: Callable[[StepContext, Any], Any], name: str | None = None, config: StepConfig | None = None
    ) -> Any:
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
            StepError: It failed, and is not tried again.
            TransactionsUnsupportedError: The backend has no transactions; nothing was recorded.
        """
        driver = self._driver
        driver.enter(self._scope)
        drawn = draw_transaction(self._scope, func, name, config, driver.check_transactions)
        return driver.operate(self._scope, *drawn)

    def wait(self, duration: Duration, name: str | None = None) -> None:
        """
        Wait; no process is needed meanwhile.

        Args:
            duration: At least a second.
            name: For the history.
        """
        self._driver.enter(self._scope)
        self._driver.operate(self._scope, *draw_wait(self._scope, duration, name))

    def create_callback(self, name: str | None = None, config: CallbackConfig | None = None) -> Callback[Any]:
        """
        Open a callback, to be completed from outside by its id; ask for `result()` later.

        Args:
            name: For the history.
            config: Timeouts and serializer.
        """
        self._driver.enter(self._scope)
        identity, procedure = draw_callback(self._scope, name, config)
        callback_id = self._driver.operate(self._scope, identity, procedure)
        return Callback(self._driver, self._scope, identity, callback_id, config.serdes if config else None)

    def wait_for_callback(
        self,
        submitter: Callable[[str, WaitForCallbackContext], Any],
        name: str | None = None,
        config: WaitForCallbackConfig | None = None,
    ) -> Any:
        """
        Open a callback, have `submitter` give its id to an external system, and wait for the result.

        Args:
            submitter: Called, as a step, with the id and a context. May be a coroutine function.
            name: For the history.
            config: Timeouts, serializer, and the retries of the submitter.

        Raises:
            CallbackError: It failed, timed out, or could not be submitted; each has a class of its own.
        """
        self._driver.enter(self._scope)
        return self._driver.operate(self._scope, *draw_wait_for_callback(self._scope, submitter, name, config))

    @overload
    def wait_for_condition(
        self,
        check: Callable[[T, WaitForConditionCheckContext], Awaitable[T]],
        config: WaitForConditionConfig[T],
        name: str | None = None,
    ) -> T: ...

    @overload
    def wait_for_condition(
        self,
        check: Callable[[T, WaitForConditionCheckContext], T],
        config: WaitForConditionConfig[T],
        name: str | None = None,
    ) -> T: ...

    def wait_for_condition(
        self,
        check: Callable[[Any, WaitForConditionCheckContext], Any],
        config: WaitForConditionConfig[Any],
        name: str | None = None,
    ) -> Any:
        """
        Repeat `check` until the wait strategy is content with the state it returns; return that.

        Args:
            check: Called with the last state and a context. May be a coroutine function.
            config: First state, strategy and serializer.
            name: For the history.

        Raises:
            WaitForConditionError: The check failed, or its attempts are exhausted.
        """
        self._driver.enter(self._scope)
        return self._driver.operate(self._scope, *draw_wait_for_condition(self._scope, check, config, name))

    def invoke(
        self, function_name: str, payload: U, name: str | None = None, config: InvokeConfig[U, Any] | None = None
    ) -> Any:
        """
        Invoke another function and wait for its result.

        Args:
            function_name: `name` or `name:version`.
            payload: Its input.
            name: For the history.
            config: Serializers and tenant.

        Raises:
            InvokeError: It failed, timed out, was stopped or does not exist.
        """
        self._driver.enter(self._scope)
        return self._driver.operate(self._scope, *draw_invoke(self._scope, function_name, payload, name, config))

    def run_in_child_context(
        self, func: Callable[[DurableContext], T], name: str | None = None, config: ChildConfig[T] | None = None
    ) -> T:
        """
        Run a function with a context of its own, and record its result as one.

        Args:
            func: Called with the new context.
            name: For the history.
            config: Serializer, summary, and whether it is recorded at all.

        Raises:
            ChildContextError: It failed.
        """
        self._driver.enter(self._scope)
        result: T = self._driver.operate(self._scope, *draw_child(self._scope, func, name, config))
        return result

    @overload
    def parallel(
        self,
        functions: Sequence[Callable[[DurableContext], T]],
        name: str | None = None,
        config: ParallelConfig | None = None,
    ) -> BatchResult[T]: ...

    @overload
    def parallel(
        self,
        functions: Sequence[Callable[[DurableContext], Any] | ParallelBranch[Any]],
        name: str | None = None,
        config: ParallelConfig | None = None,
    ) -> BatchResult[Any]: ...

    def parallel(
        self,
        functions: Sequence[Callable[[DurableContext], Any] | ParallelBranch[Any]],
        name: str | None = None,
        config: ParallelConfig | None = None,
    ) -> BatchResult[Any]:
        """
        Run functions side by side, each with a context of its own.

        Args:
            functions: Each called with its context.
            name: For the history.
            config: Concurrency, when it is over, serializers.
        """
        self._driver.enter(self._scope)
        return self._driver.operate(self._scope, *draw_parallel(self._scope, functions, name, config))

    def map(
        self,
        inputs: Sequence[U],
        func: Callable[[DurableContext, U, int, Sequence[U]], T],
        name: str | None = None,
        config: MapConfig[U] | None = None,
    ) -> BatchResult[T]:
        """
        Run a function for each input side by side, each with a context of its own.

        Args:
            inputs: What to map.
            func: Called with context, input, index and all inputs.
            name: For the history.
            config: Concurrency, when it is over, serializers, names.
        """
        self._driver.enter(self._scope)
        return self._driver.operate(self._scope, *draw_map(self._scope, inputs, func, name, config))

    @property
    def promise(self) -> NoReturn:
        """Only `async def` workflows have combinators of futures."""
        message = "context.promise combines the futures of `async def` workflows; use parallel in a `def` workflow"
        raise ContextMisuseError(message)
