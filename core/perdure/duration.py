"""How durations are written in workflows: whole seconds, as the wire has them."""

from __future__ import annotations

from typing import Any

import attrs

from perdure.errors import ValidationError
from perdure.value import Value

_MINUTE = 60
_HOUR = 60 * _MINUTE
DAY_SECONDS = 24 * _HOUR
LONGEST_SECONDS = 366 * DAY_SECONDS
"""The longest execution, wait and delay before a retry (protocol.md §2)."""
DEFAULT_RETENTION_DAYS = 14
"""How long an execution is kept after its end, unless its function says otherwise."""


@attrs.frozen(eq=False, repr=False)
class Duration(Value):
    """
    A duration in whole seconds.

    The `from_` constructors take fractions and drop what is below a second.

    Raises:
        ValidationError: If it is negative.
    """

    seconds: int = 0

    def __attrs_post_init__(self) -> None:
        if self.seconds < 0:
            raise ValidationError(f"a duration is {self.seconds!r} seconds; it may not be negative")

    def to_seconds(self) -> int:
        """In seconds."""
        return self.seconds

    @classmethod
    def from_seconds(cls, value: float) -> Duration:
        """So many seconds."""
        return cls(int(value))

    @classmethod
    def from_minutes(cls, value: float) -> Duration:
        """So many minutes."""
        return cls(int(value * _MINUTE))

    @classmethod
    def from_hours(cls, value: float) -> Duration:
        """So many hours."""
        return cls(int(value * _HOUR))

    @classmethod
    def from_days(cls, value: float) -> Duration:
        """So many days."""
        return cls(int(value * DAY_SECONDS))


def check_duration(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Refuse what is none; a validator of attrs."""
    require_duration(attribute.name, value)


def require_duration(what: str, value: object) -> None:
    """
    Refuse what is none.

    Raises:
        ValidationError: It is something else; the message says `what` it is.
    """
    if not isinstance(value, Duration):
        raise ValidationError(f"{what} is {value!r}; use a Duration, such as Duration.from_minutes(5)")
