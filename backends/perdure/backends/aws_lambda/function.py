"""How a deployed function is called."""

from __future__ import annotations

import re
from typing import Self

import attrs

from perdure.errors import ValidationError

LATEST = "$LATEST"
LONGEST = 256
FORMS = "name, name:qualifier, account:function:name or an ARN"

_IDENTIFIER = re.compile(
    r"(?P<place>(?:arn:[a-z-]+:lambda:(?P<region>[a-z0-9-]+):)?(?P<account>\d{12}):function:)?"
    r"(?P<name>[A-Za-z0-9_.-]+)"
    r"(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[A-Za-z0-9_-]+))?",
    re.ASCII,
)


@attrs.frozen
class LambdaFunction:
    """
    A function of Lambda (protocol.md §2).

    Attributes:
        name: Bare.
        qualifier: A version or an alias, or None.
        place: What stands before the name in an ARN or a part of one.
        region: That of an ARN, or None.
    """

    name: str
    qualifier: str | None = None
    place: str = ""
    region: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Read a function identifier.

        Raises:
            ValidationError: It is none.
        """
        match = _IDENTIFIER.fullmatch(text) if len(text) <= LONGEST else None
        if match is None:
            raise ValidationError(
                f"{text!r} names no function of AWS Lambda, which is written as {FORMS}, with a qualifier such as "
                "'$LATEST', in single quotes where a shell reads it"
            )
        return cls(match["name"], match["qualifier"], match["place"] or "", match["region"])

    @property
    def unqualified(self) -> str:
        """As the API takes it beside a qualifier."""
        return self.place + self.name

    def __str__(self) -> str:
        return f"{self.unqualified}:{self.qualifier}" if self.qualifier else self.unqualified
