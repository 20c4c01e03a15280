"""map: one function over many items (feature 9)."""

from __future__ import annotations

from perdure.config import CompletionConfig, Duration, MapConfig, NestingType
from perdure.errors import ChildContextError
from perdure.serdes import JsonSerDes, SerDes


async def tenfold(context, item, index, items):
    return await context.step(lambda _: [item * 10, index, len(items)], name="tenfold")


def test_a_map(stage):
    """The function gets context, item, index and all items; results come in the order of the items."""

    async def workflow(event, context):
        result = await context.map(event, tenfold, name="all")
        return result.get_results()

    outcome = stage.run(workflow, [5, 6, 7])
    assert outcome.result == [[50, 0, 3], [60, 1, 3], [70, 2, 3]]
    assert set(outcome.by_operation) == {
        "",
        "all",
        *(f"all/map-item-{n}{rest}" for n in range(3) for rest in ("", "/tenfold")),
    }
    assert outcome.by_operation["all"].startswith("ContextStarted [Map]; ContextSucceeded")
    assert outcome.by_operation["all/map-item-0"] == "ContextStarted [MapIteration]; ContextSucceeded = [50,0,3]"


def test_an_item_namer(stage):
    """It names each item's context from the item and its index."""

    async def workflow(event, context):
        config = MapConfig(item_namer=lambda item, index: f"{item['id']}-{index}")

        async def load(item_context, item, index, items):
            return item["id"]

        return (await context.map([{"id": "a"}, {"id": "b"}], load, name="load", config=config)).get_results()

    outcome = stage.run(workflow)
    assert outcome.result == ["a", "b"]
    assert set(outcome.by_operation) == {"", "load", "load/a-0", "load/b-1"}


def test_an_item_namer_that_raises(stage):
    """It fails the operation, before any item runs."""

    async def workflow(event, context):
        def namer(item, index):
            raise ValueError("nameless")

        try:
            await context.map([1], tenfold, name="all", config=MapConfig(item_namer=namer))
        except ChildContextError as error:
            return [error.error_type, error.message]

    outcome = stage.run(workflow)
    assert outcome.result == ["ValueError", "nameless"]
    assert len(outcome.handle.operations()) == 2


def test_no_items(stage):
    """A map over nothing completes with nothing."""

    async def workflow(event, context):
        result = await context.map([], tenfold)
        return [result.get_results(), result.completion_reason.value]

    assert stage.run(workflow).result == [[], "ALL_COMPLETED"]


def test_a_map_is_not_run_again(stage):
    """After it has ended, its function is not called on replay; its result is the recorded one."""

    async def workflow(event, context):
        async def item(item_context, item, index, items):
            stage.ran("function")
            return await item_context.step(stage.body("body", item), name="body")

        result = await context.map(list(range(20)), item, name="all", config=MapConfig(max_concurrency=4))
        await context.wait(Duration.from_minutes(1), name="pause")
        return sum(result.get_results())

    handle = stage.start(workflow)
    stage.suspended(handle, "pause").restart()
    assert stage.end(handle).result == 190
    assert stage.runs == {"function": 20, "body": 20}


def test_a_map_that_is_interrupted(stage):
    """Items that had ended do not run again, those that wait are run from their top, in another worker too."""

    async def workflow(event, context):
        async def item(item_context, item, index, items):
            stage.ran(f"function-{item}")
            await item_context.step(stage.body(f"first-{item}"), name="first")
            if item % 2:
                callback = await item_context.create_callback(name=f"callback-{item}")
                await callback.result()
            return await item_context.step(stage.body(f"second-{item}", item), name="second")

        return (await context.map([0, 1, 2, 3], item, name="all")).get_results()

    handle = stage.start(workflow)
    ids = [stage.callback_id(handle, f"callback-{item}") for item in (1, 3)]
    stage.restart()
    for callback_id in ids:
        stage.client.send_callback_success(callback_id)
    outcome = stage.end(handle)
    assert outcome.result == [0, 1, 2, 3]
    assert {name: count for name, count in stage.runs.items() if "function" not in name} == {
        f"{step}-{item}": 1 for step in ("first", "second") for item in range(4)
    }
    assert stage.runs["function-0"] == stage.runs["function-2"] == 1
    assert stage.runs["function-1"] >= 2


def test_a_flat_map(stage):
    """Items without contexts of their own."""

    async def workflow(event, context):
        config = MapConfig(nesting_type=NestingType.FLAT)
        result = await context.map([1, 2], tenfold, name="all", config=config)
        await context.wait(Duration(1))
        return result.get_results()

    outcome = stage.run(workflow)
    assert outcome.result == [[10, 0, 2], [20, 1, 2]]
    assert set(outcome.by_operation) == {"", "all", "all/tenfold", "(Wait)"}


class Marked(SerDes):
    """JSON with a mark, by which a test sees who wrote it."""

    def __init__(self, mark):
        self._mark = mark
        self._json = JsonSerDes()

    def serialize(self, value, serdes_context):
        if hasattr(value, "to_dict"):
            return f"{self._mark}:{value.completion_reason.value}"
        return f"{self._mark}:{self._json.serialize(value, serdes_context)}"

    def deserialize(self, data, serdes_context):
        mark, _, text = data.partition(":")
        assert mark == self._mark
        return text if text.isupper() else self._json.deserialize(text, serdes_context)


def test_serdes_for_items(stage):
    """item_serdes writes the items, and the batch is written by the default."""

    async def workflow(event, context):
        config = MapConfig(item_serdes=Marked("item"))
        result = await context.map([1], tenfold, name="all", config=config)
        await context.wait(Duration(1))
        return result.get_results()

    outcome = stage.run(workflow)
    assert outcome.result == [[10, 0, 1]]
    assert outcome.by_operation["all/map-item-0"].endswith("ContextSucceeded = item:[10, 0, 1]")
    assert '"completionReason"' in outcome.by_operation["all"] or "characters>" in outcome.by_operation["all"]


def test_serdes_for_the_batch(stage):
    """serdes writes the batch, and the items too where they have none of their own."""

    async def workflow(event, context):
        config = MapConfig(serdes=Marked("batch"), completion_config=CompletionConfig.all_completed())
        return await context.map([1], tenfold, name="all", config=config)

    outcome = stage.run(workflow)
    assert outcome.result == "ALL_COMPLETED"
    assert outcome.by_operation["all/map-item-0"].endswith("ContextSucceeded = batch:[10, 0, 1]")
    assert outcome.by_operation["all"].endswith("ContextSucceeded = batch:ALL_COMPLETED")
