"""Operations in operations: with_retry, batches in children, strategies that fail, shared pools."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from perdure.durable import (
    ChildContextError,
    CompletionConfig,
    Duration,
    MapConfig,
    ParallelConfig,
    RetryDecision,
    RetryPresets,
    StepConfig,
    WithRetryConfig,
    complete_batch,
    continue_batch,
    durable_execution,
    durable_parallel_branch,
    durable_wait_for_callback,
    durable_with_child_context,
    with_retry,
)
from perdure.engine.invocation import Invocation
from perdure.engine.threads import Threads
from perdure.model import InvocationStatus
from tests.replay.plane import Plane, execute, invoke, settings

NO_RETRY = StepConfig(RetryPresets.none())


@pytest.fixture
def plane():
    return Plane()


# -------------------------------------------------------------------------------------------------------- with_retry


def test_with_retry(plane):
    """The whole block is repeated in a child context, with named back-off waits; nothing of it runs twice."""
    runs = []

    def block(context, attempt):
        context.step(lambda _: runs.append(attempt))
        if attempt < 3:
            context.step(lambda _: 1 / 0, config=NO_RETRY)
        return attempt

    @durable_execution
    def workflow(_, context):
        return with_retry(context, block, WithRetryConfig(RetryPresets.fixed()), name="block")

    assert execute(workflow, plane).result == "3"
    assert runs == [1, 2, 3]
    waits = [each.name for each in plane.operations() if each.sub_type == "Wait"]
    assert waits == ["block-backoff-1", "block-backoff-2"]
    assert plane.operation("block").sub_type == "RunInChildContext"


@pytest.mark.parametrize("wrapped", [True, False])
def test_with_retry_gives_up(plane, wrapped):
    """The last error is raised: as the child's, or without a child as it is."""

    def block(*_):
        raise LookupError("nothing")

    @durable_execution
    def workflow(_, context):
        config = WithRetryConfig(RetryPresets.none(), wrap_with_run_in_child_context=wrapped)
        with pytest.raises(ChildContextError if wrapped else LookupError, match="nothing"):
            with_retry(context, block, config)

    assert invoke(workflow, plane).status is InvocationStatus.SUCCEEDED


def test_with_retry_does_not_repeat_misuse(plane):
    """A context used wrongly is no passing failure."""

    def strategy(*_):
        raise AssertionError("asked")

    @durable_execution
    def workflow(_, context):
        with_retry(context, lambda *_: context.step(lambda _: 1), WithRetryConfig(strategy))

    assert "a durable context was used" in invoke(workflow, plane).error.message


def test_with_retry_waits_a_second_at_least(plane):
    """A strategy may answer with no delay at all."""

    def block(_, attempt):
        return 1 // (attempt - 1)

    @durable_execution
    def workflow(_, context):
        return with_retry(context, block, WithRetryConfig(lambda *_: RetryDecision.retry(Duration(0))))

    assert execute(workflow, plane).result == "1"


# ------------------------------------------------------------------------------------------------------------ batches


def test_a_failed_branch(plane):
    """The batch succeeds, its result tells of the failure and raises it when asked to."""

    @durable_execution
    def workflow(_, context):
        config = ParallelConfig(completion_config=CompletionConfig.all_completed())

        def failing(inner):
            inner.step(lambda _: 1 / 0, config=NO_RETRY)

        result = context.parallel([lambda _: 1, failing], name="both", config=config)
        assert result.has_failure
        with pytest.raises(ChildContextError, match="division"):
            result.throw_if_error()
        return [item.status.value for item in result.all], result.get_errors()[0].type

    output = invoke(workflow, plane)
    assert output.result == ('[["SUCCEEDED", "FAILED"], "aws_durable_execution_sdk_python.exceptions.StepError"]')
    assert plane.statuses()["both"] == "SUCCEEDED"


def test_a_predicate_decides(plane):
    """It sees what has been begun and ended; it runs to its decision in the invocation that gets there."""
    seen = []

    def enough(status):
        seen.append(status.success_count)
        return complete_batch() if status.success_count >= 2 else continue_batch()

    @durable_execution
    def workflow(_, context):
        config = MapConfig(max_concurrency=1, completion_config=CompletionConfig(should_complete=enough))
        return context.map([1, 2, 3], lambda inner, item, *_: inner.step(lambda _: item), config=config).get_results()

    assert invoke(workflow, plane).result == "[1, 2]"
    assert (seen[0], seen[-1]) == (0, 2)


def test_a_predicate_that_raises(plane):
    """It fails the batch, as its own error."""

    @durable_execution
    def workflow(_, context):
        config = ParallelConfig(completion_config=CompletionConfig(should_complete=lambda _: 1 / 0))
        with pytest.raises(ChildContextError, match="division"):
            context.parallel([lambda _: 1], name="both", config=config)

    assert invoke(workflow, plane).status is InvocationStatus.SUCCEEDED
    assert plane.statuses()["both"] == "FAILED"


