"""A process that runs a function: AWS's runtime interface client, started as Lambda starts it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from tests.official.names import QUALIFIER, REGION
from tests.official.runtime_api import Invocation, Outcome, RuntimeApi

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.official.function import Function

MEMORY = "1024"


class Sandbox:
    """
    One process, reused while it lives.

    Its output goes into a file instead of a pipe: what it wrote before it answered is there when the answer is, so
    nobody has to wait for a reader.
    """

    def __init__(self, function: Function, output: Path, environment: Mapping[str, str], python: str) -> None:
        self._api = RuntimeApi()
        self._output = output
        self._offset = 0
        with output.open("ab") as file:
            self._process = subprocess.Popen(
                [python, "-u", "-m", "awslambdaric", function.handler],
                cwd=function.code,
                env={**lambda_environment(function, self._api.address), **environment, **function.environment},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self._watch = threading.Thread(target=self._watched, name=f"watch {function.processes}", daemon=True)
        self._watch.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def run(self, invocation: Invocation) -> Outcome:
        """Let the process handle an invocation; afterwards it may be dead."""
        self._api.offer(invocation)
        if not self.alive:
            self._bury()
        try:
            return invocation.outcome.result(invocation.timeout)
        except TimeoutError:
            # Settled first, else the watch would call it a crash.
            invocation.fail("Sandbox.Timedout", f"Task timed out after {invocation.timeout:.2f} seconds")
            self.kill()
            return invocation.outcome.result()

    def written(self) -> list[str]:
        """The whole lines written since this was asked last; of a dead process also an unfinished one."""
        with self._output.open("rb") as file:
            file.seek(self._offset)
            fresh = file.read()
        if self.alive:
            fresh = fresh[: fresh.rfind(b"\n") + 1]
        self._offset += len(fresh)
        return fresh.decode("utf-8", "replace").splitlines()

    def kill(self) -> None:
        """End the process as Lambda ends one: without a word."""
        self._process.kill()
        self._watch.join()

    def _watched(self) -> None:
        self._process.wait()
        self._bury()
        self._api.close()

    def _bury(self) -> None:
        current = self._api.current
        if current is None:
            return
        if self._api.init_error is not None:
            current.end(self._api.init_error, failed=True)
        else:
            current.fail("Runtime.ExitError", f"Runtime exited with error: {exit_text(self._process.wait())}")


def exit_text(code: int) -> str:
    """How Lambda tells the end of a process."""
    return f"exit status {code}" if code >= 0 else f"signal: {signal.strsignal(-code) or -code}".lower()


def lambda_environment(function: Function, runtime_api: str) -> dict[str, str]:
    """The environment variables that Lambda sets, and none of this process."""
    return {
        "AWS_LAMBDA_RUNTIME_API": runtime_api,
        "AWS_LAMBDA_FUNCTION_NAME": function.processes,
        "AWS_LAMBDA_FUNCTION_VERSION": QUALIFIER,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": MEMORY,
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.processes}",
        "AWS_LAMBDA_LOG_STREAM_NAME": f"[{QUALIFIER}]{runtime_api.rpartition(':')[2]}",
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "AWS_LAMBDA_LOG_LEVEL": "INFO",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_EC2_METADATA_DISABLED": "true",
        "LAMBDA_TASK_ROOT": str(function.code),
        "_HANDLER": function.handler,
        "TZ": ":UTC",
        "LANG": "en_US.UTF-8",
    }
