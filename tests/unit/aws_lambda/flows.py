"""The functions that are deployed for the tests of `lambda://`."""

from __future__ import annotations

import attrs

from perdure.config import CallbackConfig, StepConfig
from perdure.durable import Duration, durable_execution
from perdure.retries import RetryDecision
from perdure.waits import WaitForConditionConfig, WaitForConditionDecision


@attrs.frozen
class Order:
    article: str
    count: int = 1


@attrs.frozen
class Receipt:
    order: Order
    total: int


@durable_execution
def buy(order: Order, context) -> Receipt:
    total = context.step(lambda _: order.count * 7, name="price")
    context.wait(Duration.from_seconds(1), name="cool off")
    return Receipt(order, total)


@durable_execution
async def buy_async(order: Order, context) -> Receipt:
    total = await context.step(lambda _: order.count * 7, name="price")
    return Receipt(order, total)


@durable_execution
def ask(event, context):
    config = CallbackConfig(timeout=Duration.from_hours(1), heartbeat_timeout=Duration.from_hours(1))
    return context.create_callback(name="approval", config=config).result()


@durable_execution
def fail(event, context):
    raise ValueError(event["why"])


@durable_execution
def large(event, context):
    return "x" * event["size"]


@durable_execution
def many(event, context):
    def one(branch, number, index, numbers):
        return branch.step(lambda _: number, name=f"n{number}")

    return sum(context.map(list(range(event["count"])), one, name="all").get_results())


@durable_execution
def medley(event, context):
    """One of everything that a history tells."""

    def flaky(step):
        if step.attempt < 2:
            raise ValueError("not yet")
        return "at last"

    retry = StepConfig(retry_strategy=lambda error, attempt: RetryDecision.retry(Duration.from_seconds(1)))
    poll = WaitForConditionConfig(
        initial_state=0,
        wait_strategy=lambda state, attempt: (
            WaitForConditionDecision.stop_polling()
            if state >= 2
            else WaitForConditionDecision.continue_waiting(Duration.from_seconds(1))
        ),
    )
    told = [
        context.step(flaky, name="flaky", config=retry),
        context.wait_for_condition(lambda state, _: state + 1, config=poll, name="poll"),
        context.run_in_child_context(lambda child: child.step(lambda _: "inner", name="inner"), name="child"),
    ]
    try:
        context.step(_refuse, name="refused", config=StepConfig(retry_strategy=lambda *_: RetryDecision.no_retry()))
    except Exception as error:  # noqa: BLE001 - whatever it is
        told.append(type(error).__name__)
    context.wait(Duration.from_seconds(1), name="nap")
    told.append(context.create_callback(name="open").result())
    return told


def _refuse(_):
    raise ValueError("never")
