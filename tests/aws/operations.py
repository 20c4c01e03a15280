"""Workflows of single operations and their failures, for both SDKs; see `sides`."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

from perdure.journal.entry import Outcome
from perdure.model import ErrorObject, OperationStatus
from tests.aws.sides import Catalogue

OPERATIONS = Catalogue()
LARGE = 262_144
LATE = Outcome(status=OperationStatus.TIMED_OUT, error=ErrorObject("Callback timed out", "Callback.Timeout"))
QUIET = Outcome(
    status=OperationStatus.TIMED_OUT, error=ErrorObject("Callback timed out on heartbeat", "Callback.Heartbeat")
)


class BrokenError(Exception):
    """An error of the author's own, whose class is not importable by name alone."""


def told(**results):
    """Complete callbacks and invokes by name, as soon as they are open: a result, an error, or an `Outcome`."""

    def outside(plane):
        for operation in plane.execution.open_awaits():
            outcome = results.get((operation.name or "").replace(" ", "_"))
            if isinstance(outcome, Outcome):
                plane.deliver(operation.name, outcome)
            elif isinstance(outcome, ErrorObject):
                plane.complete(operation.name, error=outcome)
            elif outcome is not None:
                plane.complete(operation.name, outcome)

    return outside


# ------------------------------------------------------------------------------------------------------------- steps


@OPERATIONS.add()
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


@OPERATIONS.add(input='{"items": [1, 2], "text": "ü"}')
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


@OPERATIONS.add()
def nothing(_):
    """No operation, no result."""
    return lambda event, context: None


@OPERATIONS.add()
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


@OPERATIONS.add()
def failing_execution(kit):
    """A step's failure that nobody catches fails the execution."""

    def workflow(event, context):
        kit.wait(context, 1)
        context.step(kit.raises("f", BrokenError("own")), "f", kit.StepConfig(kit.RetryPresets.none()))

    return workflow


@OPERATIONS.add()
def operation_error_of_a_body(kit):
    """Data and stack trace of an SDK's error that a body raises are kept."""

    def workflow(event, context):
        error = kit.StepError("inner", error_type="Some.Type", data="data", stack_trace=["line 1", "line 2"])
        return kit.caught(lambda: context.step(kit.raises("f", error), "f", kit.StepConfig(kit.RetryPresets.none())))

    return workflow


@OPERATIONS.add()
def retries(kit):
    """Attempts and delays are a strategy's; a delay below a second is one."""

    def strategy(error, attempt):
        kit.note(f"strategy {error} {attempt}")
        return kit.RetryDecision.retry(kit.Duration.from_seconds((attempt - 1) * 5))

    def workflow(event, context):
        body = kit.raises("flaky", ValueError("not yet"), attempts=3, value="there")
        return [context.step(body, "flaky", kit.StepConfig(strategy)), kit.step(context, "after")]

    return workflow


@OPERATIONS.add()
def retries_exhausted(kit):
    """After the last attempt the error is raised."""
    strategy = kit.create_retry_strategy(
        kit.RetryStrategyConfig(max_attempts=3, backoff_rate=2, jitter_strategy=kit.JitterStrategy.NONE)
    )

    def workflow(event, context):
        body = kit.raises("flaky", ValueError("never"))
        return kit.caught(lambda: context.step(body, "flaky", kit.StepConfig(strategy)))

    return workflow


@OPERATIONS.add()
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


class Upper:
    """A serializer that stores upper case, and nothing for an empty text."""

    def serialize(self, value, _):
        return value.upper() or None

    def deserialize(self, data, _):
        return f"<{data}>"


@OPERATIONS.add()
def serializers(kit):
    """Whatever a serializer makes of a value is what the author gets; nothing stored is None."""

    class Own(Upper, kit.SerDes):
        pass

    def workflow(event, context):
        own = Own()
        return [
            context.step(kit.gives("a", "text"), "a", kit.StepConfig(serdes=own)),
            context.step(kit.gives("b", ""), "b", kit.StepConfig(serdes=own)),
            context.run_in_child_context(kit.gives("c", "child"), "c", kit.ChildConfig(serdes=own)),
            context.run_in_child_context(kit.gives("d", ""), "d", kit.ChildConfig(serdes=own)),
            context.step(kit.gives("e", {"x": [1]}), "e", kit.StepConfig(serdes=kit.JsonSerDes())),
            context.step(kit.gives("f", "as is"), "f", kit.StepConfig(serdes=kit.PassThroughSerDes())),
            kit.wait(context, 1),
        ]

    return workflow


