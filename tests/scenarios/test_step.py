"""Steps: names, results, retries, and how often a body runs (features 1, 2, 14)."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from perdure.batch import BatchItem, BatchItemStatus, BatchResult, CompletionReason
from perdure.config import Duration, JitterStrategy, StepConfig, StepSemantics
from perdure.durable import durable_step
from perdure.errors import DurableOperationError, StepError
from perdure.model import ErrorObject
from perdure.retries import (
    LinearRetryStrategyConfig,
    RetryDecision,
    RetryPresets,
    RetryStrategyConfig,
    create_linear_retry_strategy,
    create_retry_strategy,
)
from perdure.serdes import JsonSerDes, PassThroughSerDes, SerDes
from tests.scenarios.stage import lines


def retries(attempts, delay=1, **options):
    """So many attempts, a constant time apart."""
    span = Duration(delay)
    return StepConfig(
        retry_strategy=create_retry_strategy(
            RetryStrategyConfig(
                max_attempts=attempts,
                initial_delay=span,
                max_delay=span,
                jitter_strategy=JitterStrategy.NONE,
                **options,
            )
        )
    )


def test_a_named_step(stage):
    """A step has its name in history and its result in the workflow; its body runs once."""

    async def workflow(event, context):
        return await context.step(stage.body("charge", "paid"), name="charge")

    outcome = stage.run(workflow, {"card": 1})
    assert outcome.result == "paid"
    assert stage.runs == {"charge": 1}
    assert outcome.history == lines(
        """
        ExecutionStarted
        StepStarted charge
        StepSucceeded charge #1 = "paid"
        InvocationCompleted
        ExecutionSucceeded = "paid"
        """
    )


def test_a_step_without_a_name(stage):
    """A step needs no name; steps without one are told apart by their position."""

    async def workflow(event, context):
        return [await context.step(lambda _, n=n: n) for n in range(3)]

    outcome = stage.run(workflow)
    assert outcome.result == [0, 1, 2]
    assert [operation.name for operation in outcome.handle.operations()][1:] == [None, None, None]
    assert len({operation.operation_id for operation in outcome.handle.operations()}) == 4


def test_a_durable_step_brings_its_name_and_its_arguments(stage):
    """A function decorated with durable_step names its step, unless the call does."""

    @durable_step
    def reserve(step_context, item, *, count):
        stage.ran("reserve")
        return f"{count} {item}, attempt {step_context.attempt}"

    async def workflow(event, context):
        first = await context.step(reserve("chairs", count=4))
        second = await context.step(reserve("tables", count=1), name="again")
        return [first, second]

    outcome = stage.run(workflow)
    assert outcome.result == ["4 chairs, attempt 1", "1 tables, attempt 1"]
    assert [operation.name for operation in outcome.handle.operations()][1:] == ["reserve", "again"]


def test_bodies_of_either_colour(stage):
    """A step takes `def` and `async def` bodies, whatever the colour of its workflow."""

    async def asynchronous(_):
        stage.ran("asynchronous")
        return "awaited"

    async def workflow(event, context):
        return [
            await context.step(asynchronous, name="asynchronous"),
            await context.step(stage.body("plain", "called"), name="plain"),
        ]

    outcome = stage.run(workflow)
    assert outcome.result == ["awaited", "called"]
    assert stage.runs == {"asynchronous": 1, "plain": 1}


VALUES = [
    None,
    True,
    0,
    -1.5,
    "ä\u2028",
    b"\x00\xff",
    UUID(int=7),
    Decimal("1.10"),
    datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    date(2026, 1, 2),
    (1, "two", (3,)),
    [1, [2.5, None]],
    {"a": {"b": (1, Decimal(2))}, "t": "v"},
    BatchResult([BatchItem(0, BatchItemStatus.SUCCEEDED, (1,))], CompletionReason.ALL_COMPLETED),
    BatchResult(
        [BatchItem(0, BatchItemStatus.FAILED, error=ErrorObject("no", "ValueError"))],
        CompletionReason.FAILURE_TOLERANCE_EXCEEDED,
    ),
]


def test_every_type_of_the_default_serializer_survives_replay(stage):
    """A result is the same value of the same type on the first run, and on replay after a wait."""
    seen = []

    async def workflow(event, context):
        values = [await context.step(stage.body(str(n), value), name=str(n)) for n, value in enumerate(VALUES)]
        seen.append(values)
        await context.wait(Duration(1))
        return "done"

    outcome = stage.run(workflow)
    assert outcome.result == "done"
    assert len(seen) == 2
    for values in seen:
        assert values == VALUES
        assert [type(value) for value in values] == [type(value) for value in VALUES]
    assert set(stage.runs.values()) == {1}


def test_a_first_run_sees_what_replay_will_see(stage):
    """A value is returned as its serializer reads it back, at once and not only on replay."""

    async def workflow(event, context):
        plain = StepConfig(serdes=JsonSerDes())
        value = await context.step(lambda _: {"pair": (1, 2), 3: "three"}, config=plain)
        return [value, isinstance(value["pair"], list)]

    assert stage.run(workflow).result == [{"pair": [1, 2], "3": "three"}, True]


class Celsius(SerDes):
    def serialize(self, value, serdes_context):
        assert serdes_context.operation_id
        assert "/durable-execution/" in serdes_context.durable_execution_arn
        return f"{value} °C"

    def deserialize(self, data, serdes_context):
        return float(data.removesuffix(" °C"))


def test_serdes_of_a_step(stage):
    """The payload in history is what the step's own serializer made; None of it stores nothing."""

    class Nothing(PassThroughSerDes):
        def serialize(self, value, _):
            return None

    async def workflow(event, context):
        warm = await context.step(lambda _: 21.5, name="warm", config=StepConfig(serdes=Celsius()))
        gone = await context.step(lambda _: "secret", name="gone", config=StepConfig(serdes=Nothing()))
        return [warm, gone]

    outcome = stage.run(workflow)
    assert outcome.result == [21.5, None]
    assert outcome.history == lines(
        """
        ExecutionStarted
        StepStarted warm
        StepSucceeded warm #1 = 21.5 °C
        StepStarted gone
        StepSucceeded gone #1
        InvocationCompleted
        ExecutionSucceeded = [21.5, null]
        """
    )


