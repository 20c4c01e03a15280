"""What the guide in `docs/` shows is what happens."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from perdure.durable import DurableFunction
from perdure.model import ErrorObject
from perdure.testing import DurableTestRunner, TestResult

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ["model.md", "determinism.md"]
CLAIM = re.compile(r"^# (\w+)\((.*)\) (→|fails with) (.+)$", re.MULTILINE)
ANY = "…"


def text(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def blocks(page: str, *languages: str) -> list[tuple[str, str]]:
    """Language and text of the code blocks of a page."""
    found = re.findall(r"^```(\w+)\n(.*?)^```", text(page), re.MULTILINE | re.DOTALL)
    return [(language, block) for language, block in found if language in languages]


@cache
def namespace(page: str) -> dict[str, Any]:
    """What the blocks of a page define, one after the other, as a reader would type them in."""
    names: dict[str, Any] = {"__name__": page}
    for _, block in blocks(page, "python"):
        exec(compile(block, page, "exec"), names)
    return names


def claims() -> list[tuple[str, str, str, str, str]]:
    return [(page, *claim) for page in PAGES for _, block in blocks(page, "python") for claim in CLAIM.findall(block)]


def run(page: str, name: str, input: str) -> TestResult[Any]:
    """An execution of a function of a page, on `memory://` and in a time of its own, its callbacks answered."""
    names = namespace(page)
    invokable = [names[other] for other in ("tax",) if other in names and other != name]
    runner = DurableTestRunner(names[name], functions=invokable)
    runner.on_callback("approval", "yes").on_callback("parcel", "yes")
    runner.on_callback("denied", lambda callback: callback.fail(ErrorObject("too much", "Denied")))
    return runner.run(ast.literal_eval(input))


@pytest.mark.parametrize(("page", "name", "input", "word", "expected"), claims(), ids=lambda value: str(value)[:40])
def test_example(page: str, name: str, input: str, word: str, expected: str) -> None:
    """An execution of an example ends as the line below it says; a plain function returns it."""
    function = namespace(page)[name]
    if not isinstance(function, DurableFunction):
        assert repr(function()) == expected
        return
    result = run(page, name, input)
    if word == "fails with":
        assert result.error is not None
        assert (result.error.type or "").endswith(expected)
    else:
        assert result.error is None, result.error
        assert expected in (ANY, repr(result.value))


@pytest.mark.parametrize("page", PAGES)
def test_every_function_is_run(page: str) -> None:
    """No example is there that no line says the end of, but for those that others invoke."""
    functions = {name for name, value in namespace(page).items() if isinstance(value, DurableFunction)}
    assert functions - {name for of, name, *_ in claims() if of == page} <= {"tax"}


def test_an_example_has_to_be_right() -> None:
    """Another end than the one that is claimed is noticed."""
    with pytest.raises(AssertionError):
        test_example("model.md", "greet", '{"name": "Ada"}', "→", "'hello Bob'")
    with pytest.raises(AssertionError):
        test_example("determinism.md", "wrong", "{}", "→", "'too late'")


def test_a_workflow_on_a_store() -> None:
    """The test that the page on stores ends with passes."""
    names = namespace("writing-a-store.md")
    names["test_a_workflow"]()


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_links(page: str) -> None:
    """Links between pages, and to headings of them, lead somewhere."""
    for target, heading in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", text(page)):
        path = (DOCS / target).resolve() if target else DOCS / page
        assert path.exists(), f"{page} links to {target}"
        if heading:
            assert heading in anchors(path), f"{page} links to {target}#{heading}"


def anchors(path: Path) -> set[str]:
    """What the headings of a page are called in links to it."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_getting_started(tmp_path: Path) -> None:
    """The page's files, typed in as they stand there, and its commands, run by a shell, say what the page says."""
    script = ["set -e", "trap 'kill -9 $! 2> /dev/null || true' EXIT"]
    expected: list[str] = []
    for language, block in blocks("getting-started.md", "python", "sh", "text"):
        if language == "python":
            name = block.partition("\n")[0].removeprefix("# ")
            (tmp_path / name).write_text(block, encoding="utf-8")
        elif language == "sh":
            script.append(block)
        else:
            expected.append(block)
    # By the names of the page, and such that `$!` is the process itself.
    for command, module in [("perdure", "-m perdure.adapters.cli"), ("python", "")]:
        program = tmp_path / "bin" / command
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {module} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout
    for block in expected:
        assert block in said, said
        said = said.partition(block)[2]
    assert "RUNNING" in done.stdout.partition(expected[0])[0]
