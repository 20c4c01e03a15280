"""AWS on this machine: an endpoint, the emulator behind it and the processes that functions run in."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Self

import boto3
from botocore.config import Config

from tests.official.emulator import Emulator
from tests.official.front import Front
from tests.official.host import Host
from tests.official.names import REGION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from tests.official.function import Function


class Cloud:
    """
    A place to deploy functions to, for the time of a `with` block.

    Args:
        functions: What is deployed.
        folder: Where logs and the emulator's store go.
        environment: Environment variables for all functions.
        limit: How many processes a function, or a pool of them, may have at once.
        python: The interpreter that functions run in.
        store: The emulator's store: `memory`, `filesystem` or `sqlite`.
        skip_time: Whether waits and delays are over at once.
        fill_gaps: Whether histories get what the emulator omits (`gaps.py`).
    """

    def __init__(
        self,
        functions: Iterable[Function],
        folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        limit: int = 4,
        python: str = sys.executable,
        store: str = "memory",
        skip_time: bool = False,
        fill_gaps: bool = True,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.host = Host(functions, folder, environment=environment, limit=limit, python=python)
        self.front = Front(self.host, fill_gaps=fill_gaps)
        self.host.environment["AWS_ENDPOINT_URL_LAMBDA"] = self.front.url
        try:
            self.emulator = Emulator(
                self.host.functions.values(), self.front.url, folder, store=store, skip_time=skip_time
            )
        except BaseException:
            self.front.close()
            raise
        self.front.control_plane = self.emulator.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The endpoint, for `AWS_ENDPOINT_URL_LAMBDA` and `endpoint_url=`."""
        return self.front.url

    def client(self) -> Any:
        """A boto3 client of the endpoint; its caller closes it."""
        return boto3.client(
            "lambda",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(
                read_timeout=900,
                retries={"mode": "standard", "total_max_attempts": 1},
                max_pool_connections=64,
            ),
        )

    def close(self) -> None:
        self.emulator.close()
        self.host.close()
        self.front.close()
