"""
Whether and when a failed attempt is made again.

A retry strategy is a callable of (error, attempts made) that answers a `RetryDecision`; the functions here make the
usual ones.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Generic, TypeVar

import attrs

from perdure.config import JitterStrategy, check_strategy, require_decision
from perdure.duration import Duration, check_duration
from perdure.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perdure.config import ChildConfig

__all__ = [
    "LinearRetryStrategyConfig",
    "RetryDecision",
    "RetryPresets",
    "RetryStrategyConfig",
    "WithRetryConfig",
    "create_linear_retry_strategy",
    "create_retry_strategy",
]

_T = TypeVar("_T")


@attrs.frozen(eq=False, repr=False)
class RetryDecision(Value):
    """What a retry strategy answers; `delay` counts only with `should_retry`."""

    should_retry: bool
    delay: Duration = attrs.field(validator=check_duration)

    @property
    def delay_seconds(self) -> int:
        """`delay` in seconds."""
        return self.delay.to_seconds()

    @classmethod
    def retry(cls, delay: Duration) -> RetryDecision:
        """Try again after `delay`."""
        return cls(should_retry=True, delay=delay)

    @classmethod
    def no_retry(cls) -> RetryDecision:
        """Give up."""
        return cls(should_retry=False, delay=Duration())


def decided(
    strategy: Callable[[Exception, int], RetryDecision], error: Exception, attempt: int, whose: str
) -> RetryDecision:
    """
    Ask a strategy.

    Args:
        strategy: Of the author.
        error: Of the last attempt.
        attempt: Its number, from 1.
        whose: Which operation's it is, in an author's words.

    Raises:
        ValidationError: It answers something else than a decision.
    """
    ways = "RetryDecision.retry(delay) or RetryDecision.no_retry()"
    return require_decision(strategy(error, attempt), RetryDecision, f"the retry strategy of {whose}", ways)


@attrs.frozen(eq=False, repr=False)
class RetryStrategyConfig(Value):
    """
    Exponential back-off.

    Attributes:
        max_attempts: The first one included.
        initial_delay: After the first attempt, before jitter.
        max_delay: At most, before jitter.
        backoff_rate: Factor from one delay to the next.
        jitter_strategy: How delays are drawn at random.
        retryable_errors: Retry errors whose message contains one of these texts or matches one of these patterns.
        retryable_error_types: Retry errors of these types. With neither of the two, all errors are retried.
    """

    max_attempts: int = 3
    initial_delay: Duration = attrs.field(default=Duration(5), validator=check_duration)
    max_delay: Duration = attrs.field(default=Duration(300), validator=check_duration)
    backoff_rate: float = 2.0
    jitter_strategy: JitterStrategy = JitterStrategy.FULL
    retryable_errors: Sequence[str | re.Pattern[str]] | None = None
    retryable_error_types: Sequence[type[Exception]] | None = None

    @property
    def initial_delay_seconds(self) -> int:
        """`initial_delay` in seconds."""
        return self.initial_delay.to_seconds()

    @property
    def max_delay_seconds(self) -> int:
        """`max_delay` in seconds."""
        return self.max_delay.to_seconds()


@attrs.frozen(eq=False, repr=False)
class LinearRetryStrategyConfig(Value):
    """
    Delays that grow by a constant.

    Attributes:
        max_attempts: The first one included.
        initial_delay: After the first attempt, before jitter.
        increment: From one delay to the next.
        max_delay: At most, before jitter.
        jitter_strategy, retryable_errors, retryable_error_types: As for `RetryStrategyConfig`.
    """

    max_attempts: int = 6
    initial_delay: Duration = attrs.field(default=Duration(1), validator=check_duration)
    increment: Duration = attrs.field(default=Duration(1), validator=check_duration)
    max_delay: Duration = attrs.field(default=Duration(300), validator=check_duration)
    jitter_strategy: JitterStrategy = JitterStrategy.FULL
    retryable_errors: Sequence[str | re.Pattern[str]] | None = None
    retryable_error_types: Sequence[type[Exception]] | None = None

    @property
    def initial_delay_seconds(self) -> int:
        """`initial_delay` in seconds."""
        return self.initial_delay.to_seconds()

    @property
    def increment_seconds(self) -> int:
        """`increment` in seconds."""
        return self.increment.to_seconds()

    @property
    def max_delay_seconds(self) -> int:
        """`max_delay` in seconds."""
        return self.max_delay.to_seconds()


def create_retry_strategy(config: RetryStrategyConfig | None = None) -> Callable[[Exception, int], RetryDecision]:
    """A strategy whose delays grow exponentially."""
    config = config or RetryStrategyConfig()

    def base_delay(attempts_made: int) -> float:
        try:
            growth = config.backoff_rate ** (attempts_made - 1)
        except OverflowError:
            return config.max_delay_seconds
        return min(config.initial_delay_seconds * growth, config.max_delay_seconds)

    return _strategy(config, base_delay)


def create_linear_retry_strategy(
    config: LinearRetryStrategyConfig | None = None,
) -> Callable[[Exception, int], RetryDecision]:
    """A strategy whose delays grow linearly."""
    config = config or LinearRetryStrategyConfig()

    def base_delay(attempts_made: int) -> float:
        delay = config.initial_delay_seconds + config.increment_seconds * (attempts_made - 1)
        return min(delay, config.max_delay_seconds)

    return _strategy(config, base_delay)


def _strategy(
    config: RetryStrategyConfig | LinearRetryStrategyConfig, base_delay: Callable[[int], float]
) -> Callable[[Exception, int], RetryDecision]:
    def retry_strategy(error: Exception, attempts_made: int) -> RetryDecision:
        if attempts_made >= config.max_attempts or not _is_retryable(error, config):
            return RetryDecision.no_retry()
        return RetryDecision.retry(Duration(config.jitter_strategy.finalize_delay(base_delay(attempts_made))))

    return retry_strategy


def _is_retryable(error: Exception, config: RetryStrategyConfig | LinearRetryStrategyConfig) -> bool:
    if config.retryable_errors is None and config.retryable_error_types is None:
        return True
    if isinstance(error, tuple(config.retryable_error_types or ())):
        return True
    message = str(error)
    return any(
        bool(pattern.search(message)) if isinstance(pattern, re.Pattern) else pattern in message
        for pattern in config.retryable_errors or ()
    )


class RetryPresets:
    """Retry strategies for the usual cases."""

    @classmethod
    def none(cls) -> Callable[[Exception, int], RetryDecision]:
        """One attempt."""
        return create_retry_strategy(RetryStrategyConfig(max_attempts=1))

    @classmethod
    def default(cls) -> Callable[[Exception, int], RetryDecision]:
        """What steps have without a strategy of their own: six attempts, from 5 seconds to a minute."""
        return create_retry_strategy(RetryStrategyConfig(max_attempts=6, max_delay=Duration(60)))

    @classmethod
    def transient(cls) -> Callable[[Exception, int], RetryDecision]:
        """For errors that pass quickly: three attempts."""
        return create_retry_strategy(RetryStrategyConfig(jitter_strategy=JitterStrategy.HALF))

    @classmethod
    def resource_availability(cls) -> Callable[[Exception, int], RetryDecision]:
        """For what takes minutes to become available: five attempts."""
        return create_retry_strategy(RetryStrategyConfig(max_attempts=5))

    @classmethod
    def critical(cls) -> Callable[[Exception, int], RetryDecision]:
        """For what must succeed: ten attempts, from one second to a minute, without jitter."""
        return create_retry_strategy(
            RetryStrategyConfig(
                max_attempts=10,
                initial_delay=Duration(1),
                max_delay=Duration(60),
                backoff_rate=1.5,
                jitter_strategy=JitterStrategy.NONE,
            )
        )

    @classmethod
    def linear(cls) -> Callable[[Exception, int], RetryDecision]:
        """Six attempts, 1, 2, 3, 4 and 5 seconds apart."""
        return create_linear_retry_strategy(LinearRetryStrategyConfig(jitter_strategy=JitterStrategy.NONE))

    @classmethod
    def fixed(cls, interval: Duration | None = None) -> Callable[[Exception, int], RetryDecision]:
        """Five attempts, `interval` apart, 5 seconds unless given."""
        delay = Duration(5) if interval is None else interval
        return create_retry_strategy(
            RetryStrategyConfig(
                max_attempts=5,
                initial_delay=delay,
                max_delay=delay,
                backoff_rate=1,
                jitter_strategy=JitterStrategy.NONE,
            )
        )


@attrs.frozen(eq=False, repr=False)
class WithRetryConfig(Value, Generic[_T]):
    """
    Configuration of `with_retry`; `_T` is the type of the result.

    Attributes:
        retry_strategy: Decides after a failed attempt; None: `create_retry_strategy()`.
        wrap_with_run_in_child_context: Run the attempts in a child context, whose `ChildContextError` is then what
            the last failure raises; otherwise that failure itself.
        child_context_config: For that child context.
    """

    retry_strategy: Callable[[Exception, int], RetryDecision] | None = attrs.field(
        default=None, validator=check_strategy
    )
    wrap_with_run_in_child_context: bool = True
    child_context_config: ChildConfig[_T] | None = None
