"""State that comes in pages, and much of it."""

from __future__ import annotations

import boto3
import pytest

from perdure.config import Duration, MapConfig
from tests.aws.lambdas.emulator import Lose
from tests.aws.lambdas.runs import Run
from tests.scenarios.colour import Colour, durable

COLOURS = pytest.mark.parametrize("colour", Colour)
STEPS = 12
MANY = 3000


def stepping(colour, number, begun=lambda: None):
    """A workflow of so many steps, a wait, and another step."""

    async def workflow(event, context):
        begun()
        total = 0
        for index in range(number):
            total += await context.step(lambda _, index=index: index, name=f"s{index}")
        await context.wait(Duration(60), "meanwhile")
        return await context.step(lambda _: total, name="last")

    return durable(colour, workflow)


# --------------------------------------------------------------------------------------------------------------- pages


@COLOURS
@pytest.mark.parametrize("blank", [False, True], ids=["execution_alone", "nothing"])
def test_pages_of_one_operation(emulator, colour, blank):
    """Whatever little the input holds, all pages are read, with its token, before the workflow begins."""
    emulator.paged(1)
    emulator.blank = blank
    called_before = []
    run = Run(emulator, stepping(colour, STEPS, lambda: called_before.append(len(run.calls("state")))))
    run.invoke()
    checkpoints, pages = len(run.calls()), len(run.calls("state"))
    assert pages == blank  # the execution itself is a page
    run.finish()

    assert run.result == sum(range(STEPS))
    assert run.bodies.ran.total() == STEPS + 1
    # All steps and the wait, and the execution unless that was in the input.
    fetched = run.calls("state")[pages:]
    assert len(fetched) == STEPS + 1 + blank
    assert called_before == [pages, pages + len(fetched)]
    assert {each.token for each in fetched} == {run.calls()[checkpoints].token}
    assert {each.status for each in fetched} == {200}
    assert len({each.marker for each in fetched}) == len(fetched)


@COLOURS
def test_a_page_that_cannot_be_read(emulator, colour):
    """Half of the state is no state: no code runs, the service invokes again, and then it is read."""
    emulator.paged(1)
    begun = []
    run = Run(emulator, stepping(colour, STEPS, lambda: begun.append(None)))
    run.invoke()
    with emulator.broken(Lose("state", after=5)):
        assert isinstance(run.invoke(), Exception)
        assert len(begun) == 1
    run.finish()
    assert len(begun) == 2
    assert run.result == sum(range(STEPS))
    assert run.bodies.ran.total() == STEPS + 1


# ---------------------------------------------------------------------------------------------------------------- much


def history(emulator, arn):
    """All pages of it, as boto3 reads them."""
    client = boto3.client("lambda")
    pages = client.get_paginator("get_durable_execution_history").paginate(
        DurableExecutionArn=arn, PaginationConfig={"PageSize": 1000}
    )
    return [event for page in pages for event in page["Events"]]


@COLOURS
def test_steps_in_a_row(emulator, colour):
    """3,000 steps take a request each, and are replayed from a state of several pages without running again."""
    emulator.paged(1000)  # as many operations, whose results take a byte or more
    run = Run(emulator, stepping(colour, MANY)).finish()
    assert run.result == sum(range(MANY))
    assert run.bodies.ran.total() == MANY + 1
    assert len(run.calls()) == MANY + 2
    assert len(run.calls("state")) > 3
    kinds = [each["EventType"] for each in history(emulator, run.arn)]
    assert kinds.count("StepSucceeded") == kinds.count("StepStarted") == MANY + 1
    assert kinds[-1] == "ExecutionSucceeded"


@COLOURS
def test_a_large_map(emulator, colour):
    """1,500 items with a step each are 3,001 operations; finished items are not run again."""
    number = MANY // 2

    async def item(context, value, *_):
        return await context.step(lambda _: value * 2, name="double")

    async def workflow(event, context):
        batch = await context.map(range(number), item, "all", MapConfig(max_concurrency=50))
        await context.wait(Duration(60), "meanwhile")
        return sum(batch.get_results())

    run = Run(emulator, durable(colour, workflow)).finish()
    assert run.result == sum(range(number)) * 2
    assert run.bodies.ran.total() == number
    assert len(run.execution.operations) == 1 + 1 + 2 * number + 1
    # One request for each branch would be as many as that: they share.
    assert len(run.calls()) < number // 2
