"""Where functions run: processes of AWS's runtime interface client, as many as are needed, warm ones first."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from tests.official.log import Log
from tests.official.runtime_api import Invocation, Outcome
from tests.official.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from tests.official.function import Function


class Host:
    """
    Runs invocations of functions.

    Args:
        functions: All that can be invoked.
        folder: Where the processes' output goes.
        environment: Environment variables for all of them, such as AWS_ENDPOINT_URL_LAMBDA.
        limit: How many processes a pool may have at once; an invocation beyond waits.
        python: The interpreter; it needs awslambdaric and what the functions import.
    """

    def __init__(
        self,
        functions: Iterable[Function],
        folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        limit: int = 4,
        python: str = sys.executable,
    ) -> None:
        self.functions = {function.name: function for function in functions}
        self.environment = dict(environment or {})
        self.log = Log()
        self.started: Counter[str] = Counter()
        """Cold starts so far, by pool (the function's name if it has none)."""
        self._folder = folder
        self._python = python
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._idle: dict[str, list[Sandbox]] = defaultdict(list)
        self._all: set[Sandbox] = set()
        self._places: dict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(limit))

    def run(self, function: Function, event: bytes, *, qualifier: str = "", tenant: str | None = None) -> Outcome:
        """Run the handler once, in a warm process if there is one."""
        with self._lock:
            place = self._places[function.processes]
        time.sleep(function.latency)
        with place:
            sandbox = self._warm(function) or self._cold(function)
            invocation = Invocation(event, function.arn(qualifier), function.timeout, tenant)
            outcome = sandbox.run(invocation)
            self.log.add(function.name, outcome.request_id, sandbox.written())
            self._release(function, sandbox)
        return outcome

    def idle(self, function: Function) -> list[int]:
        """The processes of a function, or of its pool, that wait for an invocation."""
        with self._lock:
            return [sandbox.pid for sandbox in self._idle[function.processes] if sandbox.alive]

    def cool(self) -> None:
        """End all processes that have nothing to do: what comes next is a cold start."""
        with self._lock:
            idle = list(itertools.chain.from_iterable(self._idle.values()))
            self._idle.clear()
            self._all.difference_update(idle)
        for sandbox in idle:
            sandbox.kill()

    def close(self) -> None:
        with self._lock:
            everything = list(self._all)
            self._all.clear()
            self._idle.clear()
        for sandbox in everything:
            sandbox.kill()

    def _warm(self, function: Function) -> Sandbox | None:
        with self._lock:
            idle = self._idle[function.processes]
            while idle:
                if (sandbox := idle.pop()).alive:
                    return sandbox
                self._all.discard(sandbox)
        return None

    def _cold(self, function: Function) -> Sandbox:
        output = self._folder / f"{function.processes}-{next(self._numbers)}.log"
        sandbox = Sandbox(function, output, self.environment, self._python)
        with self._lock:
            self.started[function.processes] += 1
            self._all.add(sandbox)
        return sandbox

    def _release(self, function: Function, sandbox: Sandbox) -> None:
        with self._lock:
            if sandbox in self._all and sandbox.alive:
                self._idle[function.processes].append(sandbox)
            else:
                self._all.discard(sandbox)
