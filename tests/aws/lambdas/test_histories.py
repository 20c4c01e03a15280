"""The official suite's handlers on AWS's SDK and on ours: the same history, for no more requests, none done twice."""

from __future__ import annotations

import pytest

from tests.aws.lambdas.handlers import requirements
from tests.aws.lambdas.suite import OWN_WORDS, run, story, told

EACH = pytest.mark.parametrize("requirement", requirements())
SIDES = pytest.mark.parametrize("side", ["def", "async"])


@EACH
@SIDES
def test_the_same_history(emulator, requirement, side):
    """Operations, updates, payloads, errors, invocations and the number of bodies that ran are the same."""
    assert told(emulator, requirement, side).story == told(emulator, requirement, "aws").story


@pytest.mark.parametrize("requirement", OWN_WORDS)
def test_own_words(emulator, requirement):
    """What is left out of the comparison above does differ."""
    ours, theirs = (run(emulator, requirement, side).finish().story() for side in ("def", "aws"))
    assert ours != theirs


RACING = {"8-11", "9-11"}
"""Branches beside each other, without bodies: who comes first, and who shares a request, depends on threads."""


@pytest.mark.parametrize("requirement", [each for each in requirements() if each not in RACING])
@SIDES
def test_the_same_order(emulator, requirement, side):
    """The updates of all operations are recorded in the same order."""
    assert told(emulator, requirement, side).order == told(emulator, requirement, "aws").order


@pytest.mark.parametrize("requirement", [each for each in requirements() if each not in RACING])
@SIDES
def test_no_more_requests(emulator, requirement, side):
    """Neither checkpoints nor pages of the state are more than with AWS's SDK."""
    ours, theirs = told(emulator, requirement, side), told(emulator, requirement, "aws")
    assert ours.requests <= theirs.requests
    assert ours.pages <= theirs.pages


@pytest.mark.parametrize("requirement", sorted(RACING))
@SIDES
def test_one_request_for_each_wait(emulator, requirement, side):
    """At worst, three branches and their batch wait for a request each; what nobody waits for travels along."""
    assert told(emulator, requirement, side).requests <= 4


DIED = {"1-17": 0, "1-18": 1, "3-12": 1}
"""Bodies that ran in this process, of handlers that ended another one in their first."""


@EACH
@pytest.mark.parametrize("side", ["def", "async", "awaited"])
def test_no_body_runs_twice(emulator, requirement, side):
    """Over all invocations, each body of a step, submitter or check runs once for each end of one in the journal."""
    found = told(emulator, requirement, side)
    assert found.ran == DIED.get(requirement, found.ends)


# --------------------------------------------------------------------------------------------------------- continuation

AT_ONCE = {
    *(f"1-{each}" for each in (1, 2, 3, 4, 5, 6, 7, 16, 19, 20)),
    *(f"3-{each}" for each in (1, 2, 3, 4, 5, 6, 14, 15, 16)),
    *(f"6-{each}" for each in (2, 7, 8, 10)),
    *(f"8-{each}" for each in range(1, 23) if each != 14),
    *(f"9-{each}" for each in (*range(1, 15), 16, 19)),
    *(f"10-{each}" for each in (1, 2, 4, 5, 7)),
}
"""Those that end in their first invocation, so that there is nothing to continue."""


def test_nothing_to_continue(emulator):
    """Those that are left out of the next test never suspend, and no other."""
    assert {each for each in requirements() if len(told(emulator, each, "aws").story["invocations"]) == 1} == AT_ONCE


@pytest.mark.parametrize("requirement", [each for each in requirements() if each not in AT_ONCE])
@SIDES
def test_the_other_sdk_goes_on(emulator, requirement, side):
    """Whichever begins, and after whichever invocation the other takes over: it is the same execution still."""
    alone = told(emulator, requirement, "aws").story
    for turn in range(1, len(alone["invocations"])):
        for first, then in (("aws", side), (side, "aws")):
            assert story(emulator, requirement, *[first] * turn, then) == alone, (first, turn)
