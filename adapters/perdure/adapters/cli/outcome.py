"""How a command ends: its exit code, and the one line that is said where something went wrong."""

from __future__ import annotations

from enum import IntEnum

from perdure.errors import (
    AWS_EXCEPTIONS,
    BackendUrlError,
    CallbackClosedError,
    CallbackNotFoundError,
    DurableExecutionsError,
    ExecutionAlreadyStartedError,
    ExecutionConflictError,
    ExecutionFailedError,
    ExecutionNotFoundError,
    FunctionNotFoundError,
    ResultTimeoutError,
    StoreError,
)


class ExitCode(IntEnum):
    """What the exit codes of `perdure` mean."""

    OK = 0
    ENDED_OTHERWISE = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    BACKEND = 5
    TOOK_TOO_LONG = 6
    INTERNAL = 70
    INTERRUPTED = 130


EXPLANATION = """\b
Exit codes:
  0    done
  1    the execution ended otherwise than SUCCEEDED (start --wait, demo), or migrations are missing (migrate --check)
  2    wrong arguments, input that is no JSON, an ambiguous name, a module that does not load
  3    no such execution or callback
  4    conflict: the name is taken with another input, the callback is closed, the status does not allow it
  5    the backend is not available, or its URL is wrong
  6    start --wait --timeout: the execution has not ended in time, and goes on
  70   an error in Perdure itself; PERDURE_DEBUG=1 shows where
  130  interrupted
"""

# The first class that an error is an instance of decides.
_CODES: tuple[tuple[type[DurableExecutionsError], ExitCode], ...] = (
    (ExecutionNotFoundError, ExitCode.NOT_FOUND),
    (CallbackNotFoundError, ExitCode.NOT_FOUND),
    (FunctionNotFoundError, ExitCode.NOT_FOUND),
    (ExecutionAlreadyStartedError, ExitCode.CONFLICT),
    (ExecutionConflictError, ExitCode.CONFLICT),
    (CallbackClosedError, ExitCode.CONFLICT),
    (ExecutionFailedError, ExitCode.ENDED_OTHERWISE),
    (ResultTimeoutError, ExitCode.TOOK_TOO_LONG),
    (BackendUrlError, ExitCode.BACKEND),
    (StoreError, ExitCode.BACKEND),
)


def exit_code(error: DurableExecutionsError) -> ExitCode:
    """The exit code that tells of `error`; what is not listed comes from what the user asked for."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.USAGE)


def one_line(error: BaseException) -> str:
    """The text of an error on a single line, its class where it has no text."""
    return plain(" ".join(str(error).split())) or type(error).__name__


def plain(text: str) -> str:
    """A text with the errors of `perdure.errors` by their bare names, whatever module they are recorded under."""
    for module in (AWS_EXCEPTIONS, "perdure.errors"):
        text = text.replace(module + ".", "")
    return text
