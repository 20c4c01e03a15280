"""What a client is asked for, before the backend says what that means there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from perdure.duration import require_duration
from perdure.errors import ValidationError
from perdure.model import ExecutionStatus
from perdure.values import dump

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perdure.desk.answer import Cursor
    from perdure.durable import DurableFunction
    from perdure.duration import Duration

LONGEST_PAGE = 1000


@attrs.frozen(kw_only=True)
class StartWish:
    """
    An execution to be started.

    Attributes:
        function: A durable function, or the name of one.
        input: JSON text.
        name, version, execution_timeout, retention_days: As `Client.start` was given them.
    """

    function: DurableFunction[Any, Any] | str
    input: str
    name: str | None
    version: str | None
    execution_timeout: Duration | None
    retention_days: int | None


@attrs.frozen(kw_only=True)
class ListWish:
    """A page of executions, as `Client.list` was asked for it; `statuses` as they are shown, or empty for all."""

    function: DurableFunction[Any, Any] | str | None
    statuses: frozenset[ExecutionStatus]
    name: str | None
    limit: int
    oldest_first: bool
    cursor: Cursor | None


def start_wish(
    function: DurableFunction[Any, Any] | str,
    input: Any,
    name: str | None,
    version: str | None,
    execution_timeout: Duration | None,
    retention_days: int | None,
) -> StartWish:
    """Raises ValidationError or SerDesError: What was given is no durable function, no duration, or not JSON."""
    if not isinstance(function, str):
        from perdure.durable import require_function  # noqa: PLC0415 - who has only a name needs no engine

        require_function(function)
    if execution_timeout is not None:
        require_duration("execution_timeout", execution_timeout)
    return StartWish(
        function=function,
        input=dump(input, "the input"),
        name=name,
        version=version,
        execution_timeout=execution_timeout,
        retention_days=retention_days,
    )


def list_wish(
    function: DurableFunction[Any, Any] | str | None,
    statuses: Iterable[str],
    name: str | None,
    limit: int,
    oldest_first: bool,
    cursor: Cursor | None,
) -> ListWish:
    """Raises ValidationError: There is no such status, or the limit is out of range."""
    wanted, known = tuple(statuses), [status.value for status in ExecutionStatus]
    if unknown := [status for status in wanted if status not in known]:
        raise ValidationError(f"executions are listed by the statuses {', '.join(known)}, not {unknown[0]!r}")
    if not 1 <= limit <= LONGEST_PAGE:
        raise ValidationError(f"a page holds 1 to {LONGEST_PAGE} executions, not {limit!r}")
    return ListWish(
        function=function,
        statuses=frozenset(map(ExecutionStatus, wanted)),
        name=name,
        limit=limit,
        oldest_first=oldest_first,
        cursor=cursor,
    )


def text(result: str | bytes | None) -> str | None:
    """
    A callback's result as it is recorded.

    Raises:
        ValidationError: It is no text.
    """
    try:
        given = result.decode() if isinstance(result, bytes) else result
    except UnicodeDecodeError as error:
        raise ValidationError(f"a callback's result is text in UTF-8, and this is not: {error}; encode it") from None
    if given is not None and not isinstance(given, str):
        raise ValidationError(f"a callback's result is text or bytes, not {given!r}; write it as JSON, say")
    return given
