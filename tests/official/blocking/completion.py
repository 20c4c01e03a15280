"""When a parallel or map is over, of the suites `parallel` and `map`, as `def` workflows."""

from __future__ import annotations

from perdure.config import CompletionConfig, Duration, MapConfig, ParallelConfig
from perdure.durable import durable_execution


def counts(batch):
    """Why it ended, and how many branches did what."""
    return {
        "completionReason": batch.completion_reason.value,
        "successCount": batch.success_count,
        "failureCount": batch.failure_count,
        "totalCount": batch.total_count,
    }


def outcome(batch):
    """The same, and as what it ended."""
    return {**counts(batch), "status": batch.status.value}


# ------------------------------------------------------------------------------------------------------------ parallel


def ok(_):
    return "ok"


def fail(_):
    raise RuntimeError("this branch always fails")


def in_turn(**criteria):
    """One branch after the other, until the criteria are met."""
    return ParallelConfig(max_concurrency=1, completion_config=CompletionConfig(**criteria))


@durable_execution
def branch_fails_fast(_, context):
    """The first failure is one too many."""
    return outcome(context.parallel([ok, fail, ok], name="failfast", config=in_turn(tolerated_failure_count=0)))


@durable_execution
def branch_error_raised(_, context):
    """The failure of a branch is raised when the result is asked to."""
    batch = context.parallel([fail, ok], name="throwing", config=in_turn(tolerated_failure_count=0))
    batch.throw_if_error()


@durable_execution
def branches_enough(_, context):
    """Two successes are enough."""
    batch = context.parallel([ok, ok, ok, ok], name="min-successful", config=in_turn(min_successful=2))
    return {
        "completionReason": batch.completion_reason.value,
        "successCount": batch.success_count,
        "totalCount": batch.total_count,
    }


@durable_execution
def branch_failure_tolerated(_, context):
    """One failure is tolerated."""
    return outcome(context.parallel([ok, fail, ok], name="tolerated", config=in_turn(tolerated_failure_count=1)))


@durable_execution
def branch_failures_exceeded(_, context):
    """One failure is tolerated, and two are not."""
    config = in_turn(tolerated_failure_count=1)
    return counts(context.parallel([fail, fail, ok], name="tolerated-exceeded", config=config))


@durable_execution
def branch_percentage_exceeded(_, context):
    """A quarter may fail, and a half may not."""
    config = in_turn(tolerated_failure_percentage=25)
    return counts(context.parallel([fail, fail, ok, ok], name="tolerated-pct", config=config))


@durable_execution
def branches_all_fail(_, context):
    """All may fail, and do."""
    return outcome(context.parallel([fail, fail, fail], name="all-fail", config=in_turn(tolerated_failure_count=3)))


@durable_execution
def branches_not_enough(_, context):
    """Three successes are asked for, and two come; failures end nothing."""
    return outcome(context.parallel([ok, fail, ok], name="min-not-reached", config=in_turn(min_successful=3)))


@durable_execution
def branch_criteria_combined(_, context):
    """Two failures, one too many, come before three successes."""
    config = in_turn(min_successful=3, tolerated_failure_count=1)
    return counts(context.parallel([fail, fail, ok, ok], name="combined", config=config))


@durable_execution
def branches_sorted(_, context):
    """The result tells successes from failures."""
    batch = context.parallel([ok, fail, ok], name="accessors", config=in_turn(tolerated_failure_count=1))
    return {
        "hasFailure": batch.has_failure,
        "successCount": len(batch.succeeded()),
        "failureCount": len(batch.failed()),
        "errorCount": len(batch.get_errors()),
    }


@durable_execution
def branch_percentage_met(_, context):
    """A quarter may fail, and does."""
    config = in_turn(tolerated_failure_percentage=25)
    return outcome(context.parallel([fail, ok, ok, ok], name="pct-boundary", config=config))


# ----------------------------------------------------------------------------------------------------------------- map


def take(_, item, *__):
    """Fail for the item "fail"."""
    if item == "fail":
        raise RuntimeError("this item always fails")
    return item


def each_in_turn(**criteria):
    """One item after the other, until the criteria are met."""
    return MapConfig(max_concurrency=1, completion_config=CompletionConfig(**criteria))


@durable_execution
def item_fails_fast(_, context):
    """The first failure is one too many."""
    config = each_in_turn(tolerated_failure_count=0)
    return outcome(context.map(["ok", "fail", "never"], take, name="failfast", config=config))


@durable_execution
def item_error_raised(_, context):
    """The failure of an item is raised when the result is asked to."""
    config = each_in_turn(tolerated_failure_count=0)
    context.map(["fail", "never"], take, name="throwing", config=config).throw_if_error()


@durable_execution
def items_enough(_, context):
    """Two successes are enough."""
    config = each_in_turn(min_successful=2)
    batch = context.map(["a", "b", "never", "never"], take, name="min-successful", config=config)
    return {
        "completionReason": batch.completion_reason.value,
        "successCount": batch.success_count,
        "totalCount": batch.total_count,
    }


@durable_execution
def item_failure_tolerated(_, context):
    """One failure is tolerated."""
    config = each_in_turn(tolerated_failure_count=1)
    return outcome(context.map(["a", "fail", "c"], take, name="tolerated", config=config))


@durable_execution
def item_failures_exceeded(_, context):
    """One failure is tolerated, and two are not."""
    config = each_in_turn(tolerated_failure_count=1)
    return counts(context.map(["fail", "fail", "never"], take, name="tolerated-exceeded", config=config))


@durable_execution
def item_percentage_exceeded(_, context):
    """A quarter may fail, and a half may not."""
    config = each_in_turn(tolerated_failure_percentage=25)
    return counts(context.map(["fail", "fail", "never", "never"], take, name="tolerated-pct", config=config))


@durable_execution
def wait_after_item_failure(_, context):
    """A result with a failure in it outlasts a wait."""
    config = each_in_turn(tolerated_failure_count=1)
    batch = context.map(["ok", "fail"], take, name="fail-then-wait", config=config)
    context.wait(Duration.from_seconds(1))
    return outcome(batch)


REQUIREMENTS = {
    "8-6": branch_fails_fast,
    "8-7": branch_error_raised,
    "8-8": branches_enough,
    "8-9": branch_failure_tolerated,
    "8-10": branch_failures_exceeded,
    "8-13": branch_percentage_exceeded,
    "8-16": branches_all_fail,
    "8-17": branches_not_enough,
    "8-18": branch_criteria_combined,
    "8-20": branches_sorted,
    "8-22": branch_percentage_met,
    "9-5": item_fails_fast,
    "9-6": item_error_raised,
    "9-7": items_enough,
    "9-8": item_failure_tolerated,
    "9-9": item_failures_exceeded,
    "9-10": item_percentage_exceeded,
    "9-18": wait_after_item_failure,
}
