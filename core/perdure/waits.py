"""
Whether and when a condition is checked again.

A wait strategy is a callable of (state, attempts made) that answers a `WaitForConditionDecision`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from perdure.config import JitterStrategy, check_strategy
from perdure.duration import Duration, check_duration
from perdure.errors import WaitForConditionError
from perdure.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.serdes import SerDes

__all__ = ["WaitForConditionConfig", "WaitForConditionDecision", "WaitStrategyConfig", "create_wait_strategy"]

_T = TypeVar("_T")


@attrs.frozen(eq=False, repr=False)
class WaitStrategyConfig(Value, Generic[_T]):
    """
    Polling with exponential back-off; `_T` is the type of the state.

    Attributes:
        should_continue_polling: Whether this state is not yet the one waited for.
        max_attempts: Checks at most.
        initial_delay: After the first check, before jitter.
        max_delay: At most, before jitter.
        backoff_rate: Factor from one delay to the next.
        jitter_strategy: How delays are drawn at random.
    """

    should_continue_polling: Callable[[_T], bool]
    max_attempts: int = 60
    initial_delay: Duration = attrs.field(default=Duration(5), validator=check_duration)
    max_delay: Duration = attrs.field(default=Duration(300), validator=check_duration)
    backoff_rate: float = 1.5
    jitter_strategy: JitterStrategy = JitterStrategy.FULL

    @property
    def initial_delay_seconds(self) -> int:
        """`initial_delay` in seconds."""
        return self.initial_delay.to_seconds()

    @property
    def max_delay_seconds(self) -> int:
        """`max_delay` in seconds."""
        return self.max_delay.to_seconds()


@attrs.frozen(eq=False, repr=False)
class WaitForConditionDecision(Value):
    """What a wait strategy answers; `delay` counts only with `should_continue`."""

    should_continue: bool
    delay: Duration = attrs.field(validator=check_duration)

    @property
    def delay_seconds(self) -> int:
        """`delay` in seconds."""
        return self.delay.to_seconds()

    @classmethod
    def continue_waiting(cls, delay: Duration) -> WaitForConditionDecision:
        """Check again after `delay`."""
        return cls(should_continue=True, delay=delay)

    @classmethod
    def stop_polling(cls) -> WaitForConditionDecision:
        """The condition is met."""
        return cls(should_continue=False, delay=Duration())


def create_wait_strategy(config: WaitStrategyConfig[_T]) -> Callable[[_T, int], WaitForConditionDecision]:
    """
    A strategy whose delays grow exponentially.

    It raises `WaitForConditionError` when the last attempt's state is not the one waited for.
    """

    def wait_strategy(state: _T, attempts_made: int) -> WaitForConditionDecision:
        # A condition met by the last attempt is met, so this comes first.
        if not config.should_continue_polling(state):
            return WaitForConditionDecision.stop_polling()
        if attempts_made >= config.max_attempts:
            raise WaitForConditionError(
                f"the condition is not met after {attempts_made!r} attempts of at most {config.max_attempts!r}; "
                "raise max_attempts if it may take longer"
            )
        try:
            growth = config.backoff_rate ** (attempts_made - 1)
            base_delay = min(config.initial_delay_seconds * growth, config.max_delay_seconds)
        except OverflowError:
            base_delay = config.max_delay_seconds
        return WaitForConditionDecision.continue_waiting(Duration(config.jitter_strategy.finalize_delay(base_delay)))

    return wait_strategy


@attrs.frozen(eq=False, repr=False)
class WaitForConditionConfig(Value, Generic[_T]):
    """
    Configuration of `wait_for_condition`; `_T` is the type of the state.

    Attributes:
        wait_strategy: Decides after each check.
        initial_state: What the first check is given, after a round trip through `serdes` like every later state.
        serdes: For the state.
    """

    wait_strategy: Callable[[_T, int], WaitForConditionDecision] = attrs.field(validator=check_strategy)
    initial_state: _T
    serdes: SerDes[Any] | None = None
