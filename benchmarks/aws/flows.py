"""The workflows that both SDKs run: the same source, given a decorator."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

DECORATORS = {"perdure": "perdure.durable", "aws": "aws_durable_execution_sdk_python"}
"""The module that has `durable_execution`, by side."""
ASYNC = "perdure-async"
FLOOR = "boto3"
"""No SDK, but the requests that `three` cannot do without."""


def three(event: Any, context: Any) -> Any:
    """Three steps, one after the other."""
    first = context.step(lambda _: 1, name="first")
    second = context.step(lambda _: first + 1, name="second")
    return context.step(lambda _: second + 1, name="third")


async def three_async(event: Any, context: Any) -> Any:
    first = await context.step(lambda _: 1, name="first")
    second = await context.step(lambda _: first + 1, name="second")
    return await context.step(lambda _: second + 1, name="third")


def fan(event: Any, context: Any) -> Any:
    """As many branches as the event says, with a step each."""
    branches = [lambda branch, index=index: branch.step(lambda _: index) for index in range(event)]
    return sum(context.parallel(branches, name="fan").get_results())


async def fan_async(event: Any, context: Any) -> Any:
    branches = [lambda branch, index=index: branch.step(lambda _: index) for index in range(event)]
    return sum((await context.parallel(branches, name="fan")).get_results())


def _floor() -> Callable[[Any, Any], Any]:
    client = import_module("boto3").client("lambda")

    def handler(event: Any, context: Any) -> Any:
        token = event["CheckpointToken"]
        for number in ("1", "2", "3"):
            step = {"Id": number, "Type": "STEP", "SubType": "Step", "Name": f"step {number}"}
            answer = client.checkpoint_durable_execution(
                DurableExecutionArn=event["DurableExecutionArn"],
                CheckpointToken=token,
                Updates=[{**step, "Action": "START"}, {**step, "Action": "SUCCEED", "Payload": number}],
            )
            token = answer["CheckpointToken"]
        return {"Status": "SUCCEEDED", "Result": "3"}

    return handler


def handlers(side: str) -> dict[str, Callable[[Any, Any], Any]]:
    """What Lambda would call, by workflow."""
    if side == FLOOR:
        return {"three": _floor()}
    if side == ASYNC:
        decorate = import_module(DECORATORS["perdure"]).durable_execution
        return {"three": decorate(three_async), "fan": decorate(fan_async)}
    decorate = import_module(DECORATORS[side]).durable_execution
    return {"three": decorate(three), "fan": decorate(fan)}
