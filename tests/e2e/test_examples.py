"""The programs in `examples/` run, and print what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
OUTPUT = {
    "approval.py": """\
waiting: RUNNING
returned: {'answer': 'approved by Ada', 'receipt': 'paid 120'}
""",
    "gather.py": """\
{'best': 90, 'asked': 3}
""",
    "patience.py": """\
{'parcel': {'number': 'parcel-7', 'place': 'home'}}
book took 2 attempts
arrival took 2 attempts
""",
}


def test_every_example_is_tested() -> None:
    """A program added to the examples needs its output here."""
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(OUTPUT)


@pytest.mark.parametrize("name", OUTPUT)
def test_example(name: str) -> None:
    """An example ends well, and prints what it says."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == OUTPUT[name]
