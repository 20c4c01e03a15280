"""
What AWS's SDK makes of a workflow, ours does too; and what one has begun, the other finishes.

Deliberate differences, each with its reason: of texts in `wording`, of what plugins are told in `test_hooks`, of
everything else in `test_deviations`.
"""

from __future__ import annotations

import dataclasses
from enum import Enum
from functools import cache

import attrs
import pytest

from tests.aws.completions import COMPLETIONS
from tests.aws.operations import BRANCHED, OPERATIONS, WORKFLOWS
from tests.aws.sides import AWS, PERDURE, Aws, Perdure, Run

TURNS = pytest.mark.parametrize("sides", [(AWS, PERDURE), (PERDURE, AWS)], ids=["aws_begins", "perdure_begins"])
ATTEMPTS = 5


@cache
def told_by_aws(name):
    """The story as AWS's SDK tells it; the same every time."""
    return Run(WORKFLOWS[name]).finish(AWS).story()


def both(name, *sides):
    """The story by these sides, and as AWS's SDK tells it; where that races with itself, once they go the same way."""
    for _ in range(ATTEMPTS):
        story = Run(WORKFLOWS[name]).finish(*sides).story()
        if not WORKFLOWS[name].races:
            return story, told_by_aws(name)
        told = Run(WORKFLOWS[name]).finish(AWS).story()
        if story == told:
            break
    return story, told


AWS_CONFIGS = {name for name, each in Aws.names.items() if name.endswith("Config") and dataclasses.is_dataclass(each)}
CONFIGS = [each for each in Perdure.names.values() if attrs.has(each) and each.__name__.endswith("Config")]
OF_OURS = {(name, option) for name in ("ParallelConfig", "MapConfig") for option in ("timeout", "retry_strategy")}
"""Options that AWS's SDK does not have."""


def test_every_option_is_used(monkeypatch):
    """
    At least 60 workflows, beside all the ways in which a batch may end, give every option of every config another
    value than its default, and every member of an enum where there is one.
    """
    assert len(WORKFLOWS.keys() - COMPLETIONS.keys()) >= 60
    given = set()

    def watch(config):
        made, defaults = config.__init__, {each.name: default(each) for each in attrs.fields(config)}

        def make(self, *args, **options):
            made(self, *args, **options)
            for option, usual in defaults.items():
                value = getattr(self, option)
                if value != usual:
                    given.add((config.__name__, option))
                if isinstance(value, Enum):
                    given.add((config.__name__, option, value))

        monkeypatch.setattr(config, "__init__", make)

    for config in CONFIGS:
        watch(config)
    for workflow in WORKFLOWS.values():
        Run(workflow).finish(PERDURE)
    options = {(each.__name__, option.name) for each in CONFIGS for option in attrs.fields(each)}
    members = {
        (each.__name__, option.name, member)
        for each in CONFIGS
        for option in attrs.fields(each)
        if isinstance(default(option), Enum)
        for member in type(default(option))
    }
    assert {each.__name__ for each in CONFIGS} == AWS_CONFIGS
    assert (options | members) - given == OF_OURS


def default(option):
    """The value of an option that is not given; None if it must be."""
    if option.default is attrs.NOTHING:
        return None
    return option.default.factory() if isinstance(option.default, attrs.Factory) else option.default


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_same_execution(name):
    """Outcome, operations, updates, history, and the bodies that ran are the same, whoever runs the workflow."""
    story, told = both(name, PERDURE)
    assert story == told


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in BRANCHED])
def test_as_few_requests(name):
    """Code without branches takes no more checkpoints than with AWS's SDK."""
    ours, theirs = (len(Run(WORKFLOWS[name]).finish(side).plane.requests) for side in (PERDURE, AWS))
    assert ours <= theirs


@TURNS
@pytest.mark.parametrize("name", WORKFLOWS)
def test_invocation_by_invocation(name, sides):
    """The SDKs take turns, invocation by invocation: it is the same execution still."""
    story, told = both(name, *sides)
    assert story == told


COUNTING = {"wait_for_callback", "at_most_once", "at_most_once_options", "passing_trouble"}
"""What a body does next depends on how often it ran, or what is recorded on whether it was interrupted."""
NOTING = {"large_child_options", "with_retry_by_default", "surroundings", "clean_up"}
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
