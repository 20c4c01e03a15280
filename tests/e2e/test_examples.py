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
    "approval_saga.py": """\
approved: {'status': 'booked', 'approved by': 'Ada'}
denied: {'status': 'cancelled', 'reason': 'denied: too expensive', 'undone': ['hotel', 'train']}
unanswered: {'status': 'cancelled', 'reason': 'nobody answered in time', 'undone': ['hotel', 'train']}
sold-out: {'status': 'cancelled', 'reason': 'failed: no hotel in Nowhere', 'undone': ['hotel', 'train']}
booked in the end: ['hotel in Rome', 'train in Rome']
""",
    "document_fan_out.py": """\
server: west
read: [{'document': 'letter', 'words': 5, 'longest': 'engine'}, {'document': 'novel', 'words': 7, 'longest': 'stormy'},\
 {'document': 'note', 'words': 2, 'longest': 'milk'}]
unreadable: ['blot is empty']
told: ['told bob of 3 documents', 'mailbox full']
at once, at most: 2
""",
    "gather.py": """\
{'best': 90, 'asked': 3}
""",
    "order_fulfilment.py": """\
Receipt(payment='560 from card 4711', reserved=['4 chair', '1 table', '2 lamp'], tracking='PX-1')
charge took 2 attempts, and the bank booked 1 payment
started again, the same execution: True
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


def test_every_folder_of_examples_is_tested() -> None:
    """`aws` is, by `test_lambda_package.py` and `test_lambda_hosting.py`; another needs tests of its own."""
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert folders - {"__pycache__"} == {"aws"}


@pytest.mark.parametrize("name", OUTPUT)
def test_example(name: str) -> None:
    """An example ends well, and prints what it says."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == OUTPUT[name]
