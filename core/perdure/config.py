"""
How operations are configured: what `config=` takes.

Names, defaults and positional order are those of AWS's Python SDK; every class is immutable. A `sub_type` is the label
an operation has in history; changing it breaks executions in flight, as replay compares it.
"""

from __future__ import annotations

import math
import random
import re
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from perdure.duration import LONGEST_SECONDS, Duration, check_duration
from perdure.errors import ValidationError
from perdure.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.retries import RetryDecision
    from perdure.serdes import SerDes
    from perdure.types import SummaryGenerator

__all__ = [
    "BatchItemStatus",
    "CallbackConfig",
    "ChildConfig",
    "CompletionConfig",
    "CompletionDecision",
    "CompletionItemStatus",
    "CompletionOutcome",
    "CompletionStatus",
    "Duration",
    "InvokeConfig",
    "JitterStrategy",
    "MapConfig",
    "NestingType",
    "ParallelBranch",
    "ParallelConfig",
    "StepConfig",
    "StepSemantics",
    "WaitForCallbackConfig",
    "complete_batch",
    "continue_batch",
]

_P = TypeVar("_P")
_R = TypeVar("_R")
_T = TypeVar("_T")
_D = TypeVar("_D")

_SUB_TYPE = re.compile(r"[A-Za-z0-9_-]{1,32}")
_PERCENT = 100


def _check_sub_type(_: object, __: object, sub_type: str | None) -> None:
    if sub_type and not _SUB_TYPE.fullmatch(sub_type):
        raise ValidationError(f"sub_type is {sub_type!r}; use 1 to 32 characters of A-Z, a-z, 0-9, '-' and '_'")


def _check_timeout(_: object, attribute: attrs.Attribute[Any], timeout: Duration | None) -> None:
    if timeout is None:
        return
    check_duration(None, attribute, timeout)
    if not 1 <= timeout.to_seconds() <= LONGEST_SECONDS:
        raise ValidationError(f"timeout is {timeout!r}; use a second to 366 days, or None for no limit")


def check_strategy(_: object, attribute: attrs.Attribute[Any], strategy: object) -> None:
    """Refuse what can decide nothing; a validator of attrs."""
    name = attribute.name
    if not callable(strategy) and (strategy is not None or attribute.default is attrs.NOTHING):
        raise ValidationError(f"{name} is {strategy!r}; use a callable, such as what create_{name}() makes")


def require_decision(answer: object, kind: type[_D], whose: str, ways: str) -> _D:
    """
    Refuse what a strategy or a predicate cannot answer.

    Args:
        answer: What it has returned.
        kind: What it was to return.
        whose: What has returned it, in an author's words.
        ways: How a decision of this kind is made.

    Raises:
        ValidationError: It is something else.
    """
    if not isinstance(answer, kind):
        raise ValidationError(f"{whose} returned {answer!r}, where a {kind.__name__} was expected; use {ways}")
    return answer


def _check_function(_: object, attribute: attrs.Attribute[Any], function: object) -> None:
    if not callable(function):
        raise ValidationError(f"{attribute.name} is {function!r}; pass the function itself, without calling it")


def _check_max_concurrency(_: object, __: object, max_concurrency: int | None) -> None:
    if max_concurrency is not None and max_concurrency < 1:
        raise ValidationError(f"max_concurrency is {max_concurrency!r}; use at least 1, or None for no limit")


# ------------------------------------------------------------------------------------------------------------ batches


class NestingType(Enum):
    """
    Whether every branch of a parallel or map has a context of its own in the record.

    NESTED records one: history shows each branch as an operation. FLAT leaves it out: fewer operations, and history
    shows only what the branches did. Nor does it show in which order FLAT branches have ended: as long as the batch is
    not over, a replay of a `def` workflow may count them in another. A `should_complete` to which that matters wants
    NESTED.
    """

    NESTED = "NESTED"
    FLAT = "FLAT"


class BatchItemStatus(Enum):
    """Where one branch stands; STARTED is begun and not finished when its batch ended."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STARTED = "STARTED"


class CompletionOutcome(Enum):
    """What a batch that a predicate completed counts as, whatever its items did."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


