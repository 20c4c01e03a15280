"""A crash at any commit of the differential test's workflows changes nothing, and runs nothing again."""

from __future__ import annotations

import json
import os
from collections import Counter

import pytest

from perdure.durable import durable_execution
from perdure.testing import explore_crashes
from tests.aws.operations import WORKFLOWS
from tests.aws.sides import PERDURE, Kit

LIMIT = int(os.environ.get("PERDURE_CRASHES", "12"))
"""Crashes of each workflow, evenly spread; the longest have more than a hundred commits, which takes minutes in all."""


@pytest.mark.parametrize("name", WORKFLOWS)
def test_crashes(name):
    """Status, value and error are those without a crash; no body runs whose end was recorded."""
    workflow, built = WORKFLOWS[name], []

    def build():
        # What bodies do may depend on how often they ran: each run begins anew.
        built[:] = [workflow.build(Kit(PERDURE.names, Counter()))]

    @durable_execution
    def handler(event, context):
        return built[0](event, context)

    found = explore_crashes(
        handler,
        json.loads(workflow.input),
        callbacks=lambda callback: callback.succeed('"answered"'),
        functions={"echo": lambda event: event},
        reset=build,
        limit=LIMIT,
    )
    found.assert_none()
    assert len(found.crash_points) == min(LIMIT, found.commits)