def test_sub_type_of_a_step(stage):
    """A step may carry a label of its own in history."""

    async def workflow(event, context):
        return await context.step(lambda _: 1, name="pay", config=StepConfig(sub_type="Payment"))

    outcome = stage.run(workflow)
    assert "StepStarted pay [Payment]" in outcome.history
    assert stage.operation(outcome.handle, "pay").sub_type == "Payment"


# ------------------------------------------------------------------------------------------------------------- retries


def test_a_step_is_retried_until_it_succeeds(stage):
    """Failed attempts are recorded with their errors and delays; the body is told its attempt."""
    attempts = []

    def flaky(step_context):
        attempts.append(step_context.attempt)
        stage.ran("flaky")
        if step_context.attempt < 3:
            raise ValueError(f"attempt {step_context.attempt}")
        return "ok"

    async def workflow(event, context):
        before = await context.step(stage.body("before", 1), name="before")
        return [before, await context.step(flaky, name="flaky", config=retries(5, delay=7))]

    outcome = stage.run(workflow)
    assert outcome.result == [1, "ok"]
    assert attempts == [1, 2, 3]
    assert stage.runs == {"before": 1, "flaky": 3}
    assert outcome.history == lines(
        """
        ExecutionStarted
        StepStarted before
        StepSucceeded before #1 = 1
        StepStarted flaky
        StepFailed flaky #1 ! ValueError: attempt 1, again in 7 s
        InvocationCompleted
        StepStarted flaky
        StepFailed flaky #2 ! ValueError: attempt 2, again in 7 s
        InvocationCompleted
        StepStarted flaky
        StepSucceeded flaky #3 = "ok"
        InvocationCompleted
        ExecutionSucceeded = [1, "ok"]
        """
    )