@attrs.frozen(eq=False, repr=False)
class CompletionDecision(Value):
    """
    What a `should_complete` predicate answers; made by `continue_batch()` and `complete_batch()`.

    Attributes:
        complete: Whether the batch ends now.
        outcome: As what; set exactly when `complete` is.
    """

    complete: bool
    outcome: CompletionOutcome | None = None

    def __attrs_post_init__(self) -> None:
        if self.complete and self.outcome is None:
            raise ValidationError("a decision that completes the batch has no outcome; use complete_batch(outcome)")
        if not self.complete and self.outcome is not None:
            raise ValidationError(
                f"a decision that continues the batch has the outcome {self.outcome!r}; use continue_batch()"
            )


def continue_batch() -> CompletionDecision:
    """Go on with the batch."""
    return CompletionDecision(complete=False)


def complete_batch(outcome: CompletionOutcome = CompletionOutcome.SUCCEEDED) -> CompletionDecision:
    """End the batch now."""
    return CompletionDecision(complete=True, outcome=outcome)


@attrs.frozen(eq=False, repr=False)
class CompletionItemStatus(Value):
    """One branch as a predicate sees it; `status` is None before it was started."""

    index: int
    name: str | None = None
    status: BatchItemStatus | None = None


@attrs.frozen(eq=False, repr=False)
class CompletionStatus(Value):
    """
    The progress of a batch as a predicate sees it.

    Attributes:
        success_count, failure_count: Branches that ended so.
        completed_count: The sum of both.
        total_count: All branches, also those not started.
        items: All of them, `items[i]` being branch i.
    """

    success_count: int
    failure_count: int
    completed_count: int
    total_count: int
    items: tuple[CompletionItemStatus, ...] = ()


@attrs.frozen(eq=False, repr=False)
class CompletionConfig(Value):
    """
    When a parallel or map is over, besides when all its branches are (protocol.md §10.6).

    With nothing set, one failure ends the batch.

    Attributes:
        min_successful: End it when so many have succeeded.
        tolerated_failure_count: End it when more than so many have failed.
        tolerated_failure_percentage: End it when more than this part, 0 to 100, of all branches has failed.
        should_complete: Asked instead of the three above: once before the first branch starts, then whenever a
            branch's state has changed. It must depend on nothing but the status it is given, and more progress must
            not turn an end into a continuation: on replay it may see other partial states than it saw live.
    """

    min_successful: int | None = None
    tolerated_failure_count: int | None = None
    tolerated_failure_percentage: float | None = None
    should_complete: Callable[[CompletionStatus], CompletionDecision] | None = None

    def __attrs_post_init__(self) -> None:
        if self.min_successful is not None and self.min_successful < 1:
            raise ValidationError(f"min_successful is {self.min_successful!r}; use at least 1")
        if self.tolerated_failure_count is not None and self.tolerated_failure_count < 0:
            raise ValidationError(f"tolerated_failure_count is {self.tolerated_failure_count!r}; use at least 0")
        percentage = self.tolerated_failure_percentage
        if percentage is not None and not 0 <= percentage <= _PERCENT:
            raise ValidationError(f"tolerated_failure_percentage is {percentage!r}; use 0 to 100")
        if self.should_complete is None:
            return
        if not callable(self.should_complete):
            raise ValidationError(f"should_complete is {self.should_complete!r}; use a callable")
        thresholds = (self.min_successful, self.tolerated_failure_count, percentage)
        if any(threshold is not None for threshold in thresholds):
            raise ValidationError(
                "should_complete is given together with min_successful, tolerated_failure_count or "
                "tolerated_failure_percentage; let the predicate look at the counts instead"
            )

    def validate_for_total(self, total: int, batch: str = "the batch") -> None:
        """
        Check this against the number of branches it is used for, before anything is recorded.

        Args:
            total: Of branches.
            batch: What to call the operation in the message.

        Raises:
            ValidationError: If so many can never succeed.
        """
        if self.min_successful is not None and self.min_successful > total:
            raise ValidationError(
                f"min_successful is {self.min_successful!r}, but {batch} has only {total!r} branches; "
                "use at most so many"
            )

    @staticmethod
    def first_successful() -> CompletionConfig:
        """One success is enough; failures end nothing."""
        return CompletionConfig(min_successful=1)

    @staticmethod
    def all_completed() -> CompletionConfig:
        """Run all branches, however many fail."""
        return CompletionConfig(tolerated_failure_percentage=_PERCENT)

    @staticmethod
    def all_successful() -> CompletionConfig:
        """The first failure ends the batch."""
        return CompletionConfig(tolerated_failure_count=0, tolerated_failure_percentage=0)


