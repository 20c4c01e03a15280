"""The decisions of with_retry and of batches, which repeat operations with back-off waits between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.duration import Duration
from perdure.engine.ids import named
from perdure.errors import ContextMisuseError, ExecutionError, InvocationError
from perdure.retries import create_retry_strategy, decided

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.retries import RetryDecision


class Attempts:
    """
    Counts the attempts of one block of operations, and decides on the next.

    Attributes:
        attempt: The one that runs, from 1.
    """

    def __init__(
        self, strategy: Callable[[Exception, int], RetryDecision] | None, name: str | None, whose: str | None = None
    ) -> None:
        self._strategy = strategy or create_retry_strategy()
        self._name = name
        self._whose = whose or named("with_retry", name)
        self.attempt = 1

    def backoff(self, error: Exception) -> tuple[Duration, str | None] | None:
        """How long to wait before the next attempt, and under which name; None if there is none."""
        if isinstance(error, (ContextMisuseError, ExecutionError, InvocationError)):
            return None
        decision = decided(self._strategy, error, self.attempt, self._whose)
        if not decision.should_retry:
            return None
        delay = decision.delay if decision.delay_seconds >= 1 else Duration.from_seconds(1)
        name = f"{self._name}-backoff-{self.attempt}" if self._name else None
        self.attempt += 1
        return delay, name
