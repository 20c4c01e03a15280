"""The verdicts are those of AWS's package: it tells handlers that are right from those that are not."""

from __future__ import annotations

from contextlib import closing
from xml.etree import ElementTree as ET

import pytest

pytest.importorskip(
    "aws_durable_execution_conformance_tests", reason="it declares Python 3.14; `tox -e aws-conformance` has it"
)

from tests.official.__main__ import PACKAGES, chosen
from tests.official.cloud import Cloud
from tests.official.handlers import Catalogue, MissingHandlersError
from tests.official.judge import Judge, hasten
from tests.official.names import SCRATCH
from tests.official.report import Report
from tests.unit.official import samples

SOME = ["1-1", "1-7", "2-1", "4-1"]


@pytest.fixture(scope="module", autouse=True)
def _hastened():
    with pytest.MonkeyPatch.context() as patch:
        hasten(patch.setattr)
        yield


def verdicts(catalogue, requirements, folder):
    functions = catalogue.functions(requirements, environment={SCRATCH: str(folder)})
    with Cloud(functions, folder) as cloud, closing(Judge(cloud, folder / "histories")) as judge:
        return [judge.judge(case) for case in chosen([], requirements).values()]


def test_right_handlers_pass(tmp_path):
    """Of both colours; with what is expected of the log (1-7) and of callbacks (4-1)."""
    for colour, package in PACKAGES.items():
        found = verdicts(Catalogue.of(package), SOME, tmp_path / colour)
        assert [(one.requirement, one.passed, one.reasons) for one in found] == [(one, True, ()) for one in SOME]


def test_wrong_handlers_fail(tmp_path):
    """Each with reasons, and the report names them."""
    handlers = {f"R{requirement}": handler for requirement, handler in samples.REQUIREMENTS.items()}
    catalogue = Catalogue("tests.unit.official", handlers, ())
    found = verdicts(catalogue, list(samples.REQUIREMENTS), tmp_path)
    assert [(one.requirement, one.passed, bool(one.reasons)) for one in found] == [
        (one, False, True) for one in samples.REQUIREMENTS
    ]
    report = Report({"def": found}, 1.0)
    assert [one.requirement for _, one in report.failed] == list(samples.REQUIREMENTS)
    assert any("1-1 (def) FAILED" in line for line in report.lines())
    report.write_junit(tmp_path / "report.xml")
    assert len(ET.parse(tmp_path / "report.xml").findall(".//failure")) == len(samples.REQUIREMENTS)


def test_a_requirement_without_a_handler_is_no_pass():
    """A run that would leave out a requirement is refused."""
    with pytest.raises(MissingHandlersError, match="1-1"):
        Catalogue("nothing", {}, ()).expect(["1-1"])
