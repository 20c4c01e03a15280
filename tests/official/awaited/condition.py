"""Suite `wait_for_condition`: polling."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from perdure.durable import (
    Duration,
    JitterStrategy,
    WaitForConditionConfig,
    WaitForConditionDecision,
    WaitForConditionError,
    WaitStrategyConfig,
    create_wait_strategy,
    durable_execution,
)
from perdure.serdes import SerDes

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.durable import AsyncDurableContext, WaitForConditionCheckContext
    from perdure.serdes import SerDesContext

SECOND = Duration.from_seconds(1)


class Base64SerDes(SerDes[str]):
    """Stores a text encoded."""

    def serialize(self, value: str, _: SerDesContext) -> str:
        return base64.b64encode(value.encode()).decode()

    def deserialize(self, data: str, _: SerDesContext) -> str:
        return base64.b64decode(data).decode()


def until(threshold: int) -> Callable[[int, int], WaitForConditionDecision]:
    """Polls every second until the state is this."""

    def strategy(state: int, _: int) -> WaitForConditionDecision:
        if state >= threshold:
            return WaitForConditionDecision.stop_polling()
        return WaitForConditionDecision.continue_waiting(SECOND)

    return strategy


async def increment(state: int, _: WaitForConditionCheckContext) -> int:
    return state + 1


def fail(_: Any, __: WaitForConditionCheckContext) -> Any:
    raise RuntimeError("the check failed")


# -------------------------------------------------------------------------------------------------------------- states


@durable_execution
async def basic(event: int, context: AsyncDurableContext) -> int:
    """A counter that is polled until it is high enough."""
    return await context.wait_for_condition(increment, WaitForConditionConfig(until(event), initial_state=0))


@durable_execution
async def met_at_once(event: int, context: AsyncDurableContext) -> int:
    """A condition that is met when it is first checked."""
    config = WaitForConditionConfig(until(event), initial_state=5)
    return await context.wait_for_condition(lambda state, _: state, config)


@durable_execution
async def named(event: int, context: AsyncDurableContext) -> int:
    """A condition with a name."""
    config = WaitForConditionConfig(until(event), initial_state=0)
    return await context.wait_for_condition(increment, config, name="poll-status")


@durable_execution
async def from_five(event: int, context: AsyncDurableContext) -> int:
    """A counter that begins elsewhere than with zero."""
    return await context.wait_for_condition(increment, WaitForConditionConfig(until(event), initial_state=5))


@durable_execution
async def nested_object(_: None, context: AsyncDurableContext) -> dict[str, Any]:
    """A state that is an object."""

    async def check(state: dict[str, Any], _: WaitForConditionCheckContext) -> dict[str, Any]:
        attempts = state["attempts"] + 1
        return {"status": "DONE" if attempts >= 2 else "PENDING", "attempts": attempts}

    def strategy(state: dict[str, Any], _: int) -> WaitForConditionDecision:
        if state["status"] == "DONE":
            return WaitForConditionDecision.stop_polling()
        return WaitForConditionDecision.continue_waiting(SECOND)

    config = WaitForConditionConfig(strategy, initial_state={"status": "PENDING", "attempts": 0})
    return await context.wait_for_condition(check, config)


@durable_execution
async def nothing(_: None, context: AsyncDurableContext) -> None:
    """A state that is None."""
    config = WaitForConditionConfig(lambda _, __: WaitForConditionDecision.stop_polling(), initial_state=None)
    return await context.wait_for_condition(lambda _, __: None, config)


@durable_execution
async def own_serdes(_: None, context: AsyncDurableContext) -> str:
    """A state that is stored by a serializer of its own."""

    def strategy(state: str, _: int) -> WaitForConditionDecision:
        if len(state) >= 2:
            return WaitForConditionDecision.stop_polling()
        return WaitForConditionDecision.continue_waiting(SECOND)

    config = WaitForConditionConfig(strategy, initial_state="", serdes=Base64SerDes())
    return await context.wait_for_condition(lambda state, _: f"{state}x", config)


# -------------------------------------------------------------------------------------------------------------- delays


@durable_execution
async def fixed_delay(event: int, context: AsyncDurableContext) -> int:
    """A counter that is polled every other second."""
    strategy = WaitStrategyConfig(
        should_continue_polling=lambda state: state < event,
        initial_delay=Duration.from_seconds(2),
        backoff_rate=1,
        jitter_strategy=JitterStrategy.NONE,
    )
    config = WaitForConditionConfig(create_wait_strategy(strategy), initial_state=0)
    return await context.wait_for_condition(increment, config)


@durable_execution
async def exhausted(event: int, context: AsyncDurableContext) -> int:
    """A condition that is never met, and is given up."""
    strategy = WaitStrategyConfig(
        should_continue_polling=lambda _: True,
        max_attempts=3,
        initial_delay=SECOND,
        backoff_rate=1,
        jitter_strategy=JitterStrategy.NONE,
    )
    config = WaitForConditionConfig(create_wait_strategy(strategy), initial_state=event)
    return await context.wait_for_condition(increment, config)


# -------------------------------------------------------------------------------------------------------------- errors


@durable_execution
async def check_failed(_: None, context: AsyncDurableContext) -> int:
    """A check that raises, and with it the execution fails."""
    return await context.wait_for_condition(fail, WaitForConditionConfig(until(1), initial_state=0))


@durable_execution
async def failure_caught(_: None, context: AsyncDurableContext) -> int | str:
    """A check that raises, and what is returned instead."""
    try:
        return await context.wait_for_condition(fail, WaitForConditionConfig(until(1), initial_state=0))
    except WaitForConditionError:
        return "recovered"


# --------------------------------------------------------------------------------------------- among other operations


@durable_execution
async def step_after(event: int, context: AsyncDurableContext) -> int:
    """A step with the state that was reached."""
    reached = await context.wait_for_condition(increment, WaitForConditionConfig(until(event), initial_state=0))
    return await context.step(lambda _: reached * 10)


@durable_execution
async def one_after_another(_: None, context: AsyncDurableContext) -> int:
    """A condition that begins where another one ended."""
    first = await context.wait_for_condition(increment, WaitForConditionConfig(until(2), initial_state=0))
    return await context.wait_for_condition(increment, WaitForConditionConfig(until(4), initial_state=first))


REQUIREMENTS = {
    "6-1": basic,
    "6-2": met_at_once,
    "6-3": named,
    "6-4": from_five,
    "6-5": fixed_delay,
    "6-6": exhausted,
    "6-7": check_failed,
    "6-8": failure_caught,
    "6-9": nested_object,
    "6-10": nothing,
    "6-11": own_serdes,
    "6-12": step_after,
    "6-13": one_after_another,
}