def test_retries_exhausted(stage):
    """The last failure is raised as a StepError that tells of the raw error, the same on replay."""
    seen = []

    async def workflow(event, context):
        try:
            await context.step(stage.body("pay", KeyError("card")), name="pay", config=retries(2))
        except StepError as error:
            cause = error.__cause__
            seen.append((error.error_type, error.message, type(cause), cause.error_type, cause.message, str(error)))
        await context.wait(Duration.from_minutes(1), name="pause")
        return "survived"

    outcome = stage.run(workflow)
    assert outcome.result == "survived"
    assert stage.runs == {"pay": 2}
    assert seen == [("KeyError", "'card'", DurableOperationError, "KeyError", "'card'", "'card'")] * 2
    assert outcome.history == lines(
        """
        ExecutionStarted
        StepStarted pay
        StepFailed pay #1 ! KeyError: 'card', again in 1 s
        InvocationCompleted
        StepStarted pay
        StepFailed pay #2 ! KeyError: 'card'
        WaitStarted pause for 60 s
        InvocationCompleted
        WaitSucceeded pause for 60 s
        InvocationCompleted
        ExecutionSucceeded = "survived"
        """
    )


def test_a_step_error_that_nobody_catches(stage):
    """It fails the execution under its own name, with the raw error's message."""

    async def workflow(event, context):
        await context.step(
            stage.body("pay", ValueError("no money")), name="pay", config=StepConfig(retry_strategy=RetryPresets.none())
        )

    outcome = stage.run(workflow)
    assert outcome.status == "FAILED"
    assert outcome.error.error_message == "no money"
    assert outcome.history == lines(
        """
        ExecutionStarted
        StepStarted pay
        StepFailed pay #1 ! ValueError: no money
        InvocationCompleted
        ExecutionFailed ! StepError: no money
        """
    )


PRESETS = [
    (RetryPresets.none(), 1),
    (RetryPresets.default(), 6),
    (RetryPresets.transient(), 3),
    (RetryPresets.resource_availability(), 5),
    (RetryPresets.critical(), 10),
    (None, 6),
]


@pytest.mark.parametrize(
    ("strategy", "attempts"), PRESETS, ids=["none", "default", "transient", "resource", "critical", "unset"]
)
def test_presets(stage, strategy, attempts):
    """A preset makes as many attempts as it says, each after a delay of whole seconds."""

    async def workflow(event, context):
        config = StepConfig(retry_strategy=strategy)
        try:
            await context.step(stage.body("step", ValueError("no")), name="step", config=config)
        except StepError:
            return "gave up"

    outcome = stage.run(workflow)
    assert outcome.result == "gave up"
    assert stage.runs == {"step": attempts}
    delays = re.findall(r"again in (\d+) s", outcome.history)
    assert len(delays) == attempts - 1
    assert all(1 <= int(delay) <= 300 for delay in delays)


def test_exponential_back_off(stage):
    """Delays grow by the factor up to the longest one."""
    strategy = create_retry_strategy(
        RetryStrategyConfig(
            max_attempts=5,
            initial_delay=Duration(2),
            max_delay=Duration(9),
            backoff_rate=3,
            jitter_strategy=JitterStrategy.NONE,
        )
    )

    async def workflow(event, context):
        body = stage.body("step", ValueError(1), ValueError(2), ValueError(3), "ok")
        return await context.step(body, name="step", config=StepConfig(retry_strategy=strategy))

    outcome = stage.run(workflow)
    assert outcome.result == "ok"
    assert re.findall(r"again in (\d+) s", outcome.history) == ["2", "6", "9"]


def test_linear_back_off(stage):
    """Delays grow by the increment."""
    strategy = create_linear_retry_strategy(
        LinearRetryStrategyConfig(initial_delay=Duration(1), increment=Duration(2), jitter_strategy=JitterStrategy.NONE)
    )

    async def workflow(event, context):
        body = stage.body("step", ValueError(1), ValueError(2), "ok")
        return await context.step(body, name="step", config=StepConfig(retry_strategy=strategy))

    outcome = stage.run(workflow)
    assert re.findall(r"again in (\d+) s", outcome.history) == ["1", "3"]


@pytest.mark.parametrize(
    ("jitter", "low", "high"), [(JitterStrategy.HALF, 50, 100), (JitterStrategy.FULL, 1, 100)], ids=str
)
def test_jitter(stage, jitter, low, high):
    """Drawn delays stay within the bounds of their jitter."""
    strategy = create_retry_strategy(
        RetryStrategyConfig(
            max_attempts=4, initial_delay=Duration(100), max_delay=Duration(100), jitter_strategy=jitter
        )
    )

    async def workflow(event, context):
        body = stage.body("step", ValueError(1), ValueError(2), ValueError(3), "ok")
        return await context.step(body, name="step", config=StepConfig(retry_strategy=strategy))

    delays = [int(delay) for delay in re.findall(r"again in (\d+) s", stage.run(workflow).history)]
    assert len(delays) == 3
    assert all(low <= delay <= high for delay in delays)


