"""Typed inputs and results, and values that are equal on replay, on AWS's service."""

from __future__ import annotations

from dataclasses import dataclass

import attrs
import pytest

from perdure.config import Duration
from perdure.durable import StepConfig
from perdure.filesystem_serdes import FileSystemSerDes
from perdure.retries import RetryPresets
from tests.aws.lambdas.runs import Run
from tests.scenarios.colour import Colour, durable

COLOURS = pytest.mark.parametrize("colour", Colour)


@attrs.frozen
class Item:
    sku: str
    count: int = 1


@attrs.frozen
class Order:
    customer: str
    items: list[Item]


@dataclass(frozen=True)
class Receipt:
    order: Order
    total: int


async def buy(order: Order, context) -> Receipt:
    counts = [await context.step(lambda _, item=item: item.count) for item in order.items]
    await context.wait(Duration(60))
    return Receipt(order, sum(counts))


@COLOURS
def test_typed_input_and_result(emulator, colour):
    """An event becomes what the workflow is annotated with, and its result a document."""
    event = {"customer": "ann", "items": [{"sku": "a", "count": 2}, {"sku": "b"}]}
    run = Run(emulator, durable(colour, buy), event=event).finish()
    assert run.result == {
        "order": {"customer": "ann", "items": [{"sku": "a", "count": 2}, {"sku": "b", "count": 1}]},
        "total": 3,
    }


@COLOURS
def test_an_input_that_does_not_fit(emulator, colour):
    """The execution fails with an error that names the fields, and no code of the workflow runs."""
    event = {"customer": "ann", "items": [{"sku": "a", "count": "many"}, {}]}
    run = Run(emulator, durable(colour, buy), event=event).finish()
    assert run.status == "FAILED"
    assert "does not fit Order: invalid value for type, expected int @ value.items[0].count" in run.error.message
    assert "required field missing @ value.items[1].sku" in run.error.message
    assert run.statuses() == {}


@COLOURS
def test_a_file_in_place_of_a_value(emulator, colour, tmp_path):
    """`FileSystemSerDes`, on a file system that Lambda functions share, keeps what the service would not take."""
    config = StepConfig(serdes=FileSystemSerDes(str(tmp_path)))

    async def workflow(event, context):
        value = await context.step(lambda _: "x" * 2_000_000, "large", config)
        await context.wait(Duration(60))
        return len(value)

    run = Run(emulator, durable(colour, workflow)).finish()
    assert run.result == 2_000_000
    assert run.bodies.ran.total() == 1
    assert max(call.bytes for call in run.calls()) < 2_000


@COLOURS
def test_values_that_replay_repeats(emulator, colour):
    """Clock, UUIDs, random numbers and idempotency keys are the same in every invocation."""
    seen, keys = [], []

    def flaky(step):
        keys.append(step.idempotency_key)
        if step.attempt < 3:
            raise ValueError("not yet")
        return step.idempotency_key

    async def workflow(event, context):
        def drawn(each):
            return [each.execution_id, each.now().isoformat(), str(each.uuid4()), each.random().random()]

        async def child(inner):
            return [drawn(inner), await inner.step(lambda step: step.idempotency_key), drawn(inner)]

        values = [drawn(context), await context.run_in_child_context(child)]
        values.append(await context.step(flaky, config=StepConfig(RetryPresets.fixed())))
        seen.append(list(values))
        await context.wait(Duration(60))
        values.append(drawn(context))
        await context.wait(Duration(60))
        return values

    run = Run(emulator, durable(colour, workflow)).finish()
    first, child, key, later = run.result
    assert seen == [[first, child, key]] * 3
    assert len(set(keys)) == 1
    assert len(keys) == 3
    assert key != child[1]
    assert len({first[2], child[0][2], child[2][2], later[2]}) == 4
    assert first[1] <= child[2][1] < later[1]
    assert first[0] == run.arn.rsplit("/", 1)[-1]
