"""The programs in `examples/` run, print what they say, and survive a crash behind every commit."""

from __future__ import annotations

import importlib.util
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from perdure.model import ErrorObject
from perdure.testing import DurableTestRunner, Exploration, explore_crashes

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
    """A program added to the examples needs its output here, and its workflow is explored."""
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(OUTPUT)
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {voyage.file for voyage in VOYAGES.values()} - {"aws/app"}


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


@attrs.frozen
class Voyage:
    """
    An example's workflow on its way through crashes.

    Attributes:
        file, function: Which one.
        input: What it is started with.
        state: What its outside systems keep in this process, to be emptied before each run.
        callbacks: What becomes of them.
        value: What it returns, or a part of that.
    """

    file: str
    function: str
    input: Any
    state: tuple[str, ...] = ()
    callbacks: dict[str, Any] = attrs.field(factory=dict)
    value: Any = None


ORDER = {
    "number": "o-17",
    "card": "4711",
    "lines": [{"article": "chair", "quantity": 4, "price": 60}, {"article": "lamp", "quantity": 1, "price": 35}],
}
DENIED = {"approval": lambda callback: callback.fail(ErrorObject("too expensive", "Denied"))}
VOYAGES = {
    "an order": Voyage("order_fulfilment", "fulfil", ORDER, ("booked", "requests"), {"parcel": "PX-1"}, "PX-1"),
    "a trip": Voyage(
        "approval_saga", "travel", {"place": "Rome", "patience": 60}, ("bookings",), {"approval": "Ada"}, "approved by"
    ),
    "a trip that is denied": Voyage(
        "approval_saga", "travel", {"place": "Rome", "patience": 60}, ("bookings",), DENIED, "denied: too expensive"
    ),
    "a trip without an answer": Voyage(
        "approval_saga", "travel", {"place": "Rome", "patience": 60}, ("bookings",), {}, "nobody answered"
    ),
    "a trip to nowhere": Voyage(
        "approval_saga", "travel", {"place": "Nowhere", "patience": 60}, ("bookings",), {}, "['hotel', 'train']"
    ),
    "documents": Voyage(
        "document_fan_out",
        "digest",
        {"documents": ["letter", "novel", "blot", "note"], "servers": ["east", "west"], "readers": ["bob", "carol"]},
        ("on_the_glass", "at_once"),
        {},
        "'unreadable': ['blot is empty']",
    ),
    "a refund": Voyage("approval", "refund", {"amount": 120}, (), {"approval": "yes"}, "paid 120"),
    "a parcel": Voyage("patience", "deliver", {"from": "shop"}, ("calls",), {}, "'place': 'home'"),
    "an order on AWS": Voyage(
        "aws/app", "order", {"card": "4711", "articles": ["chair"]}, (), {"approval": "yes"}, "'approved': 'yes'"
    ),
    "offers": Voyage("gather", "best_offer", {"suppliers": ["north", "south"]}, (), {}, "{'best': 90, 'asked': 2}"),
}


def example(name: str) -> Any:
    """The module of an example, as nobody else has it."""
    spec = importlib.util.spec_from_file_location(f"example_{name.replace('/', '_')}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # For annotations that are looked up in it.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def explored(voyage: Voyage) -> Exploration[Any]:
    module = example(voyage.file)

    def reset() -> None:
        for name in voyage.state:
            kept = getattr(module, name)
            setattr(module, name, itertools.count(1) if isinstance(kept, itertools.count) else type(kept)())

    function = getattr(module, voyage.function)
    return explore_crashes(function, voyage.input, callbacks=voyage.callbacks, reset=reset, in_front=True)


@pytest.mark.parametrize("voyage", VOYAGES.values(), ids=VOYAGES)
def test_crashes(voyage: Voyage) -> None:
    """Killed in front of and behind each of its commits, an example ends as ever, and no recorded step runs again."""
    exploration = explored(voyage)
    exploration.assert_none()
    assert exploration.commits > 2
    assert len(exploration.crash_points) == 2 * exploration.commits
    assert voyage.value in str(exploration.undisturbed.value)


def test_a_deaf_bank_is_found() -> None:
    """Without its idempotency key the order would not survive: that is what the exploration looks for."""
    module = example("order_fulfilment")
    charged: list[str] = []

    def deaf(card: str, *_: object) -> str:
        charged.append(card)
        return f"{len(charged)} times"

    module.bank = deaf
    exploration = explore_crashes(
        module.fulfil, ORDER, callbacks={"parcel": "PX-1"}, reset=charged.clear, in_front=True
    )
    assert "step 'charge'" in {fault.operation for fault in exploration.faults}


def test_an_order_takes_its_time() -> None:
    """The wait of the order is one: the parcel is not handed over before."""
    module = example("order_fulfilment")
    run = DurableTestRunner(module.fulfil).start(ORDER).until_blocked()
    assert run.callbacks == []
    run.until_callback("parcel").succeed("PX-2")
    assert run.result().value.tracking == "PX-2"