def test_a_retry_strategy_of_ones_own(stage):
    """A function of the error and the attempts made decides; a delay below a second counts as one."""
    asked = []

    def strategy(error, attempts_made):
        asked.append((repr(error), attempts_made))
        return RetryDecision.retry(Duration(0)) if isinstance(error, ConnectionError) else RetryDecision.no_retry()

    async def workflow(event, context):
        body = stage.body("call", ConnectionError("reset"), ValueError("bad"))
        try:
            await context.step(body, name="call", config=StepConfig(retry_strategy=strategy))
        except StepError as error:
            return error.error_type

    outcome = stage.run(workflow)
    assert outcome.result == "ValueError"
    assert asked == [("ConnectionError('reset')", 1), ("ValueError('bad')", 2)]
    assert "StepFailed call #1 ! ConnectionError: reset, again in 1 s" in outcome.history


FILTERS = [
    ({"retryable_error_types": [ConnectionError]}, ConnectionResetError("x"), 2),
    ({"retryable_error_types": [ConnectionError]}, ValueError("x"), 1),
    ({"retryable_errors": ["throttled"]}, ValueError("was throttled"), 2),
    ({"retryable_errors": [re.compile(r"^5\d\d")]}, ValueError("503 busy"), 2),
    ({"retryable_errors": [re.compile(r"^5\d\d")]}, ValueError("400 bad"), 1),
]


@pytest.mark.parametrize(("options", "error", "attempts"), FILTERS, ids=["type", "other-type", "text", "regex", "no"])
def test_filters(stage, options, error, attempts):
    """Only errors that a filter lets through are tried again."""

    async def workflow(event, context):
        try:
            return await context.step(stage.body("step", error, "ok"), name="step", config=retries(3, **options))
        except StepError:
            return "gave up"

    assert stage.run(workflow).result == ("ok" if attempts > 1 else "gave up")
    assert stage.runs == {"step": attempts}


def test_a_broken_retry_strategy(stage):
    """What a retry strategy raises fails the step, and is not lost."""

    def strategy(error, attempts_made):
        raise RuntimeError("no idea")

    async def workflow(event, context):
        try:
            await context.step(
                stage.body("step", ValueError("x")), name="step", config=StepConfig(retry_strategy=strategy)
            )
        except StepError as error:
            return [error.error_type, error.message]

    assert stage.run(workflow).result == ["RuntimeError", "no idea"]


def test_a_retry_strategy_that_decides_nothing(stage):
    """A strategy that ends without a `return` is a broken one too."""

    async def workflow(event, context):
        config = StepConfig(retry_strategy=lambda error, attempts_made: None)
        try:
            await context.step(stage.body("step", ValueError("x")), name="step", config=config)
        except StepError as error:
            return str(error)

    assert "the retry strategy of step 'step' returned None" in stage.run(workflow).result


def test_an_error_whose_texts_fail(stage):
    """Its class is recorded with what there is to say, and the step is not run again."""

    class MuteError(Exception):
        def __str__(self):
            raise RuntimeError("no text")

        __repr__ = __str__

    async def workflow(event, context):
        config = StepConfig(retry_strategy=RetryPresets.none())
        try:
            await context.step(stage.body("step", MuteError()), name="step", config=config)
        except StepError as error:
            await context.wait(Duration.from_seconds(1))
            return [error.error_type.rpartition(".")[2], error.message]

    assert stage.run(workflow).result == ["MuteError", "str() of this MuteError raised RuntimeError"]
    assert stage.runs == {"step": 1}


