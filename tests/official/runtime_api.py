"""Lambda's Runtime API for one process: it asks for the next invocation and hands in a response or an error."""

from __future__ import annotations

import json
import queue
import re
import time
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any
from uuid import uuid4

import attrs

from tests.official.web import ConnectionDropped, Reply, Request, Server

VERSION = "/2018-06-01/runtime"
_HANDED_IN = re.compile(rf"{VERSION}/invocation/([^/]+)/(response|error)")


@attrs.frozen
class Invocation:
    """One invocation on its way to a process."""

    event: bytes
    function_arn: str
    timeout: float
    tenant: str | None = None
    request_id: str = attrs.field(factory=lambda: str(uuid4()))
    started: float = attrs.field(factory=time.time)
    outcome: Future[Outcome] = attrs.field(factory=Future, init=False)

    @property
    def headers(self) -> dict[str, str]:
        told = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": self.request_id,
            "Lambda-Runtime-Deadline-Ms": str(int((self.started + self.timeout) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": self.function_arn,
            "Lambda-Runtime-Trace-Id": f"Root=1-{int(self.started):08x}-{self.request_id.replace('-', '')[:24]}",
        }
        return told if self.tenant is None else {**told, "Lambda-Runtime-Aws-Tenant-Id": self.tenant}

    def end(self, payload: bytes, *, failed: bool) -> None:
        """Settle the outcome, unless it is settled: a process may answer and die."""
        with suppress(InvalidStateError):
            self.outcome.set_result(Outcome(payload, self.request_id, self.started, time.time(), failed))

    def fail(self, kind: str, text: str) -> None:
        """Settle the outcome as Lambda does for a process that did not answer."""
        message = f"RequestId: {self.request_id} Error: {text}"
        self.end(json.dumps({"errorType": kind, "errorMessage": message}).encode(), failed=True)


@attrs.frozen
class Outcome:
    """What came of an invocation: its payload is the handler's answer, or the error if it failed."""

    payload: bytes
    request_id: str
    started: float
    ended: float
    failed: bool

    def error(self) -> dict[str, Any] | None:
        return json.loads(self.payload) if self.failed else None


class RuntimeApi:
    """The server that one process of the runtime interface client talks to."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Invocation | None] = queue.SimpleQueue()
        self.current: Invocation | None = None
        self.init_error: bytes | None = None
        self._server = Server(self._answer)
        self.address = self._server.address

    def offer(self, invocation: Invocation) -> None:
        """Let the process have an invocation when it asks next."""
        self.current = invocation
        self._waiting.put(invocation)

    def close(self) -> None:
        self._waiting.put(None)
        self._server.close()

    def _answer(self, request: Request) -> Reply:
        if request.path == f"{VERSION}/invocation/next":
            return self._next()
        if request.path == f"{VERSION}/init/error":
            self.init_error = request.body
            return Reply.of(202, {"status": "OK"})
        handed_in = _HANDED_IN.fullmatch(request.path)
        current = self.current
        if handed_in is None or current is None or handed_in[1] != current.request_id:
            return Reply.error(400, "InvalidRequestID", f"{request.path} belongs to no invocation")
        current.end(request.body, failed=handed_in[2] == "error")
        return Reply.of(202, {"status": "OK"})

    def _next(self) -> Reply:
        invocation = self._waiting.get()
        if invocation is None:
            raise ConnectionDropped
        return Reply(200, invocation.event, invocation.headers)
