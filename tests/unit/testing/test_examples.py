"""Every workflow of `examples/` bears a crash at each of its commits."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from itertools import count
from pathlib import Path
from typing import Any

import attrs
import pytest

from perdure.durable import DurableFunction
from perdure.testing import explore_crashes

EXAMPLES = Path(__file__).parents[3] / "examples"


@attrs.frozen
class Case:
    """How the workflow of an example is run; `reset` puts back what its steps have changed outside."""

    input: Any
    callbacks: dict[str, Any] = attrs.field(factory=dict)
    reset: Any = lambda _: None


def order(module):
    return module.Order("o-17", "4711", [module.Line("chair", 4, 60), module.Line("lamp", 2, 35)])


def reset_order(module):
    module.booked.clear()
    module.requests.clear()


def reset_patience(module):
    module.calls = count(1)


def deny(callback):
    callback.fail("too expensive")


CASES = {
    "approval": [Case({"amount": 120}, {"approval": "Ada"})],
    "approval_saga": [
        Case({"place": "Rome", "patience": 60}, {"approval": "Ada"}, lambda module: module.bookings.clear()),
        Case({"place": "Capri", "patience": 60}, {"approval": deny}, lambda module: module.bookings.clear()),
        Case({"place": "Bergen", "patience": 1}, reset=lambda module: module.bookings.clear()),
        Case({"place": "Nowhere", "patience": 60}, reset=lambda module: module.bookings.clear()),
    ],
    "document_fan_out": [
        Case({"documents": ["letter", "novel", "blot"], "servers": ["east", "west"], "readers": ["bob", "carol"]})
    ],
    "gather": [Case({"suppliers": ["north", "south", "west"]})],
    "order_fulfilment": [Case(order, {"parcel": "PX-1"}, reset_order)],
    "patience": [Case({"from": "shop"}, reset=reset_patience)],
}


def loaded(name, monkeypatch):
    """The module of an example, known as such only for the time of a test."""
    spec = spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_explored():
    """A program added to the examples needs its cases here."""
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(CASES)


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, cases in CASES.items() for case in cases])
def test_example(name, case, monkeypatch):
    """Behind each commit and in front of it, nothing differs and nothing runs again that must not."""
    module = loaded(name, monkeypatch)
    (workflow,) = [each for each in vars(module).values() if isinstance(each, DurableFunction)]
    found = explore_crashes(
        workflow,
        case.input(module) if callable(case.input) else case.input,
        callbacks=case.callbacks,
        reset=lambda: case.reset(module),
        in_front=True,
    )
    found.assert_none()
    assert len(found.crash_points) == 2 * found.commits
