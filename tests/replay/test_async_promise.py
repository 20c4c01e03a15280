"""The combinators of `context.promise`."""

from __future__ import annotations

import asyncio

import pytest

from perdure.durable import (
    Duration,
)
from perdure.errors import (
    StepError,
)
from tests.replay.async_host import NEVER, SECOND, Bodies, execute, result
from tests.replay.plane import Plane


@pytest.fixture
def plane():
    return Plane()


@pytest.fixture
def bodies():
    return Bodies()


def test_promise_all(plane, bodies):
    """`all` gives the results in order, or the first error."""

    async def workflow(_, context):
        both = await context.promise.all([context.step(bodies("a", after=0.01)), context.step(bodies("b"))])
        empty = await context.promise.all([])
        try:
            await context.promise.all(
                [
                    context.step(bodies("slow", error=ValueError("slow"), after=0.02), config=NEVER),
                    context.step(bodies("fast", error=ValueError("fast")), config=NEVER),
                ]
            )
        except StepError as error:
            return [both, empty, error.message]

    assert result(execute(workflow, plane)) == [["a", "b"], [], "fast"]


def test_promise_all_settled(plane, bodies):
    """`all_settled` tells how each ended and never fails."""

    async def workflow(_, context):
        outcomes = await context.promise.all_settled(
            [context.step(bodies("a")), context.step(bodies("bad", error=ValueError("x")), config=NEVER)]
        )
        await context.wait(SECOND)
        return [[each.status, each.value, getattr(each.reason, "message", None)] for each in outcomes]

    assert result(execute(workflow, plane)) == [["fulfilled", "a", None], ["rejected", None, "x"]]


def test_promise_race_is_recorded(plane, bodies):
    """The winner of a race is recorded, and wins again on replay."""
    winners = []

    async def workflow(_, context):
        slow, fast = context.step(bodies("slow", after=0.02)), context.step(bodies("fast"))
        winners.append(await context.promise.race([slow, fast]))
        await slow
        await context.wait(SECOND)
        return winners[-1]

    assert result(execute(workflow, plane)) == "fast"
    assert winners == ["fast", "fast"]
    assert plane.operation("race").result == "1"
    assert plane.operation("race").step_details.attempt == 1
    assert bodies.runs == {"slow": 1, "fast": 1}


def test_promise_race_with_an_error(plane, bodies):
    """A race may be won by a failure."""

    async def workflow(_, context):
        slow = context.step(bodies("slow", after=0.02))
        bad = context.step(bodies("bad", error=ValueError("bad")), config=NEVER)
        try:
            await context.promise.race([slow, bad], name="who")
        except StepError as error:
            return [error.message, await slow]

    assert result(execute(workflow, plane)) == ["bad", "slow"]
    assert plane.operation("who").result == "1"


def test_promise_any(plane, bodies):
    """`any` gives the first success; when all fail, all errors."""

    async def workflow(_, context):
        def bad(key):
            return context.step(bodies(key, error=ValueError(key)), config=NEVER)

        won = await context.promise.any([bad("x"), context.step(bodies("good", after=0.01))])
        try:
            await context.promise.any([bad("y"), bad("z")], name="hopeless")
        except ExceptionGroup as group:
            messages = [error.message for error in group.exceptions]
        await context.wait(SECOND)
        return [won, messages]

    assert result(execute(workflow, plane)) == ["good", ["y", "z"]]
    assert plane.operation("hopeless").result == "-1"
    assert set(bodies.runs.values()) == {1}


def test_promise_members(plane, bodies):
    """Members may be tasks and coroutines over futures; a race of nothing is refused."""

    async def workflow(_, context):
        async def plus(future):
            return await future + 1

        first = asyncio.create_task(plus(context.step(bodies("a", 1))))
        values = await context.promise.all([first, plus(context.step(bodies("b", 2)))])
        with pytest.raises(Exception, match="at least one"):
            context.promise.race([])
        return values

    assert result(execute(workflow, plane)) == [2, 3]


def test_promise_race_against_a_callback(plane, bodies):
    """A race between a step and something outside survives a suspension."""

    async def workflow(_, context):
        callback = await context.create_callback(name="cb")
        timer = context.wait(Duration.from_seconds(60), name="timer")
        return await context.promise.race([timer, callback.result()])

    assert result(execute(workflow, plane, pending=lambda _: plane.complete("cb", "answer"))) == "answer"
