"""The pytest plugin: its fixtures, and what loading it costs."""

from __future__ import annotations

import subprocess
import sys


async def doubles(event, context):
    return await context.step(lambda _: 2 * event, name="double")


def test_durable_runner_makes_runners(durable_runner):
    """The fixture runs a workflow without an import."""
    assert durable_runner(doubles, timeout=30).run(3).step("double").result == 6


def test_crash_explorer_explores(crash_explorer):
    """The fixture crashes a workflow without an import."""
    assert crash_explorer(doubles, 3).commits == 2


def test_loading_the_plugin_is_cheap():
    """Every run of pytest loads it: of Perdure it takes along nothing but itself."""
    script = (
        "import sys, pytest; before = set(sys.modules); import pytest_perdure, perdure.testing.plugin; "
        "print(sorted(name for name in set(sys.modules) - before if name != 'importlib'))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    expected = ["perdure", "perdure.testing", "perdure.testing.plugin", "pytest_perdure"]
    assert done.stdout.strip() == str(expected)


def test_fixtures_serve_a_project_of_their_own(tmp_path):
    """An installed Perdure is enough: no configuration, no conftest; results are not taken for tests."""
    (tmp_path / "test_workflow.py").write_text(
        "from perdure.durable import durable_execution\n"
        "from perdure.testing import *\n"
        "@durable_execution\n"
        "def order(event, context):\n"
        "    return context.step(lambda _: event, name='echo')\n"
        "def test_it(durable_runner, crash_explorer):\n"
        "    assert durable_runner(order).run('x').value == 'x'\n"
        "    crash_explorer(order, 'x').assert_none()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_workflow.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
