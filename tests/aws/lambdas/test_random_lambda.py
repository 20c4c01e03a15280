"""Random workflows on AWS's emulator through the Lambda handler, whose process dies at random requests."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from itertools import groupby

import pytest
from aws_durable_execution_sdk_python_testing.exceptions import ResourceNotFoundException

from perdure.durable import durable_execution
from perdure.model import OperationStatus, OperationType
from tests.aws.lambdas.emulator import Fault
from tests.aws.lambdas.lives import Lives
from tests.aws.lambdas.runs import Run, is_open
from tests.aws.sides import PERDURE, Kit
from tests.official.names import function_arn
from tests.replay import random_program, test_async_random

PROGRAMS = 20
MILLISECOND = timedelta(milliseconds=1)
OPEN = {"STARTED", "PENDING", "READY"}
KIT = Kit(PERDURE.names, Counter())


@durable_execution
def told(event, context):
    return {"told": True}


class Seen:
    """An operation of the emulator, as random programs look at it."""

    def __init__(self, operation):
        self.name = operation.name
        self.operation_type = OperationType(operation.operation_type.value)
        self.status = OperationStatus(operation.status.value)
        self.is_terminal = operation.status.value not in OPEN


class Place(Fault):
    """
    What random programs look at while they run, and what happens at their requests: callbacks may be completed at once.

    Attributes:
        run: The execution, once it has begun.
    """

    run: Run

    def __init__(self, chance):
        self._chance = chance

    def operations(self):
        return [Seen(each) for each in list(self.run.execution.operations)[1:]]

    def outside(self, run, operation):
        """A callback is completed after a while, if it is open then."""
        run.emulator.timeline.call_later(lambda: self.complete(operation.name, "told"), 4 * self._chance.random())

    def complete(self, name, answer):
        """Complete a callback."""
        executor = self.run.emulator.executor
        for operation in list(self.run.execution.operations):
            if is_open(operation) and operation.name == name:
                self.run.emulator.timeline.elapse(MILLISECOND)
                # Somebody else may have been faster.
                with suppress(ResourceNotFoundException):
                    executor.send_callback_success(operation.callback_details.callback_id, answer.encode())
                return

    def before(self, call):
        # As in life, or nearly: whatever ends has a millisecond of its own, as by these AWS orders ends.
        self.run.emulator.timeline.elapse(MILLISECOND)
        if self._chance.random() < 0.2:
            self.run.emulator.timeline.elapse(timedelta(seconds=self._chance.random() * 3))
            self.run.emulator.timeline.overtake()
            self.run.emulator.timeline.elapse(MILLISECOND)

    def after(self, call, answer):
        self.run.emulator.timeline.elapse(MILLISECOND)
        waiting = [each for each in list(self.run.execution.operations) if is_open(each)]
        if waiting and call.arn == self.run.arn and self._chance.random() < 0.3:
            self.complete(self._chance.choice(waiting).name, "told")
        return answer


# ------------------------------------------------------------------------------------------------------------ programs


class Blocking(random_program.Program):
    """A random program as `def`."""

    def _invoke(self, context, node, path, name):
        return context.invoke(function_arn("Told"), node.number, name)


class Awaited(Blocking):
    """The same as `async def`; it begins neighbouring operations together, and half of its bodies are coroutines."""

    TOGETHER = frozenset({"step", "once", "flaky", "poll", "wait", "approval", "invoke", "child", "virtual"})

    async def workflow(self, event, context):
        return await self.block(context, self.nodes, ())

    async def block(self, context, nodes, path):
        results = []
        for together, group in groupby(enumerate(nodes), key=lambda each: each[1].kind in self.TOGETHER):
            calls = [(node, (*path, index)) for index, node in group]
            if together:
                results += await asyncio.gather(*[self.node(context, *call) for call in calls])
            else:
                results += [await self.node(context, *call) for call in calls]
        return results

    def _step(self, context, node, path, name):
        run = self.body(name, node.number)

        async def body(_):
            await asyncio.sleep(node.number % 3 / 1000)
            return run()

        return context.step(body if node.number % 2 else run, name, self.retry)

    async def _callback(self, context, node, path, name):
        callback = await context.create_callback(name)
        return await callback.result()

    async def _retry(self, context, node, path, name):
        async def block(inner, attempt):
            result = await self.block(inner, node.parts[0], (*path, f"try {attempt}"))
            return [attempt, result] if attempt > 1 else 1 / 0

        config = self.sdk.WithRetryConfig(self._again, wrap_with_run_in_child_context=node.slots == 1)
        return await self.sdk.with_retry(context, block, config)

    def _parallel(self, context, node, path, name):
        return super()._parallel(Later(context), node, path, name)

    def _map(self, context, node, path, name):
        return super()._map(Later(context), node, path, name)


class Later:
    """A context whose batches are asked for their results before they have any."""

    def __init__(self, context):
        self._context = context

    def parallel(self, *args, **options):
        self._result = self._context.parallel(*args, **options)
        return self

    def map(self, *args, **options):
        self._result = self._context.map(*args, **options)
        return self

    async def get_results(self):
        return (await self._result).get_results()


def finish(emulator, workflow, chance, place):
    """An execution of a random program, with deaths, its state given in pages."""
    emulator.paged(chance.choice([1, 300, 3000, 1_000_000]))
    emulator.blank = chance.random() < 0.3
    lives = Lives(workflow, chance, hurry=0.4)
    place.run = run = Run(emulator, lives, outside=place.outside, targets={"Told": told})
    with emulator.broken(place):
        run.finish()
    assert run.status == "SUCCEEDED", run.error
    assert [life.late for life in lives.lived if life.late] == []
    return run, lives


@pytest.mark.parametrize("colour", [Blocking, Awaited])
@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_random_program(emulator, colour, seed):
    """It ends as if nothing had happened, no body runs again once its end is recorded, and no request comes late."""
    chance = random.Random(seed)
    place = Place(chance)
    nodes = random_program.program(chance)
    program = colour(nodes, place, KIT)
    run, _ = finish(emulator, program.workflow, chance, place)
    assert run.result == random_program.expected(nodes)
    assert program.repeated == []


# ----------------------------------------------------------------------------------------------- ordered by what ends


class World(test_async_random.World):
    """The outside of a program: callbacks, latencies; its time is the emulator's."""

    def happen(self):
        if self.random.random() < 0.3:
            self.answer()


