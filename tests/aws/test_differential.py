"""
What AWS's SDK makes of a workflow, ours does too; and what one has begun, the other finishes.

Deliberate differences, each with its reason: of texts in `wording`, of what plugins are told in `test_hooks`, of
everything else in `test_deviations`.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from functools import cache

import pytest

from tests.aws.completions import COMPLETIONS
from tests.aws.operations import BRANCHED, OPERATIONS, WORKFLOWS
from tests.aws.sides import AWS, PERDURE, Aws, Run

TURNS = pytest.mark.parametrize("sides", [(AWS, PERDURE), (PERDURE, AWS)], ids=["aws_begins", "perdure_begins"])
ATTEMPTS = 5


@cache
def told_by_aws(name):
    """The story as AWS's SDK tells it; the same every time."""
    return Run(WORKFLOWS[name]).finish(AWS).story()


def by_aws(name, story):
    """The same, but where AWS's SDK races with itself it is `story` if that is one of the ways it may go."""
    if not WORKFLOWS[name].races:
        return told_by_aws(name)
    for _ in range(ATTEMPTS):
        told = Run(WORKFLOWS[name]).finish(AWS).story()
        if told == story:
            break
    return told


def test_every_option_is_used():
    """At least 60 workflows, beside all the ways in which a batch may end, use every option of every config."""
    assert len(WORKFLOWS.keys() - COMPLETIONS.keys()) >= 60
    modules = {inspect.getmodule(each.build) for each in WORKFLOWS.values()}
    words = set(re.findall(r"\w+", "".join(inspect.getsource(each) for each in modules)))
    configs = {
        name: each for name, each in Aws.names.items() if name.endswith("Config") and dataclasses.is_dataclass(each)
    }
    assert len(configs) == 13
    assert configs.keys() - words == set()
    options = {field.name for each in configs.values() for field in dataclasses.fields(each)}
    # Given by position.
    assert options - words == {"wait_strategy", "initial_state"}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_same_execution(name):
    """Outcome, operations, updates, history, and the bodies that ran are the same, whoever runs the workflow."""
    story = Run(WORKFLOWS[name]).finish(PERDURE).story()
    assert story == by_aws(name, story)


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in BRANCHED])
def test_as_few_requests(name):
    """Code without branches takes no more checkpoints than with AWS's SDK."""
    ours, theirs = (len(Run(WORKFLOWS[name]).finish(side).plane.requests) for side in (PERDURE, AWS))
    assert ours <= theirs


@TURNS
@pytest.mark.parametrize("name", WORKFLOWS)
def test_invocation_by_invocation(name, sides):
    """The SDKs take turns, invocation by invocation: it is the same execution still."""
    story = Run(WORKFLOWS[name]).finish(*sides).story()
    assert story == by_aws(name, story)


COUNTING = {"wait_for_callback", "at_most_once", "at_most_once_options", "passing_trouble"}
"""What a body does next depends on how often it ran, or what is recorded on whether it was interrupted."""
NOTING = {"large_child_options", "with_retry_by_default", "surroundings", "clean_up", "logs"}
"""What is counted is code that is replayed as well."""


@TURNS
@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in COUNTING | BRANCHED])
def test_crash_by_crash(name, sides):
    """The SDKs take turns, and each dies at every update: what is recorded is the same, and not done again."""
    run = Run(WORKFLOWS[name])
    run.crash_everywhere()
    story, told = run.finish(*sides).story(), told_by_aws(name)
    ran, expected = story.pop("ran"), told["ran"]
    # Those that crashed are in there, too.
    story["history"]["invocations"] = told["history"]["invocations"]
    assert story | {"ran": expected} == told
    if name not in NOTING:
        # The update of a body that has run is lost once, and never a second time.
        assert {name for name, count in ran.items() if not expected[name] <= count <= 2 * expected[name]} == set()
