"""Workflows of steps, for both SDKs; see `sides`."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from uuid import UUID

from tests.aws.sides import BrokenError, Catalogue

STEPS = Catalogue()


@STEPS.add()
def values(kit):
    """Every kind of value goes through a step."""
    kinds = [
        None,
        True,
        0,
        -1.5,
        "",
        "ü€\U0001f600",
        [],
        [1, [None, "x"]],
        {},
        {"a": (1, 2), "b": {"c": [b"\x00\xff"]}},
        (1, "two"),
        UUID(int=7),
        Decimal("1.10"),
        datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        date(2026, 1, 2),
        float("inf"),
        1 << 70,
    ]

    def workflow(event, context):
        return [repr(kit.step(context, f"s{index}", value)) for index, value in enumerate(kinds)]

    return workflow


@STEPS.add(input='{"items": [1, 2], "text": "ü"}')
def names(kit):
    """With a name, without one, from a decorated function, and with a sub type of the author's."""

    @kit.durable_step
    def decorated(_, value):
        kit.note("decorated")
        return value

    def workflow(event, context):
        return [
            context.step(kit.gives("unnamed", event)),
            context.step(decorated(2)),
            context.step(decorated(3), name="other"),
            kit.step(context, "typed", 4, sub_type="My-Type_1"),
        ]

    return workflow


@STEPS.add()
def nothing(_):
    """No operation, no result."""
    return lambda event, context: None


@STEPS.add()
def failing_step(kit):
    """The error is what was recorded, the first time and on replay."""
    none = {"retry_strategy": kit.RetryPresets.none()}

    def workflow(event, context):
        seen = []
        for index, error in enumerate(
            [ValueError("bad"), BrokenError("own"), KeyError("k"), Exception(), TypeError(1, 2)]
        ):
            body = kit.raises(f"f{index}", error)
            config = kit.StepConfig(**none)
            seen.append(kit.caught(lambda b=body, c=config, i=index: context.step(b, f"f{i}", c)))
            kit.wait(context, 1)
        return seen

    return workflow


@STEPS.add()
def failing_execution(kit):
    """A step's failure that nobody catches fails the execution."""

    def workflow(event, context):
        kit.wait(context, 1)
        context.step(kit.raises("f", BrokenError("own")), "f", kit.StepConfig(kit.RetryPresets.none()))

    return workflow


@STEPS.add()
def operation_error_of_a_body(kit):
    """Data and stack trace of an SDK's error that a body raises are kept."""

    def workflow(event, context):
        error = kit.StepError("inner", error_type="Some.Type", data="data", stack_trace=["line 1", "line 2"])
        return kit.caught(lambda: context.step(kit.raises("f", error), "f", kit.StepConfig(kit.RetryPresets.none())))

    return workflow


@STEPS.add()
def at_most_once(kit):
    """Its START is recorded before its body, attempt by attempt."""
    semantics = kit.StepSemantics.AT_MOST_ONCE_PER_RETRY

    def strategy(_, attempt):
        return kit.RetryDecision.retry(kit.Duration.from_seconds(2)) if attempt < 3 else kit.RetryDecision.no_retry()

    def workflow(event, context):
        once = kit.StepConfig(strategy, semantics)
        return [
            context.step(kit.gives("good", 1), "good", once),
            context.step(kit.raises("flaky", OSError("x"), 2, "got"), "flaky", once),
            kit.caught(lambda: context.step(kit.raises("bad", OSError("y")), "bad", once)),
        ]

    return workflow


@STEPS.add()
def odd_names(kit):
    """Empty, of odd characters, long, used twice, and taken from what is called."""

    @kit.durable_step
    def decorated(_):
        kit.note("decorated")
        return "decorated"

    class Body:
        def __call__(self, _):
            kit.note("object")
            return "object"

        def method(self, _):
            kit.note("method")
            return "method"

    def workflow(event, context):
        names = ["", "~!@ \"'<", "a b:c/d", "x" * 256, "same", "same", "0"]
        return [
            *(kit.step(context, name, index) for index, name in enumerate(names)),
            context.step(decorated(), ""),
            context.step(partial(kit.gives("partial", "partial"), 1)),
            context.step(Body()),
            context.step(Body().method),
            context.step(lambda _: "lambda"),
        ]

    return workflow