class Deaf:
    """A client for a replay of what has ended."""

    def __getattr__(self, name):
        raise AssertionError(f"a replay of an ended execution called {name}")


def replay(run, workflow):
    """The output of one more invocation, with all that was recorded."""
    operations = json.loads(json.dumps([each.to_json_dict() for each in run.execution.operations]))
    state = {"Operations": operations, "NextMarker": ""}
    event = {"DurableExecutionArn": run.arn, "CheckpointToken": "none", "InitialExecutionState": state}
    return durable_execution(workflow, boto3_client=Deaf())(event, None)


@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_random_order(emulator, seed):
    """What a program does depends on what ends first; whenever its process dies, every replay sees the same order."""
    chance = random.Random(seed)
    place = Place(chance)
    world = World(seed, place)
    program = test_async_random.Program(world)
    run, _ = finish(emulator, program.workflow, chance, place)
    ran = dict(world.bodies)
    assert replay(run, program.workflow) == run.outputs[-1]
    assert dict(world.bodies) == ran
    for runs in world.logs.values():
        test_async_random.assert_same(runs)


def test_programs_are_not_trivial(emulator):
    """The programs above die, run out of time, are suspended, and have their state paged."""
    deaths, haste, invocations, pages = 0, 0, 0, 0
    for seed in range(8):
        chance = random.Random(seed)
        place = Place(chance)
        program = Awaited(random_program.program(chance), place, KIT)
        run, lives = finish(emulator, program.workflow, chance, place)
        deaths += lives.deaths
        haste += lives.haste
        invocations += len(run.outputs)
        pages += len(run.calls("state"))
    assert deaths > 5
    assert haste > 0
    assert invocations > 30
    assert pages > 50
