"""A parallel or map that is done again as a whole while it fails: what is recorded, and what comes of it."""

from __future__ import annotations

import json

import pytest

from perdure.batch import BatchCompletionError, CompletionReason
from perdure.config import (
    CompletionConfig,
    CompletionOutcome,
    Duration,
    MapConfig,
    NestingType,
    ParallelConfig,
    complete_batch,
    continue_batch,
)
from perdure.engine.ids import operation_id
from perdure.errors import ChildContextError, ValidationError
from perdure.model import InvocationStatus, OperationSubType
from perdure.retries import RetryDecision, create_retry_strategy
from perdure.testing import explore_crashes
from tests.replay import async_host
from tests.replay import plane as blocking_host
from tests.replay.plane import Plane
from tests.scenarios.colour import Colour, durable

MINUTE = Duration.from_minutes(1)
NESTINGS = pytest.mark.parametrize("nesting", list(NestingType))


@pytest.fixture(params=list(Colour), ids=str)
def colour(request):
    return request.param


@pytest.fixture
def plane():
    return Plane()


@pytest.fixture
def asked():
    """What a strategy was asked."""
    return []


def strategy(asked, attempts=3, delay=7):
    def decide(error, attempt):
        asked.append((type(error).__name__, str(error), attempt))
        return RetryDecision.retry(Duration(delay)) if attempt < attempts else RetryDecision.no_retry()

    return decide


def execute(colour, workflow, plane, **options):
    host = async_host if colour is Colour.ASYNC else blocking_host
    return host.execute(durable(colour, workflow), plane, **options)


def value(output):
    assert output.status is InvocationStatus.SUCCEEDED, output.error
    return json.loads(output.result)


def told(result):
    return [result.completion_reason.value, [each.status.value for each in result.all], result.get_results()]


def failing(times):
    """A branch that fails so many times, over all attempts of its batch."""
    runs = []

    async def branch(context):
        def body(_):
            runs.append(1)
            return len(runs)

        run = await context.step(body, name="try")
        if run <= times:
            raise ValueError(f"no {run}")
        return run

    return branch


async def well(context):
    return await context.step(lambda _: "well", name="well")


@NESTINGS
def test_until_nothing_fails(colour, plane, asked, nesting):
    """All branches are run afresh, after waits, in a context that takes the batch's place."""

    async def workflow(_, context):
        config = ParallelConfig(
            retry_strategy=strategy(asked), nesting_type=nesting, completion_config=CompletionConfig.all_completed()
        )
        result = await context.parallel([failing_branch, well], "all", config)
        await context.wait(MINUTE)
        return told(result)

    failing_branch = failing(2)
    assert value(execute(colour, workflow, plane)) == ["ALL_COMPLETED", ["SUCCEEDED", "SUCCEEDED"], [3, "well"]]
    assert asked[-1] == ("ChildContextError", "no 2", 2)
    tops = [each for each in plane.operations() if each.parent_id is None]
    assert [(each.name, each.sub_type) for each in tops] == [
        ("all", OperationSubType.RUN_IN_CHILD_CONTEXT),
        (None, OperationSubType.WAIT),
    ]
    inside = [each for each in plane.operations() if each.parent_id == tops[0].operation_id]
    assert [(each.name, each.sub_type) for each in inside] == [
        ("all", OperationSubType.PARALLEL),
        ("all-backoff-1", OperationSubType.WAIT),
        ("all", OperationSubType.PARALLEL),
        ("all-backoff-2", OperationSubType.WAIT),
        ("all", OperationSubType.PARALLEL),
    ]


def test_ids_are_those_of_with_retry(colour, plane, asked):
    """The batch's own id is the context's; attempts and waits count in there. What follows keeps its id."""

    async def workflow(_, context):
        await context.map([1], lambda inner, item, *_: branch(inner), "m", MapConfig(retry_strategy=strategy(asked)))
        await context.step(lambda _: 1, name="next")

    branch = failing(1)
    execute(colour, workflow, plane)
    own = operation_id(None, 1)
    ids = {each.operation_id: (each.name, each.sub_type) for each in plane.operations()}
    assert ids[own] == ("m", "RunInChildContext")
    assert [ids[operation_id(own, n)] for n in (1, 2, 3)] == [("m", "Map"), ("m-backoff-1", "Wait"), ("m", "Map")]
    assert ids[operation_id(None, 2)] == ("next", "Step")


def test_the_last_result_is_returned(colour, plane, asked):
    """A strategy that gives up raises nothing: the result of the last attempt has its failures."""

    async def workflow(_, context):
        config = ParallelConfig(retry_strategy=strategy(asked, 2))
        result = await context.parallel([branch], config=config)
        return [*told(result), [each.message for each in result.get_errors()]]

    branch = failing(9)
    expected = ["FAILURE_TOLERANCE_EXCEEDED", ["FAILED"], [], ["no 2"]]
    assert value(execute(colour, workflow, plane)) == expected
    assert {each[2] for each in asked} == {1, 2}


