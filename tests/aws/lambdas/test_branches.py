"""Branches beside each other: what shares a request, and what need not wait for another invocation."""

from __future__ import annotations

import threading
import time

import pytest

from perdure.config import Duration, StepConfig
from perdure.engine import settings
from perdure.engine.settings import FLUSH_AGE
from tests.aws.lambdas.runs import Run
from tests.aws.lambdas.test_payloads import Verbatim
from tests.scenarios.colour import Colour, durable

COLOURS = pytest.mark.parametrize("colour", Colour)
BATCH = 750 * 1024


def fan(colour, width, value=lambda index: index, together=True, serdes=None):
    """A workflow of so many branches of a step each, whose bodies all run before the first returns."""

    async def workflow(event, context):
        barrier = threading.Barrier(width) if together else None

        def branch(index):
            async def run(context):
                def body(_):
                    if barrier is not None:
                        barrier.wait(30)
                    return value(index)

                return await context.step(body, name=f"s{index}", config=StepConfig(serdes=serdes))

            return run

        batch = await context.parallel([branch(index) for index in range(width)], "fan")
        return sum(len(str(each)) for each in batch.get_results())

    return durable(colour, workflow)


@COLOURS
def test_branches_share_requests(emulator, colour):
    """50 branches of a step each write 202 updates, of which 101 are waited for; a few requests carry them all."""
    run = Run(emulator, fan(colour, 50, together=False)).finish()
    assert run.result == sum(len(str(each)) for each in range(50))
    calls = run.calls()
    assert sum(len(each.updates) for each in calls) == 50 * 4 + 2
    assert len(calls) < 50
    assert all(each.alone for each in calls)


def test_many_updates_at_once(emulator):
    """No request carries more than 250 updates; `def` branches have no threads for as many at once."""
    run = Run(emulator, fan(Colour.ASYNC, 300, together=False)).finish()
    calls = run.calls()
    assert sum(len(each.updates) for each in calls) == 300 * 4 + 2
    assert max(len(each.updates) for each in calls) == 250


@COLOURS
@pytest.mark.parametrize(("text", "serdes"), [("x" * 300_000, None), ('"' * 80_000, None), ("ü" * 60_000, Verbatim())])
def test_large_results_at_once(emulator, colour, text, serdes):
    """No request is longer than 750 KiB as it is sent, unless it carries a single update."""
    run = Run(emulator, fan(colour, 8, lambda _: text, serdes=serdes)).finish()
    assert run.result == 8 * len(text)
    for call in run.calls():
        assert len(call.updates) == 1 or call.bytes <= BATCH
    assert [len(each.updates) for each in run.calls() if each.bytes > BATCH // 2]


# --------------------------------------------------------------------------------------------------------------- place


async def uneven(event, context):
    async def waiting(branch):
        await branch.wait(Duration(1), "short")
        return await branch.step(lambda _: "waited", name="after")

    async def working(branch):
        return await branch.step(lambda _: time.sleep(2), name="long")

    return (await context.parallel([waiting, working], "uneven")).get_results()


@COLOURS
def test_a_branch_goes_on_in_place(emulator, colour, monkeypatch):
    """A wait that ends while another branch works is over at once: asking the service once, or twice, is enough."""
    emulator.timeline.is_real = True
    # The START of the long body is sent before anybody asks.
    monkeypatch.setattr(settings, "FLUSH_AGE", FLUSH_AGE)
    run = Run(emulator, durable(colour, uneven)).finish()
    assert run.result == ["waited", None]
    assert len(run.outputs) == 1
    order = run.sequence()
    ids = {each.name: each.operation_id for each in run.execution.operations}
    assert order.index((ids["after"], "SUCCEED")) < order.index((ids["long"], "SUCCEED"))
    polls = [each for each in run.calls() if not each.updates]
    assert 1 <= len(polls) <= 2
