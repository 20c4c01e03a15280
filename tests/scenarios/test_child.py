"""Child contexts (feature 7) and virtual ones."""

from __future__ import annotations

from perdure.config import ChildConfig, Duration, StepConfig
from perdure.durable import durable_with_child_context
from perdure.errors import ChildContextError, DurableOperationError
from perdure.retries import RetryPresets
from perdure.serdes import JsonSerDes
from tests.scenarios.stage import lines


def test_a_child_context(stage):
    """Its operations belong to it, and its result is recorded; a finished one is not run again."""
    bodies = []

    async def workflow(event, context):
        async def pay(child):
            bodies.append("pay")
            reserved = await child.step(stage.body("reserve", "r1"), name="reserve")
            return [reserved, await child.step(stage.body("charge", "c1"), name="charge")]

        paid = await context.run_in_child_context(pay, name="pay")
        await context.wait(Duration.from_minutes(1), name="pause")
        return paid

    outcome = stage.run(workflow)
    assert outcome.result == ["r1", "c1"]
    assert bodies == ["pay"]
    assert stage.runs == {"reserve": 1, "charge": 1}
    assert outcome.history == lines(
        """
        ExecutionStarted
        ContextStarted pay [RunInChildContext]
        StepStarted pay/reserve
        StepSucceeded pay/reserve #1 = "r1"
        StepStarted pay/charge
        StepSucceeded pay/charge #1 = "c1"
        ContextSucceeded pay = ["r1","c1"]
        WaitStarted pause for 60 s
        InvocationCompleted
        WaitSucceeded pause for 60 s
        InvocationCompleted
        ExecutionSucceeded = ["r1", "c1"]
        """
    )


def test_a_child_context_that_waits(stage):
    """An unfinished one is run again from its top, over its recorded operations."""
    bodies = []

    async def workflow(event, context):
        async def pay(child):
            bodies.append("pay")
            first = await child.step(stage.body("first", 1), name="first")
            await child.wait(Duration(5), name="pause")
            return first + await child.step(stage.body("second", 2), name="second")

        return await context.run_in_child_context(pay, name="pay")

    outcome = stage.run(workflow)
    assert outcome.result == 3
    assert bodies == ["pay", "pay"]
    assert stage.runs == {"first": 1, "second": 1}
    assert outcome.history == lines(
        """
        ExecutionStarted
        ContextStarted pay [RunInChildContext]
        StepStarted pay/first
        StepSucceeded pay/first #1 = 1
        WaitStarted pay/pause for 5 s
        InvocationCompleted
        WaitSucceeded pay/pause for 5 s
        StepStarted pay/second
        StepSucceeded pay/second #1 = 2
        ContextSucceeded pay = 3
        InvocationCompleted
        ExecutionSucceeded = 3
        """
    )


def test_nested_child_contexts(stage):
    """Contexts stand in contexts; each counts its own operations."""

    async def workflow(event, context):
        async def inner(child):
            return await child.step(lambda _: "deep", name="step")

        async def middle(child):
            await child.step(lambda _: 0, name="step")
            return await child.run_in_child_context(inner, name="inner")

        return [await context.run_in_child_context(middle, name=f"middle-{n}") for n in range(2)]

    outcome = stage.run(workflow)
    assert outcome.result == ["deep", "deep"]
    assert set(outcome.by_operation) == {
        "",
        *(f"middle-{n}{rest}" for n in range(2) for rest in ("", "/step", "/inner", "/inner/step")),
    }
    assert len({operation.operation_id for operation in outcome.handle.operations()}) == 9


def test_a_durable_child_brings_its_name_and_its_arguments(stage):
    """A function decorated with durable_with_child_context names the context."""

    @durable_with_child_context
    async def book(child, what, *, seats):
        return await child.step(lambda _: f"{seats} in {what}", name="seat")

    async def workflow(event, context):
        return await context.run_in_child_context(book("row 1", seats=2))

    outcome = stage.run(workflow)
    assert outcome.result == "2 in row 1"
    assert outcome.by_operation["book"].startswith("ContextStarted [RunInChildContext]")


def test_a_child_context_that_fails(stage):
    """What escapes it is recorded raw and raised as ChildContextError, the same on replay."""
    seen = []

    async def workflow(event, context):
        async def pay(child):
            await child.step(stage.body("reserve"), name="reserve")
            stage.ran("pay")
            raise KeyError("card")

        try:
            await context.run_in_child_context(pay, name="pay")
        except ChildContextError as error:
            seen.append((error.error_type, error.message, type(error.__cause__)))
        await context.wait(Duration(1))
        return "survived"

    outcome = stage.run(workflow)
    assert outcome.result == "survived"
    assert seen == [("KeyError", "'card'", DurableOperationError)] * 2
    assert stage.runs == {"reserve": 1, "pay": 1}
    assert "ContextFailed pay ! KeyError: 'card'" in outcome.history


def test_a_step_error_that_escapes_a_child(stage):
    """It is the cause, as the kind of error it was."""

    async def workflow(event, context):
        async def pay(child):
            once = StepConfig(retry_strategy=RetryPresets.none())
            await child.step(stage.body("charge", ValueError("no")), name="charge", config=once)

        try:
            await context.run_in_child_context(pay, name="pay")
        except ChildContextError as error:
            return [error.error_type, error.message, type(error.__cause__).__name__]

    outcome = stage.run(workflow)
    assert outcome.result == ["aws_durable_execution_sdk_python.exceptions.StepError", "no", "StepError"]


def test_serdes_and_sub_type_of_a_child(stage):
    """A context's payload is its serializer's; its label stands in history."""

    async def workflow(event, context):
        async def pair(child):
            return (1, 2)

        config = ChildConfig(serdes=JsonSerDes(), sub_type="Saga")
        return [await context.run_in_child_context(pair, name="pair", config=config) == [1, 2]]

    outcome = stage.run(workflow)
    assert outcome.result == [True]
    assert "ContextStarted pair [Saga]" in outcome.history
    assert "ContextSucceeded pair = [1, 2]" in outcome.history


def test_a_virtual_child(stage):
    """It leaves no record of itself: its operations are shown below the caller's context, with ids of its own."""

    async def workflow(event, context):
        async def group(child):
            stage.ran("group")
            return [await child.step(stage.body("one", 1), name="one"), await child.step(stage.body("two", 2))]

        grouped = await context.run_in_child_context(group, name="group", config=ChildConfig(is_virtual=True))
        await context.wait(Duration.from_minutes(1), name="pause")
        return [*grouped, await context.step(stage.body("three", 3), name="three")]

    outcome = stage.run(workflow)
    assert outcome.result == [1, 2, 3]
    assert stage.runs == {"group": 2, "one": 1, "two": 1, "three": 1}
    assert set(outcome.by_operation) == {"", "one", "(Step)", "pause", "three"}


def test_a_virtual_child_that_fails(stage):
    """It fails as a recorded one does."""

    async def workflow(event, context):
        async def group(child):
            raise ValueError("no")

        try:
            await context.run_in_child_context(group, config=ChildConfig(is_virtual=True))
        except ChildContextError as error:
            return [error.error_type, error.message]

    assert stage.run(workflow).result == ["ValueError", "no"]
