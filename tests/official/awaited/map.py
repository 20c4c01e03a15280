"""Suite `map`: one function for many items, here mostly one after the other so that their order is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.durable import (
    BatchItem,
    BatchItemStatus,
    BatchResult,
    CompletionConfig,
    CompletionReason,
    Duration,
    MapConfig,
    NestingType,
    durable_execution,
)
from perdure.serdes import JsonSerDes, SerDes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.durable import AsyncDurableContext
    from perdure.serdes import SerDesContext

ONE_AT_A_TIME: MapConfig[Any] = MapConfig(max_concurrency=1)
LARGE = 70 * 1024


class WrappingSerDes(SerDes[str]):
    """Stores a text behind a prefix."""

    def serialize(self, value: str, _: SerDesContext) -> str:
        return f"wrapped:{value}"

    def deserialize(self, data: str, _: SerDesContext) -> str:
        return data.removeprefix("wrapped:")


class JoiningSerDes(SerDes[BatchResult[str]]):
    """Stores a whole batch as its results, joined."""

    def serialize(self, value: BatchResult[str], _: SerDesContext) -> str:
        return f"OPSERDE:{','.join(value.get_results())}"

    def deserialize(self, data: str, _: SerDesContext) -> BatchResult[str]:
        results = data.removeprefix("OPSERDE:").split(",")
        items = [BatchItem(index, BatchItemStatus.SUCCEEDED, result) for index, result in enumerate(results)]
        return BatchResult(items, CompletionReason.ALL_COMPLETED)


JOINED: MapConfig[Any] = MapConfig(max_concurrency=1, serdes=JoiningSerDes(), item_serdes=JsonSerDes())


async def same(_: AsyncDurableContext, item: str, __: int, ___: Sequence[str]) -> str:
    if item == "fail":
        raise RuntimeError("the item failed")
    return item


async def uppercase(_: AsyncDurableContext, item: str, __: int, ___: Sequence[str]) -> str:
    return item.upper()


async def recorded(iteration: AsyncDurableContext, item: str, __: int, ___: Sequence[str]) -> str:
    return await iteration.step(lambda _: item)


def completing(**criteria: Any) -> MapConfig[str]:
    """One item at a time, until this holds."""
    return MapConfig(max_concurrency=1, completion_config=CompletionConfig(**criteria))


def told(result: BatchResult[Any], *fields: str) -> dict[str, Any]:
    """What became of a batch, as far as asked for."""
    all_fields = {
        "completionReason": result.completion_reason.value,
        "status": result.status.value,
        "successCount": result.success_count,
        "failureCount": result.failure_count,
        "totalCount": result.total_count,
    }
    return {field: all_fields[field] for field in fields or all_fields}


# ------------------------------------------------------------------------------------------------------------- results


@durable_execution
async def basic(event: list[str], context: AsyncDurableContext) -> list[str]:
    """A step for each item."""

    async def greet(iteration: AsyncDurableContext, item: str, _: int, __: Sequence[str]) -> str:
        return await iteration.step(lambda _: f"Hello, {item}!")

    result = await context.map(event, greet, name="map", config=ONE_AT_A_TIME)
    return result.get_results()


@durable_execution
async def unnamed(event: list[int], context: AsyncDurableContext) -> list[int]:
    """Items and no name."""
    result = await context.map(event, lambda _, item, __, ___: item * 2, config=ONE_AT_A_TIME)
    return result.get_results()


@durable_execution
async def indexed(event: list[int], context: AsyncDurableContext) -> list[int]:
    """Items and their indices."""
    result = await context.map(event, lambda _, item, index, __: item + index, name="indexed", config=ONE_AT_A_TIME)
    return result.get_results()


@durable_execution
async def no_items(event: list[str], context: AsyncDurableContext) -> list[str]:
    """No items."""
    result = await context.map(event, same, name="empty")
    return result.get_results()


@durable_execution
async def concurrent(_: None, context: AsyncDurableContext) -> list[str]:
    """Two items at a time, their results in the order of the items."""
    result = await context.map(["r0", "r1", "r2"], same, name="concurrent", config=MapConfig(max_concurrency=2))
    return result.get_results()


@durable_execution
async def flat(_: None, context: AsyncDurableContext) -> list[str]:
    """Items without contexts of their own in the record."""
    config = MapConfig(max_concurrency=1, nesting_type=NestingType.FLAT)
    result = await context.map(["fa", "fb"], recorded, name="flat", config=config)
    return result.get_results()


@durable_execution
async def named_items(event: list[int], context: AsyncDurableContext) -> list[int]:
    """Items with names."""
    config = MapConfig(max_concurrency=1, item_namer=lambda item, _: f"item-{item}")
    result = await context.map(event, lambda _, item, __, ___: item * 10, name="named-items", config=config)
    return result.get_results()


@durable_execution
async def own_item_serdes(_: None, context: AsyncDurableContext) -> list[str]:
    """Items whose results are stored by a serializer of their own."""
    config = MapConfig(max_concurrency=1, item_serdes=WrappingSerDes())
    result = await context.map(["x", "y"], uppercase, name="serdes", config=config)
    return result.get_results()


@durable_execution
async def own_serdes(_: None, context: AsyncDurableContext) -> list[str]:
    """A result that is stored by a serializer of its own."""
    result = await context.map(["x", "y"], uppercase, name="op-serde", config=JOINED)
    return result.get_results()


@durable_execution
async def own_serdes_replayed(_: None, context: AsyncDurableContext) -> list[str]:
    """The same, read again after a wait."""
    result = await context.map(["x", "y"], uppercase, name="op-serde-replay", config=JOINED)
    await context.wait(Duration.from_seconds(1))
    return result.get_results()


@durable_execution
async def large_results(_: None, context: AsyncDurableContext) -> dict[str, int]:
    """Results that are together too large to be recorded."""

    async def repeat(_: AsyncDurableContext, item: str, __: int, ___: Sequence[str]) -> str:
        return item * LARGE

    result = await context.map(["a", "b", "c", "d"], repeat, name="large", config=ONE_AT_A_TIME)
    return told(result, "successCount", "totalCount")


# -------------------------------------------------------------------------------------------------------------- replay


@durable_execution
async def suspended(_: None, context: AsyncDurableContext) -> list[str]:
    """An item that waits, after one that has ended."""

    async def wait_unless_first(iteration: AsyncDurableContext, item: str, index: int, _: Sequence[str]) -> str:
        if index:
            await iteration.wait(Duration.from_seconds(1))
        return await iteration.step(lambda _: item)

    result = await context.map(["r0", "r1"], wait_unless_first, name="suspend", config=ONE_AT_A_TIME)
    return result.get_results()


@durable_execution
async def replayed(_: None, context: AsyncDurableContext) -> list[str]:
    """A result that is there after a wait."""
    result = await context.map(["a", "b"], uppercase, name="then-wait", config=ONE_AT_A_TIME)
    await context.wait(Duration.from_seconds(1))
    return result.get_results()


@durable_execution
async def failure_replayed(_: None, context: AsyncDurableContext) -> dict[str, Any]:
    """A result with a failure that is there after a wait."""
    config = completing(tolerated_failure_count=1)
    result = await context.map(["ok", "fail"], same, name="fail-then-wait", config=config)
    await context.wait(Duration.from_seconds(1))
    return told(result)


# ---------------------------------------------------------------------------------------------------------- completion


@durable_execution
async def fail_fast(_: None, context: AsyncDurableContext) -> dict[str, Any]:
    """The first failure ends it."""
    config = completing(tolerated_failure_count=0)
    return told(await context.map(["ok", "fail", "ok"], same, name="failfast", config=config))


@durable_execution
async def thrown(_: None, context: AsyncDurableContext) -> list[str]:
    """The failure of an item is raised when the result is asked to."""
    config = completing(tolerated_failure_count=0)
    result = await context.map(["fail", "ok"], same, name="throwing", config=config)
    result.throw_if_error()
    return result.get_results()


@durable_execution
async def enough_successes(_: None, context: AsyncDurableContext) -> dict[str, Any]:
    """Two successes of four end it."""
    config = completing(min_successful=2)
    result = await context.map(["a", "b", "c", "d"], same, name="min-successful", config=config)
    return told(result, "completionReason", "successCount", "totalCount")


@durable_execution
async def tolerated(_: None, context: AsyncDurableContext) -> dict[str, Any]:
    """A failure that is tolerated ends nothing."""
    config = completing(tolerated_failure_count=1)
    return told(await context.map(["ok", "fail", "ok"], same, name="tolerated", config=config))


@durable_execution
async def tolerance_exceeded(_: None, context: AsyncDurableContext) -> dict[str, Any]:
    """One failure more than is tolerated ends it."""
    config = completing(tolerated_failure_count=1)
    result = await context.map(["fail", "fail", "ok"], same, name="tolerated-exceeded", config=config)
    return told(result, "completionReason", "successCount", "failureCount", "totalCount")


@durable_execution
async def percentage_exceeded(_: None, context: AsyncDurableContext) -> dict[str, Any]:
    """A larger part of failures than is tolerated ends it."""
    config = completing(tolerated_failure_percentage=25)
    result = await context.map(["fail", "fail", "ok", "ok"], same, name="tolerated-pct", config=config)
    return told(result, "completionReason", "successCount", "failureCount", "totalCount")


REQUIREMENTS = {
    "9-1": basic,
    "9-2": unnamed,
    "9-3": indexed,
    "9-4": no_items,
    "9-5": fail_fast,
    "9-6": thrown,
    "9-7": enough_successes,
    "9-8": tolerated,
    "9-9": tolerance_exceeded,
    "9-10": percentage_exceeded,
    "9-11": concurrent,
    "9-12": flat,
    "9-13": named_items,
    "9-14": own_item_serdes,
    "9-15": suspended,
    "9-16": large_results,
    "9-17": replayed,
    "9-18": failure_replayed,
    "9-19": own_serdes,
    "9-20": own_serdes_replayed,
}
