"""The handlers of AWS's conformance suite: complete, and those with `def` fit to run on AWS's SDK."""

from __future__ import annotations

import ast
from collections import Counter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

OFFICIAL = Path(__file__).parents[2] / "official"
AWS = "aws_durable_execution_sdk_python"
ELSEWHERE = {
    "durable": ("", ".context", ".execution"),
    "errors": (".exceptions",),
    "model": (".lambda_service",),
    "batch": (".concurrency.models",),
}
"""Where AWS's SDK has the names of modules that are not called the same there."""


def requirements(package):
    """The requirements that a package has handlers for, with how many."""
    names = [f"tests.official.{package}.{path.stem}" for path in (OFFICIAL / package).glob("*.py")]
    return Counter(one for name in names for one in getattr(import_module(name), "REQUIREMENTS", {}))


def imports(path):
    """What a module imports from Perdure, as pairs of module and name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return [(node.module, alias.name) for node in found for alias in node.names if node.module.startswith("perdure")]


@pytest.mark.parametrize("package", ["blocking", "awaited"])
def test_complete(package):
    """Every requirement of the installed suite has one handler."""
    if find_spec("aws_durable_execution_conformance_tests") is None:
        pytest.skip("aws-durable-execution-conformance-tests is not installed")
    judge = import_module("tests.official.judge")
    assert requirements(package) == Counter(list(judge.requirements()))


@pytest.mark.parametrize("path", sorted((OFFICIAL / "blocking").glob("*.py")), ids=lambda path: path.stem)
def test_imports(path):
    """A `def` handler imports nothing from Perdure that AWS's SDK does not have in the module for it."""
    for module, name in imports(path):
        own = module.removeprefix("perdure.")
        places = [import_module(AWS + place) for place in ELSEWHERE.get(own, (f".{own}",))]
        assert any(hasattr(place, name) for place in places), f"{module}.{name}"
