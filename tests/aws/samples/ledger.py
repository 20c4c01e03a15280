"""Amounts are converted and summed up: maps, serializers and types that JSON does not have, in code for AWS's SDK."""

import json
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import aws_durable_execution_sdk_python.retries as retries  # noqa: PLR0402
from aws_durable_execution_sdk_python import DurableContext, WithRetryConfig, durable_execution, with_retry
from aws_durable_execution_sdk_python.concurrency.models import BatchItem, BatchResult, CompletionReason
from aws_durable_execution_sdk_python.config import (
    ChildConfig,
    CompletionConfig,
    Duration,
    MapConfig,
    NestingType,
    StepConfig,
)
from aws_durable_execution_sdk_python.exceptions import ChildContextError, DurableOperationError
from aws_durable_execution_sdk_python.serdes import JsonSerDes, SerDes, SerDesContext

RATES = {"EUR": Decimal(1), "USD": Decimal("0.9"), "CHF": Decimal("1.05")}


class Cents(SerDes[Decimal]):
    def serialize(self, value: Decimal, serdes_context: SerDesContext) -> str:
        return json.dumps({"cents": int(value * 100), "of": bool(serdes_context.operation_id)})

    def deserialize(self, data: str, serdes_context: SerDesContext) -> Decimal:
        return Decimal(json.loads(data)["cents"]) / 100


def convert(context: DurableContext, entry: dict[str, Any], index: int, entries: Sequence[dict[str, Any]]) -> Decimal:
    rate = context.step(lambda _: RATES[entry["currency"]], name="rate", config=StepConfig(retries.RetryPresets.none()))
    return context.step(
        lambda _: rate * entry["amount"], name=f"{index + 1} of {len(entries)}", config=StepConfig(serdes=Cents())
    )


@durable_execution
def handler(event: dict[str, Any], context: DurableContext) -> dict[str, Any]:
    day = context.step(lambda _: date(2026, 2, 28), name="day")
    converted: BatchResult[Decimal] = context.map(
        event["entries"],
        convert,
        name="convert",
        config=MapConfig(
            max_concurrency=3,
            completion_config=CompletionConfig(tolerated_failure_count=event["tolerated"]),
            nesting_type=NestingType.FLAT if event["flat"] else NestingType.NESTED,
        ),
    )
    failed: list[BatchItem[Decimal]] = converted.failed()

    def booking(child: DurableContext, attempt: int) -> str:
        if attempt < 2:
            child.step(lambda _: 1 / 0, name="ledger", config=StepConfig(retries.RetryPresets.none()))
        return child.step(lambda _: "booked", name="ledger", config=StepConfig(serdes=JsonSerDes()))

    again = retries.create_retry_strategy(retries.RetryStrategyConfig(max_attempts=3, initial_delay=Duration(1)))
    booked = with_retry(context, booking, WithRetryConfig(retry_strategy=again), name="booking")
    try:
        context.run_in_child_context(
            lambda _: event["entries"][9], name="audit", config=ChildConfig(serdes=JsonSerDes())
        )
        audit = None
    except ChildContextError as error:
        audit = (type(error).__mro__[1] is DurableOperationError, error.error_type, error.message)
    return {
        "day": day.isoformat(),
        "sum": str(sum(converted.get_results())),
        "whole": converted.completion_reason is CompletionReason.ALL_COMPLETED,
        "failed": [(item.index, item.error.type if item.error else None) for item in failed],
        "booked": booked,
        "audit": audit,
    }