@OPERATIONS.add(own_words=True)
def serializer_fails(kit):
    """A value without a form fails its step, or its child, for good; it is raised as what it is."""

    class Reading(kit.SerDes):
        def serialize(self, value, _):
            return str(value)

        def deserialize(self, data, _):
            raise kit.SerDesError("unreadable")

    def raised(call):
        try:
            return call()
        except kit.SerDesError as error:
            return [type(error).__name__, isinstance(error, kit.DurableOperationError)]

    def workflow(event, context):
        found = [
            raised(lambda: context.step(kit.gives("a", object()), "a")),
            raised(lambda: context.step(kit.gives("b", 1), "b", kit.StepConfig(serdes=Reading()))),
            raised(lambda: context.run_in_child_context(kit.gives("c", object()), "c")),
            raised(lambda: context.run_in_child_context(kit.gives("d", 1), "d", kit.ChildConfig(serdes=Reading()))),
        ]
        kit.wait(context, 1)
        return found

    return workflow


@OPERATIONS.add(own_words=True)
def passing_trouble(kit):
    """What asks for another invocation gets one, past every strategy; only a step's own body is retried by its."""

    class Flaky(kit.SerDes):
        def serialize(self, value, context):
            kit.note(f"serialize {value}")
            if kit.ran[f"serialize {value}"] == 1:
                raise kit.RetryableSerDesError("not now")
            return value

        def deserialize(self, data, _):
            return data

    def strategy(_, attempt):
        return kit.RetryDecision.retry(kit.Duration.from_seconds(3)) if attempt < 3 else kit.RetryDecision.no_retry()

    def own(name):
        def body(context):
            kit.note(name)
            if kit.ran[name] == 1:
                raise kit.InvocationError("once more")
            return name

        return body

    def check(state, _):
        return own("check")(None)

    def workflow(event, context):
        once = kit.StepSemantics.AT_MOST_ONCE_PER_RETRY
        poll = kit.WaitForConditionConfig(lambda *_: kit.WaitForConditionDecision.stop_polling(), "")
        return [
            context.step(kit.gives("a", "a"), "a", kit.StepConfig(strategy, serdes=Flaky())),
            context.step(kit.gives("b", "b"), "b", kit.StepConfig(strategy, once, serdes=Flaky())),
            context.run_in_child_context(lambda _: "c", "c", kit.ChildConfig(serdes=Flaky())),
            context.run_in_child_context(own("own"), "d"),
            context.step(own("step"), "e", kit.StepConfig(strategy)),
            context.wait_for_condition(check, poll, "f"),
            context.parallel([lambda _: "g"], "g", kit.ParallelConfig(item_serdes=Flaky())).get_results(),
        ]

    return workflow


# ------------------------------------------------------------------------------------------------- waits, callbacks


@OPERATIONS.add()
def waits(kit):
    """One after another, with and without a name."""

    def workflow(event, context):
        kit.wait(context, 1)
        kit.step(context, "between")
        kit.wait(context, 3600, "long")
        context.wait(kit.Duration.from_days(30), "longer")

    return workflow


@OPERATIONS.add(outside=told(second="2", first="1"))
def callbacks(kit):
    """Two are open at once and asked for in the other order."""

    def workflow(event, context):
        first = context.create_callback("first")
        second = context.create_callback(
            "second",
            kit.CallbackConfig(
                kit.Duration.from_seconds(60), kit.Duration.from_seconds(10), serdes=kit.JsonSerDes(), sub_type="Mine"
            ),
        )
        kit.step(context, "send", [first.callback_id, second.callback_id])
        return [second.result(), first.result(), first.result(), first.callback_id]

    return workflow