@STEPS.add()
def tricky_values(kit):
    """What looks like the serializer's own marks, is nested deeply, or is a number of an odd kind."""
    deep = "bottom"
    for level in range(40):
        deep = [deep] if level % 2 else {"deeper": deep}
    kinds = [
        {"t": "s", "v": "x"},
        {"__type__": "UUID", "value": "x"},
        {"v": {"t": "d"}, "": None},
        deep,
        [True, 1, 1.0, 1e300, 5e-324, -0.0],
        '\x00\u2028"\\',
        "null",
        b"",
        ((), [()], {"": ()}),
        datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001 - without a zone on purpose
        Decimal("-0E+3"),
    ]

    def workflow(event, context):
        return [repr(kit.step(context, f"s{index}", value)) for index, value in enumerate(kinds)]

    return workflow


@STEPS.add()
def many(kit):
    """More than fit into one request."""

    def workflow(event, context):
        total = sum(kit.step(context, f"s{index}", index) for index in range(120))
        kit.wait(context, 1)
        return total

    return workflow


@STEPS.add()
def errors(kit):
    """Whatever an exception's class and arguments are: lines, scripts, no text, groups, causes, notes."""

    class Outer:
        class InnerError(LookupError):
            def __init__(self, code):
                super().__init__(f"code {code}")

    class SpeakingError(Exception):
        def __str__(self):
            return "says something else"

    def caused():
        error = ValueError("effect")
        error.__cause__ = KeyError("cause")
        error.add_note("a note")
        return error

    errors = [
        ValueError("two\nlines\n"),
        ValueError("ü€\U0001f600 \x00"),
        ValueError(""),
        ValueError(None),
        OSError(2, "no such file", "/nowhere"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        json.JSONDecodeError("bad", "{", 1),
        ExceptionGroup("several", [ValueError(1), KeyError(2)]),
        StopIteration("x"),
        StopAsyncIteration(),
        RecursionError("deep"),
        NotImplementedError(),
        AssertionError(("a", 1)),
        Outer.InnerError(7),
        SpeakingError("ignored"),
        caused(),
        TimeoutError("x" * 5000),
    ]

    def workflow(event, context):
        none = kit.StepConfig(kit.RetryPresets.none())
        seen = []
        for index, error in enumerate(errors):
            name = f"f{index}"
            seen.append(kit.attempt(lambda n=name, e=error: context.step(kit.raises(n, e), n, none)))
        kit.wait(context, 1)
        return seen

    return workflow


@STEPS.add()
def errors_of_the_sdk(kit):
    """A body that raises one of the SDK's classes itself."""

    def workflow(event, context):
        none = kit.StepConfig(kit.RetryPresets.none())
        errors = [
            kit.ValidationError("validation"),
            kit.InvalidStateError("state"),
            kit.DurableExecutionsError("base"),
            kit.DurableOperationError("operation"),
            kit.DurableOperationError(),
            kit.ChildContextError("child", "X", "data", ["line"]),
            kit.CallbackTimeoutError("late", data="data"),
            kit.CallbackExternalError(None, "Y"),
            kit.CallbackSubmitterError("submitter"),
            kit.InvokeError("invoke", stack_trace=[]),
            kit.WaitForConditionError("condition"),
            kit.BatchCompletionError(message="batch"),
        ]
        seen = []
        for index, error in enumerate(errors):
            name = f"f{index}"
            seen.append(kit.attempt(lambda n=name, e=error: context.step(kit.raises(n, e), n, none)))
        kit.wait(context, 1)
        return seen

    return workflow


@STEPS.add()
def at_most_once_options(kit):
    """With a type, a serializer, nothing to return, a strategy that looks at the error, and an error to raise."""

    def strategy(error, attempt):
        kit.note(f"{type(error).__name__} {error} {attempt}")
        return kit.RetryDecision(isinstance(error, OSError), kit.Duration.from_minutes(attempt))

    def workflow(event, context):
        once = kit.StepSemantics.AT_MOST_ONCE_PER_RETRY
        return [
            context.step(kit.gives("typed", 1), "typed", kit.StepConfig(step_semantics=once, sub_type="Mine")),
            context.step(kit.gives("json", [1]), "json", kit.StepConfig(None, once, kit.JsonSerDes())),
            context.step(kit.gives("nothing"), config=kit.StepConfig(None, once)),
            context.step(kit.raises("flaky", OSError("x"), 2, "got"), "flaky", kit.StepConfig(strategy, once)),
            kit.attempt(lambda: context.step(kit.raises("f", KeyError("k")), "f", kit.StepConfig(strategy, once))),
        ]

    return workflow
