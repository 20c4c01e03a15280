"""Suite `step`: results, serializers, retries and crashes."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from perdure.durable import (
    Duration,
    JitterStrategy,
    RetryDecision,
    RetryPresets,
    RetryStrategyConfig,
    StepConfig,
    StepError,
    StepSemantics,
    create_retry_strategy,
    durable_execution,
    durable_step,
)
from perdure.serdes import SerDes

if TYPE_CHECKING:
    from perdure.durable import AsyncDurableContext, StepContext
    from perdure.serdes import SerDesContext

NO_RETRY = StepConfig(retry_strategy=RetryPresets.none())
SECOND = Duration.from_seconds(1)


class TransientError(Exception):
    """What may pass."""


class UppercaseSerDes(SerDes[str]):
    """Stores a text in capital letters."""

    def serialize(self, value: str, _: SerDesContext) -> str:
        return value.upper()

    def deserialize(self, data: str, _: SerDesContext) -> str:
        return data


@durable_step
async def greet(_: StepContext, name: str) -> str:
    return f"Hello, {name}!"


@durable_step
def succeed_on(step: StepContext, attempt: int, result: str) -> str:
    """Fails until this attempt."""
    if step.attempt < attempt:
        raise RuntimeError(f"attempt {step.attempt} failed")
    return result


async def fail(_: StepContext) -> str:
    raise RuntimeError("nothing can be done")


# ------------------------------------------------------------------------------------------------------------- results


@durable_execution
async def basic(event: str, context: AsyncDurableContext) -> str:
    """A step with an argument."""
    return await context.step(greet(event))


@durable_execution
async def named(event: str, context: AsyncDurableContext) -> str:
    """A step with a name of its own."""
    return await context.step(greet(event), name="custom_step_name")


@durable_execution
async def dependent(_: None, context: AsyncDurableContext) -> str:
    """Two steps, of which the second needs what the first returned."""
    first = await context.step(lambda _: "first")
    return await context.step(lambda _: f"{first}_second")


@durable_execution
async def nested_object(event: dict[str, Any], context: AsyncDurableContext) -> dict[str, Any]:
    """A step that returns an object."""

    async def build_response(_: StepContext) -> dict[str, Any]:
        return {"user": {"name": event["name"], "tags": event["tags"]}, "count": len(event["tags"])}

    return await context.step(build_response)


@durable_execution
async def nothing(_: None, context: AsyncDurableContext) -> None:
    """A step that returns None."""
    return await context.step(lambda _: None)


@durable_execution
async def own_serdes(event: str, context: AsyncDurableContext) -> str:
    """A step whose result is what its serializer made of it."""
    return await context.step(lambda _: event, config=StepConfig(serdes=UppercaseSerDes()))


@durable_execution
async def logging(event: str, context: AsyncDurableContext) -> str:
    """A step that logs."""

    async def greeting(step: StepContext) -> str:
        step.logger.info("Greeting step started for: %s", event)
        result = f"Hello, {event}!"
        step.logger.info("Greeting step completed with: %s", result)
        return result

    return await context.step(greeting)


# -------------------------------------------------------------------------------------------------------------- replay


@durable_execution
async def before_wait(_: None, context: AsyncDurableContext) -> str:
    """A step, then a wait."""
    result = await context.step(lambda _: "computed")
    await context.wait(Duration.from_seconds(2))
    return result


@durable_execution
async def success_replayed(_: None, context: AsyncDurableContext) -> str:
    """A step that is not run again after a wait."""

    async def compute(step: StepContext) -> str:
        step.logger.info("step executed")
        return "cached_value"

    result = await context.step(compute)
    await context.wait(SECOND)
    return result


@durable_execution
async def failure_replayed(_: None, context: AsyncDurableContext) -> str:
    """A failed step that raises after a wait what it raised before."""

    async def compute(step: StepContext) -> str:
        step.logger.info("step executed")
        raise RuntimeError("permanent failure")

    try:
        result = await context.step(compute, config=NO_RETRY)
    except StepError as error:
        result = f"caught: {error}"
    await context.wait(SECOND)
    return result


# ------------------------------------------------------------------------------------------------------------- retries


@durable_execution
async def retried(_: None, context: AsyncDurableContext) -> str:
    """A step that succeeds when it is retried."""
    config = StepConfig(retry_strategy=RetryPresets.fixed(SECOND))
    return await context.step(succeed_on(2, "Operation succeeded"), config=config)


@durable_execution
async def exhausted(_: None, context: AsyncDurableContext) -> str:
    """A step that fails four times, and is given up."""
    strategy = RetryStrategyConfig(
        max_attempts=4, initial_delay=SECOND, backoff_rate=1, jitter_strategy=JitterStrategy.NONE
    )
    return await context.step(fail, config=StepConfig(retry_strategy=create_retry_strategy(strategy)))


@durable_execution
async def retried_by_default(_: None, context: AsyncDurableContext) -> str:
    """A step that is retried without being configured to be."""
    return await context.step(succeed_on(3, "third time lucky"))


@durable_execution
async def backed_off(_: None, context: AsyncDurableContext) -> str:
    """A step whose delays grow threefold."""
    strategy = RetryStrategyConfig(
        max_attempts=5,
        initial_delay=Duration.from_seconds(2),
        backoff_rate=3,
        jitter_strategy=JitterStrategy.NONE,
    )
    config = StepConfig(retry_strategy=create_retry_strategy(strategy))
    return await context.step(succeed_on(3, "third time lucky"), config=config)


@durable_execution
async def retried_by_type(_: None, context: AsyncDurableContext) -> str:
    """A step that is retried for the kind of its error."""

    async def flaky(step: StepContext) -> str:
        if step.attempt == 1:
            raise TransientError("try again")
        return "recovered"

    def only_transient(error: Exception, _: int) -> RetryDecision:
        return RetryDecision.retry(SECOND) if isinstance(error, TransientError) else RetryDecision.no_retry()

    return await context.step(flaky, config=StepConfig(retry_strategy=only_transient))


@durable_execution
async def given_up_by_type(_: None, context: AsyncDurableContext) -> str:
    """A step that is given up for the kind of its error."""

    async def flaky(_: StepContext) -> str:
        raise TransientError("do not try again")

    def never_transient(error: Exception, _: int) -> RetryDecision:
        return RetryDecision.no_retry() if isinstance(error, TransientError) else RetryDecision.retry(SECOND)

    return await context.step(flaky, config=StepConfig(retry_strategy=never_transient))


# ------------------------------------------------------------------------------------------------------------- crashes


@durable_execution
async def interrupted(event: str, context: AsyncDurableContext) -> str:
    """A step of which one attempt may run once: after a crash it has failed."""

    async def crash(step: StepContext) -> str:
        step.logger.info("about to crash: %s", event)
        os._exit(1)

    config = StepConfig(RetryPresets.none(), StepSemantics.AT_MOST_ONCE_PER_RETRY)
    return await context.step(crash, name="at_most_once_flaky_step", config=config)


@durable_execution
async def interrupted_and_retried(event: str, context: AsyncDurableContext) -> str:
    """The same with a second attempt."""

    async def crash_once(step: StepContext) -> str:
        step.logger.info("attempt %s: %s", step.attempt, event)
        if step.attempt == 1:
            os._exit(1)
        await asyncio.sleep(0)
        return "succeeded on second attempt"

    config = StepConfig(RetryPresets.fixed(SECOND), StepSemantics.AT_MOST_ONCE_PER_RETRY)
    return await context.step(crash_once, config=config)


# -------------------------------------------------------------------------------------------------------------- errors


@durable_execution
async def failing(_: None, context: AsyncDurableContext) -> str:
    """A step that fails, and with it the execution."""
    return await context.step(fail, config=NO_RETRY)


@durable_execution
async def fallen_back(_: None, context: AsyncDurableContext) -> str:
    """A step that takes the place of one that failed."""
    try:
        return await context.step(fail, config=NO_RETRY)
    except StepError:
        return await context.step(lambda _: "fallback_result")


REQUIREMENTS = {
    "1-1": basic,
    "1-2": named,
    "1-3": dependent,
    "1-4": nested_object,
    "1-5": nothing,
    "1-6": own_serdes,
    "1-7": logging,
    "1-8": before_wait,
    "1-9": success_replayed,
    "1-10": failure_replayed,
    "1-11": retried,
    "1-12": exhausted,
    "1-13": retried_by_default,
    "1-14": backed_off,
    "1-15": retried_by_type,
    "1-16": given_up_by_type,
    "1-17": interrupted,
    "1-18": interrupted_and_retried,
    "1-19": failing,
    "1-20": fallen_back,
}