@OPERATIONS.add(
    outside=told(
        failed=ErrorObject("no", "Their.Error", "data", ["line"]),
        bare=ErrorObject(),
        empty=Outcome(status=OperationStatus.SUCCEEDED),
        late=LATE,
        quiet=QUIET,
    )
)
def callbacks_end(kit):
    """With an error, an error without members, nothing at all, or not in time."""

    def workflow(event, context):
        seconds = kit.Duration.from_seconds
        configs = {
            "failed": None,
            "bare": None,
            "empty": None,
            "late": kit.CallbackConfig(timeout=seconds(5)),
            "quiet": kit.CallbackConfig(heartbeat_timeout=seconds(7), timeout=seconds(100)),
        }
        return [
            kit.caught(context.create_callback(name, config).result, "CallbackError")
            for name, config in configs.items()
        ]

    return workflow


@OPERATIONS.add(outside=told(approve_create_callback_id="yes", create_callback_id="2", sub_create_callback_id="3"))
def wait_for_callback(kit):
    """Names, serializers and retries of the parts."""

    @kit.durable_wait_for_callback
    def sub(callback_id, context, note):
        kit.note(note)
        return callback_id

    def strategy(_, attempt):
        return kit.RetryDecision.retry(kit.Duration.from_seconds(1))

    attempts = []

    def flaky(callback_id, context):
        kit.note("flaky")
        attempts.append(callback_id)
        if kit.ran["flaky"] == 1:
            raise ValueError("not yet")

    def workflow(event, context):
        return [
            context.wait_for_callback(kit.gives("approve"), "approve"),
            context.wait_for_callback(
                flaky,
                config=kit.WaitForCallbackConfig(
                    timeout=kit.Duration.from_seconds(900), serdes=kit.JsonSerDes(), retry_strategy=strategy
                ),
            ),
            context.wait_for_callback(sub("sub")),
        ]

    return workflow


@OPERATIONS.add(
    outside=told(
        failed_create_callback_id=ErrorObject("no", "Their.Error", "data", ["line"]),
        late_create_callback_id=LATE,
        quiet_create_callback_id=QUIET,
    )
)
def wait_for_callback_fails(kit):
    """Each way has an error class of its own."""

    def broken(*_):
        kit.note("broken")
        raise BrokenError("cannot send")

    def workflow(event, context):
        late = kit.WaitForCallbackConfig(timeout=kit.Duration.from_seconds(5))
        quiet = kit.WaitForCallbackConfig(heartbeat_timeout=kit.Duration.from_seconds(5))
        none = kit.WaitForCallbackConfig(retry_strategy=kit.RetryPresets.none())
        found = [
            kit.caught(lambda: context.wait_for_callback(kit.gives("failed"), "failed"), "CallbackError"),
            kit.caught(lambda: context.wait_for_callback(kit.gives("late"), "late", late), "CallbackError"),
            kit.caught(lambda: context.wait_for_callback(kit.gives("quiet"), "quiet", quiet), "CallbackError"),
            kit.caught(lambda: context.wait_for_callback(broken, "broken", none), "CallbackError"),
        ]
        kit.wait(context, 1)
        return found

    return workflow


# ------------------------------------------------------------------------------------------------------------ invoke


@OPERATIONS.add(
    outside=told(plain='{"x": 1}', tenant='"t"', own="text", void=Outcome(status=OperationStatus.SUCCEEDED))
)
def invoke(kit):
    """Payloads, serializers, tenants, and a result that is none."""

    class Own(Upper, kit.SerDes):
        pass

    def workflow(event, context):
        return [
            context.invoke("f:1", {"a": [1, None, "ü"]}, "plain"),
            context.invoke("f:1", None, "tenant", kit.InvokeConfig(tenant_id="t-1")),
            context.invoke("f:1", "x", "own", kit.InvokeConfig(serdes_payload=Own(), serdes_result=Own())),
            context.invoke("f:1", 7, "void"),
        ]

    return workflow


