"""The processes of a measurement, and executions between them."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import quote, urlsplit
from uuid import uuid4

from benchmarks.aws.function import PATIENCE
from benchmarks.aws.surroundings import ENVIRONMENT
from benchmarks.meter import expect

if TYPE_CHECKING:
    from collections.abc import Mapping


class Process:
    """A program of this package that serves until its standard input ends."""

    def __init__(self, *arguments: str, environment: Mapping[str, str] = ENVIRONMENT) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **ENVIRONMENT, **environment},
        )
        assert self._process.stdout is not None  # noqa: S101 - for the type checker
        self.url = self._process.stdout.readline().strip()
        expect(bool(self.url), True, f"a URL from {arguments}")
        parts = urlsplit(self.url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)

    def ask(self, path: str, body: Any = None) -> Any:
        """Its answer."""
        self._connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body))
        return json.loads(self._connection.getresponse().read())

    def close(self) -> None:
        """End it."""
        self._connection.close()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(PATIENCE)
        if self._process.stdout is not None:
            self._process.stdout.close()


class Took(NamedTuple):
    """
    How long an execution took, in milliseconds.

    Attributes:
        whole: From the request that started it to the return of its handler.
        handler: Of that, in the handler.
        busy: CPU time of the function's process meanwhile.
        requests: Checkpoints; None if nobody counted.
    """

    whole: float
    handler: float
    busy: float
    requests: int | None


def invocation(flow: str, id: str, event: Any) -> dict[str, Any]:
    """The input of the first invocation of an execution."""
    beginning = {
        "Id": id,
        "Type": "EXECUTION",
        "Status": "STARTED",
        "StartTimestamp": int(time.time() * 1000),
        "ExecutionDetails": {"InputPayload": json.dumps(event)},
    }
    function = f"arn:aws:lambda:us-west-2:123456789012:function:{flow}:$LATEST"
    return {
        "DurableExecutionArn": f"{function}/durable-execution/bench/{id}",
        "CheckpointToken": "t0",
        "InitialExecutionState": {"Operations": [beginning], "NextMarker": ""},
    }


class Bare:
    """Functions against the least of a control plane; the caller invokes them."""

    def __init__(self, sides: list[str], seconds: float = 0) -> None:
        self._plane = Process("benchmarks.aws.plane", str(seconds))
        endpoint = {"AWS_ENDPOINT_URL_LAMBDA": self._plane.url}
        self.functions = {
            side: Process("benchmarks.aws.function", side, environment={**ENVIRONMENT, **endpoint}) for side in sides
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (*self.functions.values(), self._plane):
            each.close()

    def run(self, side: str, flow: str, event: Any, expected: Any) -> Took:
        """One execution."""
        id = uuid4().hex
        told = invocation(flow, id, event)
        arn = told["DurableExecutionArn"]
        function = self.functions[side]
        begun = time.monotonic()
        output = function.ask(f"/2015-03-31/functions/{flow}/invocations", told)
        whole = time.monotonic() - begun
        expect(json.loads(output["Result"]), expected, f"the result of {flow}")
        inside = function.ask(f"/spans/{id}")
        requests = self._plane.ask(f"/2025-12-01/durable-executions/{quote(arn, safe='')}/requests")
        return Took(whole * 1e3, (inside[1] - inside[0]) * 1e3, inside[2] * 1e3, requests)


class Emulated:
    """Functions on AWS's emulator, which invokes them."""

    def __init__(self, sides: list[str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="perdure-bench-")
        self._port = _free_port()
        self._emulator = _emulator(self._port, Path(self._folder.name, "log"))
        endpoint = {"AWS_ENDPOINT_URL_LAMBDA": f"http://127.0.0.1:{self._port}"}
        self.functions = {
            side: Process("benchmarks.aws.function", side, environment={**ENVIRONMENT, **endpoint}) for side in sides
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._emulator.terminate()
        self._emulator.wait(PATIENCE)
        for each in self.functions.values():
            each.close()
        self._folder.cleanup()

    def run(self, side: str, flow: str, event: Any, expected: Any) -> Took:
        """One execution."""
        function = self.functions[side]
        start = {
            "AccountId": "123456789012",
            "FunctionName": flow,
            "FunctionQualifier": "$LATEST",
            "ExecutionName": "bench",
            "ExecutionTimeoutSeconds": 300,
            "ExecutionRetentionPeriodDays": 1,
            "Input": json.dumps(event),
            "LambdaEndpoint": function.url,
        }
        begun = time.monotonic()
        arn = self._ask("POST", "/start-durable-execution", start)["ExecutionArn"]
        span = function.ask(f"/spans/{arn.rpartition('/')[2]}")
        described = {"Status": "RUNNING"}
        while described["Status"] == "RUNNING":
            described = self._ask("GET", f"/2025-12-01/durable-executions/{quote(arn, safe='')}")
        expect(json.loads(described["Result"]), expected, f"the result of {flow}")
        return Took((span[1] - begun) * 1e3, (span[1] - span[0]) * 1e3, span[2] * 1e3, None)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


def _emulator(port: int, log: Path) -> subprocess.Popen[bytes]:
    options = {"host": "127.0.0.1", "port": port, "local-runner-region": "us-west-2", "log-level": "ERROR"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "aws_durable_execution_sdk_python_testing.cli", "start-server"),
                *(f"--{name}={value}" for name, value in options.items()),
            ],
            env={**os.environ, **ENVIRONMENT},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text(encoding="utf-8")[-2000:]) from None
            time.sleep(0.05)
        else:
            return process


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
