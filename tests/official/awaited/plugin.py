"""Suite `plugin`: what an instrumentation plugin is told, and when."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import attrs

from perdure.durable import Duration, RetryDecision, RetryPresets, StepConfig, durable_execution, durable_step
from perdure.plugin import DurableInstrumentationPlugin, OperationType

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.durable import AsyncDurableContext, StepContext
    from perdure.plugin import (
        InvocationEndInfo,
        InvocationStartInfo,
        OperationEndInfo,
        OperationInfo,
        OperationStartInfo,
        UserFunctionEndInfo,
        UserFunctionStartInfo,
    )

# ------------------------------------------------------------------------------------------------------------- plugins


@attrs.define
class Teller(DurableInstrumentationPlugin):
    """Prints what it is told, a JSON object each."""

    name: str
    arn: str | None

    def tell(self, hook: str, **members: Any) -> None:
        members |= {"plugin": self.name, "hook": hook, "durableExecutionArn": self.arn}
        sys.stdout.write(f"{json.dumps(members)}\n")
        sys.stdout.flush()


@attrs.frozen
class Makes:
    """A factory of tellers."""

    kind: Callable[[str, str | None], Teller]
    name: str = "CONFPLUGIN"

    def create_plugin(self, info: InvocationStartInfo) -> Teller:
        return self.kind(self.name, info.execution_arn)


class OfInvocations(Teller):
    """Tells of invocations."""

    def on_invocation_start(self, info: InvocationStartInfo) -> None:
        self.tell("invocation-start", first=info.is_first_invocation)

    def on_invocation_end(self, info: InvocationEndInfo) -> None:
        self.tell("invocation-end", status=info.status.value)


def is_step(info: OperationInfo) -> bool:
    return info.operation_type is OperationType.STEP


class OfSteps(Teller):
    """Tells of steps."""

    def on_operation_start(self, info: OperationStartInfo) -> None:
        if is_step(info):
            self.tell("operation-start", op=info.operation_id)

    def on_operation_end(self, info: OperationEndInfo) -> None:
        if is_step(info):
            self.tell("operation-end", op=info.operation_id, status=info.status.value)


class OfAttempts(Teller):
    """Tells of the attempts at steps."""

    def on_user_function_start(self, info: UserFunctionStartInfo) -> None:
        if is_step(info):
            self.tell("attempt-start", n=info.attempt, op=info.operation_id)

    def on_user_function_end(self, info: UserFunctionEndInfo) -> None:
        if is_step(info):
            self.tell("attempt-end", n=info.attempt, outcome=info.outcome.value, op=info.operation_id)


class Broken(OfInvocations, OfSteps, OfAttempts):
    """Tells of all of these, and raises each time."""

    def tell(self, hook: str, **_: Any) -> None:
        super().tell(hook)
        raise RuntimeError(f"the plugin is broken in {hook}")


# ----------------------------------------------------------------------------------------------------------- workflows


@durable_step
async def greet(step: StepContext, name: str) -> str:
    step.logger.info("Greeting step running for: %s", name)
    return f"Hello, {name}!"


@durable_execution(plugins=[Makes(OfInvocations)])
async def invocations(name: str, context: AsyncDurableContext) -> str:
    """An invocation with a step."""
    return await context.step(greet(name))


@durable_execution(plugins=[Makes(OfSteps)])
async def steps(name: str, context: AsyncDurableContext) -> str:
    """A step that begins and ends."""
    return await context.step(greet(name))


@durable_execution(plugins=[Makes(OfAttempts)])
async def attempts(_: None, context: AsyncDurableContext) -> str:
    """A step that fails once."""

    async def fails_once(step: StepContext) -> str:
        if step.attempt == 1:
            raise ConnectionError("try again")
        return "Operation succeeded"

    once_more = StepConfig(lambda _, attempt: RetryDecision(attempt < 2, Duration.from_seconds(1)))
    return await context.step(fails_once, config=once_more)


@durable_execution(plugins=[Makes(Broken, "CONFPLUGIN-FAULTY")])
async def unharmed(name: str, context: AsyncDurableContext) -> str:
    """A broken plugin does no harm."""
    return await context.step(greet(name))


@durable_execution(plugins=[Makes(OfInvocations, f"CONFPLUGIN-{letter}") for letter in "AB"])
async def both(name: str, context: AsyncDurableContext) -> str:
    """Two plugins."""
    return await context.step(greet(name))


@durable_execution(plugins=[Makes(OfInvocations)])
async def first_and_second(_: None, context: AsyncDurableContext) -> None:
    """A wait between two invocations."""
    await context.wait(Duration.from_seconds(2))


@durable_execution(plugins=[Makes(OfInvocations)])
async def fails(_: None, context: AsyncDurableContext) -> None:
    """An invocation that fails the execution."""

    async def raises(_: StepContext) -> None:
        raise ConnectionError("no")

    await context.step(raises, config=StepConfig(RetryPresets.none()))


REQUIREMENTS = {
    "10-1": invocations,
    "10-2": steps,
    "10-3": attempts,
    "10-4": unharmed,
    "10-5": both,
    "10-6": first_and_second,
    "10-7": fails,
}
