"""Batches with a time limit, and batches done again as a whole: what AWS's SDK has not, on AWS's service."""

from __future__ import annotations

from datetime import timedelta

import pytest

from perdure.config import Duration, NestingType, ParallelConfig
from perdure.retries import RetryDecision
from tests.aws.lambdas.emulator import Fault
from tests.aws.lambdas.runs import Run
from tests.scenarios.colour import Colour, durable

COLOURS = pytest.mark.parametrize("colour", Colour)
NESTINGS = pytest.mark.parametrize("nesting", NestingType)
MINUTE = Duration.from_minutes(1)


async def quick(context):
    return await context.step(lambda _: "done", name="quick")


async def slow(context):
    await context.wait(Duration.from_hours(1), "hour")
    await context.step(lambda _: "never", name="never")


def told(result):
    return [result.completion_reason.value, [each.status.value for each in result.all], result.get_results()]


@COLOURS
@NESTINGS
def test_timed_out(emulator, colour, nesting):
    """The service takes the timer for the wait it is; the batch ends with it, and the workflow goes on."""

    async def workflow(event, context):
        config = ParallelConfig(timeout=MINUTE, nesting_type=nesting)
        result = await context.parallel([quick, slow], "all", config)
        await context.wait(MINUTE, "later")
        return told(result)

    run = Run(emulator, durable(colour, workflow)).finish()
    assert run.result == ["TIMED_OUT", ["SUCCEEDED", "STARTED"], ["done"]]
    assert run.statuses()["all-timeout"] == "SUCCEEDED"
    assert run.statuses()["hour"] == "STARTED"
    assert run.bodies.ran.total() == 1


@COLOURS
def test_in_time(emulator, colour):
    """The service cancels the timer, with the end of the batch in one request."""

    async def workflow(event, context):
        result = await context.parallel([quick], "all", ParallelConfig(timeout=MINUTE))
        await context.wait(Duration.from_hours(1), "later")
        return told(result)

    run = Run(emulator, durable(colour, workflow)).finish()
    assert run.result == ["ALL_COMPLETED", ["SUCCEEDED"], ["done"]]
    assert run.statuses()["all-timeout"] == "CANCELLED"
    together = [[each["Action"] for each in call.updates] for call in run.calls()]
    assert [each[-2:] for each in together if "CANCEL" in each] == [["CANCEL", "SUCCEED"]]
    assert len(run.outputs) == 2


class Overtaking(Fault):
    """The timer fires while its CANCEL is under way."""

    def __init__(self, emulator):
        self._emulator = emulator

    def before(self, call):
        if any(each["Action"] == "CANCEL" for each in call.updates or ()):
            self._emulator.timeline.elapse(timedelta(minutes=1))
            self._emulator.timeline.overtake()


@COLOURS
def test_the_timer_wins_the_race(emulator, colour):
    """The rest of the request is sent once more under the same token, as a request of its own."""

    async def workflow(event, context):
        return told(await context.parallel([quick], "all", ParallelConfig(timeout=MINUTE)))

    run = Run(emulator, durable(colour, workflow))
    with emulator.broken(Overtaking(emulator)):
        run.finish()
    assert run.result == ["ALL_COMPLETED", ["SUCCEEDED"], ["done"]]
    assert run.statuses()["all-timeout"] == "SUCCEEDED"
    refused, again = run.calls()[-2:]
    assert (refused.status, again.status) == (400, 200)
    assert again.token == refused.token
    assert again.client_token != refused.client_token
    assert again.updates == [each for each in refused.updates if each["Action"] != "CANCEL"]


@COLOURS
def test_done_again(emulator, colour):
    """Attempts are batches of their own in a context, with waits between; each has all of its time."""
    runs = []

    async def flaky(context):
        run = await context.step(lambda _: runs.append(1) or len(runs), name="flaky")
        if run == 1:
            raise ValueError("no")
        if run == 2:
            await slow(context)
        return run

    async def workflow(event, context):
        config = ParallelConfig(timeout=MINUTE, retry_strategy=lambda *_: RetryDecision.retry(Duration(5)))
        return told(await context.parallel([flaky], "all", config))

    run = Run(emulator, durable(colour, workflow)).finish()
    assert run.result == ["ALL_COMPLETED", ["SUCCEEDED"], [3]]
    recorded = [(each.name, each.sub_type) for each in run.execution.operations[1:]]
    assert [each for each in recorded if each[0] in {"all", "all-backoff-1", "all-backoff-2"}] == [
        ("all", "RunInChildContext"),
        ("all", "Parallel"),
        ("all-backoff-1", "Wait"),
        ("all", "Parallel"),
        ("all-backoff-2", "Wait"),
        ("all", "Parallel"),
    ]
    timers = [each.status.value for each in run.execution.operations if each.name == "all-timeout"]
    assert timers == ["CANCELLED", "SUCCEEDED", "CANCELLED"]
