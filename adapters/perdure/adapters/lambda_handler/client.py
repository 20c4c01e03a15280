"""The process's client of AWS Lambda."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from perdure.errors import DurableExecutionsError

if TYPE_CHECKING:
    from perdure.adapters.lambda_handler.allowance import Allowance

CONNECT_SECONDS, READ_SECONDS = 5, 50
CONNECTIONS = 32
"""Kept open at most: as many as there may be invocations at a time in one process."""


class Caller(threading.local):
    """For whom the calling thread asks."""

    allowance: Allowance | None = None


caller = Caller()
_client: Any = None
_lock = threading.Lock()


def shared_client() -> Any:
    """The `lambda` client of the process, from its environment; made once, good for all threads."""
    global _client  # noqa: PLW0603 - once per process, and again in a forked child
    if _client is None:
        with _lock:
            if _client is None:
                _client = _made()
    return _client


def _made() -> Any:
    try:
        import botocore.session  # noqa: PLC0415 - not before it is needed: it costs more than everything else together
        from botocore.config import Config  # noqa: PLC0415
    except ImportError as error:
        message = "a durable function on AWS Lambda needs boto3, which is not installed; pip install 'perdure[lambda]'"
        raise DurableExecutionsError(message) from error
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=CONNECTIONS,
        user_agent_extra="lib/perdure",
    )
    # The client is botocore's in either case. What else boto3 loads is a third of a cold start, so it is left to
    # programs that have it loaded, and maybe have set up its session.
    boto3 = sys.modules.get("boto3")
    make = botocore.session.get_session().create_client if boto3 is None else boto3.client
    client = make("lambda", config=config)
    client.meta.events.register_first("needs-retry.lambda", _halt)
    return client


def _halt(
    attempts: int = 0, operation: Any = None, response: Any = None, caught_exception: Any = None, **_: object
) -> None:
    """
    Ask no more if the pause before the next attempt may last longer than the invocation.

    Raises:
        BotoCoreError, ClientError: What the last attempt met with.
    """
    left = caller.allowance.grace() if caller.allowance is not None else None
    # A pause is at most so long, whatever the retry mode.
    if left is None or left > 2 ** (attempts - 1):
        return
    if caught_exception is not None:
        raise caught_exception
    http, parsed = response
    if http.status_code >= 300:  # noqa: PLR2004 - of success are those below
        from botocore.exceptions import ClientError  # noqa: PLC0415

        raise ClientError(parsed, operation.name)


def _forget() -> None:
    global _client, _lock
    # A forked child shares no connection, and no lock, with its parent.
    _client, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
