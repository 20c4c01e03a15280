"""What a failed call of AWS means to a client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from botocore import exceptions as botocore
from botocore.exceptions import ClientError

from perdure.errors import (
    CallbackClosedError,
    CallbackNotFoundError,
    DurableExecutionsError,
    ExecutionAlreadyStartedError,
    ExecutionConflictError,
    ExecutionNotFoundError,
    FunctionNotFoundError,
    StoreError,
    StoreUnavailableError,
    ValidationError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

# Local services may answer without a type of the error; the status is what botocore calls its code then.
_BAD_REQUEST, _NOT_FOUND, _CONFLICT, _TOO_LARGE, _THROTTLED, _FAULT = 400, 404, 409, 413, 429, 500
_DENIED = {401, 403}
_CLOSED = 408

_UNREACHABLE = (
    botocore.ConnectionError,
    botocore.HTTPClientError,
    botocore.ConnectionClosedError,
    botocore.IncompleteReadError,
    botocore.ResponseStreamingError,
)
WITHOUT_CREDENTIALS = (
    botocore.NoCredentialsError,
    botocore.PartialCredentialsError,
    botocore.CredentialRetrievalError,
    botocore.SSOError,
    botocore.TokenRetrievalError,
    botocore.NoAuthTokenError,
)


def translated(error: Exception, operation: str, subject: str, secret: str = "") -> DurableExecutionsError:
    """
    The error that a client is told.

    Args:
        error: What botocore raised.
        operation: The name of the API's operation.
        subject: The ARN or the function that the call was about.
        secret: What must not be told: the id of a callback, which completes it, stands in URLs.
    """
    if isinstance(error, ClientError):
        return _answered(error, operation, subject, secret)
    line = _line(str(error), secret)
    if isinstance(error, botocore.ParamValidationError):
        return ValidationError(f"{operation} was called with what AWS does not take: {line}")
    if isinstance(error, WITHOUT_CREDENTIALS):
        return without_credentials(error)
    if isinstance(error, _UNREACHABLE):
        return StoreUnavailableError(f"AWS Lambda does not answer {operation}: {line}")
    return StoreError(f"boto3 cannot carry out {operation}: {line}")


def without_credentials(error: Exception) -> StoreError:
    """Nobody is known to AWS here, and how that is changed."""
    return StoreError(
        f"no usable AWS credentials: {_line(str(error), '')}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, log in, "
        "or name a profile with ?profile="
    )


def _answered(error: ClientError, operation: str, subject: str, secret: str) -> DurableExecutionsError:
    code, status, message = _told(error.response)
    told = f"AWS answers {operation} with {code}: {_line(message, secret)}"
    if code.startswith("KMS"):
        return StoreError(f"{told}; see to the key that encrypts the executions, and to the policy of its use")
    if status == _THROTTLED or status >= _FAULT or "Throttl" in code:
        return StoreUnavailableError(told)
    if status in _DENIED:
        return StoreError(f"{told}; check the credentials, and that their policy allows lambda:{_action(operation)}")
    if "Callback" in operation:
        meant = _of_callback(code, status)
    elif operation in {"Invoke", "ListDurableExecutionsByFunction"}:
        meant = _of_function(code, status, subject)
    else:
        meant = _of_execution(status, operation, subject)
    return meant or ValidationError(told)


def _of_callback(code: str, status: int) -> DurableExecutionsError | None:
    if code == "CallbackTimeoutException" or status in {_CLOSED, _CONFLICT}:
        return CallbackClosedError("the callback was completed already, its time is over, or its execution has ended")
    if status == _NOT_FOUND:
        return CallbackNotFoundError("no open callback has this id; pass on what the workflow was given, unchanged")
    return None


def _of_function(code: str, status: int, function: str) -> DurableExecutionsError | None:
    match status:
        case 404:
            return FunctionNotFoundError(f"AWS Lambda has no function {function!r} here; check name, qualifier, region")
        case 409 if code == "ResourceConflictException":
            return StoreUnavailableError(f"the function {function!r} is being changed, and cannot be started now")
        case 409:
            return ExecutionAlreadyStartedError(
                f"an execution of this name of {function!r} was started with another input; choose another name, or "
                "the same input"
            )
        case 413:
            return ValidationError(f"the input is larger than AWS takes for {function!r}; pass a reference to it")
        case _:
            return None


def _of_execution(status: int, operation: str, arn: str) -> DurableExecutionsError | None:
    if status == _NOT_FOUND:
        return ExecutionNotFoundError(f"no execution has the ARN {arn!r}; its retention may be over")
    if status == _CONFLICT:
        return ExecutionConflictError(f"the status of execution {arn!r} does not allow {operation}")
    return None


def _told(response: Mapping[str, Any]) -> tuple[str, int, str]:
    """Code, HTTP status and message of an answer, the status from the code where a double of AWS omits it."""
    error: Mapping[str, str] = response.get("Error") or {}
    code = str(error.get("Code") or response.get("Type") or "an error")
    status = (response.get("ResponseMetadata") or {}).get("HTTPStatusCode")
    if not isinstance(status, int):
        status = int(code) if code.isdecimal() else _STATUSES.get(code, _BAD_REQUEST)
    return code, status, error.get("Message") or response.get("message") or "no message"


_STATUSES = {
    "ResourceNotFoundException": _NOT_FOUND,
    "ResourceConflictException": _CONFLICT,
    "DurableExecutionAlreadyStartedException": _CONFLICT,
    "RequestTooLargeException": _TOO_LARGE,
    "TooManyRequestsException": _THROTTLED,
    "ServiceException": _FAULT,
}


def _action(operation: str) -> str:
    return "InvokeFunction" if operation == "Invoke" else operation


def _line(text: str, secret: str) -> str:
    if secret:
        text = text.replace(quote(secret, safe=""), "***").replace(secret, "***")
    return " ".join(text.split())
