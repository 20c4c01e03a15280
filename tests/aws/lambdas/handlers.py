"""
The handlers of the official suite as they are, on AWS's SDK, and in the other colour.

A `def` handler runs on AWS's SDK with nothing but its import lines rewritten, by the module map of the documentation.
It becomes an `async def` by awaiting its operations.
"""

from __future__ import annotations

import ast
import functools
import importlib
import sys
import types
from pathlib import Path

import attrs

from tests.official import names

OFFICIAL = Path(names.__file__).parent
PACKAGE = "aws_durable_execution_sdk_python"

MODULES = {
    "perdure.errors": "exceptions",
    "perdure.model": "lambda_service",
    "perdure.batch": "concurrency.models",
    **{f"perdure.{each}": each for each in ("config", "plugin", "retries", "serdes", "types", "waits")},
}
"""Where AWS's SDK has the names of our modules."""
ROOT = ("", "context", "execution", "config", "exceptions", "retries", "serdes", "types", "waits")
"""Where it has those of perdure.durable."""


# --------------------------------------------------------------------------------------------------------- translation


def _home(module, name):
    """The module of AWS's SDK that a name is imported from instead."""
    for place in (MODULES[module],) if module in MODULES else ROOT:
        full = f"{PACKAGE}.{place}".rstrip(".")
        if hasattr(importlib.import_module(full), name):
            return full
    raise AssertionError(f"AWS's SDK has no {name}, which is imported from {module}")


class _Imports(ast.NodeTransformer):
    """Has all names of ours imported from AWS's SDK."""

    def visit_ImportFrom(self, node):
        if not (node.module or "").startswith("perdure."):
            return node
        return [
            ast.copy_location(ast.ImportFrom(_home(node.module, each.name), [each], 0), node) for each in node.names
        ]


class _Awaiting(ast.NodeTransformer):
    """Makes coroutine functions of all that call operations of a context."""

    OPERATIONS = (
        *("step", "wait", "invoke", "create_callback", "wait_for_callback", "wait_for_condition"),
        *("run_in_child_context", "parallel", "map", "result"),
    )

    def __init__(self):
        self.coroutines = {"with_retry"}
        self._bodies = []

    def visit_FunctionDef(self, node):
        self._bodies.append([])
        self.generic_visit(node)
        if not self._bodies.pop():
            return node
        if not node.decorator_list:
            self.coroutines.add(node.name)
        members = {name: getattr(node, name) for name in ("name", "args", "decorator_list", "returns", "type_comment")}
        return ast.copy_location(ast.AsyncFunctionDef(body=node.body, **members), node)

    def visit_Lambda(self, node):
        self._bodies.append([])
        self.generic_visit(node)
        if not self._bodies.pop():
            return node
        # A body may return something to be awaited, and a lambda cannot do more.
        assert isinstance(node.body, ast.Await), ast.unparse(node)
        node.body = node.body.value
        return node

    def visit_Call(self, node):
        self.generic_visit(node)
        called = node.func
        of_context = isinstance(called, ast.Attribute) and called.attr in self.OPERATIONS
        if not self._bodies or not (of_context or (isinstance(called, ast.Name) and called.id in self.coroutines)):
            return node
        self._bodies[-1].append(node)
        return ast.copy_location(ast.Await(node), node)


def translated(path, *transformers):
    """
    A module of handlers with its source transformed.

    It goes by its own name, which is part of the errors that its handlers raise.
    """
    name = f"tests.official.{path.parent.name}.{path.stem}"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for transformer in transformers:
        tree = transformer.visit(tree)
    module = types.ModuleType(name)
    module.__file__ = str(path)
    # Some decorators look for the module of what they decorate.
    original = sys.modules.get(name)
    sys.modules[name] = module
    try:
        exec(compile(ast.fix_missing_locations(tree), path, "exec"), vars(module))
    finally:
        if original is not None:
            sys.modules[name] = original
        else:
            del sys.modules[name]
    return module


# --------------------------------------------------------------------------------------------------------------- sides


@attrs.frozen
class Side:
    """
    An SDK with the suite written for it.

    Attributes:
        name: Of the side.
        handlers: By requirement.
        targets: Of chained invokes, by function name.
    """

    name: str
    handlers: dict
    targets: dict


def _side(name, modules):
    handlers, targets = {}, {}
    for module in modules:
        handlers |= module.REQUIREMENTS
        targets |= getattr(module, "TARGETS", {})
    return Side(name, handlers, targets)


def _paths(folder):
    return [each for each in sorted((OFFICIAL / folder).glob("*.py")) if "REQUIREMENTS" in each.read_text("utf-8")]


@functools.cache
def side(name):
    """One of "aws", "def", "async" and "awaited"; the last are those of their own, not made of the `def` ones."""
    if name in {"aws", "async"}:
        transformer = {"aws": _Imports, "async": _Awaiting}[name]
        return _side(name, [translated(path, transformer()) for path in _paths("blocking")])
    folder = {"def": "blocking", "awaited": "awaited"}[name]
    return _side(name, [importlib.import_module(f"tests.official.{folder}.{path.stem}") for path in _paths(folder)])


def requirements(*suites):
    """Those of some suites, or of all."""
    wanted = {str(each) for each in suites}
    found = {
        each
        for path in _paths("blocking")
        for each in importlib.import_module(f"tests.official.blocking.{path.stem}").REQUIREMENTS
    }
    return sorted(
        (each for each in found if not wanted or each.partition("-")[0] in wanted),
        key=lambda each: tuple(int(part) for part in each.split("-")),
    )
