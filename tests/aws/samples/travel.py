"""A trip is booked in parallel branches; when one fails, what was booked is cancelled: code for AWS's SDK."""

import logging
from typing import Any

from aws_durable_execution_sdk_python import (
    BatchItemStatus,
    BatchResult,
    DurableContext,
    StepContext,
    StepError,
    durable_execution,
    durable_parallel_branch,
    durable_step,
    durable_with_child_context,
)
from aws_durable_execution_sdk_python.config import (
    CompletionConfig,
    Duration,
    JitterStrategy,
    ParallelConfig,
    StepConfig,
    StepSemantics,
)
from aws_durable_execution_sdk_python.retries import RetryPresets, RetryStrategyConfig, create_retry_strategy

logger = logging.getLogger(__name__)

TWICE = StepConfig(
    retry_strategy=create_retry_strategy(
        RetryStrategyConfig(
            max_attempts=2,
            initial_delay=Duration.from_seconds(1),
            jitter_strategy=JitterStrategy.NONE,
            retryable_error_types=[TimeoutError],
        )
    ),
)
ONCE = StepConfig(retry_strategy=RetryPresets.none(), step_semantics=StepSemantics.AT_MOST_ONCE_PER_RETRY)


@durable_step
def book(step: StepContext, what: str, full: list[str]) -> str:
    step.logger.info("booking %s", what, extra={"what": what})
    if step.attempt == 1 and what == "flight":
        raise TimeoutError("the airline is slow")
    if what in full:
        raise LookupError(f"no {what} is free")
    return f"{what} booked in attempt {step.attempt}"


@durable_parallel_branch(name="flight")
def flight(context: DurableContext, trip: dict[str, Any]) -> str:
    return context.step(book("flight", trip["full"]), name="book flight", config=TWICE)


@durable_parallel_branch(name="hotel")
def hotel(context: DurableContext, trip: dict[str, Any]) -> str:
    return context.step(book("hotel", trip["full"]), name="book hotel", config=ONCE)


@durable_with_child_context
def cancel(context: DurableContext, booked: list[str]) -> list[str]:
    return [context.step(lambda _, one=one: f"{one} cancelled", name=f"cancel {one}") for one in booked]


@durable_execution
def handler(event: dict[str, Any], context: DurableContext) -> dict[str, Any]:
    context.logger.info("trip for %s", event["who"])
    bookings: BatchResult[str] = context.parallel(
        [flight(event), hotel(event)],
        name="bookings",
        config=ParallelConfig(max_concurrency=2, completion_config=CompletionConfig.all_completed()),
    )
    if bookings.has_failure:
        booked = [("flight", "hotel")[item.index] for item in bookings.all if item.status is BatchItemStatus.SUCCEEDED]
        return {
            "cancelled": context.run_in_child_context(cancel(booked), name="cancel"),
            "errors": [error.message for error in bookings.get_errors()],
        }
    try:
        context.step(book("insurance", event["full"]), name="insure", config=ONCE)
    except StepError as error:
        return {"booked": bookings.get_results(), "insured": error.message, "type": error.error_type}
    return {"booked": bookings.get_results(), "insured": True}
