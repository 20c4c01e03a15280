"""AWS's emulator of the durable execution service, as a process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from tests.official.names import REGION

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.official.function import Function

PATIENCE = 60.0
"""Seconds to wait for it to listen: it imports boto3, and the machine may be busy."""
TRIES = 3
"""It takes the number of a port, which somebody else may have taken meanwhile."""


class Emulator:
    """
    The emulator, listening on a port of its own once this is made.

    Args:
        functions: Those that executions may be started of and that may be invoked by others.
        lambda_endpoint: Where it invokes handlers.
        folder: Where its log and its store go.
        store: `memory`, `filesystem` or `sqlite`.
        skip_time: Whether waits and delays are over at once.
        invocation_timeout: Seconds until it gives up an invocation.
    """

    def __init__(
        self,
        functions: Iterable[Function],
        lambda_endpoint: str,
        folder: Path,
        *,
        store: str = "memory",
        skip_time: bool = False,
        invocation_timeout: int = 900,
    ) -> None:
        self.log = folder / "emulator.log"
        configurations = folder / "functions.json"
        configurations.write_text(json.dumps({one.name: one.configuration() for one in functions}), encoding="utf-8")
        options = {
            "host": "127.0.0.1",
            "lambda-endpoint": lambda_endpoint,
            "local-runner-region": REGION,
            "store-type": store,
            "store-path": folder / "store",
            "invocation-timeout": invocation_timeout,
            "function-configs": f"file://{configurations}",
            "log-level": "WARNING",
        }
        self._command = [
            *(sys.executable, "-m", "aws_durable_execution_sdk_python_testing.cli", "start-server"),
            *(f"--{name}={value}" for name, value in options.items()),
            "--skip-time" if skip_time else "--no-skip-time",
        ]
        self.url = self._started()

    def _started(self) -> str:
        for _ in range(TRIES):
            port = _free_port()
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    [*self._command, f"--port={port}"],
                    env={**os.environ, **_CREDENTIALS},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            if self._listens(port):
                return f"http://127.0.0.1:{port}"
            self.close()
        raise RuntimeError(f"the emulator does not start; it wrote: {self.log.read_text()[-2000:]}")

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _listens(self, port: int) -> bool:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return True
        return False


_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
