"""Suite `map` as `def` workflows, except for when one is over; that is in `completion`."""

from __future__ import annotations

from perdure.batch import BatchItem, BatchItemStatus, BatchResult, CompletionReason
from perdure.config import Duration, MapConfig, NestingType
from perdure.durable import durable_execution
from perdure.serdes import EXTENDED_TYPES_SERDES, SerDes

IN_TURN = MapConfig(max_concurrency=1)


def greet(branch, name, *_):
    return branch.step(lambda _: f"Hello, {name}!")


@durable_execution
def map_basic(names, context):
    """A step for each item."""
    return context.map(names, greet, name="map", config=IN_TURN).get_results()


@durable_execution
def without_name(numbers, context):
    """No name, and items without operations."""
    return context.map(numbers, lambda _, number, *__: number * 2, config=IN_TURN).get_results()


def add_index(_, number, index, __):
    return number + index


@durable_execution
def item_and_index(numbers, context):
    """The function is given the item and its index."""
    return context.map(numbers, add_index, name="indexed", config=IN_TURN).get_results()


@durable_execution
def no_items(items, context):
    """Nothing to do."""
    return context.map(items, greet, name="empty").get_results()


def itself(_, item, *__):
    return item


@durable_execution
def concurrent_items(_, context):
    """Results come in the order of the items, however those end."""
    config = MapConfig(max_concurrency=2)
    return context.map(["r0", "r1", "r2"], itself, name="concurrent", config=config).get_results()


def step(branch, item, *_):
    return branch.step(lambda _: item)


@durable_execution
def flat_items(_, context):
    """Items that are not recorded as contexts."""
    config = MapConfig(max_concurrency=1, nesting_type=NestingType.FLAT)
    return context.map(["fa", "fb"], step, name="flat", config=config).get_results()


@durable_execution
def named_items(numbers, context):
    """Items with names."""
    config = MapConfig(max_concurrency=1, item_namer=lambda number, _: f"item-{number}")
    return context.map(numbers, lambda _, number, *__: number * 10, name="named-items", config=config).get_results()


# -------------------------------------------------------------------------------------------------------------- serdes


def capitals(_, text, *__):
    return text.upper()


class WrappedSerDes(SerDes):
    """Stores a text behind a mark."""

    def serialize(self, value, _):
        return f"wrapped:{value}"

    def deserialize(self, data, _):
        return data.removeprefix("wrapped:")


@durable_execution
def item_serdes(_, context):
    """The result of an item is stored as its serdes makes it."""
    config = MapConfig(max_concurrency=1, item_serdes=WrappedSerDes())
    return context.map(["x", "y"], capitals, name="serdes", config=config).get_results()


class JoinedSerDes(SerDes):
    """Stores the texts that all items of a batch succeeded with in a line."""

    def serialize(self, value, _):
        return "OPSERDE:" + ",".join(value.get_results())

    def deserialize(self, data, _):
        texts = data.removeprefix("OPSERDE:").split(",")
        items = [BatchItem(index, BatchItemStatus.SUCCEEDED, text) for index, text in enumerate(texts)]
        return BatchResult(items, CompletionReason.ALL_COMPLETED)


JOINED = MapConfig(max_concurrency=1, serdes=JoinedSerDes(), item_serdes=EXTENDED_TYPES_SERDES)


@durable_execution
def batch_serdes(_, context):
    """The whole result is stored as its serdes makes it."""
    return context.map(["x", "y"], capitals, name="op-serde", config=JOINED).get_results()


@durable_execution
def replayed_batch_serdes(_, context):
    """The whole result is read by its serdes after a wait."""
    batch = context.map(["x", "y"], capitals, name="op-serde-replay", config=JOINED)
    context.wait(Duration.from_seconds(1))
    return batch.get_results()


# -------------------------------------------------------------------------------------------------------------- replay


def wait_from_the_second(branch, item, index, _):
    if index > 0:
        branch.wait(Duration.from_seconds(1))
    return branch.step(lambda _: item)


@durable_execution
def suspended_item(_, context):
    """The item that has ended is not run again after the wait of the other."""
    return context.map(["r0", "r1"], wait_from_the_second, name="suspend", config=IN_TURN).get_results()


@durable_execution
def large_results(_, context):
    """The results are too large to be stored in one piece."""
    batch = context.map(list("abcd"), lambda _, letter, *__: letter * 70_000, name="large", config=IN_TURN)
    return {"successCount": batch.success_count, "totalCount": batch.total_count}


@durable_execution
def wait_after(_, context):
    """The results outlast a wait."""
    batch = context.map(["a", "b"], capitals, name="then-wait", config=IN_TURN)
    context.wait(Duration.from_seconds(1))
    return batch.get_results()


REQUIREMENTS = {
    "9-1": map_basic,
    "9-2": without_name,
    "9-3": item_and_index,
    "9-4": no_items,
    "9-11": concurrent_items,
    "9-12": flat_items,
    "9-13": named_items,
    "9-14": item_serdes,
    "9-15": suspended_item,
    "9-16": large_results,
    "9-17": wait_after,
    "9-19": batch_serdes,
    "9-20": replayed_batch_serdes,
}