@OPERATIONS.add(
    outside=told(
        failed=ErrorObject("no", "Their.Error", "data", ["line"]),
        late=Outcome(status=OperationStatus.TIMED_OUT, error=ErrorObject("late", "ChainedInvoke.Timeout")),
        stopped=Outcome(status=OperationStatus.STOPPED, error=ErrorObject("enough", "Stopped")),
    )
)
def invoke_fails(kit):
    """In every way a target may end; a missing one already in the answer."""

    def workflow(event, context):
        found = [kit.caught(lambda n=name: context.invoke("f:1", 1, n)) for name in ("failed", "late", "stopped")]
        return [*found, kit.caught(lambda: context.invoke("missing", 1, "missing"))]

    return workflow


# ----------------------------------------------------------------------------------------------------- child contexts


@OPERATIONS.add()
def children(kit):
    """Nested, named, virtual, decorated, with a sub type, with suspensions inside."""

    @kit.durable_with_child_context
    def decorated(context, value):
        kit.wait(context, 1)
        return kit.step(context, "in decorated", value)

    def nested(context):
        kit.step(context, "before")
        inner = context.run_in_child_context(decorated(1))
        kit.wait(context, 2)
        return (inner, kit.step(context, "after", 2))

    def workflow(event, context):
        virtual = kit.ChildConfig(is_virtual=True)
        return [
            context.run_in_child_context(nested, "nested"),
            context.run_in_child_context(nested, "virtual", virtual),
            context.run_in_child_context(decorated(3), config=kit.ChildConfig(sub_type="Mine")),
            context.run_in_child_context(lambda c: c.run_in_child_context(nested, config=virtual), config=virtual),
            context.run_in_child_context(lambda c: None),
            kit.step(context, "last"),
        ]

    return workflow


@OPERATIONS.add()
def children_fail(kit):
    """A body's own error, a step's, a child's; recorded or virtual; caught inside or outside."""

    def own(context):
        kit.wait(context, 1)
        raise BrokenError("own")

    def of_step(context):
        context.step(kit.raises("f", ValueError("bad")), "f", kit.StepConfig(kit.RetryPresets.none()))

    def of_child(context):
        context.run_in_child_context(of_step, "inner")

    def handled(context):
        return kit.caught(lambda: context.run_in_child_context(own, "inner"))

    def workflow(event, context):
        found = []
        for virtual in (False, True):
            for body in (own, of_step, of_child, handled):
                config = kit.ChildConfig(is_virtual=virtual)
                found.append(kit.caught(lambda b=body, c=config: context.run_in_child_context(b, "child", c)))
                kit.wait(context, 1)
        return found

    return workflow


@OPERATIONS.add()
def large_children(kit):
    """At the limit and above it, with and without a summary; replay gives the value, not the summary."""

    def body(size):
        def run(context):
            kit.wait(context, 1)
            return kit.step(context, f"s{size}", "x") * size

        return run

    def failing(context):
        raise ValueError("x" * 300_000)

    def workflow(event, context):
        summary = kit.ChildConfig(summary_generator=lambda value: f"{len(value)} long")
        sizes = [
            len(context.run_in_child_context(body(LARGE - 2), "at the limit")),
            len(context.run_in_child_context(body(LARGE - 1), "above")),
            len(context.run_in_child_context(body(400_000), "summed up", summary)),
            len(context.run_in_child_context(lambda c: "ü" * 200_000, "wide")),
            len(kit.caught(lambda: context.run_in_child_context(failing, "failing"))[2]),
        ]
        kit.wait(context, 1)
        return sizes

    return workflow


# ------------------------------------------------------------------------------------------------- with_retry, polling


@OPERATIONS.add()
def with_retry(kit):
    """The whole block again, wrapped or not, named or not, until it succeeds or is given up."""
    strategy = kit.create_retry_strategy(
        kit.RetryStrategyConfig(max_attempts=3, jitter_strategy=kit.JitterStrategy.NONE)
    )

    def block(fails):
        def run(context, attempt):
            kit.step(context, f"block {attempt}", attempt)
            if attempt <= fails:
                context.step(
                    kit.raises(f"f {attempt}", ValueError(f"attempt {attempt}")),
                    "f",
                    kit.StepConfig(kit.RetryPresets.none()),
                )
            return attempt

        return run

    def workflow(event, context):
        found = []
        for wrapped in (True, False):
            for name in ("named", None):
                config = kit.WithRetryConfig(strategy, wrapped)
                found.append(kit.with_retry(context, block(2), config, name))
                found.append(kit.caught(lambda c=config, n=name: kit.with_retry(context, block(9), c, n)))
        return found

    return workflow


