"""What a new interpreter pays for an SDK: imports, a client, and the first invocation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING
from uuid import uuid4

from benchmarks.aws.stage import Process, invocation
from benchmarks.aws.surroundings import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROBE = """
import sys, time
_begun = time.perf_counter()
{code}
_seconds = time.perf_counter() - _begun
_line = next(line for line in open("/proc/self/status") if line.startswith("VmRSS:"))
print("\\ncold", _seconds * 1e3, time.process_time() * 1e3, int(_line.split()[1]) / 1024)
"""

# Stands for boto3 and botocore, so that the SDK alone is loaded.
_NO_BOTO3 = """
import types
class _Any(types.ModuleType):
    __path__ = []
    def __getattr__(self, name):
        return type(name, (Exception,), {})
for _name in ("boto3", "boto3.session", "botocore", "botocore.config", "botocore.exceptions"):
    sys.modules[_name] = _Any(_name)
_begun = time.perf_counter()
"""
_DECORATE = """
handler = durable_execution(lambda event, context: None)
"""

IMPORTS = {
    "perdure": f"""
from perdure.durable import durable_execution
{_DECORATE}
handler._handler
""",
    "aws": f"""
from aws_durable_execution_sdk_python import durable_execution
{_DECORATE}
""",
}
"""All of an SDK that a `def` workflow needs; ours has its handler loaded when that is first asked for."""
CLIENTS = {
    "perdure": """
from perdure.adapters.lambda_handler.client import shared_client
shared_client()
""",
    "aws": """
from aws_durable_execution_sdk_python.lambda_service import LambdaClient
LambdaClient.initialize_client()
""",
}
_FIRST = """
import json
from benchmarks.aws.flows import handlers
from benchmarks.aws.surroundings import LambdaContext
output = handlers({side!r})["three"](json.loads({event!r}), LambdaContext("three"))
assert output["Result"] == "3", output
"""


_UNITS = "ms", "ms of CPU with the start", "MiB"


def cold(sides: list[str], repeat: int) -> dict[str, dict[str, list[float]]]:
    """What it takes, by what is done, and by side; with repeats interleaved."""
    plane = Process("benchmarks.aws.plane")
    environment = {**ENVIRONMENT, "AWS_ENDPOINT_URL_LAMBDA": plane.url}
    found: dict[str, dict[str, list[float]]] = {}
    try:
        for round_ in range(repeat + 1):
            for side in sides:
                for what, code in _programs(side).items():
                    values = _once(code, environment)
                    for unit, value in zip(_UNITS, values, strict=True) if round_ else ():  # the first writes bytecode
                        found.setdefault(f"{what}, {unit}", {}).setdefault(side, []).append(value)
    finally:
        plane.close()
    return found


def _programs(side: str) -> dict[str, str]:
    first = _FIRST.format(side=side, event=json.dumps(invocation("three", uuid4().hex, None)))
    if side not in IMPORTS:
        return {"first invocation": first}
    return {
        "import without boto3": _NO_BOTO3 + IMPORTS[side],
        "import and client": IMPORTS[side] + CLIENTS[side],
        "first invocation": first,
    }


def _once(code: str, environment: Mapping[str, str]) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-"],
        input=_PROBE.format(code=code),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"it failed: {done.stderr[-1000:]}")
    return [float(each) for each in done.stdout.splitlines()[-1].split()[1:]]
