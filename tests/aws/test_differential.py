"""What AWS's SDK makes of a workflow, ours does too; and what one has begun, the other finishes."""

from __future__ import annotations

import pytest

from tests.aws.batches import BATCHES
from tests.aws.operations import OPERATIONS
from tests.aws.sides import AWS, PERDURE, Run

WORKFLOWS = {**OPERATIONS, **{f"batch_{name}": each for name, each in BATCHES.items()}}
TURNS = pytest.mark.parametrize("sides", [(AWS, PERDURE), (PERDURE, AWS)], ids=["aws_begins", "perdure_begins"])
ATTEMPTS = 5


def by_aws(workflow, story):
    """The story as AWS's SDK tells it; where it races with itself, `story` if that is one of the ways it may go."""
    for _ in range(ATTEMPTS if workflow.races else 1):
        told = Run(workflow).finish(AWS).story()
        if told == story:
            break
    return told


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_same_execution(name):
    """Outcome, operations, updates, history, and the bodies that ran are the same, whoever runs the workflow."""
    story = Run(WORKFLOWS[name]).finish(PERDURE).story()
    assert story == by_aws(WORKFLOWS[name], story)


@pytest.mark.parametrize("name", OPERATIONS)
def test_as_few_requests(name):
    """Code without branches takes no more checkpoints than with AWS's SDK."""
    ours, theirs = (len(Run(WORKFLOWS[name]).finish(side).plane.requests) for side in (PERDURE, AWS))
    assert ours <= theirs


@TURNS
@pytest.mark.parametrize("name", WORKFLOWS)
def test_invocation_by_invocation(name, sides):
    """The SDKs take turns, invocation by invocation: it is the same execution still."""
    story = Run(WORKFLOWS[name]).finish(*sides).story()
    assert story == by_aws(WORKFLOWS[name], story)


# What its body does next depends on how often it ran; what it records depends on whether it was interrupted.
COUNTING = {"wait_for_callback", "at_most_once"}


@TURNS
@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in COUNTING])
def test_crash_by_crash(name, sides):
    """The SDKs take turns, and each dies at every update: what is recorded is the same, and not done again."""
    workflow = WORKFLOWS[name]
    run = Run(workflow)
    run.crash_everywhere()
    story, told = run.finish(*sides).story(), by_aws(workflow, None)
    ran, expected = story.pop("ran"), told.pop("ran")
    del story["history"]["invocations"], told["history"]["invocations"]
    assert story == told
    # The update of a body that has run is lost once, and never a second time.
    assert {name for name, count in ran.items() if not expected[name] <= count <= 2 * expected[name]} == set()
