"""
The least that a control plane can be, as a process: `python -m benchmarks.aws.plane [SECONDS]`.

It accepts every update of steps and contexts and tells nothing but what it was told, so that what is measured against
it is an SDK, boto3 and a socket, and the time it is told to take for each checkpoint. It prints its URL and serves
until its standard input ends.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from typing import Any
from urllib.parse import unquote

from benchmarks.aws.web import serve

_DETAILS = {"STEP": "StepDetails", "CONTEXT": "ContextDetails"}
_STATUSES = {"START": "STARTED", "SUCCEED": "SUCCEEDED", "FAIL": "FAILED"}


class Plane:
    """The executions there are, by ARN: how many requests each has made."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._requests: Counter[str] = Counter()

    def answer(self, path: str, body: bytes) -> bytes:
        """A checkpoint, or how many there were."""
        arn = unquote(path.split("/")[3])
        if not path.endswith("/checkpoint"):
            return json.dumps(self._requests[arn]).encode()
        self._requests[arn] += 1
        time.sleep(self._seconds)
        operations: dict[str, dict[str, Any]] = {}
        for update in json.loads(body)["Updates"]:
            operations[update["Id"]] = _operation(update)
        state = {"Operations": list(operations.values())}
        return json.dumps({"CheckpointToken": f"t{self._requests[arn]}", "NewExecutionState": state}).encode()


def _operation(update: dict[str, Any]) -> dict[str, Any]:
    now = time.time()
    kept: dict[str, Any] = {
        name: update[name] for name in ("Id", "ParentId", "Name", "Type", "SubType") if name in update
    }
    details = {"Result": update["Payload"]} if "Payload" in update else {}
    end: dict[str, Any] = {} if update["Action"] == "START" else {"EndTimestamp": now}
    return {
        **kept,
        **end,
        "Status": _STATUSES[update["Action"]],
        "StartTimestamp": now,
        _DETAILS[update["Type"]]: details,
    }


def main(seconds: str = "0") -> None:
    serve(Plane(float(seconds)).answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