@attrs.frozen(eq=False, repr=False)
class ParallelConfig(Value):
    """
    Configuration of `parallel`.

    Attributes:
        max_concurrency: So many branches unfinished at a time; None: all.
        completion_config: When it is over; by default the first failure ends it.
        serdes: For the `BatchResult`, and for the branches' results unless `item_serdes` is given.
        item_serdes: For the branches' results.
        summary_generator: Makes the text that history shows in place of a result too large to store; the result is
            then rebuilt from the branches. What it raises fails the operation.
        nesting_type: Whether branches are recorded as contexts of their own.
        timeout: How long all branches together may take, counted by the service from before the first one starts.
            Then the batch ends as TIMED_OUT: what has finished keeps its outcome, the rest is left as STARTED and
            records nothing any more. A body that runs is not cut off, but its outcome is dropped.
        retry_strategy: Asked when the batch has ended with a failed branch, or as a whole has failed or timed out,
            with the error that `throw_if_error()` raises and the attempts made. Then all of it is done again, with
            fresh branches and, if there is a `timeout`, all of that; the result is that of the last attempt.
    """

    max_concurrency: int | None = attrs.field(default=None, validator=_check_max_concurrency)
    completion_config: CompletionConfig = attrs.field(factory=CompletionConfig.all_successful)
    serdes: SerDes[Any] | None = None
    item_serdes: SerDes[Any] | None = None
    summary_generator: SummaryGenerator[Any] | None = None
    nesting_type: NestingType = NestingType.NESTED
    timeout: Duration | None = attrs.field(default=None, kw_only=True, validator=_check_timeout)
    retry_strategy: Callable[[Exception, int], RetryDecision] | None = attrs.field(
        default=None, kw_only=True, validator=check_strategy
    )


@attrs.frozen(eq=False, repr=False)
class ParallelBranch(Value, Generic[_T]):
    """A branch with a name of its own in history, instead of `parallel-branch-<index>`."""

    func: Callable[..., _T] = attrs.field(validator=_check_function)
    name: str | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> _T:
        """What `func` returns for these arguments."""
        return self.func(*args, **kwargs)


@attrs.frozen(eq=False, repr=False)
class MapConfig(Value, Generic[_T]):
    """
    Configuration of `map`; `_T` is the type of the items.

    Attributes:
        max_concurrency: So many items unfinished at a time; None: all.
        completion_config: When it is over; by default the first failure ends it.
        serdes: For the `BatchResult`, and for the items' results unless `item_serdes` is given.
        item_serdes: For the items' results.
        summary_generator: As for `ParallelConfig`.
        nesting_type: Whether items are recorded as contexts of their own.
        item_namer: Names the context of (item, index), instead of `map-item-<index>`. Called for every item when the
            map begins, and again on replay, so it must answer the same. What it raises fails the operation.
        timeout: As for `ParallelConfig`.
        retry_strategy: As for `ParallelConfig`.
    """

    max_concurrency: int | None = attrs.field(default=None, validator=_check_max_concurrency)
    completion_config: CompletionConfig = attrs.field(factory=CompletionConfig)
    serdes: SerDes[Any] | None = None
    item_serdes: SerDes[Any] | None = None
    summary_generator: SummaryGenerator[Any] | None = None
    nesting_type: NestingType = NestingType.NESTED
    item_namer: Callable[[_T, int], str] | None = None
    timeout: Duration | None = attrs.field(default=None, kw_only=True, validator=_check_timeout)
    retry_strategy: Callable[[Exception, int], RetryDecision] | None = attrs.field(
        default=None, kw_only=True, validator=check_strategy
    )


# --------------------------------------------------------------------------------------------------- single operations


class StepSemantics(Enum):
    """
    How often one attempt of a step may run its function.

    AT_LEAST_ONCE_PER_RETRY: an interrupted attempt runs again. AT_MOST_ONCE_PER_RETRY: its start is durable before
    the function runs, and an interrupted attempt fails with `StepInterruptedError` and goes to the retry strategy.
    """

    AT_MOST_ONCE_PER_RETRY = "AT_MOST_ONCE_PER_RETRY"
    AT_LEAST_ONCE_PER_RETRY = "AT_LEAST_ONCE_PER_RETRY"


