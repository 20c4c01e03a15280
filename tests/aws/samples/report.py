"""A report is polled for and measured: conditions, plugins and a client of one's own in code for AWS's SDK."""
# ruff: noqa: T201 - its plugin prints

from typing import Any

import boto3
from aws_durable_execution_sdk_python import DurableContext, WaitForConditionError, durable_execution
from aws_durable_execution_sdk_python.config import Duration, JitterStrategy
from aws_durable_execution_sdk_python.plugin import (
    DurableInstrumentationPlugin,
    InvocationEndInfo,
    InvocationStartInfo,
    OperationEndInfo,
    UserFunctionEndInfo,
    UserFunctionOutcome,
)
from aws_durable_execution_sdk_python.types import WaitForConditionCheckContext
from aws_durable_execution_sdk_python.waits import (
    WaitForConditionConfig,
    WaitForConditionDecision,
    WaitStrategyConfig,
    create_wait_strategy,
)
from botocore.config import Config

SECOND = Duration.from_seconds(1)


class Metrics(DurableInstrumentationPlugin):
    def __init__(self, first: bool) -> None:
        self.first = first

    def on_operation_end(self, info: OperationEndInfo) -> None:
        print("metric", info.operation_type.value, info.name, info.status.value)

    def on_user_function_end(self, info: UserFunctionEndInfo) -> None:
        if info.outcome is UserFunctionOutcome.SUCCEEDED:
            print("metric", "function", info.name, info.attempt)

    def on_invocation_end(self, info: InvocationEndInfo) -> None:
        print("metric", "first" if self.first else "later", info.status.value)


class MetricsFactory:
    def create_plugin(self, info: InvocationStartInfo) -> Metrics:
        return Metrics(info.is_first_invocation)


def look(state: dict[str, Any], context: WaitForConditionCheckContext) -> dict[str, Any]:
    return {"pages": state["pages"] + 1, "attempt": context.attempt}


def lose(state: dict[str, Any], context: WaitForConditionCheckContext) -> dict[str, Any]:
    if context.attempt > 1:
        raise ValueError(f"page {state['pages']} is lost")
    return state


def go_on(state: dict[str, Any], attempt: int) -> WaitForConditionDecision:
    return WaitForConditionDecision.continue_waiting(SECOND)


@durable_execution(
    boto3_client=boto3.client("lambda", config=Config(user_agent_extra="report", max_pool_connections=2)),
    plugins=[MetricsFactory()],
)
def handler(event: dict[str, Any], context: DurableContext) -> dict[str, Any]:
    strategy = create_wait_strategy(
        WaitStrategyConfig(
            should_continue_polling=lambda state: state["pages"] < event["pages"],
            initial_delay=SECOND,
            jitter_strategy=JitterStrategy.NONE,
        )
    )
    report = context.wait_for_condition(look, WaitForConditionConfig(strategy, {"pages": 0}), name="report")
    try:
        context.wait_for_condition(lose, WaitForConditionConfig(go_on, {"pages": 1}), name="appendix")
    except WaitForConditionError as error:
        return {"report": report, "appendix": error.message, "type": error.error_type}
    return {"report": report, "appendix": None}
