"""
What the author of a workflow imports.

    from perdure.durable import DurableContext, Duration, durable_execution

    @durable_execution
    def order(event: dict, context: DurableContext) -> dict:
        paid = context.step(lambda _: charge(event["card"]), name="charge")
        context.wait(Duration.from_days(1), name="cool-off")
        return {"paid": paid}

The names are those of AWS's Python SDK. Importing this loads neither asyncio nor cattrs: on AWS Lambda a cold start
pays for every import.
"""

from __future__ import annotations

import functools
import os
from importlib import import_module
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypedDict, TypeVar, Unpack, overload

from perdure import values
from perdure.batch import BatchCompletionError, BatchItem, BatchResult, CompletionReason
from perdure.config import (
    BatchItemStatus,
    CallbackConfig,
    ChildConfig,
    CompletionConfig,
    CompletionDecision,
    CompletionItemStatus,
    CompletionOutcome,
    CompletionStatus,
    Duration,
    InvokeConfig,
    JitterStrategy,
    MapConfig,
    NestingType,
    ParallelBranch,
    ParallelConfig,
    StepConfig,
    StepSemantics,
    WaitForCallbackConfig,
    complete_batch,
    continue_batch,
)
from perdure.duration import DAY_SECONDS, DEFAULT_RETENTION_DAYS, require_duration
from perdure.engine.context import Callback, DurableContext, ExecutionContext
from perdure.engine.operations.retry import Attempts
from perdure.errors import (
    CallbackError,
    CallbackExternalError,
    CallbackSubmitterError,
    CallbackTimeoutError,
    ChildContextError,
    ContextMisuseError,
    DurableExecutionsError,
    DurableOperationError,
    ExecutionError,
    InvocationError,
    InvokeError,
    NonDeterministicExecutionError,
    NotDurableError,
    PayloadTooLargeError,
    PluginLoadError,
    RetryableSerDesError,
    SerDesError,
    StepError,
    ValidationError,
    WaitForConditionError,
)
from perdure.retries import (
    LinearRetryStrategyConfig,
    RetryDecision,
    RetryPresets,
    RetryStrategyConfig,
    WithRetryConfig,
    create_linear_retry_strategy,
    create_retry_strategy,
)
from perdure.types import StepContext, WaitForCallbackContext, WaitForConditionCheckContext
from perdure.waits import WaitForConditionConfig, WaitForConditionDecision, WaitStrategyConfig, create_wait_strategy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from perdure.engine.async_context import AsyncCallback, AsyncDurableContext
    from perdure.engine.future import DurableFuture
    from perdure.engine.observer import Observe
    from perdure.engine.promise import Settled
    from perdure.types import LambdaContext

__all__ = [
    "AsyncCallback",
    "AsyncDurableContext",
    "BatchCompletionError",
    "BatchItem",
    "BatchItemStatus",
    "BatchResult",
    "Callback",
    "CallbackConfig",
    "CallbackError",
    "CallbackExternalError",
    "CallbackSubmitterError",
    "CallbackTimeoutError",
    "ChildConfig",
    "ChildContextError",
    "CompletionConfig",
    "CompletionDecision",
    "CompletionItemStatus",
    "CompletionOutcome",
    "CompletionReason",
    "CompletionStatus",
    "ContextMisuseError",
    "DurableContext",
    "DurableExecutionsError",
    "DurableFunction",
    "DurableFuture",
    "DurableOperationError",
    "Duration",
    "ExecutionContext",
    "ExecutionError",
    "InvocationError",
    "InvokeConfig",
    "InvokeError",
    "JitterStrategy",
    "LinearRetryStrategyConfig",
    "MapConfig",
    "NestingType",
    "NonDeterministicExecutionError",
    "NotDurableError",
    "ParallelBranch",
    "ParallelConfig",
    "PayloadTooLargeError",
    "PluginLoadError",
    "RetryDecision",
    "RetryPresets",
    "RetryStrategyConfig",
    "RetryableSerDesError",
    "SerDesError",
    "Settled",
    "StepConfig",
    "StepContext",
    "StepError",
    "StepSemantics",
    "ValidationError",
    "WaitForCallbackConfig",
    "WaitForCallbackContext",
    "WaitForConditionCheckContext",
    "WaitForConditionConfig",
    "WaitForConditionDecision",
    "WaitForConditionError",
    "WaitStrategyConfig",
    "WithRetryConfig",
    "complete_batch",
    "continue_batch",
    "create_linear_retry_strategy",
    "create_retry_strategy",
    "create_wait_strategy",
    "durable_execution",
    "durable_parallel_branch",
    "durable_step",
    "durable_wait_for_callback",
    "durable_with_child_context",
    "with_retry",
]

