"""The `lambda` client of boto3, for callers on an event loop."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from perdure.errors import BackendUrlError, InvalidStateError, StoreError

if TYPE_CHECKING:
    from perdure.backends.aws_lambda.location import Location

CONNECTIONS = 10
CONNECT_SECONDS, READ_SECONDS = 5, 30
FIRST_WITH_ALL = "1.44.5"
"""A boto3 that is known to have every operation; which one was the first, AWS does not say."""


class LambdaApi:
    """
    Calls of the API, each in a thread.

    Args:
        location: How the service is reached.
    """

    def __init__(self, location: Location) -> None:
        self._location = location
        self._client: Any = None
        self._threads: ThreadPoolExecutor | None = None
        self._pid = os.getpid()

    async def open(self) -> None:
        """Read the configuration of AWS; nothing is asked yet. Raises BackendUrlError."""
        if self._pid != os.getpid():
            self._client = self._threads = None
            self._pid = os.getpid()
        if self._threads is None:
            self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="perdure-lambda")
        if self._client is None:
            try:
                self._client = await self._in_thread(partial(_client, self._location))
            except BaseException:
                await self.close()
                raise

    async def close(self) -> None:
        """Let go of the connections."""
        if self._pid != os.getpid():
            # The threads are the parent's, and so are the sockets.
            self._client = self._threads = None
        client, self._client = self._client, None
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)
        if client is not None:
            client.close()

    async def ask(self, operation: str, subject: str = "", /, **members: Any) -> dict[str, Any]:
        """
        Call an operation.

        Args:
            operation: Its name in the API.
            subject: What it is about, for messages.
            **members: Of the request; those that are None are left out.

        Raises:
            StoreError: AWS cannot be asked; `retryable` says whether it may be later.
            DurableExecutionsError: It refused, as `fault.translated` tells.
        """
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - loaded with the client

        from perdure.backends.aws_lambda.fault import translated  # noqa: PLC0415

        call = self._method(operation)
        given = {name: value for name, value in members.items() if value is not None}
        try:
            answer: dict[str, Any] = await self._in_thread(partial(_answered, call, given))
        except (BotoCoreError, ClientError) as error:
            secret: str = given.get("CallbackId", "")
            raise translated(error, operation, subject, secret) from (None if secret else error)
        return answer

    def has(self, operation: str, member: str) -> bool:
        """Whether this boto3 knows a member of a request."""
        model = self._opened.meta.service_model.operation_model(operation)
        return member in model.input_shape.members

    @property
    def _opened(self) -> Any:
        if self._client is None:
            raise InvalidStateError("the connection to the backend is not open, or closed; open a new client")
        if self._pid != os.getpid():
            raise InvalidStateError("the connection was opened before this process was forked; open a new one here")
        return self._client

    def _method(self, operation: str) -> Any:
        import boto3  # noqa: PLC0415 - loaded with the client
        from botocore import xform_name  # noqa: PLC0415

        method = getattr(self._opened, xform_name(operation), None)
        if method is None:
            raise StoreError(
                f"boto3 {boto3.__version__} does not know {operation}; pip install --upgrade 'boto3>={FIRST_WITH_ALL}'"
            )
        return method

    async def _in_thread(self, call: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def _answered(call: Any, given: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = call(**given)
    payload = answer.pop("Payload", None)
    if payload is not None:
        # That of an Invoke is a stream, which keeps its connection from others until it is read.
        with payload:
            payload.read()
    return answer


def _client(location: Location) -> Any:
    import boto3  # noqa: PLC0415 - takes a while, and not on the loop
    from botocore import exceptions  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    from perdure.backends.aws_lambda.fault import WITHOUT_CREDENTIALS, without_credentials  # noqa: PLC0415

    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=CONNECTIONS,
        retries={"mode": "standard"},
        user_agent_extra="lib/perdure",
    )
    try:
        session = boto3.Session(profile_name=location.profile, region_name=location.region)
        return session.client("lambda", endpoint_url=location.endpoint_url, config=config)
    except exceptions.NoRegionError:
        raise BackendUrlError("no region is configured; add ?region= to the URL, or set AWS_DEFAULT_REGION") from None
    except WITHOUT_CREDENTIALS as error:
        raise without_credentials(error) from None
    except exceptions.BotoCoreError as error:
        raise BackendUrlError(f"boto3 cannot reach AWS Lambda as it is configured: {error}") from None
