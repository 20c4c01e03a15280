"""Suite `child`: contexts within contexts."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.durable import (
    ChildConfig,
    ChildContextError,
    Duration,
    JitterStrategy,
    RetryPresets,
    RetryStrategyConfig,
    StepConfig,
    create_retry_strategy,
    durable_execution,
    durable_step,
    durable_with_child_context,
)
from perdure.serdes import SerDes
from tests.official import names

if TYPE_CHECKING:
    from perdure.durable import AsyncDurableContext, StepContext
    from perdure.serdes import SerDesContext

NO_RETRY = StepConfig(retry_strategy=RetryPresets.none())
ONE_RETRY = StepConfig(
    retry_strategy=create_retry_strategy(
        RetryStrategyConfig(max_attempts=2, initial_delay=Duration.from_seconds(1), jitter_strategy=JitterStrategy.NONE)
    )
)
LARGE = 300 * 1024


class UppercaseSerDes(SerDes[str]):
    """Stores a text in capital letters."""

    def serialize(self, value: str, _: SerDesContext) -> str:
        return value.upper()

    def deserialize(self, data: str, _: SerDesContext) -> str:
        return data


@durable_step
async def echo(_: StepContext, value: str) -> str:
    return value


async def fail(_: StepContext) -> str:
    raise RuntimeError("the step failed")


# ------------------------------------------------------------------------------------------------------------- results


@durable_with_child_context
async def one_step(child: AsyncDurableContext, value: str) -> str:
    return await child.step(echo(value))


@durable_execution
async def basic(event: str, context: AsyncDurableContext) -> str:
    """A child context with a step in it."""
    return await context.run_in_child_context(one_step(event))


@durable_execution
async def named(event: dict[str, str], context: AsyncDurableContext) -> str:
    """A child context with a name."""
    return await context.run_in_child_context(one_step(event["value"]), name=event["name"])


@durable_execution
async def two_steps(event: str, context: AsyncDurableContext) -> str:
    """A child context with two steps, one after the other."""

    async def body(child: AsyncDurableContext) -> str:
        first = await child.step(echo(event))
        return await child.step(echo(first))

    return await context.run_in_child_context(body, name="two_steps")


@durable_execution
async def within_another(event: str, context: AsyncDurableContext) -> str:
    """A child context within a child context."""

    async def outer(child: AsyncDurableContext) -> str:
        first = await child.step(echo(event))
        return await child.run_in_child_context(one_step(first), name="inner")

    return await context.run_in_child_context(outer, name="outer")


@durable_execution
async def own_serdes(event: str, context: AsyncDurableContext) -> str:
    """A child context whose result is what its serializer made of it."""
    config = ChildConfig(serdes=UppercaseSerDes())
    return await context.run_in_child_context(one_step(event), name="uppercase", config=config)


@durable_execution
async def nothing(_: None, context: AsyncDurableContext) -> None:
    """A child context without an operation and without a result."""

    async def body(_: AsyncDurableContext) -> None:
        return None

    return await context.run_in_child_context(body, name="nothing")


# -------------------------------------------------------------------------------------------------------------- errors


async def failing_step(child: AsyncDurableContext) -> str:
    return await child.step(fail, config=NO_RETRY)


@durable_execution
async def step_failed(_: None, context: AsyncDurableContext) -> str:
    """A step that fails, with it its context, and the execution."""
    return await context.run_in_child_context(failing_step, name="failing")


@durable_execution
async def failure_caught(event: str, context: AsyncDurableContext) -> str:
    """A failed child context that something else takes the place of."""
    try:
        return await context.run_in_child_context(failing_step)
    except ChildContextError:
        return await context.step(echo(event))


@durable_execution
async def body_failed(_: None, context: AsyncDurableContext) -> str:
    """A child context that fails by itself."""

    async def body(_: AsyncDurableContext) -> str:
        raise RuntimeError("the body failed")

    return await context.run_in_child_context(body, name="failing")


@durable_execution
async def step_retried(event: str, context: AsyncDurableContext) -> str:
    """A step in a child context that succeeds when it is retried."""

    async def flaky(step: StepContext) -> str:
        if step.attempt == 1:
            raise RuntimeError("try again")
        return event

    async def body(child: AsyncDurableContext) -> str:
        return await child.step(flaky, config=ONE_RETRY)

    return await context.run_in_child_context(body, name="retrying")


@durable_execution
async def step_exhausted(_: None, context: AsyncDurableContext) -> str:
    """A step in a child context that is retried in vain."""

    async def body(child: AsyncDurableContext) -> str:
        return await child.step(fail, config=ONE_RETRY)

    return await context.run_in_child_context(body, name="retrying")


# -------------------------------------------------------------------------------------------------------------- replay


@durable_execution
async def replayed(event: str, context: AsyncDurableContext) -> str:
    """A child context whose result is there after a wait."""
    result = await context.run_in_child_context(one_step(event))
    await context.wait(Duration.from_seconds(1))
    return result


@durable_with_child_context
async def step_and_wait(child: AsyncDurableContext, value: str) -> str:
    result = await child.step(echo(value))
    await child.wait(Duration.from_seconds(1))
    return result


@durable_execution
async def suspended(event: str, context: AsyncDurableContext) -> str:
    """A child context that waits after a step."""
    return await context.run_in_child_context(step_and_wait(event), name="suspended")


@durable_execution
async def waited_then_step(event: str, context: AsyncDurableContext) -> str:
    """A child context that only waits, and a step after it."""

    async def body(child: AsyncDurableContext) -> str:
        await child.wait(Duration.from_seconds(1))
        return event

    return await context.step(echo(await context.run_in_child_context(body, name="waiting")))


@durable_execution
async def inside_and_after(event: str, context: AsyncDurableContext) -> str:
    """A step and a wait in a child context, and again after it."""
    inner = await context.run_in_child_context(step_and_wait(event), name="inside")
    result = await context.step(echo(inner))
    await context.wait(Duration.from_seconds(1))
    return result


@durable_execution
async def large_result(event: str, context: AsyncDurableContext) -> int:
    """A result too large to be recorded: the body is replayed for it, and logs again."""

    async def body(child: AsyncDurableContext) -> str:
        child.logger.info("building for %s", event)
        small = await child.step(echo("x"))
        return small * LARGE

    context.configure_logger(mode_aware=False)
    large = await context.run_in_child_context(body, name="large")
    await context.wait(Duration.from_seconds(1))
    return len(large)


@durable_execution
async def logged_once(event: str, context: AsyncDurableContext) -> str:
    """A body that is not run again, as its log tells."""

    async def body(child: AsyncDurableContext) -> str:
        child.logger.info("running for %s", event)
        return event

    context.configure_logger(mode_aware=False)
    result = await context.run_in_child_context(body, name="logging")
    await context.wait(Duration.from_seconds(1))
    return result


@durable_execution
async def interrupted(event: str, context: AsyncDurableContext) -> str:
    """A step that crashes the process when it runs for the first time, and is run again."""
    arn = context.execution_context.durable_execution_arn
    mark = Path(os.environ[names.SCRATCH], hashlib.sha256(arn.encode()).hexdigest())

    def crash_once(_: StepContext) -> str:
        if not mark.exists():
            mark.touch()
            time.sleep(1)  # until the beginning of this step has been recorded
            os._exit(1)
        return event

    async def body(child: AsyncDurableContext) -> str:
        return await child.step(crash_once)

    return await context.run_in_child_context(body)


REQUIREMENTS = {
    "3-1": basic,
    "3-2": named,
    "3-3": two_steps,
    "3-4": step_failed,
    "3-5": failure_caught,
    "3-6": within_another,
    "3-7": step_retried,
    "3-8": step_exhausted,
    "3-9": replayed,
    "3-10": suspended,
    "3-11": large_result,
    "3-12": interrupted,
    "3-13": waited_then_step,
    "3-14": own_serdes,
    "3-15": body_failed,
    "3-16": nothing,
    "3-17": logged_once,
    "3-18": inside_and_after,
}
