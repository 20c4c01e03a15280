"""
The endpoint of Lambda on this machine: Invoke, and the durable API passed on to the control plane.

An Invoke with the header `X-Dex-Handler-Invoke` runs a handler once; the emulator sends these. Any other Invoke of a
durable function starts an execution, which the emulator cannot do through this API.
"""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote
from uuid import uuid4

import attrs

from tests.official.function import Function, name_and_qualifier
from tests.official.gaps import filled
from tests.official.names import ACCOUNT, QUALIFIER
from tests.official.trail import Checkpoint, Trails
from tests.official.web import Reply, Request, Server, send

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.official.host import Host

ENDED = {"SUCCEEDED", "FAILED", "TIMED_OUT", "STOPPED"}
CODES = {409: "DurableExecutionAlreadyStartedException"}
"""What the emulator's errors are whose body does not tell."""
BACKSTOP = 1.0
"""Seconds between looks at an execution whose end nothing announces, such as its timeout."""

EVENTS = "100"
"""How many events a page of history has if nobody says: the emulator's choice."""
ALL_EVENTS = "1000000"

_INVOKE = re.compile(r"/2015-03-31/functions/([^/]+)/invocations")
_EXECUTION = re.compile(r"/2025-12-01/durable-executions/([^/]+)(?:/(\w+))?")
_OPERATIONS = {
    ("POST", "checkpoint"): "CheckpointDurableExecution",
    ("GET", "state"): "GetDurableExecutionState",
    ("GET", "history"): "GetDurableExecutionHistory",
    ("GET", None): "GetDurableExecution",
    ("POST", "stop"): "StopDurableExecution",
}


@attrs.frozen
class Call:
    """
    A request with what it asks for.

    Attributes:
        operation: The API's name; `RunHandler` for an Invoke that runs a handler once; empty for what is passed on.
        subject: The ARN of the execution, or the function's identifier for `Invoke` and `RunHandler`.
    """

    request: Request
    operation: str
    subject: str

    @classmethod
    def of(cls, request: Request) -> Call:
        if (found := _INVOKE.fullmatch(request.path)) is not None:
            marked = request.headers.get("x-dex-handler-invoke", "").lower() == "true"
            return cls(request, "RunHandler" if marked else "Invoke", unquote(found[1]))
        if (found := _EXECUTION.fullmatch(request.path)) is not None:
            return cls(request, _OPERATIONS.get((request.method, found[2]), ""), unquote(found[1]))
        return cls(request, "", "")


