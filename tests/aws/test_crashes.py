"""Our side of every workflow, crashed behind each of its commits by the kit that authors use."""

from __future__ import annotations

import json
import os
from collections import Counter

import pytest

from perdure.errors import DurableOperationError
from perdure.journal.entry import Outcome
from perdure.model import ErrorObject, OperationStatus
from perdure.testing import explore_crashes
from tests.aws.operations import WORKFLOWS
from tests.aws.outside import Told
from tests.aws.sides import PERDURE, Kit

LIMIT = int(os.environ.get("PERDURE_CRASHES", "2")) or None
"""Crashes of each workflow, spread over its commits; 0 for all of them, which takes minutes."""


def answer(outcome):
    """What is done about a callback."""

    def complete(callback):
        if outcome.status is OperationStatus.SUCCEEDED:
            callback.succeed(outcome.result)
        elif outcome.status is OperationStatus.FAILED:
            callback.fail(outcome.error or ErrorObject())

    return complete


def answers(workflow):
    """For each callback that is told of; what is to be late is left to its time."""
    if not isinstance(workflow.outside, Told):
        return {}
    outcomes = {name.replace("_", " "): workflow.outside.of(name) for name in workflow.outside.results}
    return {
        name: answer(outcome) for name, outcome in outcomes.items() if outcome.status is not OperationStatus.TIMED_OUT
    }


def function(workflow):
    """A function to invoke: it fails if the payload names an operation that is to fail, and returns the payload."""

    def invoked(event):
        told = workflow.outside if isinstance(workflow.outside, Told) else Told({})
        outcome = told.of(event) if isinstance(event, str) else None
        if isinstance(outcome, Outcome) and outcome.status is not OperationStatus.SUCCEEDED:
            raise DurableOperationError(outcome.error and outcome.error.message)
        return event

    return invoked


ATTEMPTS = 3
"""Of exploring a workflow whose end depends on the turns of threads; mostly it does not, so that runs are alike."""


def explored(workflow):
    ran = Counter()
    return explore_crashes(
        workflow.build(Kit(PERDURE.names, ran)),
        json.loads(workflow.input),
        callbacks=answers(workflow),
        functions={"f": function(workflow)},
        limit=LIMIT,
        reset=ran.clear,
    )


@pytest.mark.parametrize("name", WORKFLOWS)
def test_crashes_change_nothing(name):
    """The end is the same, and no body runs again whose end is recorded."""
    workflow = WORKFLOWS[name]
    for _ in range(ATTEMPTS if workflow.races else 1):
        found = explored(workflow)
        if not found.faults:
            break
    found.assert_none()
    assert len(found.crash_points) == (min(found.commits, LIMIT) if LIMIT else found.commits)
    assert len(found.missed) < len(found.crash_points)
