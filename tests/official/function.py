"""A function as Lambda would know it: its name, where its handler is, its limits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tests.official.names import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]


@attrs.frozen
class Function:
    """
    One deployed function.

    Attributes:
        name: Its name without qualifier.
        handler: `module.attribute`, as in Lambda's configuration.
        code: The folder that is the root of its code.
        pool: Functions of one pool share processes, so their handler and environment must be the same; the handler then
            picks by `invoked_function_arn`. By default each function has processes of its own, as in Lambda.
        timeout: Seconds that one invocation may take.
        latency: Seconds until an invocation begins: Lambda needs some, and processes here are warm.
        durable: Whether an Invoke starts a durable execution.
        execution_timeout: Seconds that an execution may take.
        retention: Days an ended execution is kept.
        environment: Environment variables beside those that Lambda sets.
    """

    name: str
    handler: str
    code: Path = ROOT
    pool: str = ""
    timeout: float = 60.0
    latency: float = 0.0
    durable: bool = True
    execution_timeout: int = 300
    retention: int = 7
    environment: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def processes(self) -> str:
        """What its processes are kept under."""
        return self.pool or self.name

    def arn(self, qualifier: str = "") -> str:
        bare = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{self.name}"
        return f"{bare}:{qualifier}" if qualifier else bare

    def configuration(self) -> dict[str, Any]:
        """What the emulator wants to know of it."""
        if not self.durable:
            return {}
        return {"DurableConfig": {"ExecutionTimeout": self.execution_timeout, "RetentionPeriodInDays": self.retention}}


def name_and_qualifier(identifier: str) -> tuple[str, str]:
    """Split what Invoke takes for a function: a name, a partial ARN or an ARN, each with or without a qualifier."""
    _, arn, tail = identifier.rpartition("function:")
    name, _, qualifier = (tail if arn else identifier).partition(":")
    return name, qualifier
