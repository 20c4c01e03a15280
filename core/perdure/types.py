"""What user functions are given, and the shapes they may give back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import attrs

from perdure.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from perdure.config import CallbackConfig, ChildConfig, MapConfig, ParallelBranch, ParallelConfig, StepConfig
    from perdure.duration import Duration

_T = TypeVar("_T")
_U = TypeVar("_U")
_T_co = TypeVar("_T_co", covariant=True)
_T_contra = TypeVar("_T_contra", contravariant=True)


class LoggerInterface(Protocol):
    """What a custom logger must have; `logging.Logger` does."""

    def debug(self, msg: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
        """Log with level DEBUG."""
        ...

    def info(self, msg: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
        """Log with level INFO."""
        ...

    def warning(self, msg: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
        """Log with level WARNING."""
        ...

    def error(self, msg: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
        """Log with level ERROR."""
        ...

    def exception(self, msg: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
        """Log with level ERROR and the exception being handled."""
        ...


@attrs.frozen(eq=False, repr=False)
class OperationContext(Value):
    """What every function below an operation is given."""

    logger: LoggerInterface


@attrs.frozen(eq=False, repr=False)
class StepContext(OperationContext):
    """
    What the function of a step is given.

    Attributes:
        logger: Enriched with the step's name, id and attempt.
        attempt: From 1.
        idempotency_key: The same for every attempt of this step and for no other step; hand it to systems that
            accept one, so that a repeated attempt has no second effect.
    """

    attempt: int
    idempotency_key: str = ""


@attrs.frozen(eq=False, repr=False)
class WaitForCallbackContext(OperationContext):
    """What the submitter of a `wait_for_callback` is given beside the callback's id."""


@attrs.frozen(eq=False, repr=False)
class WaitForConditionCheckContext(OperationContext):
    """
    What the check of a `wait_for_condition` is given beside the state.

    Attributes:
        attempt: From 1.
    """

    attempt: int


class Callback(Protocol[_T_co]):
    """A callback that is open until somebody outside completes it."""

    @property
    def callback_id(self) -> str:
        """What the outside must name."""
        ...

    def result(self) -> _T_co | None:
        """Wait for the completion; raises `CallbackError` if it is a failure, or none comes in time."""
        ...


class BatchResult(Protocol[_T]):
    """What a parallel or map answers, as far as AWS's protocol has it; `perdure.batch.BatchResult` is all of it."""

    def get_results(self) -> list[_T]:
        """The results of the branches that succeeded."""
        ...


class DurableContext(Protocol):
    """What a workflow is given, as far as AWS's protocol has it; `perdure.durable.DurableContext` is all of it."""

    def step(self, func: Callable[[StepContext], _T], name: str | None = None, config: StepConfig | None = None) -> _T:
        """Run a function and record its result."""
        ...

    def run_in_child_context(
        self,
        func: Callable[[Any], _T],
        name: str | None = None,
        config: ChildConfig[_T] | None = None,
    ) -> _T:
        """Run a function with a context of its own."""
        ...

    def map(
        self,
        inputs: Sequence[_U],
        func: Callable[[Any, _U, int, Sequence[_U]], _T],
        name: str | None = None,
        config: MapConfig[_U] | None = None,
    ) -> BatchResult[_T]:
        """Run a function for every item, concurrently."""
        ...

    def parallel(
        self,
        functions: Sequence[Callable[[Any], _T] | ParallelBranch[_T]],
        name: str | None = None,
        config: ParallelConfig | None = None,
    ) -> BatchResult[_T]:
        """Run functions concurrently."""
        ...

    def wait(self, duration: Duration, name: str | None = None) -> None:
        """Let time pass."""
        ...

    def create_callback(self, name: str | None = None, config: CallbackConfig | None = None) -> Callback[Any]:
        """Open a callback."""
        ...


class SummaryGenerator(Protocol[_T_contra]):
    """Makes a short text of a result that is too large to store."""

    def __call__(self, result: _T_contra) -> str:
        """The text for `result`."""
        ...


class LambdaContext(Protocol):
    """The context object that AWS Lambda gives to a handler."""

    aws_request_id: str
    log_group_name: str | None
    log_stream_name: str | None
    function_name: str | None
    memory_limit_in_mb: str | None
    function_version: str | None
    invoked_function_arn: str | None
    tenant_id: str | None
    client_context: Any | None
    identity: Any | None

    def get_remaining_time_in_millis(self) -> int:
        """Until Lambda ends the invocation."""
        ...

    def log(self, msg: object) -> None:
        """Write to the function's log."""
        ...


_ARN = re.compile(
    r"arn:([^:]*):lambda:([^:]*):([^:]*):function:([^:/]+):([^:/]+)/durable-execution/([^/]+)/([^/]+)", re.ASCII
)


@attrs.frozen(eq=False, repr=False)
class DurableExecutionArn(Value):
    """
    The ARN of an execution, taken apart (protocol.md §2).

    Attributes:
        function_name, function_version: What it runs.
        execution_name: Unique within the function.
        execution_id: Unique.
        partition, region, account: `perdure`, `local` and zeros on own stores.
    """

    function_name: str
    function_version: str
    execution_name: str
    execution_id: str
    partition: str = "perdure"
    region: str = "local"
    account: str = "000000000000"

    @classmethod
    def from_arn(cls, arn: str) -> Self | None:
        """The parts of `arn`, or None if it is not that of an execution."""
        if (match := _ARN.fullmatch(arn)) is None:
            return None
        partition, region, account, function, version, name, execution_id = match.groups()
        return cls(function, version, name, execution_id, partition, region, account)

    @property
    def invocation_id(self) -> str:
        """AWS's name for `execution_id`."""
        return self.execution_id

    @property
    def arn(self) -> str:
        """As one text; `from_arn` of it is equal to this."""
        return (
            f"arn:{self.partition}:lambda:{self.region}:{self.account}"
            f":function:{self.function_name}:{self.function_version}"
            f"/durable-execution/{self.execution_name}/{self.execution_id}"
        )

    def __str__(self) -> str:
        return self.arn
