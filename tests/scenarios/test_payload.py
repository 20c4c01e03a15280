"""Payloads that cannot be kept are refused clearly (feature 18)."""

from __future__ import annotations

import pytest

from perdure.config import ChildConfig, Duration, ParallelConfig, StepConfig
from perdure.errors import ChildContextError, ExecutionFailedError, RetryableSerDesError, SerDesError
from perdure.filesystem_serdes import FileSystemSerDes
from perdure.serdes import JsonSerDes, PassThroughSerDes, SerDes

LIMIT = 1_048_576
SERDES_ERROR = "aws_durable_execution_sdk_python.exceptions.SerDesError"


def circular():
    value = {"a": []}
    value["a"].append(value)
    return value


BAD = {
    "an object": (object, "object"),
    "a function inside": (lambda: {"list": [1, print]}, "['list'][1]"),
    "circular": (circular, "circular"),
    "a tuple as key": (lambda: {(1, 2): 3}, "key"),
    "too large": (lambda: "x" * LIMIT, str(LIMIT)),
    "too large as JSON": (lambda: "\u00e4" * (LIMIT // 6 + 1), str(LIMIT)),
}


@pytest.mark.parametrize(("make", "told"), BAD.values(), ids=BAD)
def test_a_step_whose_result_cannot_be_kept(stage, make, told):
    """The step fails without a retry, its message says what is wrong; the workflow may go on."""

    def body(_):
        stage.ran("body")
        return make()

    async def workflow(event, context):
        try:
            await context.step(body, name="bad")
        except SerDesError as error:
            return error.message

    outcome = stage.run(workflow)
    assert outcome.status == "SUCCEEDED", outcome.error
    assert told in outcome.result
    assert stage.runs == {"body": 1}
    assert "StepFailed bad #1 ! SerDesError: " in outcome.history


def test_payloads_at_the_limit(stage):
    """Exactly as much as is allowed is kept; what counts is bytes of UTF-8, not characters."""

    async def workflow(event, context):
        async def length(value):
            text = StepConfig(serdes=PassThroughSerDes())
            try:
                return len(await context.step(lambda _: value, config=text))
            except SerDesError as error:
                return str(LIMIT) in error.message

        values = ["x" * LIMIT, "x" * (LIMIT + 1), "\u00e4" * (LIMIT // 2), "\u00e4" * (LIMIT // 2 + 1)]
        return [await length(value) for value in values]

    assert stage.run(workflow).result == [LIMIT, True, LIMIT // 2, True]


def test_a_child_whose_result_cannot_be_kept(stage):
    """It fails as a step does."""

    async def workflow(event, context):
        async def child(child_context):
            return object()

        try:
            await context.run_in_child_context(child, name="bad")
        except (SerDesError, ChildContextError) as error:
            return [type(error).__name__, error.error_type]

    assert stage.run(workflow).result == ["SerDesError", SERDES_ERROR]


def test_a_workflow_whose_result_cannot_be_kept(stage):
    """The execution fails, and says so."""

    async def workflow(event, context):
        return {"value": object()}

    outcome = stage.run(workflow)
    assert outcome.status == "FAILED"
    assert outcome.error.error_type == SERDES_ERROR
    assert "object" in outcome.error.error_message


def test_an_input_that_cannot_be_kept(stage):
    """Starting is refused, and nothing has begun."""

    async def workflow(event, context):
        return event

    function = stage.durable(workflow)
    stage.work()
    with pytest.raises(SerDesError, match="input"):
        stage.client.start(function, {"value": object()})
    with pytest.raises(SerDesError, match="input"):
        stage.client.start(function, circular())
    assert stage.client.list(function).items == []


class Broken(SerDes):
    def __init__(self, *errors):
        self.errors = list(errors)
        self._plain = JsonSerDes()

    def serialize(self, value, serdes_context):
        if self.errors:
            raise self.errors.pop(0)
        return self._plain.serialize(value, serdes_context)

    def deserialize(self, data, serdes_context):
        return self._plain.deserialize(data, serdes_context)


def test_a_serializer_that_breaks(stage):
    """Whatever it raises becomes a SerDesError that names it."""

    async def workflow(event, context):
        config = StepConfig(serdes=Broken(OSError("disk"), OSError("disk")))
        try:
            await context.step(stage.body("step", 1), name="step", config=config)
        except SerDesError as error:
            return error.message

    outcome = stage.run(workflow)
    assert "disk" in outcome.result
    assert "Broken" in outcome.result
    assert stage.runs == {"step": 1}


def test_a_serializer_that_breaks_for_a_while(stage):
    """RetryableSerDesError ends the invocation, and the next one tries again."""
    serdes = Broken(RetryableSerDesError("busy"))

    async def workflow(event, context):
        return await context.step(stage.body("step", 1), name="step", config=StepConfig(serdes=serdes))

    outcome = stage.run(workflow)
    assert outcome.result == 1
    assert outcome.invocations == 2
    assert "RetryableSerDesError: busy" in outcome.history


def test_a_reference_instead_of_the_value(stage):
    """A serializer may keep a large value elsewhere and record where (feature 18)."""
    shelf = {}

    class Shelf(PassThroughSerDes):
        def serialize(self, value, serdes_context):
            shelf[serdes_context.operation_id] = value
            return f"shelf:{serdes_context.operation_id}"

        def deserialize(self, data, serdes_context):
            return shelf[data.removeprefix("shelf:")]

    async def workflow(event, context):
        value = await context.step(lambda _: "x" * (2 * LIMIT), name="large", config=StepConfig(serdes=Shelf()))

        async def child(_):
            return value

        again = await context.run_in_child_context(child, name="child", config=ChildConfig(serdes=Shelf()))
        return [len(value), value == again]

    outcome = stage.run(workflow)
    assert outcome.result == [2 * LIMIT, True]
    assert stage.operation(outcome.handle, "large").result.startswith("shelf:")


def test_files_in_place_of_values(stage, tmp_path):
    """`FileSystemSerDes` keeps what no journal would take, of steps, branches and batches, across a restart."""
    files = FileSystemSerDes(str(tmp_path / "files"))

    async def branch(context):
        return await context.step(lambda _: "y" * 300_000, name="part", config=StepConfig(serdes=files))

    async def workflow(event, context):
        value = await context.step(lambda _: "x" * (2 * LIMIT), name="large", config=StepConfig(serdes=files))
        parts = await context.parallel([branch] * 4, name="all", config=ParallelConfig(serdes=files))
        await context.wait(Duration(60), name="pause")
        return [len(value), *map(len, parts.get_results())]

    function = stage.durable(workflow)
    handle = stage.start(function)
    stage.suspended(handle, "pause")
    stage.restart(function)
    assert stage.end(handle).result == [2 * LIMIT, *[300_000] * 4]
    for name in ("large", "parallel-branch-0", "all"):
        assert '"file"' in stage.operation(handle, name).result
    assert not stage.operation(handle, "all").context_details.replay_children


def test_the_error_of_a_failed_execution(stage):
    """A client that asks for the result gets status, type and message."""

    async def workflow(event, context):
        raise LookupError("nothing there")

    outcome = stage.run(workflow)
    assert isinstance(outcome.error, ExecutionFailedError)
    assert (outcome.error.status, outcome.error.error_type, outcome.error.error_message) == (
        "FAILED",
        "LookupError",
        "nothing there",
    )
