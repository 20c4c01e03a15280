"""
A function on Lambda, as a process: `python -m benchmarks.aws.function SIDE`.

It serves Invoke, prints its URL, and ends with its standard input. It
reaches its control plane through boto3, by AWS_ENDPOINT_URL_LAMBDA.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from benchmarks.aws.surroundings import LambdaContext
from benchmarks.aws.web import serve
from benchmarks.process import resident_mb

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 60.0


class Function:
    """The handlers of one side, and when each call began and ended, and its CPU time, by execution."""

    def __init__(self, handlers: dict[str, Callable[[Any, Any], Any]]) -> None:
        self._handlers = handlers
        self._ended = threading.Condition()
        self._spans: dict[str, tuple[float, float, float]] = {}

    def answer(self, path: str, body: bytes) -> bytes:
        """Invoke; or what is known of this process, and when invocations began and ended."""
        if path == "/known":
            gc.collect()
            return json.dumps({"rss_mb": resident_mb(os.getpid()), "cpu_s": time.process_time()}).encode()
        if path.startswith("/spans/"):
            return json.dumps(self._span(path.removeprefix("/spans/"))).encode()
        event = json.loads(body)
        name = path.split("/")[3].partition(":")[0].partition("%3A")[0]
        begun, busy = time.monotonic(), time.process_time()
        output = self._handlers[name](event, LambdaContext(name))
        span = begun, time.monotonic(), time.process_time() - busy
        with self._ended:
            self._spans[event["DurableExecutionArn"].rpartition("/")[2]] = span
            self._ended.notify_all()
        return json.dumps(output).encode()

    def _span(self, execution: str) -> tuple[float, float, float]:
        with self._ended:
            self._ended.wait_for(lambda: execution in self._spans, PATIENCE)
            return self._spans.pop(execution)


def main(side: str) -> None:
    from benchmarks.aws.flows import handlers  # noqa: PLC0415 - the SDK, whose cost is measured

    serve(Function(handlers(side)).answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
