"""The count of bodies, which is what notices an SDK that runs completed steps again."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest

pytest.importorskip("aws_durable_execution_conformance_tests")

from tests.official.__main__ import PACKAGES
from tests.official.bodies import Bodies
from tests.official.cloud import Cloud
from tests.official.handlers import Catalogue
from tests.official.judge import Judge, hasten, requirements
from tests.official.names import SCRATCH

REPLAYED = ["1-9", "3-10", "7-10"]
"""Requirements with a step that has succeeded when the execution is replayed."""
OTHERS = ["1-11", "1-17", "3-12", "6-3", "8-14"]
"""Retries, crashes, conditions and branches."""


def judged(colour, chosen, folder, handler):
    """The verdicts on some requirements, and the bodies that ran meanwhile."""
    hasten()
    deployed = Catalogue.of(PACKAGES[colour]).functions(chosen, environment={SCRATCH: str(folder)})
    deployed = [attrs.evolve(function, handler=handler) for function in deployed]
    cases = requirements()
    with (
        Cloud(deployed, folder / "cloud") as cloud,
        contextlib.closing(Judge(cloud, folder / "histories")) as judge,
        ThreadPoolExecutor() as pool,
    ):
        verdicts = list(pool.map(judge.judge, [cases[one] for one in chosen]))
        return verdicts, Bodies(cloud)


@pytest.mark.parametrize("colour", PACKAGES)
def test_once(colour, tmp_path):
    """Each attempt runs once, and steps, submitters and checks are all counted."""
    verdicts, bodies = judged(colour, REPLAYED + OTHERS, tmp_path, "tests.official.dispatch.handle")
    assert [one.reasons for one in verdicts if not one.passed] == []
    assert list(bodies.faults()) == []
    ran = {one: sum(run.function == f"R{one}" for runs in bodies.runs.values() for run in runs) for one in OTHERS}
    assert ran == {"1-11": 2, "1-17": 1, "3-12": 2, "6-3": 2, "8-14": 1}


@pytest.mark.parametrize("colour", PACKAGES)
def test_again(colour, tmp_path):
    """An SDK that runs completed steps again passes the suite; the count of bodies tells it from one that does not."""
    verdicts, bodies = judged(colour, REPLAYED, tmp_path, "tests.official.forgetful.handle")
    assert [one.reasons for one in verdicts if not one.passed] == []
    for requirement in REPLAYED:
        found = " ".join(fault for fault in bodies.faults() if f" of R{requirement}:" in fault)
        assert "attempt 1 2x, recorded attempt 1 1x" in found
        assert "ran after its end was acknowledged" in found
