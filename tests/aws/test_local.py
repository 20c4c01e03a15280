"""What our service records of AWS's SDK, AWS's own local runner records of it, too."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.aws.completions import COMPLETIONS
from tests.aws.local import run_here, run_locally
from tests.aws.operations import WORKFLOWS
from tests.aws.sides import AWS, Run

WALL = "branches of AWS's SDK wait by the wall clock while the runner's time stands still, or all at once when it skips"
INVOKED = "functions there return JSON of the runner's making, and neither time out, nor are stopped, nor fail bare"
LEFT_OUT = {
    **dict.fromkeys(COMPLETIONS, WALL),
    "batch_suspended": WALL,
    "batch_nested": WALL,
    "batch_large": WALL,
    "batch_large_flat": WALL,
    "batch_large_in_a_batch_that_goes_on": WALL,
    "batch_failing_while_others_wait": WALL,
    "invoke": INVOKED,
    "invoke_fails": INVOKED,
    "invoke_results": INVOKED,
    "invoke_inside": INVOKED,
    "passing_trouble": "an invocation that has failed is tried again after 5 s of real time",
    "large_children": "errors are limited to 32,768 bytes (protocol.md §14)",
    "stored_as_nothing": "an empty result is recorded as none",
}
"""Workflows by the reason why the runner cannot run them, or takes too long."""
AT_ONCE = 12


def test_the_same_in_its_own_runner():
    """Outcome and operations, with payloads and errors, are those that AWS's runner records."""
    names = [name for name in WORKFLOWS if name not in LEFT_OUT]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = dict(zip(names, pool.map(lambda name: run_locally(WORKFLOWS[name]), names), strict=True))
    different = [name for name in names if found[name] != run_here(Run(WORKFLOWS[name]).finish(AWS))]
    assert different == []


def test_left_out_are_workflows():
    """Nothing is left out that does not exist, and most workflows are not."""
    assert LEFT_OUT.keys() <= WORKFLOWS.keys()
    assert len(WORKFLOWS.keys() - LEFT_OUT.keys()) >= 60
