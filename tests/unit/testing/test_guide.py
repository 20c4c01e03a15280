"""What `docs/testing.md` shows is what happens: all of its files and commands, in a folder of their own."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from textwrap import dedent

import pytest

from perdure.storage import ENTRY_POINTS

DOCUMENT = (Path(__file__).parents[3] / "docs" / "testing.md").read_text(encoding="utf-8")
BLOCKS = [
    (language, dedent(code))
    for _, language, code in re.findall(r"^( *)```(\w+)\n(.*?)^\1```", DOCUMENT, re.MULTILINE | re.DOTALL)
]
COUNTS = {
    "test_order.py": 2,
    "test_steps.py": 2,
    "test_change.py": 1,
    "test_crashes.py": 2,
    "test_fixtures.py": 1,
    "test_backend.py": 1,
}


def blocks(language):
    return [code for each, code in BLOCKS if each == language]


@pytest.fixture
def folder(tmp_path):
    """A folder with all the files, and what installing the store's distribution would leave in it."""
    for code in blocks("python"):
        (tmp_path / re.match(r"# (\w+\.py)\n", code)[1]).write_text(code, encoding="utf-8")
    (project,) = [tomllib.loads(code) for code in blocks("toml")]
    modules, project = project["tool"]["setuptools"]["py-modules"], project["project"]
    info = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    ((name, target),) = project["entry-points"][ENTRY_POINTS].items()
    # Else setuptools would find the tests as well, and refuse to guess.
    assert modules == [target.partition(":")[0]]
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\n{name} = {target}\n")
    return tmp_path


def run(folder, *arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_block_is_run():
    """There is no block of another kind, and no file that no test below runs."""
    assert {language for language, _ in BLOCKS} == {"python", "toml", "sh"}
    assert len(BLOCKS) == DOCUMENT.count("```") // 2
    names = [re.match(r"# (\w+\.py)\n", code)[1] for code in blocks("python")]
    assert sorted(names) == sorted([*COUNTS, "app.py", "notebook_store.py", "test_notebook.py"])


def test_the_tests_of_the_page(folder):
    """The page's tests of workflows, and of the backend by its URL, pass as they stand there."""
    assert f"{sum(COUNTS.values())} passed" in run(folder, "-q", *COUNTS)


def test_the_commands_of_the_page(folder):
    """A store of a third party passes the kit by the commands of the page; there with more examples than here."""
    rules, machine = [shlex.split(line) for line in blocks("sh")[0].splitlines()]
    assert (rules[0], machine[:2]) == ("pytest", ["PERDURE_EXAMPLES=200", "pytest"])
    passed = int(re.search(r"(\d+) passed, 1 deselected", run(folder, *rules[1:]))[1])
    assert passed > 240
    assert "1 passed" in run(folder, *machine[2:], PERDURE_EXAMPLES="3")
