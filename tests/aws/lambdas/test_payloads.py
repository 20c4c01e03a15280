"""Large payloads and odd ones."""

from __future__ import annotations

import json

import pytest

from perdure.config import ChildConfig, Duration, ParallelConfig, StepConfig
from perdure.errors import SerDesError
from perdure.retries import RetryPresets
from perdure.serdes import SerDes
from tests.aws.lambdas.runs import Run, succeeds
from tests.scenarios.colour import Colour, durable

COLOURS = pytest.mark.parametrize("colour", Colour)
LIMIT = 1_048_576
INLINE = 262_144
OUTPUT = 6 * 1024 * 1024 - 50
ODD = "Grüße, 世界 \U0001f680 \u0000 \u2028 \\ \" ' <&> \ud800"


class Verbatim(SerDes):
    """Texts as they are."""

    def serialize(self, value, _):
        return value

    def deserialize(self, data, _):
        return data


def largest(run):
    """The sizes of the updates in each request, by payload."""
    return [[len(update.get("Payload") or "") for update in call.updates] for call in run.calls()]


# --------------------------------------------------------------------------------------------------------------- limits


@COLOURS
def test_a_step_result_at_the_limit(emulator, colour):
    """1,048,576 bytes pass, alone in their request, and are there after a replay."""
    text = "x" * (LIMIT - 2)  # and quotes

    async def workflow(event, context):
        result = await context.step(lambda _: text, name="large")
        await context.wait(Duration(60), "meanwhile")
        return [len(result), result == text]

    run = Run(emulator, durable(colour, workflow)).finish()
    assert run.result == [len(text), True]
    assert run.bodies.ran.total() == 1
    assert [LIMIT] in largest(run)


