"""Random `def` workflows on few threads, with crashes and outside events at random moments."""

from __future__ import annotations

import json
import random
import sys

import pytest

from perdure import durable
from perdure.engine.invocation import Invocation
from perdure.engine.threads import Threads
from perdure.model import CheckpointAnswer, InvocationInput, InvocationStatus, OperationAction
from tests.replay.plane import Plane, execute, settings
from tests.replay.random_program import Program, completing, expected, program

PROGRAMS = 150
CRASHES = 3


class Crash(BaseException):
    """The process dies."""


def disturb(plane, chance, complete):
    """Crashes, and outcomes from outside, around requests."""
    crashes = [CRASHES]

    def around(_):
        complete(0.5)
        if crashes[0] and chance.random() < 0.05:
            crashes[0] -= 1
            raise Crash

    plane.before = plane.after = around


class Finished:
    """A service that has nothing to tell."""

    def checkpoint(self, token, updates):
        assert not updates, updates
        return CheckpointAnswer(token)


def replayed(function, plane, operations):
    """What the code makes of records to which nothing may be added."""
    operations = (plane.execution.operations["e-1"], *operations)
    given = InvocationInput(durable_execution_arn=plane.arn, checkpoint_token="t", operations=operations)
    return Invocation(function, given, settings=settings(plane)).run(Finished())


@pytest.fixture(autouse=True)
def _switch_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_random_program(seed):
    """Whatever happens when: the result is the same, no recorded body runs again, and a replay asks for nothing new."""
    chance = random.Random(seed)
    nodes, plane = program(chance), Plane()
    made, complete = Program(nodes, plane, durable), completing(plane, chance)
    if seed % 2:
        made.limits = {"timeout": durable.Duration.from_days(9)}
    workflow = durable.durable_execution(made.workflow)
    disturb(plane, chance, complete)
    threads = Threads(branches=chance.choice([1, 2, 3, 64]))
    while True:
        try:
            output = execute(workflow, plane, pending=lambda _: complete(), limit=500, threads=threads)
            break
        except Crash:
            continue
    assert output.status is InvocationStatus.SUCCEEDED, output.error
    assert json.loads(output.result) == expected(nodes)
    assert made.repeated == []
    ended = [update for request in plane.requests for update in request if update.action is OperationAction.SUCCEED]
    assert len({update.operation_id for update in ended}) == len(ended)
    # All records, and only those that a replay needs.
    assert replayed(workflow, plane, plane.operations()) == output
    assert replayed(workflow, plane, plane.execution.needed_operations()[1:]) == output
