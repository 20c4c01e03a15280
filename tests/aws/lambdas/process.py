"""
A handler in a process of its own: `python -m tests.aws.lambdas.process SIDE REQUIREMENT`, its event on standard input.

For handlers that end their process, and for invocations by two processes at once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


class ProcessDiedError(Exception):
    """The process ended before it answered."""


def hosted(side, requirement):
    """A handler that runs in a new process."""

    def handler(event, context):
        return invoked(side, requirement, event)

    return handler


def invoked(side, requirement, event):
    """
    One invocation by a new process.

    Raises:
        ProcessDiedError: It died, or the handler raised.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.aws.lambdas.process", side, requirement],
        input=json.dumps(event),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    if done.returncode:
        raise ProcessDiedError(f"exit status {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main(name, requirement):
    from tests.aws.lambdas.handlers import side  # noqa: PLC0415 - not in the parent
    from tests.aws.lambdas.surroundings import LambdaContext  # noqa: PLC0415

    event = json.load(sys.stdin)
    print(json.dumps(side(name).handlers[requirement](event, LambdaContext("Run"))), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