@attrs.frozen(eq=False, repr=False)
class StepConfig(Value):
    """
    Configuration of `step`.

    Attributes:
        retry_strategy: Decides after a failed attempt, given the error and the attempts made; None: the default.
        step_semantics: How often one attempt may run.
        serdes: For the result.
        sub_type: Label in history; None: `Step`.
    """

    retry_strategy: Callable[[Exception, int], RetryDecision] | None = attrs.field(
        default=None, validator=check_strategy
    )
    step_semantics: StepSemantics = StepSemantics.AT_LEAST_ONCE_PER_RETRY
    serdes: SerDes[Any] | None = None
    sub_type: str | None = attrs.field(default=None, kw_only=True, validator=_check_sub_type)


@attrs.frozen(eq=False, repr=False)
class ChildConfig(Value, Generic[_T]):
    """
    Configuration of `run_in_child_context`; `_T` is the type of its result.

    Attributes:
        serdes: For the result.
        sub_type: Label in history; None: `RunInChildContext`.
        summary_generator: Makes what is stored in place of a result too large to store; the result is then rebuilt
            by running the function over its recorded operations.
        is_virtual: Record no context: the operations inside are shown below the caller's.
    """

    serdes: SerDes[_T] | None = None
    sub_type: str | None = attrs.field(default=None, validator=_check_sub_type)
    summary_generator: SummaryGenerator[_T] | None = None
    is_virtual: bool = False


@attrs.frozen(eq=False, repr=False)
class InvokeConfig(Value, Generic[_P, _R]):
    """
    Configuration of `invoke`; `_P` and `_R` are the types of payload and result.

    Attributes:
        serdes_payload: For what is sent; None: plain JSON.
        serdes_result: For what comes back; None: plain JSON.
        tenant_id: The tenant on whose behalf the function runs.
    """

    serdes_payload: SerDes[_P] | None = None
    serdes_result: SerDes[_R] | None = None
    tenant_id: str | None = None


@attrs.frozen(eq=False, repr=False)
class CallbackConfig(Value):
    """
    Configuration of `create_callback`.

    Attributes:
        timeout: How long to wait for the result; zero: for ever.
        heartbeat_timeout: How long to wait between heartbeats; zero: for ever.
        serdes: For the result; None: it is the text that was sent.
        sub_type: Label in history; None: `Callback`.
    """

    timeout: Duration = attrs.field(factory=Duration, validator=check_duration)
    heartbeat_timeout: Duration = attrs.field(factory=Duration, validator=check_duration)
    serdes: SerDes[Any] | None = None
    sub_type: str | None = attrs.field(default=None, kw_only=True, validator=_check_sub_type)

    @property
    def timeout_seconds(self) -> int:
        """`timeout` in seconds."""
        return self.timeout.to_seconds()

    @property
    def heartbeat_timeout_seconds(self) -> int:
        """`heartbeat_timeout` in seconds."""
        return self.heartbeat_timeout.to_seconds()


@attrs.frozen(eq=False, repr=False)
class WaitForCallbackConfig(CallbackConfig):
    """
    Configuration of `wait_for_callback`; `sub_type` labels the callback, not the context around it.

    Attributes:
        retry_strategy: For the submitter.
    """

    retry_strategy: Callable[[Exception, int], RetryDecision] | None = attrs.field(
        default=None, validator=check_strategy
    )


# -------------------------------------------------------------------------------------------------------------- jitter


class JitterStrategy(StrEnum):
    """How far a delay is drawn at random below its length: not, anywhere, or at most to half of it."""

    NONE = "NONE"
    FULL = "FULL"
    HALF = "HALF"

    def apply_jitter(self, delay: float) -> float:
        """The delay to use, in the unit of `delay`."""
        match self:
            case JitterStrategy.NONE:
                return delay
            case JitterStrategy.HALF:
                return delay / 2 + random.random() * (delay / 2)  # noqa: S311 - spreads load, hides nothing
            case JitterStrategy.FULL:
                return random.random() * delay  # noqa: S311

    def finalize_delay(self, base_delay: float) -> int:
        """The delay to use in whole seconds, rounded up, at least 1."""
        return max(1, math.ceil(self.apply_jitter(base_delay)))