_ASYNC = {
    "AsyncCallback": "perdure.engine.async_context",
    "AsyncDurableContext": "perdure.engine.async_context",
    "DurableFuture": "perdure.engine.future",
    "Settled": "perdure.engine.promise",
}

I = TypeVar("I")  # noqa: E741 - input and output, as users read it in `DurableFunction[I, O]`
O = TypeVar("O")  # noqa: E741
T = TypeVar("T")
C = TypeVar("C")
P = ParamSpec("P")


def __getattr__(name: str) -> Any:
    """What needs asyncio is loaded when it is asked for; so is what the distribution tells."""
    if name in _ASYNC:
        return getattr(import_module(_ASYNC[name]), name)
    if name == "__version__":
        return import_module("importlib.metadata").version("perdure")
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)


# ------------------------------------------------------------------------------------------------------- workflows


class DurableFunction(Generic[I, O]):
    """
    A workflow function: what a worker registers, what a client starts, and what AWS Lambda calls.

    Attributes:
        func: The function as it was written.
        name: What it is started by.
        version: Executions go on in the version they began with.
        execution_timeout: How long an execution may take in all; None for no limit.
        retention: How long an execution is kept after its end; None for the default of 14 days.
        is_async: Whether it is an `async def`.
        boto3_client: A `lambda` client to use on AWS, or None.
        plugins: As given.
        observe: Make the observers of an invocation.
        time_reserve: On AWS Lambda no further step begins when so little of an invocation's time is left; None for a
            tenth of the time it had, at most 2 s.
    """

    def __init__(
        self,
        func: Callable[[I, Any], O] | Callable[[I, Any], Awaitable[O]],
        *,
        name: str | None = None,
        version: str = "$LATEST",
        execution_timeout: Duration | None = None,
        retention: Duration | int | None = None,
        boto3_client: Any = None,
        plugins: Sequence[Any] | None = None,
        time_reserve: Duration | None = None,
    ) -> None:
        if not callable(func):
            raise ValidationError(f"{func!r} is no function; @durable_execution makes a workflow of one")
        for option, given in (("execution_timeout", execution_timeout), ("time_reserve", time_reserve)):
            if given is not None:
                require_duration(option, given)
        self.func: Callable[[I, Any], Any] = func
        own_name: str = getattr(func, "__name__", type(func).__name__)
        self.name = name or own_name
        self.version = version
        self.execution_timeout = execution_timeout
        self.retention = Duration.from_days(retention) if isinstance(retention, int) else retention
        self.is_async = iscoroutinefunction(func)
        self.boto3_client = boto3_client
        self.plugins = tuple(plugins or ())
        self.observe: tuple[Observe, ...] = _observe(self.plugins)
        self.time_reserve = time_reserve
        functools.update_wrapper(self, func)
        if getattr(func, "__module__", "") == os.environ.get("_HANDLER", "/.").rpartition(".")[0].replace("/", "."):
            # AWS Lambda loads this module: it does so with more CPU, or earlier, than the first invocation has.
            _ = self._handler

    def __repr__(self) -> str:
        return f"<DurableFunction {self.name!r} version {self.version!r}>"

    def __call__(self, event: Any, lambda_context: LambdaContext | None) -> Any:
        """
        Handle one invocation by AWS Lambda.

        Args:
            event: The invocation input.
            lambda_context: As Lambda gives it.

        Raises:
            ValidationError: The event is no invocation input.
            DurableExecutionsError: The invocation ended uncleanly, or boto3 is not installed.
        """
        return self._handler(event, lambda_context)

    @property
    def timeout_seconds(self) -> int | None:
        """`execution_timeout` in seconds, None for no limit."""
        return None if self.execution_timeout is None else self.execution_timeout.to_seconds()

    @property
    def retention_days(self) -> int:
        """`retention` in days, rounded up."""
        return DEFAULT_RETENTION_DAYS if self.retention is None else -(-self.retention.to_seconds() // DAY_SECONDS)

    @functools.cached_property
    def input_type(self) -> object:
        """The annotation of the input, None if there is none."""
        return values.edge_types(self.func)[0]

    @functools.cached_property
    def output_type(self) -> object:
        """The annotation of the result, None if there is none."""
        return values.edge_types(self.func)[1]

    @functools.cached_property
    def _handler(self) -> Callable[[Any, Any], Any]:
        # By its name and not by an entry point: to look that up takes as long as all of this module, and packages for
        # Lambda often lack what it is looked up in.
        handler: Callable[[Any, Any], Any] = import_module("perdure.adapters.lambda_handler").handler(self)
        return handler


def require_function(function: object) -> None:
    """
    Refuse what is no durable function.

    Raises:
        ValidationError: It is something else.
    """
    if not isinstance(function, DurableFunction):
        raise ValidationError(f"{function!r} is no durable function; decorate it with @durable_execution")


def _observe(plugins: Sequence[Any]) -> tuple[Observe, ...]:
    if not plugins and not os.environ.get("DURABLE_EXECUTION_PLUGINS"):
        return ()
    from perdure.plugin import observe_with  # noqa: PLC0415 - few functions have plugins

    return (observe_with(plugins),)


class _Options(TypedDict, total=False):
    name: str | None
    version: str
    execution_timeout: Duration | None
    retention: Duration | int | None
    boto3_client: Any
    plugins: Sequence[Any] | None
    time_reserve: Duration | None


@overload
def durable_execution(
    func: Callable[[I, AsyncDurableContext], Awaitable[O]], **options: Unpack[_Options]
) -> DurableFunction[I, O]: ...


@overload
def durable_execution(func: Callable[[I, DurableContext], O], **options: Unpack[_Options]) -> DurableFunction[I, O]: ...


@overload
def durable_execution(func: None = None, **options: Unpack[_Options]) -> _Decorator: ...


def durable_execution(func: Callable[[Any, Any], Any] | None = None, **options: Unpack[_Options]) -> Any:
    """
    Make a workflow of a function of (event, context).

    Args:
        func: A `def` or an `async def`; its context is a `DurableContext` or an `AsyncDurableContext`.
        **options: `name` (default: the function's), `version`, `execution_timeout`, `retention` (a duration, or days),
            `boto3_client`, `plugins` and `time_reserve`.
    """
    if func is not None:
        return DurableFunction(func, **options)
    return functools.partial(DurableFunction, **options)


if TYPE_CHECKING:
    from typing import Protocol

    class _Decorator(Protocol):
        @overload
        def __call__(self, func: Callable[[I, AsyncDurableContext], Awaitable[O]]) -> DurableFunction[I, O]: ...

        @overload
        def __call__(self, func: Callable[[I, DurableContext], O]) -> DurableFunction[I, O]: ...

        def __call__(self, func: Any) -> Any: ...


# ------------------------------------------------------------------------------------------------- named functions


def durable_step(func: Callable[Concatenate[StepContext, P], T]) -> Callable[P, Callable[[StepContext], T]]:
    """Make a function of a step context and more into one that takes the rest and gives a named step."""

    def bind(*args: P.args, **kwargs: P.kwargs) -> Callable[[StepContext], T]:
        return _named(lambda context: func(context, *args, **kwargs), func)

    return functools.wraps(func)(bind)


def durable_with_child_context(func: Callable[Concatenate[C, P], T]) -> Callable[P, Callable[[C], T]]:
    """The same for the body of a child context."""

    def bind(*args: P.args, **kwargs: P.kwargs) -> Callable[[C], T]:
        return _named(lambda context: func(context, *args, **kwargs), func)

    return functools.wraps(func)(bind)


def durable_parallel_branch(
    name: str | None = None,
) -> Callable[[Callable[Concatenate[C, P], T]], Callable[P, ParallelBranch[T]]]:
    """
    The same for a branch of `parallel`.

    Args:
        name: Of the branch in the history; `parallel-branch-<index>` if None.
    """

    def decorate(func: Callable[Concatenate[C, P], T]) -> Callable[P, ParallelBranch[T]]:
        def bind(*args: P.args, **kwargs: P.kwargs) -> ParallelBranch[T]:
            return ParallelBranch(func=_named(lambda context: func(context, *args, **kwargs), func), name=name)

        return functools.wraps(func)(bind)

    return decorate


def durable_wait_for_callback(
    func: Callable[Concatenate[str, WaitForCallbackContext, P], T],
) -> Callable[P, Callable[[str, WaitForCallbackContext], T]]:
    """The same for the submitter of a `wait_for_callback`."""

    def bind(*args: P.args, **kwargs: P.kwargs) -> Callable[[str, WaitForCallbackContext], T]:
        return _named(lambda callback_id, context: func(callback_id, context, *args, **kwargs), func)

    return functools.wraps(func)(bind)


F = TypeVar("F", bound="Callable[..., Any]")


def _named(bound: F, func: Callable[..., Any]) -> F:
    bound._original_name = getattr(func, "__name__", None)  # type: ignore[attr-defined]  # noqa: SLF001 - AWS's name
    bound._original_is_async = iscoroutinefunction(func)  # type: ignore[attr-defined]  # noqa: SLF001 - ours
    return bound


# ------------------------------------------------------------------------------------------------------- with_retry


@overload
def with_retry(
    context: AsyncDurableContext,
    func: Callable[[AsyncDurableContext, int], Awaitable[T]],
    config: WithRetryConfig[T],
    name: str | None = None,
) -> Awaitable[T]: ...


@overload
def with_retry(
    context: DurableContext,
    func: Callable[[DurableContext, int], T],
    config: WithRetryConfig[T],
    name: str | None = None,
) -> T: ...


def with_retry(
    context: Any, func: Callable[[Any, int], Any], config: WithRetryConfig[Any], name: str | None = None
) -> Any:
    """
    Repeat a block of operations until it succeeds, with back-off waits between.

    Args:
        context: Where the block belongs.
        func: Called with a context and the attempt, from 1.
        config: The retry strategy, and whether the block gets a child context; by default it does.
        name: Of the child context; the waits are called `<name>-backoff-<attempt>`.

    Raises:
        ChildContextError: The last attempt failed. Without a child context its error is raised as it is.
    """
    if not isinstance(context, DurableContext):
        from perdure.engine.async_context import with_retry as with_retry_async  # noqa: PLC0415 - loads asyncio

        return with_retry_async(context, func, config, name)

    def attempts(inner: DurableContext) -> Any:
        count = Attempts(config.retry_strategy, name)
        while True:
            try:
                return func(inner, count.attempt)
            except Exception as error:
                backoff = count.backoff(error)
                if backoff is None:
                    raise
            inner.wait(*backoff)

    if config.wrap_with_run_in_child_context:
        return context.run_in_child_context(attempts, name, config.child_context_config)
    return attempts(context)