class Front:
    """
    The endpoint; everything that handlers, the emulator and clients send goes through it.

    Attributes:
        control_plane: The URL of the emulator, to be set before the first request.
        around: Wraps the answering of each call; a test replaces it to disturb some (`faults.py`).
        trails: What passed.
    """

    def __init__(self, host: Host, *, fill_gaps: bool = True) -> None:
        self.control_plane = ""
        self.around: Callable[[Call, Callable[[Call], Reply]], Reply] = lambda call, forward: forward(call)
        self.trails = Trails()
        self._host = host
        self._fill_gaps = fill_gaps
        self._named: dict[tuple[str, str], tuple[bytes, str]] = {}
        self._names = threading.Lock()
        self._news = threading.Condition()
        self._answers = {
            "Invoke": self._invoke,
            "RunHandler": self._run_handler,
            "CheckpointDurableExecution": self._checkpoint,
            "GetDurableExecutionHistory": self._history,
        }
        self._server = Server(self._serve)
        self.url = self._server.url

    def close(self) -> None:
        self._server.close()

    def _serve(self, request: Request) -> Reply:
        call = Call.of(request)
        if call.operation == "GetDurableExecutionState":
            self.trails.saw_page(call.subject)
        return self.around(call, self._answer)

    def _answer(self, call: Call) -> Reply:
        return self._answers.get(call.operation, self._forward)(call)

    def _forward(self, call: Call) -> Reply:
        return self.ask(call.request)

    def ask(self, request: Request) -> Reply:
        """The control plane's answer, with the error's type where it is missing."""
        kept = {name: value for name, value in request.headers.items() if name == "content-type"}
        reply = send(self.control_plane, attrs.evolve(request, headers=kept))
        headers = {name: value for name, value in reply.headers.items() if name.startswith(("content-type", "x-amz"))}
        if reply.status >= 400 and "x-amzn-errortype" not in headers:
            headers["x-amzn-ErrorType"] = reply.json().get("Type") or CODES.get(reply.status, "ServiceException")
        return attrs.evolve(reply, headers=headers)

    def _checkpoint(self, call: Call) -> Reply:
        asked = call.request.json()
        reply = self._forward(call)
        updates = tuple(asked.get("Updates") or ())
        made = Checkpoint(updates, asked.get("ClientToken"), reply.status, time.time())
        self.trails.saw_checkpoint(call.subject, made)
        return reply

    def _history(self, call: Call) -> Reply:
        if not self._fill_gaps:
            return self._forward(call)
        # Gaps are filled from the start, so the pages are cut here.
        query = call.request.query
        kept = {name: value for name, value in query.items() if name not in {"Marker", "MaxItems", "ReverseOrder"}}
        reply = self.ask(attrs.evolve(call.request, query={**kept, "MaxItems": [ALL_EVENTS]}))
        if reply.status != 200:
            return reply
        events = filled(reply.json()["Events"], self.trails[call.subject])
        if query.get("ReverseOrder") == ["true"]:
            events.reverse()
        begin = int(query.get("Marker", ["0"])[0])
        end = begin + int(query.get("MaxItems", [EVENTS])[0])
        more = {"NextMarker": str(end)} if end < len(events) else {}
        return Reply.of(200, {"Events": events[begin:end], **more})

    # Invoke

    def _function(self, call: Call) -> tuple[Function | None, str]:
        name, qualifier = name_and_qualifier(call.subject)
        return self._host.functions.get(name), qualifier or call.request.query.get("Qualifier", [""])[0]

    def _run_handler(self, call: Call) -> Reply:
        function, qualifier = self._function(call)
        if function is None:
            return _unknown(call)
        tenant = call.request.headers.get("x-amz-tenant-id")
        outcome = self._host.run(function, call.request.body or b"{}", qualifier=qualifier, tenant=tenant)
        if function.durable:
            self.trails.saw_outcome(call.request.json()["DurableExecutionArn"], outcome)
            self._announce()
        headers = {
            "Content-Type": "application/json",
            "x-amzn-RequestId": outcome.request_id,
            "X-Amz-Executed-Version": QUALIFIER,
        }
        if outcome.failed:
            headers["X-Amz-Function-Error"] = "Unhandled"
        return Reply(200, outcome.payload, headers)

    def _invoke(self, call: Call) -> Reply:
        function, qualifier = self._function(call)
        if function is None:
            return _unknown(call)
        if not function.durable:
            return self._run_handler(call)
        if not qualifier:
            message = f"durable function {function.name!r} needs a qualifier"
            return Reply.error(400, "InvalidParameterValueException", message)
        started = self._start(function, qualifier, call.request)
        if isinstance(started, Reply):
            return started
        headers = {"X-Amz-Durable-Execution-Arn": started, "X-Amz-Executed-Version": QUALIFIER}
        if call.request.headers.get("x-amz-invocation-type") == "Event":
            return Reply(202, b"", headers)
        return self._outcome(started, headers, function.execution_timeout)

    def _start(self, function: Function, qualifier: str, request: Request) -> str | Reply:
        """The execution that an Invoke is about: a new one, or one that has the name already (protocol.md §13)."""
        name = request.headers.get("x-amz-durable-execution-name")
        if name is None:
            return self._begin(function, qualifier, str(uuid4()), request)
        with self._names:
            body, arn = self._named.get((function.name, name), (None, ""))
            if body is None:
                begun = self._begin(function, qualifier, name, request)
                if isinstance(begun, str):
                    self._named[function.name, name] = request.body, begun
                return begun
        if body != request.body:
            message = f"execution {name!r} was started with another payload"
            return Reply.error(409, "DurableExecutionAlreadyStartedException", message)
        return arn

    def _begin(self, function: Function, qualifier: str, name: str, request: Request) -> str | Reply:
        wanted: dict[str, Any] = {
            "AccountId": ACCOUNT,
            "FunctionName": function.name,
            "FunctionQualifier": qualifier,
            "ExecutionName": name,
            "ExecutionTimeoutSeconds": function.execution_timeout,
            "ExecutionRetentionPeriodDays": function.retention,
            "Input": request.body.decode() or "{}",
        }
        if tenant := request.headers.get("x-amz-tenant-id"):
            wanted["TenantId"] = tenant
        asked = Reply.of(200, wanted)
        reply = self.ask(Request("POST", "/start-durable-execution", headers=_JSON, body=asked.body))
        if reply.status >= 400:
            return reply
        arn: str = reply.json()["ExecutionArn"]
        return arn

    # The end of an execution

    def _announce(self) -> None:
        with self._news:
            self._news.notify_all()

    def _outcome(self, execution_arn: str, headers: dict[str, str], seconds: float) -> Reply:
        """Hold a synchronous Invoke open until its execution has ended."""
        deadline = time.monotonic() + seconds + 30
        while time.monotonic() < deadline:
            known = len(self.trails[execution_arn].outcomes)
            execution = self._described(execution_arn)
            if execution.get("Status") in ENDED:
                return _ended(execution, headers)
            if not self._may_be_over(execution_arn):
                self._await_outcome(execution_arn, known)
            else:
                # The emulator has the answer, and is about to write it down.
                time.sleep(0.01)
        return Reply.error(500, "ServiceException", f"execution {execution_arn!r} has not ended in time")

    def _described(self, execution_arn: str) -> dict[str, Any]:
        path = f"/2025-12-01/durable-executions/{quote(execution_arn, safe='')}"
        found: dict[str, Any] = self.ask(Request("GET", path)).json()
        return found

    def _may_be_over(self, execution_arn: str) -> bool:
        outcomes = self.trails[execution_arn].outcomes
        return bool(outcomes) and b'"PENDING"' not in outcomes[-1].payload and time.time() - outcomes[-1].ended < 0.5

    def _await_outcome(self, execution_arn: str, known: int) -> None:
        with self._news:
            self._news.wait_for(lambda: len(self.trails[execution_arn].outcomes) > known, timeout=BACKSTOP)


_JSON = {"content-type": "application/json"}


def _unknown(call: Call) -> Reply:
    return Reply.error(404, "ResourceNotFoundException", f"Function not found: {call.subject}")


def _ended(execution: dict[str, Any], headers: dict[str, str]) -> Reply:
    if execution["Status"] == "SUCCEEDED":
        return Reply(200, (execution.get("Result") or "null").encode(), headers)
    error = execution.get("Error") or {}
    told = {
        "errorType": error.get("ErrorType"),
        "errorMessage": error.get("ErrorMessage"),
        "errorData": error.get("ErrorData"),
        "stackTrace": error.get("StackTrace"),
    }
    return Reply.of(200, told, {**headers, "X-Amz-Function-Error": "Unhandled"})
