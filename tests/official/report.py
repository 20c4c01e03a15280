"""What a run found: as text, as JSON and as JUnit's XML."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.official.judge import Verdict

PACKAGES = (
    "aws-durable-execution-conformance-tests",
    "aws-durable-execution-sdk-python-testing",
    "awslambdaric",
    "boto3",
)


@attrs.frozen
class Report:
    """The verdicts of a run by colour, in the order of the requirements."""

    verdicts: dict[str, list[Verdict]]
    seconds: float

    @property
    def failed(self) -> list[tuple[str, Verdict]]:
        return [(colour, one) for colour, found in self.verdicts.items() for one in found if not one.acceptable]

    def lines(self) -> Iterator[str]:
        """A table of the suites, and each failure with its reasons."""
        suites = list(dict.fromkeys(one.suite for found in self.verdicts.values() for one in found))
        yield f"{'':20}" + "".join(f"{colour:>12}" for colour in self.verdicts)
        for suite in suites:
            yield f"{suite:20}" + "".join(_share(found, suite) for found in self.verdicts.values())
        yield f"{'':20}" + "".join(_share(found) for found in self.verdicts.values())
        for colour, found in self.verdicts.items():
            for one in found:
                if not one.passed:
                    kind = "optional, failed" if one.optional else "FAILED"
                    yield f"\n{one.requirement} ({colour}) {kind}: {one.description}"
                    yield from (f"    {reason}" for reason in one.reasons)
        yield f"\n{', '.join(_versions())}; {self.seconds:.0f} s"

    def write_json(self, path: Path) -> None:
        verdicts = {colour: [attrs.asdict(one) for one in found] for colour, found in self.verdicts.items()}
        value = {"versions": _versions(), "seconds": round(self.seconds, 1), "verdicts": verdicts}
        path.write_text(json.dumps(value, indent=1), encoding="utf-8")

    def write_junit(self, path: Path) -> None:
        suites = ET.Element("testsuites")
        for colour, found in self.verdicts.items():
            suite = ET.SubElement(suites, "testsuite", name=f"aws-conformance.{colour}", tests=str(len(found)))
            suite.set("failures", str(sum(not one.acceptable for one in found)))
            for one in found:
                case = ET.SubElement(suite, "testcase", classname=f"{colour}.{one.suite}", name=one.requirement)
                case.set("time", f"{one.seconds:.3f}")
                if not one.passed:
                    kind = "skipped" if one.optional else "failure"
                    ET.SubElement(case, kind, message=one.description).text = "\n".join(one.reasons)
        ET.ElementTree(suites).write(path, encoding="utf-8", xml_declaration=True)


def _share(found: list[Verdict], suite: str | None = None) -> str:
    chosen = [one for one in found if suite in {None, one.suite}]
    return f"{f'{sum(one.passed for one in chosen)}/{len(chosen)}':>12}"


def _versions() -> list[str]:
    return [f"{package} {_version(package)}" for package in PACKAGES]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
