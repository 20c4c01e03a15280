"""What a type checker infers for results in both colours; checked by `test_typing.py`, never run."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import assert_type

from perdure.client import AsyncClient, AsyncHandle, Client, Handle
from perdure.durable import (
    AsyncDurableContext,
    BatchResult,
    DurableContext,
    DurableFunction,
    DurableFuture,
    ParallelBranch,
    StepContext,
    WaitForConditionConfig,
    WaitForConditionDecision,
    durable_execution,
    durable_step,
)


class Order:
    """An input of some type."""


def price(context: StepContext) -> int:
    return context.attempt


async def price_async(context: StepContext) -> int:
    return context.attempt


def booked(context: StepContext, connection: sqlite3.Connection) -> int:
    return context.attempt


async def booked_async(context: StepContext, connection: sqlite3.Connection) -> str:
    return "booked"


@durable_step
def priced(context: StepContext, card: str) -> float:
    return float(card)


def stop(state: int, attempt: int) -> WaitForConditionDecision:
    return WaitForConditionDecision.stop_polling()


def child(context: DurableContext) -> int:
    return context.step(price)


@durable_execution
def blocking(event: Order, context: DurableContext) -> str:
    assert_type(context.step(price), int)
    assert_type(context.step(price_async), int)
    assert_type(context.step(priced("1")), float)
    assert_type(context.transaction(booked), int)
    assert_type(context.transaction(booked_async, name="book"), str)
    assert_type(context.transaction(lambda step, connection: step.attempt), int)
    assert_type(context.run_in_child_context(lambda child: child.step(price)), int)
    assert_type(context.map([1, 2], lambda child, item, index, items: str(item)), BatchResult[str])
    assert_type(context.parallel([child]), BatchResult[int])
    assert_type(context.parallel([ParallelBranch(child, "named")]).get_results(), list[int])
    # Some with a name and some without, or written as lambdas: taken, but of any type.
    context.parallel([ParallelBranch(child, "named"), child])
    context.parallel([ParallelBranch(lambda child: child.step(price), name="named"), lambda child: child.step(price)])
    config = WaitForConditionConfig(wait_strategy=stop, initial_state=1)
    assert_type(context.wait_for_condition(lambda state, _: state + 1, config), int)
    return "done"


@durable_execution
async def awaited(event: Order, context: AsyncDurableContext) -> str:
    assert_type(context.step(price), DurableFuture[int])
    assert_type(context.step(price_async), DurableFuture[int])
    assert_type(await context.step(price_async), int)
    assert_type(context.transaction(booked), DurableFuture[int])
    assert_type(context.transaction(booked_async), DurableFuture[str])
    assert_type(await context.transaction(booked_async, name="book"), str)

    async def branch(child: AsyncDurableContext) -> int:
        return await child.step(price)

    async def item(child: AsyncDurableContext, item: int, index: int, items: object) -> str:
        return str(item)

    assert_type(await context.run_in_child_context(branch), int)
    assert_type(await context.map([1, 2], item), BatchResult[str])
    assert_type(await context.parallel([branch]), BatchResult[int])
    assert_type(await context.run_in_child_context(lambda child: child.step(price)), int)
    assert_type(
        await context.map([1], lambda child, item, index, items: child.step(priced(str(item)))), BatchResult[float]
    )
    assert_type(await context.parallel([ParallelBranch(branch, "named")]), BatchResult[int])
    await context.parallel([ParallelBranch(branch, "named"), branch])
    await context.parallel([ParallelBranch(lambda child: child.step(price), "named"), lambda child: child.step(price)])
    await context.parallel([ParallelBranch(lambda child, n=n: child.step(lambda _: n), str(n)) for n in range(3)])
    return "done"


@durable_execution(name="named", version="2")
async def named(event: Order, context: AsyncDurableContext) -> int:
    return 1


assert_type(blocking, DurableFunction[Order, str])
assert_type(awaited, DurableFunction[Order, str])
assert_type(named, DurableFunction[Order, int])


def use(client: Client) -> None:
    assert_type(client.start(blocking, Order()), Handle[str])
    assert_type(client.start(awaited, Order()).result(), str)
    with closing(sqlite3.connect("orders.db")) as connection, connection:
        assert_type(client.start(blocking, Order(), connection=connection), Handle[str])
        client.send_callback_success("id", "yes", connection=connection)


async def use_async(client: AsyncClient) -> None:
    assert_type(await client.start(named, Order()), AsyncHandle[int])
    assert_type(await (await client.start(named, Order())).result(), int)
    assert_type(await client.start(named, Order(), connection=sqlite3.connect("orders.db")), AsyncHandle[int])