def test_a_failure_that_the_policy_tolerates(colour, plane, asked):
    """It is retried all the same: the strategy decides, not the policy."""

    async def workflow(_, context):
        config = ParallelConfig(
            retry_strategy=strategy(asked), completion_config=CompletionConfig(tolerated_failure_count=1)
        )
        return told(await context.parallel([branch, well], config=config))

    branch = failing(1)
    assert value(execute(colour, workflow, plane)) == ["ALL_COMPLETED", ["SUCCEEDED", "SUCCEEDED"], [2, "well"]]


def test_no_failure(colour, plane, asked):
    """The strategy is not asked."""

    async def workflow(_, context):
        return told(await context.parallel([well], config=ParallelConfig(retry_strategy=strategy(asked))))

    assert value(execute(colour, workflow, plane)) == ["ALL_COMPLETED", ["SUCCEEDED"], ["well"]]
    assert asked == []


@NESTINGS
def test_a_timeout_is_for_each_attempt(colour, plane, asked, nesting):
    """An attempt that timed out counts as failed; the next one has all of the time again."""
    attempts = []

    async def branch(context):
        attempt = await context.step(lambda _: attempts.append(1) or len(attempts), name="attempt")
        await context.wait(Duration(1000 if attempt == 1 else 50))
        return attempt

    async def workflow(_, context):
        config = ParallelConfig(retry_strategy=strategy(asked), timeout=MINUTE, nesting_type=nesting)
        result = await context.parallel([branch], "all", config)
        await context.wait(MINUTE)
        return told(result)

    assert value(execute(colour, workflow, plane)) == ["ALL_COMPLETED", ["SUCCEEDED"], [2]]
    timers = [each.status.value for each in plane.operations() if each.name == "all-timeout"]
    assert timers == ["SUCCEEDED", "CANCELLED"]
    assert asked[0] == ("BatchCompletionError", str(BatchCompletionError(CompletionReason.TIMED_OUT)), 1)


def test_a_batch_that_failed_as_a_whole(colour, plane, asked):
    """What a predicate calls failed is retried too."""

    def decide(status):
        return complete_batch(CompletionOutcome.FAILED) if status.completed_count else continue_batch()

    async def workflow(_, context):
        config = ParallelConfig(
            retry_strategy=strategy(asked, 2), completion_config=CompletionConfig(should_complete=decide)
        )
        return told(await context.parallel([well], "all", config=config))

    assert value(execute(colour, workflow, plane)) == ["CUSTOM_COMPLETION_FAILED", ["SUCCEEDED"], ["well"]]
    assert {each[0] for each in asked} == {"BatchCompletionError"}
    assert plane.operation("all-backoff-1").is_terminal


def test_what_raises_is_not_retried(colour, plane, asked):
    """A predicate that raises fails the batch, and the strategy is not asked."""

    def decide(status):
        raise RuntimeError("broken")

    async def workflow(_, context):
        config = ParallelConfig(
            retry_strategy=strategy(asked), completion_config=CompletionConfig(should_complete=decide)
        )
        try:
            await context.parallel([well], config=config)
        except ChildContextError as error:
            return str(error)

    assert value(execute(colour, workflow, plane)) == "broken"
    assert asked == []


def test_large_results(colour, plane, asked):
    """A result too large to record is rebuilt from the attempts, and nothing runs twice."""
    runs = []

    async def large(context):
        run = await context.step(lambda _: runs.append(1) or len(runs), name="count")
        if run == 1:
            raise ValueError("no")
        return "x" * 150_000

    async def workflow(_, context):
        config = ParallelConfig(retry_strategy=strategy(asked), max_concurrency=1)
        result = await context.parallel([large, large], "all", config)
        await context.wait(MINUTE)
        return [len(each) for each in result.get_results()]

    assert value(execute(colour, workflow, plane)) == [150_000] * 2
    assert len(runs) == 3
    assert next(each for each in plane.operations() if each.name == "all").context_details.replay_children


@pytest.mark.parametrize("config", [ParallelConfig, MapConfig])
def test_a_strategy_that_is_none(config):
    """It is refused before anything is recorded."""
    with pytest.raises(ValidationError, match="retry_strategy is 3; use a callable"):
        config(retry_strategy=3)


@NESTINGS
def test_a_crash_at_every_commit(colour, nesting):
    """Wherever the process crashes, the attempts are the same, and what has ended does not run again."""

    async def flaky(context):
        return await context.step(lambda _: 1, name="once")

    async def slow(context):
        await context.wait(Duration(600))

    async def workflow(_, context):
        config = ParallelConfig(
            retry_strategy=create_retry_strategy(), timeout=MINUTE, nesting_type=nesting, max_concurrency=2
        )
        result = await context.parallel([flaky, slow], "all", config)
        return told(result)

    found = explore_crashes(durable(colour, workflow), limit=20)
    found.assert_none()
    assert found.undisturbed.value == ["TIMED_OUT", ["SUCCEEDED", "STARTED"], [1]]
    assert found.commits >= 12
