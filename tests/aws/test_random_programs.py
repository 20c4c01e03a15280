"""Random workflows whose invocations are run by AWS's SDK and by ours in turn, with crashes."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest

from tests.aws.sides import AHEAD, AWS, PERDURE, Crash, Kit
from tests.replay.plane import Plane
from tests.replay.random_program import Program, completing, expected, program

PROGRAMS = 40
CRASHES = 3


@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_random_program(seed):
    """Whoever goes on after whom: the result is the same, and no recorded body runs again."""
    chance = random.Random(seed)
    nodes, plane = program(chance), Plane(now=AHEAD)
    complete = completing(plane, chance)
    programs = {side: Program(nodes, plane, Kit(side.names, Counter())) for side in (AWS, PERDURE)}
    crashes = [CRASHES]

    def around(_):
        if crashes[0] and chance.random() < 0.05:
            crashes[0] -= 1
            raise Crash

    plane.before = plane.after = around
    output = None
    while output is None or output.status.value == "PENDING":
        side = chance.choice([AWS, PERDURE])
        try:
            output = side.invoke(programs[side].workflow, plane)
        except Crash as error:
            plane.crash(error)
            continue
        plane.finish(output)
        complete()
        if output.status.value == "PENDING" and not plane.execution.has_news:
            assert plane.advance_to_next(), plane.statuses()
    assert output.status.value == "SUCCEEDED", output.error
    assert output.result == json.dumps(expected(nodes))
    assert [made.repeated for made in programs.values()] == [[], []]
