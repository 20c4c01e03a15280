"""What holds of the repository as a whole: who may import whom, what gets published, how large a module may be."""

from __future__ import annotations

import ast
import io
import os
import re
import subprocess
import sys
import sysconfig
import tokenize
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SOURCES = [ROOT / "core", ROOT / "backends", ROOT / "adapters"]
MODULES = sorted(path for source in SOURCES for path in (source / "perdure").rglob("*.py"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

VOCABULARY = {
    *("duration", "config", "retries", "waits", "serdes", "batch", "logger", "types", "values"),
    *("preview", "filesystem_serdes"),
}

# Each layer with all it may import. `port` is the module `engine.port`, where engine and service meet.
LANGUAGE = {"value", "errors", "model", "vocabulary"}
BELOW_RUNTIME = LANGUAGE | {
    *(
        "wire",
        "codec",
        "nonce",
        "execution_id",
        "storage",
        "bell",
        "transaction",
        "journal",
        "portal",
        "port",
        "engine",
        "plugin",
        "durable",
        "service",
    ),
}
CORE = BELOW_RUNTIME | {"runtime", "desk", "client"}
MAY_IMPORT = {
    "errors": set(),
    "value": set(),
    "model": {"value", "errors"},
    "vocabulary": {"value", "errors", "model"},
    "portal": set(),
    "nonce": set(),
    "execution_id": {"nonce"},
    "wire": LANGUAGE,
    "codec": LANGUAGE | {"wire"},
    "port": LANGUAGE,
    "engine": LANGUAGE | {"port", "portal"},
    "plugin": LANGUAGE | {"engine"},
    "durable": LANGUAGE | {"port", "portal", "engine", "plugin"},
    "storage": {"errors"},
    "bell": {"storage"},
    "transaction": {"errors", "storage"},
    "journal": LANGUAGE | {"codec", "storage"},
    "service": LANGUAGE | {"codec", "nonce", "storage", "transaction", "journal", "port", "portal"},
    "runtime": BELOW_RUNTIME,
    "desk": BELOW_RUNTIME | {"runtime"},
    "client": BELOW_RUNTIME | {"runtime", "desk"},
    "testing": CORE,
    "backends": CORE,
    "adapters": CORE | {"backends"},
}
# What a layer may name in annotations only: an invocation runs a `DurableFunction`, which is made of the engine.
MAY_NAME = {"engine": {"durable"}}
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
THIRD_PARTY_OF_CORE = {"attr", "attrs", "cattrs"}
THIRD_PARTY_OF_TESTING = THIRD_PARTY_OF_CORE | {"hypothesis", "pytest"}


def module_name(path: Path) -> str:
    """`perdure.engine.port` for its path; a package has its own name."""
    source = next(source for source in SOURCES if path.is_relative_to(source))
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(module: str) -> str:
    """The layer of a module below `perdure`; `other` for those of other packages."""
    if not module.startswith("perdure."):
        return "other"
    if module == "perdure.engine.port":
        return "port"
    top = module.split(".")[1]
    return "vocabulary" if top in VOCABULARY else top


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every import of a module, also those within functions and for type checkers, with its line."""
    yield from imports_below(ast.parse(path.read_text(encoding="utf-8")), path)


def imports_below(tree: ast.AST, path: Path) -> Iterator[tuple[int, str]]:
    """The imports within a part of a module."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                if module in {"perdure", "perdure.engine"}:
                    yield from ((node.lineno, f"{module}.{alias.name}") for alias in names)
                else:
                    yield node.lineno, module
            case ast.ImportFrom():
                pytest.fail(f"{path}:{node.lineno} imports relatively")


def imports_for_types(path: Path) -> Iterator[tuple[int, str]]:
    """The imports of a module that are never carried out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                yield from imports_below(node, path)


def code_lines(path: Path) -> int:
    """Lines with code: neither blank, nor comment, nor docstring."""
    lines: set[int] = set()
    code = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_go_one_way(path: Path) -> None:
    """A module imports only layers below its own, and engine and service meet at the port alone."""
    own = layer(module_name(path))
    assert own in MAY_IMPORT, f"{path} belongs to no layer of the design"
    allowed = MAY_IMPORT[own] | {own}
    named = {(line, name) for line, name in imports_for_types(path) if layer(name) in MAY_NAME.get(own, ())}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for line, name in imports(path)
        if layer(name) not in {*allowed, "other"} and (line, name) not in named
    ]
    assert not wrong


@pytest.mark.parametrize("path", [path for path in MODULES if path.is_relative_to(ROOT / "core")], ids=module_name)
def test_core_needs_attrs_and_cattrs_only(path: Path) -> None:
    """Nothing in core imports a third party's package but attrs and cattrs; its test kit, pytest and hypothesis too."""
    testing = layer(module_name(path)) == "testing"
    allowed = {"perdure", *sys.stdlib_module_names, *(THIRD_PARTY_OF_TESTING if testing else THIRD_PARTY_OF_CORE)}
    wrong = [f"{path.name}:{line} imports {name}" for line, name in imports(path) if name.split(".")[0] not in allowed]
    assert not wrong


def test_the_authors_module_loads_neither_asyncio_nor_cattrs() -> None:
    """Importing `perdure.durable` is cheap: a Lambda cold start pays for every module it pulls in, as for OpenSSL."""
    script = "import sys, perdure.durable; print(sorted({'asyncio', 'cattrs', '_hashlib'} & set(sys.modules)))"
    assert run_python(script, "-I") == "[]"


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_perdure_is_a_namespace_package(source: Path) -> None:
    """No source root has a `perdure/__init__.py`, else it would hide the other two and third parties' stores."""
    assert not (source / "perdure" / "__init__.py").exists()


@pytest.mark.parametrize("folder", ["backends", "adapters"])
def test_third_parties_can_add_to_backends_and_adapters(folder: str) -> None:
    """`perdure.backends` and `perdure.adapters` are namespace packages as well."""
    assert not (ROOT / folder / "perdure" / folder / "__init__.py").exists()


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_module_fits_one_sitting(path: Path) -> None:
    """A module has at most 400 lines of code and is a noun, not a drawer."""
    assert code_lines(path) <= 400
    assert not re.search(r"util|helper|manager|common|misc", path.stem)


def test_code_lines_leave_out_what_is_no_code(tmp_path: Path) -> None:
    """Docstrings, comments and blank lines do not count, strings that are values do."""
    path = tmp_path / "module.py"
    path.write_text('"""\nText.\n"""\n\n# Reason\nX = """\na\n"""\n\n\ndef f():\n    """Text."""\n    return X\n')
    assert code_lines(path) == 5


def test_no_file_names_the_machine_it_was_written_on() -> None:
    """Sources, tests and documents hold no absolute paths of somebody's home or work folder."""
    place = re.compile(r"(?<![\w.])/(?:work|home|Users|root)/\w")
    folders = [*SOURCES, ROOT / "tests", ROOT / "examples"]
    kinds = {".py", ".sql", ".lua", ".json", ".md"}
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in kinds]
    wrong = [str(path) for path in [*files, *ROOT.glob("*.md")] if place.search(path.read_text(encoding="utf-8"))]
    assert not wrong


def test_the_changelog_knows_the_version() -> None:
    """The version that would be published has its section in the changelog."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## [{PYPROJECT['project']['version']}]" in changelog


def test_ci_runs_the_test_command_of_the_readme() -> None:
    """What the README tells to run and what CI runs is the same line."""
    command = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1]
    assert f"\n{command}\n" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_to_files(name: str) -> None:
    """What a document of the repository points at is there."""
    links = re.findall(r"\]\(([\w./-]+)\)", (ROOT / name).read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).is_file()] == []


ENTRY_POINTS = {
    f"{group}:{name}": target
    for group, points in {"scripts": PYPROJECT["project"]["scripts"], **PYPROJECT["project"]["entry-points"]}.items()
    for name, target in points.items()
}


@pytest.mark.parametrize("target", ENTRY_POINTS.values(), ids=ENTRY_POINTS)
def test_entry_points_exist(target: str) -> None:
    """Every script and plug-in that the distribution announces can be loaded."""
    module, _, attribute = target.partition(":")
    loaded = import_module(module)
    assert not attribute or callable(getattr(loaded, attribute))


def build(hook: str, folder: Path) -> Path:
    """What the build back-end makes of the checkout, unpacked."""
    name = run_python(f"from hatchling.build import {hook}; print({hook}({str(folder)!r}))")
    unpacked = folder / hook
    with zipfile.ZipFile(folder / name.splitlines()[-1]) as archive:
        archive.extractall(unpacked)
    return unpacked


def run_python(script: str, *options: str) -> str:
    """Output of a script run by this Python in the checkout."""
    done = subprocess.run(
        [sys.executable, *options, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def imported_from(folder: Path) -> list[Path]:
    """Where one module of each source root comes from, if `folder` is all of Perdure that is installed."""
    modules = ["perdure.errors", "perdure.backends.sqlite", "perdure.adapters.cli"]
    script = (
        "import importlib, site, sys\n"
        f"site.addsitedir({str(folder)!r}); sys.path.append({sysconfig.get_path('purelib')!r})\n"
        f"for name in {modules}: print(importlib.import_module(name).__file__)"
    )
    return [Path(line) for line in run_python(script, "-I", "-S").splitlines()]


def test_the_wheel_holds_all_three_roots(tmp_path: Path) -> None:
    """A wheel has every source file and `py.typed` marker under one namespace, and imports without the checkout."""
    unpacked = build("build_wheel", tmp_path)
    published = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    sources = {
        str(path.relative_to(source))
        for source in SOURCES
        for path in source.rglob("*")
        if path.is_file() and path.suffix in {".py", ".sql", ".lua", ".typed"}
    }
    assert sources <= published
    assert {"perdure/py.typed", "perdure/backends/py.typed", "perdure/adapters/py.typed"} <= published
    assert "perdure/__init__.py" not in published
    assert all(path.is_relative_to(unpacked) for path in imported_from(unpacked))


def test_an_editable_install_points_at_the_three_roots(tmp_path: Path) -> None:
    """`pip install -e` leads to the checkout itself, for each of the source roots."""
    unpacked = build("build_editable", tmp_path)
    found = imported_from(unpacked)
    assert [path.is_relative_to(source) for path, source in zip(found, SOURCES, strict=True)] == [True, True, True]
