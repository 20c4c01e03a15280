"""What the processes of functions wrote, a line each, as Lambda's log groups would have it."""

from __future__ import annotations

import itertools
import json
import threading
import time
from typing import Any

import attrs

ARN_FIELDS = ("executionArn", "durableExecutionArn")


@attrs.frozen
class LogLine:
    """One line, with the function and the invocation during which it was written."""

    function: str
    request_id: str
    text: str
    millis: int
    number: int

    def record(self) -> dict[str, Any]:
        """The line's JSON object, or an empty one."""
        if not self.text.startswith("{"):
            return {}
        try:
            found = json.loads(self.text)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def belongs_to(self, execution_arn: str) -> bool:
        """Whether it is a record that names this execution at its top level."""
        record = self.record()
        return any(record.get(field) == execution_arn for field in ARN_FIELDS)


class Log:
    """All lines, in the order in which they came in."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._lines: dict[str, list[LogLine]] = {}

    def add(self, function: str, request_id: str, texts: list[str]) -> None:
        millis = int(time.time() * 1000)
        with self._lock:
            lines = self._lines.setdefault(function, [])
            lines += [LogLine(function, request_id, text, millis, next(self._numbers)) for text in texts]

    def lines(self, function: str) -> list[LogLine]:
        """Everything a function wrote."""
        with self._lock:
            return list(self._lines.get(function, ()))

    def records(self, function: str, execution_arn: str) -> list[dict[str, Any]]:
        """The JSON records of one execution."""
        return [line.record() for line in self.lines(function) if line.belongs_to(execution_arn)]
