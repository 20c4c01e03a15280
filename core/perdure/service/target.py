"""What the function name of a start or a chained invoke means on a store of one's own."""

from __future__ import annotations

import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING

import attrs

from perdure.errors import InvalidParameterValueError
from perdure.service.patience import patiently

if TYPE_CHECKING:
    from perdure.storage import Function, Store

ACCOUNT = "000000000000"
REGION = "local"
LATEST = "$LATEST"
TRUSTED_FOR = 1.0
"""Seconds for which a lookup that found something is not repeated."""

_IDENTIFIER = re.compile(
    r"(?:(?:arn:(?P<partition>[^:]+):lambda:(?P<region>[^:]+):)?(?P<account>[^:]+):function:)?"
    r"(?P<name>[A-Za-z0-9_.-]+)(?::(?P<qualifier>\$?[A-Za-z0-9_.-]+))?"
)


@attrs.frozen
class FunctionIdentifier:
    """A function's name and, where given, its version."""

    name: str
    qualifier: str | None = None

    @classmethod
    @lru_cache(maxsize=256)
    def parse(cls, text: str) -> FunctionIdentifier:
        """
        Read `name`, `name:qualifier`, `account:function:name[:qualifier]` or a full ARN (protocol.md §2).

        Raises:
            InvalidParameterValueError: It is none of these, or names another account or region (protocol.md §8).
        """
        match = _IDENTIFIER.fullmatch(text)
        if match is None or len(text) > 256:  # noqa: PLR2004 - protocol.md §2
            raise InvalidParameterValueError(f"Invalid function ARN '{text}'; write name, name:version or a full ARN")
        if match["account"] not in (None, ACCOUNT):
            raise InvalidParameterValueError(
                "Cannot start a CHAINED_INVOKE on a function in another account. "
                f"Functions of this store have the account {ACCOUNT}; write the name alone"
            )
        if match["region"] not in (None, REGION):
            raise InvalidParameterValueError(
                "Cannot start a CHAINED_INVOKE on a function in another region. "
                f"Functions of this store have the region {REGION!r}; write the name alone"
            )
        return cls(match["name"], match["qualifier"])


class Registry:
    """The functions that workers have registered in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._found: dict[str, tuple[float, list[Function]]] = {}

    async def find(self, identifier: FunctionIdentifier) -> Function | None:
        """The function's version that was asked for, else the one registered last; None if there is none."""
        until, versions = self._found.get(identifier.name, (0.0, []))
        if until >= time.monotonic() and (found := _choose(versions, identifier.qualifier)) is not None:
            return found
        versions = await patiently(lambda: self._store.functions(identifier.name))
        if versions:
            self._found[identifier.name] = time.monotonic() + TRUSTED_FOR, versions
        return _choose(versions, identifier.qualifier)

    def forget(self) -> None:
        """Functions were registered: look again at once."""
        self._found.clear()


def _choose(versions: list[Function], qualifier: str | None) -> Function | None:
    if qualifier is None:
        return versions[-1] if versions else None
    return next((function for function in versions if function.version == qualifier), None)