@OPERATIONS.add()
def condition(kit):
    """State goes from poll to poll, through the serializer; the strategy sees what is recorded."""

    def check(state, context):
        kit.note(f"check {context.attempt}")
        return {**state, "polls": (*state["polls"], context.attempt)}

    def strategy(state, attempt):
        state["seen"] = attempt
        if attempt < 4:
            return kit.WaitForConditionDecision.continue_waiting(kit.Duration.from_seconds(attempt - 1))
        return kit.WaitForConditionDecision.stop_polling()

    def workflow(event, context):
        config = kit.WaitForConditionConfig(strategy, {"polls": ()})
        return [
            repr(context.wait_for_condition(check, config, "poll")),
            context.wait_for_condition(
                lambda state, _: state + 1,
                kit.WaitForConditionConfig(
                    kit.create_wait_strategy(
                        kit.WaitStrategyConfig(
                            should_continue_polling=lambda state: state < 3, jitter_strategy=kit.JitterStrategy.NONE
                        )
                    ),
                    0,
                    serdes=kit.JsonSerDes(),
                ),
            ),
        ]

    return workflow


@OPERATIONS.add()
def condition_fails(kit):
    """In the check, or in the strategy."""

    def check(state, context):
        raise BrokenError(f"attempt {context.attempt}")

    def strategy(state, attempt):
        raise LookupError("strategy")

    def workflow(event, context):
        config = kit.WaitForConditionConfig(strategy, 0)
        found = [
            kit.caught(lambda: context.wait_for_condition(check, config, "poll")),
            kit.caught(lambda: context.wait_for_condition(kit.gives("check", 1), config, "poll")),
        ]
        kit.wait(context, 1)
        return found

    return workflow


@OPERATIONS.add(own_words=True)
def condition_given_up(kit):
    """After so many attempts it is an error."""
    strategy = kit.create_wait_strategy(
        kit.WaitStrategyConfig(lambda _: True, max_attempts=3, jitter_strategy=kit.JitterStrategy.NONE)
    )

    def workflow(event, context):
        try:
            context.wait_for_condition(lambda state, _: state + 1, kit.WaitForConditionConfig(strategy, 0), "poll")
        except kit.WaitForConditionError as error:
            return [type(error).__name__, error.error_type]

    return workflow


# ---------------------------------------------------------------------------------------------------------- execution


@OPERATIONS.add()
def large_result(kit):
    """A result too large for the output is recorded before."""

    def workflow(event, context):
        kit.wait(context, 1)
        return "x" * (6 * 1024 * 1024 - 51)

    return workflow


@OPERATIONS.add()
def execution_error(kit):
    """Errors of the author's, among them the SDK's own classes."""

    def workflow(event, context):
        kit.wait(context, 1)
        raise kit.ExecutionError("enough")

    return workflow


@OPERATIONS.add(own_words=True)
def refused(kit):
    """Wrong arguments are refused before anything is recorded."""

    def refusal(call):
        try:
            return call()
        except kit.ValidationError as error:
            return type(error).__name__

    def workflow(event, context):
        second = kit.Duration.from_seconds
        few = kit.CompletionConfig(min_successful=3)
        return [
            refusal(lambda: context.wait(second(0))),
            refusal(lambda: context.parallel([kit.gives("p")], config=kit.ParallelConfig(completion_config=few))),
            refusal(lambda: context.map([1], kit.gives("m"), config=kit.MapConfig(completion_config=few))),
            refusal(lambda: kit.ParallelConfig(max_concurrency=0)),
            refusal(lambda: context.wait_for_condition(None, None)),
            kit.step(context, "first id", 1),
        ]

    return workflow