@COLOURS
@pytest.mark.parametrize(("value", "serdes"), [("x" * (LIMIT - 1), None), ("ü" * (LIMIT // 2) + "x", Verbatim())])
def test_a_step_result_above_the_limit(emulator, colour, value, serdes):
    """The step fails with an error that says so and is not tried again, and nothing of that size is sent."""

    async def workflow(event, context):
        try:
            await context.step(lambda _: value, name="large", config=StepConfig(RetryPresets.default(), serdes=serdes))
        except SerDesError as error:
            return str(error)

    run = Run(emulator, durable(colour, workflow)).finish()
    assert run.result.startswith(f"the payload of step 'large' has {LIMIT + 1} bytes, and {LIMIT} are allowed")
    assert run.statuses() == {"large": "FAILED"}
    assert run.bodies.ran.total() == 1
    assert max(map(max, largest(run))) < 1000


@COLOURS
def test_limits_count_bytes(emulator, colour):
    """As many characters of two bytes each as make the limit pass."""
    text = "ü" * (LIMIT // 2)

    async def workflow(event, context):
        result = await context.step(lambda _: text, name="large", config=StepConfig(serdes=Verbatim()))
        await context.wait(Duration(60), "meanwhile")
        return result == text

    assert Run(emulator, durable(colour, workflow)).finish().result is True


@COLOURS
@pytest.mark.parametrize("over", [0, 1])
def test_a_context_result_around_its_limit(emulator, colour, over):
    """Up to 262,144 characters are recorded; above, the body runs again on replay, over recorded steps."""
    size = INLINE + over - 2
    ran = []

    async def body(context):
        ran.append(None)
        half = await context.step(lambda _: "x" * (size // 2), name="half")
        return half + "y" * (size - len(half))

    async def workflow(event, context):
        results = [await context.run_in_child_context(body, "child")]
        batch = await context.parallel([body], "parallel", ParallelConfig())
        results.append(batch.get_results()[0])
        await context.wait(Duration(60), "meanwhile")
        return [[len(each), each[-1]] for each in results]

    run = Run(emulator, durable(colour, workflow)).finish()
    assert run.result == [[size, "y"]] * 2
    assert run.bodies.ran.total() == 2
    contexts = {each.name: each.context_details for each in run.execution.operations if each.context_details}
    assert contexts["child"].replay_children is bool(over)
    assert contexts["child"].result == ("" if over else json.dumps("x" * (size // 2) + "y" * (size - size // 2)))
    assert contexts["parallel"].replay_children is True  # its result is more than that of its branch
    assert len(ran) == (4 if over else 2)


@COLOURS
@pytest.mark.parametrize(
    ("text", "over"),
    [("x" * (OUTPUT - 4), False), ("x" * (OUTPUT - 3), True), ('"' * (OUTPUT // 4), True)],
    ids=["at_the_limit", "above", "quotes"],
)
def test_an_execution_result_around_its_limit(emulator, colour, text, over):
    """What takes up to 6 MiB less 50 bytes within the output, escaped, is in it; more is in the last checkpoint."""

    async def workflow(event, context):
        await context.step(lambda _: 1)
        return text

    run = Run(emulator, durable(colour, workflow)).finish()
    assert run.result == text
    [output] = run.outputs
    assert output["Status"] == "SUCCEEDED"
    assert output["Result"] == ("" if over else json.dumps(text))
    assert len(json.dumps(output)) < OUTPUT + 50
    ends = [update["Action"] for call in run.calls() for update in call.updates if update["Type"] == "EXECUTION"]
    assert ends == ["SUCCEED"] * over


@COLOURS
@pytest.mark.parametrize("over", [False, True])
def test_an_error_too_large_for_the_output(emulator, colour, over):
    """What fits is in the output."""

    async def workflow(event, context):
        raise ValueError("x" * (20_000 if over else 200))

    run = Run(emulator, durable(colour, workflow)).finish()
    assert run.status == "FAILED"
    assert run.error.type == "ValueError"
    assert len(run.error.message) == (20_000 if over else 200)


@COLOURS
def test_large_inputs_and_callbacks(emulator, colour):
    """An input and a callback's result of a megabyte each arrive, in pages of their own."""
    emulator.paged(100_000)

    async def workflow(event, context):
        result = await context.wait_for_callback(lambda *_: None, name="large")
        return [len(event), len(result)]

    run = Run(emulator, durable(colour, workflow), event="x" * LIMIT, outside=succeeds(b"y" * LIMIT)).finish()
    assert run.result == [LIMIT, LIMIT]


# -------------------------------------------------------------------------------------------------------------- unicode


@COLOURS
def test_odd_texts(emulator, colour):
    """Whatever JSON can hold goes through inputs, results, errors, states and keys unharmed."""
    texts = [ODD, "", " ", "null", "{}", "\U0010ffff", "\x7f"]

    async def workflow(event, context):
        values = [await context.step(lambda _, text=text: {text: [text, (text,)]}) for text in texts]
        child = await context.run_in_child_context(lambda _: ready(colour, event), "child", ChildConfig())
        await context.wait(Duration(60), "meanwhile")
        assert values == [{text: [text, (text,)]} for text in texts]
        assert (event, child) == (texts, texts)
        return [list(value) for value in values]

    run = Run(emulator, durable(colour, workflow), event=texts).finish()
    assert run.result == [[text] for text in texts]


def ready(colour, value):
    """A value, as the body of a context returns it."""

    async def body():
        return value

    return body()


@COLOURS
def test_odd_errors_and_callbacks(emulator, colour):
    """The same for errors, for what callbacks bring, and for texts that a serdes leaves as they are."""
    text = ODD.replace("\ud800", "")

    async def workflow(event, context):
        def body(_):
            raise ValueError(text)

        result = await context.wait_for_callback(lambda *_: None, name="callback")
        plain = await context.step(lambda _: text, config=StepConfig(serdes=Verbatim()))
        await context.wait(Duration(60), "meanwhile")
        assert [result, plain] == [text, text]
        await context.step(body, "failing", StepConfig(RetryPresets.none()))

    run = Run(emulator, durable(colour, workflow), outside=succeeds(text.encode())).finish()
    assert run.status == "FAILED"
    assert run.error.message == text
    assert [each.step_details.error.message for each in run.execution.operations if each.name == "failing"] == [text]
