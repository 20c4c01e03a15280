"""Results have the right types for a type checker, in both colours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def mypy(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_results_are_inferred():
    """Steps, maps, parallels, children, polls and handles: `assert_type` holds for each."""
    checked = mypy(str(HERE / "results.py"))
    assert checked.returncode == 0, checked.stdout


def test_a_wrong_type_is_noticed(tmp_path):
    """The check above can fail."""
    wrong = (
        (HERE / "results.py")
        .read_text()
        .replace("assert_type(context.step(price), int)", "assert_type(context.step(price), str)")
    )
    path = tmp_path / "wrong.py"
    path.write_text(wrong)
    checked = mypy(str(path))
    assert checked.returncode == 1
    assert 'Expression is of type "int", not "str"' in checked.stdout
