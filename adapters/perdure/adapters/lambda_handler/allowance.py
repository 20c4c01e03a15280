"""The time that an invocation of AWS Lambda has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.errors import OutOfTimeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.duration import Duration

_SHARE, _MOST = 10, 2000
"""For what comes last: this part of the time an invocation has at its beginning, and at most so many milliseconds."""


class Allowance:
    """How much of an invocation's time is left, and whether that is enough to begin something."""

    def __init__(self, reserve: Duration | None, lambda_context: Any) -> None:
        """
        Args:
            reserve: With no more than that left no body begins; None for the default.
            lambda_context: As Lambda gives it; without one, time has no end.
        """
        self._remaining: Callable[[], int] | None = getattr(lambda_context, "get_remaining_time_in_millis", None)
        self._margin = 0 if self._remaining is None else min(self._remaining() // _SHARE, _MOST)
        self._reserve = self._margin if reserve is None else reserve.to_seconds() * 1000

    def grace(self) -> float | None:
        """Seconds that may be spent with waiting; None without an end. As `Settings.grace`."""
        return None if self._remaining is None else max(0, self._remaining() - self._margin) / 1000

    @property
    def is_over(self) -> bool:
        """Whether there is nothing to wait for any more."""
        return self.grace() == 0

    def refusal(self) -> Exception | None:
        """Why no body may begin now, if none may; as `Settings.refusal`."""
        if self._remaining is None or (left := self._remaining()) > self._reserve:
            return None
        return OutOfTimeError(
            f"{left} ms of the invocation are left and {self._reserve} ms are reserved, so no further step begins in "
            "it, and the service is to invoke again; give the function a longer Timeout, or reserve less with "
            "@durable_execution(time_reserve=…)"
        )
