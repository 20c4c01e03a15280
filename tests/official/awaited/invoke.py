"""Suite `invoke`: functions that invoke functions, and those that are invoked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from perdure.durable import Duration, InvokeConfig, InvokeError, durable_execution
from perdure.serdes import SerDes
from tests.official.names import ECHO, ECHO_TENANT, FAILS

if TYPE_CHECKING:
    from perdure.durable import AsyncDurableContext
    from perdure.serdes import SerDesContext

LARGE = 250 * 1024


class UppercaseSerDes(SerDes[Any]):
    """JSON in capital letters, sent or received."""

    def serialize(self, value: Any, _: SerDesContext) -> str:
        return json.dumps(value).upper()

    def deserialize(self, data: str, _: SerDesContext) -> str:
        return data.upper()


# ------------------------------------------------------------------------------------------------------------- targets


@durable_execution
async def target_echo(event: Any, context: AsyncDurableContext) -> Any:
    """Returns its input, after a wait."""
    await context.wait(Duration.from_seconds(1))
    return event


@durable_execution
async def target_echo_tenant(event: Any, context: AsyncDurableContext) -> Any:
    """The same, for a tenant."""
    await context.wait(Duration.from_seconds(1))
    return event


@durable_execution
async def target_fails(_: Any, context: AsyncDurableContext) -> None:
    """Fails, after the same."""
    await context.wait(Duration.from_seconds(1))
    raise RuntimeError("the target failed")


# ------------------------------------------------------------------------------------------------------------ payloads


@durable_execution
async def basic(event: str, context: AsyncDurableContext) -> str:
    """An invoke."""
    return await context.invoke(ECHO, event)


@durable_execution
async def named(event: dict[str, str], context: AsyncDurableContext) -> str:
    """An invoke with a name."""
    return await context.invoke(ECHO, event["payload"], name=event["name"])


@durable_execution
async def nested_object(event: dict[str, Any], context: AsyncDurableContext) -> dict[str, Any]:
    """An invoke with an object."""
    return await context.invoke(ECHO, event)


@durable_execution
async def nothing(_: None, context: AsyncDurableContext) -> None:
    """An invoke with None."""
    return await context.invoke(ECHO, None)


@durable_execution
async def large(_: None, context: AsyncDurableContext) -> int:
    """An invoke with much."""
    echoed = await context.invoke(ECHO, "x" * LARGE)
    return len(echoed)


@durable_execution
async def for_tenant(event: dict[str, str], context: AsyncDurableContext) -> str:
    """An invoke on behalf of a tenant."""
    return await context.invoke(ECHO_TENANT, event["payload"], config=InvokeConfig(tenant_id=event["tenantId"]))


@durable_execution
async def own_payload_serdes(event: dict[str, str], context: AsyncDurableContext) -> dict[str, str]:
    """An invoke whose payload is written by a serializer of its own."""
    return await context.invoke(ECHO, event, config=InvokeConfig(serdes_payload=UppercaseSerDes()))


@durable_execution
async def own_result_serdes(event: str, context: AsyncDurableContext) -> str:
    """An invoke whose result is read by a serializer of its own."""
    return await context.invoke(ECHO, event, config=InvokeConfig(serdes_result=UppercaseSerDes()))


# -------------------------------------------------------------------------------------------------------------- errors


@durable_execution
async def failing(_: None, context: AsyncDurableContext) -> None:
    """An invoke that fails, and with it the execution."""
    await context.invoke(FAILS, None)


@durable_execution
async def failure_caught(_: None, context: AsyncDurableContext) -> str:
    """An invoke that fails, and what is returned instead."""
    try:
        return await context.invoke(FAILS, None)
    except InvokeError:
        return "fallback"


@durable_execution
async def failure_replayed(_: None, context: AsyncDurableContext) -> str:
    """An invoke that raises after a wait what it raised before."""
    try:
        result = await context.invoke(FAILS, None)
    except InvokeError:
        result = "fallback"
    await context.wait(Duration.from_seconds(1))
    return result


# --------------------------------------------------------------------------------------------- among other operations


@durable_execution
async def replayed(_: None, context: AsyncDurableContext) -> str:
    """An invoke whose result is there after a wait."""
    result = await context.invoke(ECHO, "once")
    await context.wait(Duration.from_seconds(1))
    return result


@durable_execution
async def step_before(_: None, context: AsyncDurableContext) -> str:
    """An invoke with what a step returned."""
    payload = await context.step(lambda _: "prepared")
    return await context.invoke(ECHO, payload)


@durable_execution
async def step_after(_: None, context: AsyncDurableContext) -> str:
    """A step with what an invoke returned."""
    echoed = await context.invoke(ECHO, "invoked")
    return await context.step(lambda _: f"{echoed} and processed")


@durable_execution
async def in_child(_: None, context: AsyncDurableContext) -> str:
    """An invoke in a child context."""

    async def body(child: AsyncDurableContext) -> str:
        return await child.invoke(ECHO, "from a child")

    return await context.run_in_child_context(body)


@durable_execution
async def one_after_another(_: None, context: AsyncDurableContext) -> list[str]:
    """Two invokes."""
    first = await context.invoke(ECHO, "first")
    second = await context.invoke(ECHO, "second")
    return [first, second]


REQUIREMENTS = {
    "5-1": basic,
    "5-2": named,
    "5-3": nested_object,
    "5-4": nothing,
    "5-5": failing,
    "5-6": failure_caught,
    "5-7": large,
    "5-8": for_tenant,
    "5-9": replayed,
    "5-10": failure_replayed,
    "5-11": step_before,
    "5-12": step_after,
    "5-13": in_child,
    "5-14": one_after_another,
    "5-15": own_payload_serdes,
    "5-16": own_result_serdes,
}

TARGETS = {
    "TargetEcho": target_echo,
    "TargetEchoTenant": target_echo_tenant,
    "TargetFails": target_fails,
}
