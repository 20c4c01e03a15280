"""Parallel and map in async workflows."""

from __future__ import annotations

import pytest

from perdure.durable import (
    CompletionConfig,
    MapConfig,
    NestingType,
    ParallelConfig,
)
from tests.replay.async_host import NEVER, SECOND, Bodies, execute, result
from tests.replay.plane import Plane


@pytest.fixture
def plane():
    return Plane()


@pytest.fixture
def bodies():
    return Bodies()


@pytest.mark.parametrize("nesting", list(NestingType))
@pytest.mark.parametrize("limit", [None, 1, 2])
def test_parallel_with_waits(plane, bodies, nesting, limit):
    """Branches that wait keep their slots, and each body runs once."""

    async def workflow(_, context):
        async def branch(inner, n):
            await inner.wait(SECOND)
            return await inner.step(bodies(n, n))

        config = ParallelConfig(max_concurrency=limit, nesting_type=nesting)
        batch = await context.parallel([lambda inner, n=n: branch(inner, n) for n in range(4)], config=config)
        return batch.get_results()

    assert result(execute(workflow, plane)) == [0, 1, 2, 3]
    assert bodies.runs == {0: 1, 1: 1, 2: 1, 3: 1}


def test_nested_parallel(plane, bodies):
    """Batches nest, also one branch at a time."""

    async def workflow(_, context):
        async def leaf(inner):
            await inner.wait(SECOND)
            return 1

        async def middle(inner):
            return len((await inner.parallel([leaf, leaf], config=ParallelConfig(max_concurrency=1))).get_results())

        return (await context.parallel([middle, middle], config=ParallelConfig(max_concurrency=1))).get_results()

    assert result(execute(workflow, plane)) == [2, 2]


def test_map_with_futures(plane, bodies):
    """A map's function may return any awaitable, a future of its context among them."""

    async def workflow(_, context):
        config = MapConfig(item_namer=lambda item, _: f"item {item}")
        batch = await context.map(
            "ab", lambda inner, item, index, _: inner.step(bodies(item, [item, index])), "m", config
        )
        return batch.get_results()

    assert result(execute(workflow, plane)) == [["a", 0], ["b", 1]]
    assert {"item a", "item b", "m"} <= set(plane.statuses())


def test_failing_branch(plane, bodies):
    """A failed branch is in the result, and raised only when asked for."""

    async def workflow(_, context):
        async def bad(inner):
            await inner.step(bodies("bad", error=ValueError("broken")), config=NEVER)

        async def good(inner):
            return await inner.step(bodies("good"))

        config = ParallelConfig(completion_config=CompletionConfig.all_completed())
        batch = await context.parallel([bad, good], config=config)
        return [batch.has_failure, batch.get_results(), [error.message for error in batch.get_errors()]]

    assert result(execute(workflow, plane)) == [True, ["good"], ["broken"]]


def test_large_batches_are_rebuilt(plane, bodies):
    """The result of a batch above the threshold is rebuilt from its branches, in either nesting."""

    async def workflow(_, context):
        async def branch(inner, item, _index, _items):
            return await inner.step(bodies(item, "x" * 150), name=item)

        lengths = []
        for nesting in NestingType:
            config = MapConfig(nesting_type=nesting)
            batch = await context.map([f"{nesting.value}-{n}" for n in range(3)], branch, config=config)
            await context.wait(SECOND)
            lengths += [len(value) for value in batch.get_results()]
        return lengths

    assert result(execute(workflow, plane, replay_children_threshold=100)) == [150] * 6
    assert set(bodies.runs.values()) == {1}
