"""What a start asks for, and with what a callback is completed, checked."""

from __future__ import annotations

import re

import attrs

from perdure.duration import LONGEST_SECONDS
from perdure.errors import ValidationError
from perdure.journal.entry import Outcome
from perdure.model import ErrorObject, OperationStatus

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
LONGEST_RETENTION = 90
INPUT_LIMIT = 6 * 1024 * 1024
LONGEST_REASON = 1024
OUTCOME_LIMIT = 1_048_576
"""UTF-8 bytes of what a callback is completed with, and of an error from outside."""


def check_name(name: str | None) -> None:
    """Refuse what cannot be the name of an execution."""
    if name is not None and not (isinstance(name, str) and NAME.fullmatch(name)):
        raise ValidationError(f"an execution name is 1 to 64 of A-Z a-z 0-9 _ -, not {name!r}")


def _check_timeout(_: object, __: attrs.Attribute[int | None], seconds: int | None) -> None:
    if seconds is not None and not 1 <= seconds <= LONGEST_SECONDS:
        raise ValidationError(f"an execution timeout is 1 to {LONGEST_SECONDS} seconds, not {seconds!r}")


def _check_retention(_: object, __: attrs.Attribute[int | None], days: int | None) -> None:
    if days is not None and not 1 <= days <= LONGEST_RETENTION:
        raise ValidationError(f"a retention is 1 to {LONGEST_RETENTION} days, not {days!r}")


def _check_input(_: object, __: attrs.Attribute[str], text: str) -> None:
    _check_size("the input", text, INPUT_LIMIT)


def check_reason(reason: str | None) -> None:
    """Refuse the reason of a pause or resume that is too long."""
    if reason is not None and len(reason) > LONGEST_REASON:
        raise ValidationError(f"a reason has at most {LONGEST_REASON} characters, not {len(reason)}; shorten it")


def check_result(text: str | None) -> None:
    """Refuse a callback's result that is too large."""
    _check_size("the result", text or "", OUTCOME_LIMIT)


def check_error(error: ErrorObject | None) -> None:
    """Refuse an error that is none, or too large, all fields together."""
    if error is not None:
        if not isinstance(error, ErrorObject):
            raise ValidationError(f"an error is given as an ErrorObject, not {error!r}; use ErrorObject(message=…)")
        fields = (error.message, error.type, error.data, *(error.stack_trace or ()))
        _check_size("the error", "".join(filter(None, fields)), OUTCOME_LIMIT)


def success(result: str | None) -> Outcome:
    """What becomes of a callback that is completed; raises `ValidationError`."""
    check_result(result)
    return Outcome(status=OperationStatus.SUCCEEDED, result=result or None)


def failure(error: ErrorObject | None) -> Outcome:
    """What becomes of one that is failed; raises `ValidationError`."""
    check_error(error)
    return Outcome(status=OperationStatus.FAILED, error=error or ErrorObject())


def _check_size(what: str, text: str, limit: int) -> None:
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > limit:
        raise ValidationError(
            f"{what} has {size} bytes, and at most {limit} are kept; store it elsewhere and pass a reference"
        )


@attrs.frozen(kw_only=True)
class StartRequest:
    """
    What a start asks for (protocol.md §§2, 13). Raises `ValidationError` for what the protocol does not allow.

    Attributes:
        function: A function identifier: name, `name:version` or ARN.
        input: JSON text.
        name: Unique per function, or None for a generated one.
        execution_timeout: Seconds; None: as the function was registered.
        retention_days: After the end; None: as the function was registered.
        tenant_id: Passed on to the functions it invokes.
    """

    function: str
    input: str = attrs.field(default="{}", validator=_check_input)
    name: str | None = attrs.field(default=None, validator=lambda _, __, name: check_name(name))
    execution_timeout: int | None = attrs.field(default=None, validator=_check_timeout)
    retention_days: int | None = attrs.field(default=None, validator=_check_retention)
    tenant_id: str | None = None
