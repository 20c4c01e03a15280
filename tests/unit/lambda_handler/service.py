"""A durable execution service of one execution, which misbehaves on demand: no real one does."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import deque
from typing import Any, Self
from urllib.parse import unquote

from tests.official.web import Reply, Request, Server

ARN = "arn:aws:lambda:us-west-2:123456789012:function:f:$LATEST/durable-execution/name/5b2c"
EXECUTION = "5b2c"
STALE = "Invalid checkpoint token"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "not-to-be-told",
    "AWS_REGION": "us-west-2",
    "AWS_DEFAULT_REGION": "us-west-2",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_MAX_ATTEMPTS": "2",
}
_STATUS = {"START": "STARTED", "SUCCEED": "SUCCEEDED", "FAIL": "FAILED", "RETRY": "PENDING", "CANCEL": "CANCELLED"}
_DETAILS = {"STEP": "StepDetails", "CONTEXT": "ContextDetails", "WAIT": "WaitDetails", "CALLBACK": "CallbackDetails"}


class Service:
    """
    Keeps what is recorded; tokens are good for one checkpoint, and a ClientToken for one effect.

    Attributes:
        requests: What came, in order.
        operations: What is recorded, in order.
        misdeeds: What is done with the next requests instead of serving them: a reply, or what is called with the
            request and with what serves it; None serves one.
        page: How many operations an event, an answer or a page of state has.
        withdraws: Whether answers have no token.
    """

    def __init__(self, input: object = None, *, page: int = 1000) -> None:
        self.requests: list[Request] = []
        self.misdeeds: deque[Any] = deque()
        self.page = page
        self.withdraws = False
        self.operations: dict[str, dict[str, Any]] = {
            EXECUTION: {
                "Id": EXECUTION,
                "Type": "EXECUTION",
                "Status": "STARTED",
                "StartTimestamp": time.time(),
                "ExecutionDetails": {"InputPayload": json.dumps(input)},
            }
        }
        self.outcome: dict[str, Any] | None = None
        self._last: tuple[object, Reply] | None = None
        self._changed: list[dict[str, Any]] = []
        self._tokens = 0
        self._lock = threading.Lock()
        self._server = Server(self._answer)
        self.url = self._server.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    @property
    def token(self) -> str:
        """The one that is good now; it may be told to nobody."""
        return base64.b64encode(f"secret/token+{self._tokens:02}".encode()).decode()

    @property
    def updates(self) -> list[dict[str, Any]]:
        """All that was sent, repetitions too."""
        return [update for request in self.requests for update in request.json().get("Updates") or ()]

    def event(self) -> dict[str, Any]:
        """The input of the next invocation; earlier ones are fenced."""
        with self._lock:
            self._tokens += 1
            operations = [_in_millis(each) for each in self.operations.values()]
            return {
                "DurableExecutionArn": ARN,
                "CheckpointToken": self.token,
                "InitialExecutionState": self._paged(operations, 0),
            }

    def _answer(self, request: Request) -> Reply:
        self.requests.append(request)
        misdeed = self.misdeeds.popleft() if self.misdeeds else None
        if isinstance(misdeed, Reply):
            return misdeed
        if misdeed is not None:
            return misdeed(request, lambda: self._serve(request))
        return self._serve(request)

    def _serve(self, request: Request) -> Reply:
        assert unquote(request.path).startswith(f"/2025-12-01/durable-executions/{ARN}/")
        with self._lock:
            return self._state(request) if request.method == "GET" else self._checkpoint(request.json())

    def _state(self, request: Request) -> Reply:
        if request.query["CheckpointToken"] != [self.token]:
            return Reply.error(400, "InvalidParameterValueException", STALE)
        kind, _, begin = request.query["Marker"][0].rpartition(".")
        return Reply.of(200, self._paged(self._changed if kind else list(self.operations.values()), int(begin), kind))

    def _checkpoint(self, asked: dict[str, Any]) -> Reply:
        key = asked["CheckpointToken"], asked["ClientToken"]
        if self._last is not None and self._last[0] == key:
            return self._last[1]
        if asked["CheckpointToken"] != self.token:
            return Reply.error(400, "InvalidParameterValueException", STALE)
        changed = [self._record(update) for update in asked["Updates"]]
        self._changed = list({each["Id"]: each for each in changed if each}.values())
        self._tokens += 1
        answer: dict[str, Any] = {"NewExecutionState": self._paged(self._changed, 0, "changed")}
        if not self.withdraws and self.outcome is None:
            answer["CheckpointToken"] = self.token
        self._last = key, Reply.of(200, answer)
        return self._last[1]

    def _record(self, update: dict[str, Any]) -> dict[str, Any] | None:
        if update["Type"] == "EXECUTION":
            self.outcome = update
            return None
        operation = self.operations.setdefault(update["Id"], {"StartTimestamp": time.time()})
        operation |= {name: update[name] for name in ("Id", "Type", "Name", "SubType", "ParentId") if name in update}
        operation["Status"] = _STATUS[update["Action"]]
        details = operation.setdefault(_DETAILS[update["Type"]], {})
        if update["Type"] == "STEP" and update["Action"] != "START":
            details["Attempt"] = details.get("Attempt", 0) + 1
        if update["Type"] == "CALLBACK":
            details["CallbackId"] = base64.b64encode(update["Id"].encode()).decode()
        if "WaitOptions" in update:
            details["ScheduledEndTimestamp"] = time.time() + update["WaitOptions"]["WaitSeconds"]
        if "StepOptions" in update:
            details["NextAttemptTimestamp"] = time.time() + update["StepOptions"]["NextAttemptDelaySeconds"]
        details |= {"Result": update["Payload"]} if "Payload" in update else {}
        details |= {"Error": update["Error"]} if "Error" in update else {}
        details |= update.get("ContextOptions", {})
        return operation

    def _paged(self, operations: list[dict[str, Any]], begin: int, kind: str = "") -> dict[str, Any]:
        end = begin + self.page
        marker = f"{kind}.{end}" if kind else str(end)
        return {"Operations": operations[begin:end], "NextMarker": marker if end < len(operations) else ""}


def _in_millis(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: int(each * 1000) if name.endswith("Timestamp") else _in_millis(each) for name, each in value.items()
        }
    return value


class LambdaContext:
    """What Lambda gives a handler that has `seconds` left."""

    aws_request_id = "request"
    invoked_function_arn = ARN.partition("/")[0]
    function_name = "f"
    function_version = "$LATEST"
    memory_limit_in_mb = "128"
    log_group_name = log_stream_name = "log"
    identity = client_context = tenant_id = None

    def __init__(self, seconds: float = 60.0) -> None:
        self.deadline = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self.deadline - time.monotonic()) * 1000))
