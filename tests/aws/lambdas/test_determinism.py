"""Code that has changed under a running execution on AWS: it fails, saying what is where."""

from __future__ import annotations

import pytest

from perdure.config import ChildConfig, Duration, StepConfig
from perdure.waits import WaitForConditionConfig, WaitForConditionDecision
from tests.aws.lambdas.runs import Run
from tests.scenarios.colour import Colour, durable

COLOURS = pytest.mark.parametrize("colour", Colour)
DONE = WaitForConditionConfig(wait_strategy=lambda *_: WaitForConditionDecision.stop_polling(), initial_state=0)


def pay(_):
    return "paid"


async def outer(context):
    return await context.step(pay, name="inside")


BEFORE = {
    "step 'pay'": lambda context: context.step(pay, name="pay"),
    "wait 'pay'": lambda context: context.wait(Duration(1), "pay"),
    "step 'refund'": lambda context: context.step(pay, name="refund"),
    "step without a name": lambda context: context.step(pay),
    "wait_for_condition 'pay'": lambda context: context.wait_for_condition(lambda state, _: state, DONE, "pay"),
    "sub type 'Mine'": lambda context: context.step(pay, name="pay", config=StepConfig(sub_type="Mine")),
    "child context 'pay'": lambda context: context.run_in_child_context(outer, "pay"),
    "callback 'pay'": lambda context: context.create_callback("pay"),
    "invoke 'pay'": lambda context: context.invoke("Run", 1, "pay"),
}


def workflow(colour, operation):
    async def workflow(event, context):
        await operation(context)
        await context.wait(Duration(60), "meanwhile")
        await context.step(pay, name="after")

    return durable(colour, workflow)


def refused(emulator, before, after, colour):
    """How an execution ends that was begun by one operation and is continued by another."""
    run = Run(emulator, workflow(colour, before), workflow(colour, after))
    assert run.invoke()["Status"] == "PENDING"
    ran = run.bodies.ran.total()
    run.finish()
    assert run.status == "FAILED"
    assert run.bodies.ran.total() == ran
    assert "after" not in run.statuses()
    return run.error


@COLOURS
@pytest.mark.parametrize("after", [name for name in BEFORE if name != "step 'pay'"])
def test_another_operation_at_the_same_place(emulator, colour, after):
    """Type, name and sub type have to be those of the journal; the error names both, and no body runs."""
    error = refused(emulator, BEFORE["step 'pay'"], BEFORE[after], colour)
    assert error.type.endswith("NonDeterministicExecutionError")
    assert "where its journal has step 'pay'" in error.message
    assert after in error.message


@COLOURS
def test_another_parent(emulator, colour):
    """An operation that moved into a context of its own stands where the journal has it outside."""
    flat = lambda context: context.run_in_child_context(outer, "c", ChildConfig(is_virtual=True))  # noqa: E731
    nested = lambda context: context.run_in_child_context(outer, "c")  # noqa: E731
    error = refused(emulator, flat, nested, colour)
    assert error.type.endswith("NonDeterministicExecutionError")
    assert "step 'inside' in context None" in error.message


@COLOURS
def test_the_same_code_goes_on(emulator, colour):
    """What is refused above is refused for the change alone."""
    for operation in (name for name in BEFORE if name not in {"invoke 'pay'", "wait 'pay'"}):
        run = Run(emulator, *[workflow(colour, BEFORE[operation]) for _ in range(2)]).finish()
        assert run.status == "SUCCEEDED", (operation, run.error)
