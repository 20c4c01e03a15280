"""Suite `wait_for_callback`: callbacks, and what tells the outside of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.durable import (
    CallbackError,
    Duration,
    JitterStrategy,
    RetryStrategyConfig,
    WaitForCallbackConfig,
    create_retry_strategy,
    durable_execution,
)
from perdure.serdes import JsonSerDes

if TYPE_CHECKING:
    from perdure.durable import AsyncDurableContext, WaitForCallbackContext


async def submit(callback_id: str, submitter: WaitForCallbackContext) -> None:
    submitter.logger.info("waiting for %s", callback_id)


# ------------------------------------------------------------------------------------------------------------- success


@durable_execution
async def basic(event: str, context: AsyncDurableContext) -> str:
    """A callback that is completed; 7-15 completes it with nothing."""
    return await context.wait_for_callback(submit, name=event)


@durable_execution
async def named(_: None, context: AsyncDurableContext) -> str:
    """A callback whose name is known beforehand."""
    return await context.wait_for_callback(submit, name="approval")


@durable_execution
async def unnamed(_: None, context: AsyncDurableContext) -> str:
    """A callback without a name."""
    return await context.wait_for_callback(lambda _, __: None)


@durable_execution
async def own_serdes(event: str, context: AsyncDurableContext) -> str:
    """A callback whose payload is read as JSON."""
    config = WaitForCallbackConfig(serdes=JsonSerDes())
    answer = await context.wait_for_callback(submit, name=event, config=config)
    return answer["status"]


@durable_execution
async def heartbeat_kept(event: str, context: AsyncDurableContext) -> str:
    """A callback that is kept alive, then completed."""
    config = WaitForCallbackConfig(heartbeat_timeout=Duration.from_seconds(10))
    return await context.wait_for_callback(submit, name=event, config=config)


# ------------------------------------------------------------------------------------------------------------- failure


@durable_execution
async def failure_caught(event: str, context: AsyncDurableContext) -> str:
    """A callback that fails, and what is returned instead."""
    try:
        return await context.wait_for_callback(submit, name=event)
    except CallbackError:
        return "recovered"


@durable_execution
async def timed_out(event: str, context: AsyncDurableContext) -> str:
    """A callback for which nothing comes in time."""
    config = WaitForCallbackConfig(timeout=Duration.from_seconds(3))
    return await context.wait_for_callback(submit, name=event, config=config)


@durable_execution
async def timeout_caught(event: str, context: AsyncDurableContext) -> str:
    """The same, and what is returned instead."""
    config = WaitForCallbackConfig(timeout=Duration.from_seconds(3))
    try:
        return await context.wait_for_callback(submit, name=event, config=config)
    except CallbackError:
        return "timed-out-handled"


@durable_execution
async def heartbeat_missed(event: str, context: AsyncDurableContext) -> str:
    """A callback that shows no sign of life."""
    config = WaitForCallbackConfig(heartbeat_timeout=Duration.from_seconds(5))
    return await context.wait_for_callback(submit, name=event, config=config)


@durable_execution
async def submitter_failed(event: str, context: AsyncDurableContext) -> str:
    """A callback of which nobody can be told."""

    async def submit_in_vain(_: str, __: WaitForCallbackContext) -> None:
        raise RuntimeError("nobody there")

    strategy = RetryStrategyConfig(
        max_attempts=2, initial_delay=Duration.from_seconds(1), jitter_strategy=JitterStrategy.NONE
    )
    config = WaitForCallbackConfig(retry_strategy=create_retry_strategy(strategy))
    return await context.wait_for_callback(submit_in_vain, name=event, config=config)


# --------------------------------------------------------------------------------------------- among other operations


@durable_execution
async def in_child(event: str, context: AsyncDurableContext) -> str:
    """A callback in a child context."""

    async def body(child: AsyncDurableContext) -> str:
        return await child.wait_for_callback(submit, name=event)

    return await context.run_in_child_context(body, name="wrapper")


@durable_execution
async def one_after_another(_: None, context: AsyncDurableContext) -> str:
    """Two callbacks."""
    await context.wait_for_callback(submit, name="first")
    return await context.wait_for_callback(submit, name="second")


@durable_execution
async def wait_and_step_before(event: str, context: AsyncDurableContext) -> str:
    """A callback after a wait and a step."""
    await context.wait(Duration.from_seconds(1))
    await context.step(lambda _: {"prepared": True})
    return await context.wait_for_callback(submit, name=event)


REQUIREMENTS = {
    "7-1": basic,
    "7-2": named,
    "7-3": unnamed,
    "7-4": basic,
    "7-5": timed_out,
    "7-6": failure_caught,
    "7-7": submitter_failed,
    "7-8": in_child,
    "7-9": one_after_another,
    "7-10": wait_and_step_before,
    "7-11": own_serdes,
    "7-12": heartbeat_missed,
    "7-13": heartbeat_kept,
    "7-14": timeout_caught,
    "7-15": basic,
}
