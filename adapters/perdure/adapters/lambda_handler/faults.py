"""What an error of botocore means for the execution (protocol.md §6.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from perdure.errors import STALE_TOKEN_MESSAGE, BotoClientError, DurableApiErrorCategory

if TYPE_CHECKING:
    from collections.abc import Mapping

_KMS = frozenset(
    {"KMSAccessDeniedException", "KMSDisabledException", "KMSInvalidStateException", "KMSNotFoundException"}
)
_BAD_REQUEST, _THROTTLED, _SERVER_FAULT = 400, 429, 500

E = TypeVar("E", bound=BotoClientError)


def fault(error_type: type[E], error: Exception, token: str) -> E:
    """
    The error of a failed call.

    Args:
        error_type: Which call.
        error: What botocore raised.
        token: The call's, which must not be told: a URL may hold it.
    """
    from botocore.exceptions import ParamValidationError  # noqa: PLC0415 - a failed call has it loaded

    response: Mapping[str, Mapping[str, object]] = getattr(error, "response", None) or {}
    category = DurableApiErrorCategory.INVOCATION
    if isinstance(error, ParamValidationError) or _is_final(response):
        category = DurableApiErrorCategory.EXECUTION
    message = str(error).replace(quote(token, safe=""), "…").replace(token, "…")
    return error_type(message, category, response.get("Error"), response.get("ResponseMetadata"))


def _is_final(response: Mapping[str, Mapping[str, object]]) -> bool:
    """Whether the service would refuse the same call of a later invocation too."""
    told = response.get("Error") or {}
    if told.get("Code") in _KMS:
        return True
    status = (response.get("ResponseMetadata") or {}).get("HTTPStatusCode")
    if not isinstance(status, int) or not _BAD_REQUEST <= status < _SERVER_FAULT or status == _THROTTLED:
        return False
    # By the message alone: a local service may answer without the header that the code is in.
    return not str(told.get("Message") or "").startswith(STALE_TOKEN_MESSAGE)
