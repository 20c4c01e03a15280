"""What mypy infers for users' code in both colours; checked by running mypy, not by running this."""

from __future__ import annotations

import asyncio
from typing import Any, assert_type

import attrs

from perdure.batch import BatchResult
from perdure.client import AsyncClient, AsyncHandle, Client, Handle
from perdure.durable import (
    AsyncDurableContext,
    DurableContext,
    DurableFunction,
    StepContext,
    WaitForConditionCheckContext,
    WaitForConditionConfig,
    WaitForConditionDecision,
    durable_execution,
    durable_step,
)


@attrs.frozen
class Order:
    """An input."""

    card: str


@attrs.frozen
class Receipt:
    """A result."""

    amount: int


def count(_: StepContext) -> int:
    return 1


async def count_later(_: StepContext) -> int:
    return 1


@durable_step
def name_of(_: StepContext, card: str) -> str:
    return card


def branch(context: DurableContext) -> int:
    return context.step(count)


def check(state: str, _: WaitForConditionCheckContext) -> str:
    return state


def is_done(_: str, __: int) -> WaitForConditionDecision:
    return WaitForConditionDecision.stop_polling()


@durable_execution
def flow(event: Order, context: DurableContext) -> Receipt:
    assert_type(context.step(count), int)
    assert_type(context.step(count_later), int)
    assert_type(context.step(name_of(event.card)), str)
    assert_type(context.wait_for_condition(check, WaitForConditionConfig(is_done, "")), str)
    assert_type(context.run_in_child_context(lambda child: child.step(count)), int)
    assert_type(context.parallel([branch]), BatchResult[int])
    assert_type(context.map(["a"], lambda branch, item, index, items: branch.step(name_of(item))), BatchResult[str])
    return Receipt(1)


@durable_execution(name="other")
async def async_flow(event: Order, context: AsyncDurableContext) -> Receipt:
    assert_type(await context.step(count), int)
    assert_type(await context.step(count_later), int)
    assert_type(await context.step(name_of(event.card)), str)
    first, second = await asyncio.gather(context.step(count), context.step(name_of(event.card)))
    assert_type(first, int)
    assert_type(second, str)
    return Receipt(1)


assert_type(flow, DurableFunction[Order, Receipt])
assert_type(async_flow, DurableFunction[Order, Receipt])


def application(client: Client) -> None:
    handle = client.start(flow, Order("4711"))
    assert_type(handle, Handle[Receipt])
    assert_type(handle.result(), Receipt)
    assert_type(client.start("flow", {}).result(), Any)
    client.start(flow, "4711")  # type: ignore[misc]  # is no Order


async def async_application(client: AsyncClient) -> None:
    handle = await client.start(async_flow, Order("4711"))
    assert_type(handle, AsyncHandle[Receipt])
    assert_type(await handle.result(), Receipt)