def test_items_are_named(plane):
    """A namer names them, also on replay."""

    @durable_execution
    def workflow(_, context):
        config = MapConfig(item_namer=lambda item, index: f"{index}:{item}")
        context.map(["x", "y"], lambda inner, *_: inner.wait(Duration(5)), name="m", config=config)

    execute(workflow, plane)
    assert {"0:x", "1:y"} <= plane.statuses().keys()


def test_a_callback_of_the_context_above(plane):
    """Its result may be waited for in a branch: that takes no id of the context it belongs to."""

    @durable_execution
    def workflow(_, context):
        callback = context.create_callback("cb")
        both = context.parallel([lambda _: callback.result(), lambda inner: inner.step(lambda _: 1)])
        context.step(lambda _: callback.result(), name="refused", config=NO_RETRY)
        return both.get_results()

    output = execute(workflow, plane, pending=lambda _: plane.complete("cb", "yes"))
    assert "a durable context was used" in output.error.message
    assert plane.operation("refused").operation_id != plane.operation("cb").operation_id


def test_a_batch_in_a_child_in_a_branch(plane):
    """Depth makes no difference to suspension."""

    def leaf(inner, item, *_):
        inner.wait(Duration(1 + item))
        return item

    def child(inner):
        return sum(inner.map([1, 2], leaf).get_results())

    @durable_execution
    def workflow(_, context):
        return context.parallel([lambda inner: inner.run_in_child_context(child)] * 2).get_results()

    assert execute(workflow, plane).result == "[3, 3]"


def test_decorated_bodies(plane):
    """Children, branches and submitters with arguments bound before."""

    @durable_with_child_context
    def child(context, value):
        return context.step(lambda _: value)

    @durable_parallel_branch(name="left")
    def left(context, value):
        return context.step(lambda _: value)

    @durable_wait_for_callback
    def submit(callback_id, context, sent):
        sent.append(callback_id)

    sent = []

    @durable_execution
    def workflow(_, context):
        values = [context.run_in_child_context(child(1)), *context.parallel([left(2)]).get_results()]
        return [*values, context.wait_for_callback(submit(sent))]

    output = execute(workflow, plane, pending=lambda _: plane.complete("submit create callback id", "3"))
    assert output.result == '[1, 2, "3"]'
    assert len(sent) == 1
    assert {"child", "left", "submit", "submit submitter"} <= plane.statuses().keys()


def test_many_branches_in_few_requests(plane):
    """Branches that end while a request is under way share the next."""

    @durable_execution
    def workflow(_, context):
        return len(context.map(range(100), lambda inner, *_: inner.step(lambda _: 1)).get_results())

    assert invoke(workflow, plane).result == "100"
    updates = sum(map(len, plane.requests))
    assert updates == 402
    assert len(plane.requests) <= 202


# ------------------------------------------------------------------------------------------------------------- pools


def test_many_executions_share_one_branch_thread(plane):
    """Executions of one process do not block each other."""
    threads = Threads(branches=1)

    @durable_execution
    def workflow(event, context):
        def branch(inner):
            return inner.parallel([lambda each: each.step(lambda _: 1)] * 3).success_count

        return sum(context.parallel([branch] * 3).get_results())

    planes = [Plane() for _ in range(8)]
    invocations = [Invocation(workflow, each.begin(), settings=settings(each), threads=threads) for each in planes]
    futures = [Future() for _ in planes]
    for invocation, each, future in zip(invocations, planes, futures, strict=True):
        invocation.submit(each, future)
    assert [future.result(20).result for future in futures] == ["9"] * 8


def test_an_orphan_may_outlive_the_execution(plane):
    """The execution ends; its thread is counted until it does, and records nothing."""
    release = threading.Event()

    @durable_execution
    def workflow(_, context):
        def slow(inner):
            release.wait(10)
            inner.step(lambda _: pytest.fail("ran"), name="late")

        config = ParallelConfig(completion_config=CompletionConfig.first_successful())
        context.parallel([slow, lambda _: 1], config=config)

    invocation = Invocation(workflow, plane.begin(), settings=settings(plane))
    plane.finish(invocation.run(plane))
    assert (invocation.orphans, invocation.join(0.01)) == (1, False)
    release.set()
    assert invocation.join(10)
    assert "late" not in plane.statuses()


def test_the_waiting_thread_is_interrupted(plane, monkeypatch):
    """A KeyboardInterrupt of the caller of run() stops the workflow at its next operation."""
    running, interrupted = threading.Event(), threading.Event()

    @durable_execution
    def workflow(_, context):
        context.step(lambda _: running.set() or interrupted.wait(10), name="a")
        context.step(lambda _: pytest.fail("ran"), name="b")

    invocation = Invocation(workflow, plane.begin(), settings=settings(plane))
    submit = invocation.submit

    def submitted(service, future):
        def result():
            running.wait(10)
            raise KeyboardInterrupt

        monkeypatch.setattr(future, "result", result)
        submit(service, future)

    monkeypatch.setattr(invocation, "submit", submitted)
    with pytest.raises(KeyboardInterrupt):
        invocation.run(plane)
    interrupted.set()
    assert invocation.join(10)
    assert plane.statuses() == {"a": "SUCCEEDED"}
