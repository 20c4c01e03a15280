"""Suite `callback`: results that come from outside."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from perdure.durable import CallbackConfig, CallbackError, Duration, durable_execution
from perdure.serdes import JsonSerDes, SerDes

if TYPE_CHECKING:
    from perdure.durable import AsyncDurableContext
    from perdure.serdes import SerDesContext


class MessageSerDes(SerDes[dict[str, Any]]):
    """Reads a message whose timestamp is ISO text, as seconds since the epoch."""

    def serialize(self, value: dict[str, Any], _: SerDesContext) -> str:
        return json.dumps(value)

    def deserialize(self, data: str, _: SerDesContext) -> dict[str, Any]:
        message = json.loads(data)
        return {**message, "timestamp": int(datetime.fromisoformat(message["timestamp"]).timestamp())}


# ------------------------------------------------------------------------------------------------------------ outcomes


@durable_execution
async def basic(event: str, context: AsyncDurableContext) -> str:
    """A callback that is awaited at once."""
    callback = await context.create_callback(name=event)
    return await callback.result()


@durable_execution
async def named(_: None, context: AsyncDurableContext) -> str:
    """A callback whose name is known beforehand."""
    callback = await context.create_callback(name="approval")
    return await callback.result()


@durable_execution
async def timed_out(event: str, context: AsyncDurableContext) -> str:
    """A callback for which nothing comes in time."""
    config = CallbackConfig(timeout=Duration.from_seconds(5))
    callback = await context.create_callback(name=event, config=config)
    return await callback.result()


@durable_execution
async def heartbeat_missed(event: str, context: AsyncDurableContext) -> str:
    """A callback that shows no sign of life."""
    config = CallbackConfig(heartbeat_timeout=Duration.from_seconds(5))
    callback = await context.create_callback(name=event, config=config)
    return await callback.result()


@durable_execution
async def heartbeat_kept(event: str, context: AsyncDurableContext) -> str:
    """A callback that is kept alive, then completed."""
    config = CallbackConfig(heartbeat_timeout=Duration.from_seconds(10))
    callback = await context.create_callback(name=event, config=config)
    return await callback.result()


@durable_execution
async def own_message(event: str, context: AsyncDurableContext) -> dict[str, Any]:
    """A callback whose payload is read by a serializer of its own."""
    callback = await context.create_callback(name=event, config=CallbackConfig(serdes=MessageSerDes()))
    return {"received": await callback.result()}


@durable_execution
async def own_number(event: str, context: AsyncDurableContext) -> dict[str, int]:
    """A callback whose payload is read as a number."""
    callback = await context.create_callback(name=event, config=CallbackConfig(serdes=JsonSerDes()))
    count = await callback.result()
    return {"count": count, "doubled": count * 2}


# ------------------------------------------------------------------------------------------- something in between


@durable_execution
async def step_between(event: str, context: AsyncDurableContext) -> str:
    """A callback that is awaited after a step."""
    callback = await context.create_callback(name=event)
    await context.step(lambda _: f"asked as {callback.callback_id}")
    return await callback.result()


@durable_execution
async def timed_out_after_step(event: str, context: AsyncDurableContext) -> str:
    """The same, and nothing comes in time."""
    config = CallbackConfig(timeout=Duration.from_seconds(5))
    callback = await context.create_callback(name=event, config=config)
    await context.step(lambda _: f"asked as {callback.callback_id}")
    return await callback.result()


@durable_execution
async def wait_between(event: str, context: AsyncDurableContext) -> str:
    """A callback that is completed during a wait."""
    callback = await context.create_callback(name=event)
    await context.wait(Duration.from_seconds(5))
    return await callback.result()


@durable_execution
async def timed_out_during_wait(event: str, context: AsyncDurableContext) -> str:
    """A callback whose time is over before the wait is."""
    config = CallbackConfig(timeout=Duration.from_seconds(3))
    callback = await context.create_callback(name=event, config=config)
    await context.wait(Duration.from_seconds(6))
    return await callback.result()


# --------------------------------------------------------------------------------------------------- something after


@durable_execution
async def wait_after(event: str, context: AsyncDurableContext) -> str:
    """A callback, then a wait."""
    callback = await context.create_callback(name=event)
    result = await callback.result()
    await context.wait(Duration.from_seconds(2))
    return result


@durable_execution
async def failure_caught(event: str, context: AsyncDurableContext) -> str:
    """A callback that fails, and a wait after it."""
    callback = await context.create_callback(name=event)
    try:
        result = await callback.result()
    except CallbackError as error:
        result = f"rejected: {error}"
    await context.wait(Duration.from_seconds(2))
    return result


@durable_execution
async def timeout_caught(event: str, context: AsyncDurableContext) -> str:
    """A callback that times out, and a wait after it."""
    config = CallbackConfig(timeout=Duration.from_seconds(3))
    callback = await context.create_callback(name=event, config=config)
    try:
        result = await callback.result()
    except CallbackError as error:
        result = f"no answer: {error}"
    await context.wait(Duration.from_seconds(2))
    return result


# -------------------------------------------------------------------------------------------------------- two of them


@durable_execution
async def one_after_another(event: list[str], context: AsyncDurableContext) -> list[str]:
    """A callback that is created when another one has been completed."""
    first = await context.create_callback(name=event[0])
    first_result = await first.result()
    second = await context.create_callback(name=event[1])
    return [first_result, await second.result()]


@durable_execution
async def in_order(event: list[str], context: AsyncDurableContext) -> list[str]:
    """Two callbacks, awaited as they were created."""
    first = await context.create_callback(name=event[0])
    second = await context.create_callback(name=event[1])
    return [await first.result(), await second.result()]


@durable_execution
async def in_reverse(event: list[str], context: AsyncDurableContext) -> list[str]:
    """Two callbacks, the later one awaited first."""
    first = await context.create_callback(name=event[0])
    second = await context.create_callback(name=event[1])
    second_result = await second.result()
    return [await first.result(), second_result]


REQUIREMENTS = {
    "4-1": basic,
    "4-2": named,
    "4-3": timed_out,
    "4-4": heartbeat_missed,
    "4-5": heartbeat_kept,
    "4-6": basic,
    "4-7": step_between,
    "4-8": timed_out_after_step,
    "4-9": wait_between,
    "4-10": wait_between,
    "4-11": timed_out_during_wait,
    "4-12": wait_after,
    "4-13": failure_caught,
    "4-14": timeout_caught,
    "4-15": own_message,
    "4-16": own_number,
    "4-17": one_after_another,
    "4-18": in_order,
    "4-19": in_reverse,
}