@pytest.mark.parametrize("text", ["x" * 1_100_000, "\U0001f600" * 300_000], ids=["ascii", "wide"])
def test_an_error_with_a_message_that_is_too_long(stage, text):
    """It is cut to what services take, on the first run as on replay, and the workflow goes on."""
    seen = []

    async def workflow(event, context):
        config = StepConfig(retry_strategy=RetryPresets.none())
        try:
            await context.step(stage.body("step", ValueError(text)), name="step", config=config)
        except StepError as error:
            seen.append(error.message)
        await context.wait(Duration.from_minutes(1), name="pause")
        return seen[-1][-20:]

    handle = stage.start(workflow)
    stage.suspended(handle, "pause").restart()
    end = f"… ({len(text.encode())} bytes)"
    assert stage.end(handle).result.endswith(end)
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert text.startswith(seen[0].removesuffix(end))


# ------------------------------------------------------------------------------------------------------------ crashes


def test_at_least_once(stage):
    """A body that was interrupted runs again as the same attempt."""
    attempts = []

    def body(step_context):
        attempts.append(step_context.attempt)
        if stage.ran("body") == 1:
            raise SystemExit(1)
        return "done"

    async def workflow(event, context):
        await context.step(stage.body("before", 0), name="before")
        return await context.step(body, name="body")

    outcome = stage.run(workflow)
    assert outcome.result == "done"
    assert attempts == [1, 1]
    assert stage.runs == {"before": 1, "body": 2}
    assert "StepSucceeded body #1" in outcome.history
    assert "InvocationCompleted ! SystemExit: 1" in outcome.history


AT_MOST_ONCE = StepSemantics.AT_MOST_ONCE_PER_RETRY


def test_at_most_once(stage):
    """An interrupted attempt is not repeated as itself: it has failed, and the strategy decides on another one."""
    attempts, asked = [], []

    def body(step_context):
        attempts.append(step_context.attempt)
        if stage.ran("body") == 1:
            raise SystemExit(1)
        return "done"

    def strategy(error, attempts_made):
        asked.append((type(error).__name__, attempts_made))
        return RetryDecision.retry(Duration(1))

    async def workflow(event, context):
        config = StepConfig(retry_strategy=strategy, step_semantics=AT_MOST_ONCE)
        return await context.step(body, name="body", config=config)

    outcome = stage.run(workflow)
    assert outcome.result == "done"
    assert attempts == [1, 2]
    assert asked == [("StepInterruptedError", 1)]
    assert [line.partition(" ! ")[0] for line in outcome.history.splitlines()] == [
        "ExecutionStarted",
        "StepStarted body",
        "InvocationCompleted",
        "StepFailed body #1",
        "InvocationCompleted",
        "StepStarted body",
        'StepSucceeded body #2 = "done"',
        "InvocationCompleted",
        'ExecutionSucceeded = "done"',
    ]


def test_truly_once(stage):
    """At most once and without retry, an interrupted body never runs again; the workflow learns of it."""

    async def workflow(event, context):
        config = StepConfig(retry_strategy=RetryPresets.none(), step_semantics=AT_MOST_ONCE)
        try:
            await context.step(stage.body("transfer", SystemExit(1)), name="transfer", config=config)
        except StepError as error:
            return error.error_type

    outcome = stage.run(workflow)
    assert outcome.result == "aws_durable_execution_sdk_python.exceptions.StepInterruptedError"
    assert stage.runs == {"transfer": 1}


def test_the_idempotency_key_is_the_same_for_every_attempt(stage):
    """One key for all attempts of a step, another one for every other step."""
    keys = []

    def body(step_context):
        keys.append(step_context.idempotency_key)
        if len(keys) == 1:
            raise ValueError("again")

    async def workflow(event, context):
        await context.step(body, name="one", config=retries(2))
        await context.step(body, name="two")

    outcome = stage.run(workflow)
    assert outcome.status == "SUCCEEDED"
    assert keys[0] == keys[1] != keys[2]
    assert all(keys)


def test_many_steps(stage):
    """An execution of several hundred steps replays after a restart without running one again."""

    async def workflow(event, context):
        total = 0
        for n in range(event):
            total += await context.step(lambda _, n=n: stage.ran("step") and n, name=f"step-{n}")
        await context.wait(Duration.from_minutes(1), name="pause")
        for n in range(3):
            await context.step(stage.body("after"), name=f"after-{n}")
        return total

    handle = stage.start(workflow, 300)
    stage.suspended(handle, "pause").restart()
    outcome = stage.end(handle)
    assert outcome.result == sum(range(300))
    assert stage.runs == {"step": 300, "after": 3}
