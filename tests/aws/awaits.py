"""Workflows of waits, callbacks and invokes, for both SDKs; see `sides`."""

from __future__ import annotations

from perdure.journal.entry import Outcome
from perdure.model import ErrorObject, OperationStatus
from tests.aws.outside import LATE, QUIET, REFUSED, VOID, told
from tests.aws.serializers import Upper
from tests.aws.sides import BrokenError, Catalogue

AWAITS = Catalogue()


@AWAITS.add()
def waits(kit):
    """One after another, with and without a name."""

    def workflow(event, context):
        kit.wait(context, 1)
        kit.step(context, "between")
        kit.wait(context, 3600, "long")
        context.wait(kit.Duration.from_days(30), "longer")

    return workflow


@AWAITS.add(outside=told(second="2", first="1"))
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


@AWAITS.add(
    outside=told(
        failed=REFUSED,
        bare=ErrorObject(),
        empty=VOID,
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
            "late": kit.CallbackConfig(timeout=seconds(1)),
            "quiet": kit.CallbackConfig(heartbeat_timeout=seconds(1), timeout=seconds(100)),
        }
        return [
            kit.caught(context.create_callback(name, config).result, "CallbackError")
            for name, config in configs.items()
        ]

    return workflow


@AWAITS.add(outside=told(approve_create_callback_id="yes", create_callback_id="2", sub_create_callback_id="3"))
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


@AWAITS.add(
    outside=told(
        failed_create_callback_id=REFUSED,
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
        late = kit.WaitForCallbackConfig(timeout=kit.Duration.from_seconds(1))
        quiet = kit.WaitForCallbackConfig(heartbeat_timeout=kit.Duration.from_seconds(1))
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


@AWAITS.add(outside=told(plain='{"x": 1}', tenant='"t"', own="text", void=VOID))
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


@AWAITS.add(
    outside=told(
        failed=REFUSED,
        late=Outcome(status=OperationStatus.TIMED_OUT, error=ErrorObject("late", "ChainedInvoke.Timeout")),
        stopped=Outcome(status=OperationStatus.STOPPED, error=ErrorObject("enough", "Stopped")),
    )
)
def invoke_fails(kit):
    """In every way a target may end; a missing one already in the answer."""

    def workflow(event, context):
        found = [kit.caught(lambda n=name: context.invoke("f:1", n, n)) for name in ("failed", "late", "stopped")]
        return [*found, kit.caught(lambda: context.invoke("missing", 1, "missing"))]

    return workflow


@AWAITS.add()
def wait_units(kit):
    """Days, hours, minutes, and seconds of which only the whole ones count; names of any kind."""

    def workflow(event, context):
        unit = kit.Duration
        context.wait(unit.from_seconds(1.9))
        context.wait(unit.from_minutes(0.5), "half a minute")
        context.wait(unit.from_hours(1.25), "")
        context.wait(unit.from_days(365), name="a year")
        context.wait(unit(3), "three")
        return [unit.from_minutes(2).to_seconds(), unit(7).seconds]

    return workflow


@AWAITS.add(outside=told(late=LATE, quiet=QUIET, first_late=LATE, first_quiet=QUIET, w_create_callback_id=QUIET))
def callbacks_out_of_time(kit):
    """Nobody completes them: the earlier of two limits ends them."""

    def workflow(event, context):
        seconds = kit.Duration.from_seconds
        configs = {
            "late": kit.CallbackConfig(seconds(1)),
            "quiet": kit.CallbackConfig(heartbeat_timeout=seconds(1)),
            "first late": kit.CallbackConfig(seconds(1), seconds(20)),
            "first quiet": kit.CallbackConfig(seconds(40), seconds(1), sub_type="Mine"),
        }
        callbacks = [context.create_callback(name, config) for name, config in configs.items()]
        found = [kit.attempt(each.result) for each in callbacks]
        late = kit.WaitForCallbackConfig(seconds(9), seconds(1))
        found.append(kit.attempt(lambda: context.wait_for_callback(kit.gives("send"), "w", late)))
        return [*found, *(kit.attempt(each.result) for each in reversed(callbacks))]

    return workflow


@AWAITS.add(outside=told(asked="1", early="2"))
def callbacks_left_open(kit):
    """One is asked for late, one never, and one is still open at the end."""

    def workflow(event, context):
        asked, early = context.create_callback("asked"), context.create_callback("early")
        context.create_callback("open")
        context.create_callback()
        found = [asked.result()]
        kit.wait(context, 1)
        return [*found, early.result(), asked.callback_id == early.callback_id]

    return workflow


@AWAITS.add(outside=told(text="plain ü", json='{"a": [1, null]}', typed='{"t":"i","v":7}', void=VOID, bad="{"))
def callback_payloads(kit):
    """As they are, or read by a serializer; one cannot be read."""
    extended = getattr(kit, "ExtendedTypeSerDes", kit.JsonSerDes)

    def workflow(event, context):
        def ask(name, serdes=None):
            config = kit.CallbackConfig(serdes=serdes) if serdes else None
            return kit.attempt(lambda: repr(context.create_callback(name, config).result()))

        found = [
            ask("text"),
            ask("json"),
            ask("json", kit.JsonSerDes()),
            ask("typed", extended()),
            ask("void"),
            ask("void", kit.JsonSerDes()),
            ask("bad", kit.PassThroughSerDes()),
            ask("bad", kit.JsonSerDes())[0],
        ]
        kit.wait(context, 1)
        return found

    return workflow


@AWAITS.add(
    outside=told(
        bare=ErrorObject(),
        text=ErrorObject("two\nlines ü"),
        kind=ErrorObject(type="Their.Error"),
        data=ErrorObject(data='{"a": 1}'),
        trace=ErrorObject("m", None, None, ["one", "two"]),
        full=REFUSED,
    )
)
def callback_errors(kit):
    """With any members of an error."""

    def workflow(event, context):
        names = ["bare", "text", "kind", "data", "trace", "full"]
        found = [kit.attempt(context.create_callback(name).result) for name in names]
        kit.wait(context, 1)
        return found

    return workflow


@AWAITS.add(
    outside=told(
        child_create_callback_id="1",
        virtual_create_callback_id="2",
        map_create_callback_id="3",
        typed_create_callback_id="4",
        void_create_callback_id=VOID,
        bad_create_callback_id="{",
        refused_create_callback_id=REFUSED,
    )
)
def wait_for_callback_inside(kit):
    """In children and branches; with a type, a serializer, nothing to come, and a failure behind which it goes on."""

    def ask(name, **config):
        def body(context, *_):
            given = kit.WaitForCallbackConfig(**config) if config else None
            return context.wait_for_callback(kit.gives(f"send {name}"), name, given)

        return body

    def workflow(event, context):
        done = kit.CompletionConfig.all_completed()
        batch = context.parallel([ask("map"), ask("refused")], "p", kit.ParallelConfig(completion_config=done))
        found = [
            batch.get_results(),
            [[error.type, error.message, error.data] for error in batch.get_errors()],
            context.run_in_child_context(ask("child"), "outer"),
            context.run_in_child_context(ask("virtual"), "outer", kit.ChildConfig(is_virtual=True)),
            ask("typed", sub_type="Mine", serdes=kit.JsonSerDes())(context),
            ask("void")(context),
            kit.attempt(lambda: ask("bad", serdes=kit.JsonSerDes())(context))[0],
            kit.attempt(lambda: context.run_in_child_context(ask("refused"), "outer")),
        ]
        kit.wait(context, 1)
        return found

    return workflow


@AWAITS.add(outside=told(late_create_callback_id="1"))
def submitters(kit):
    """A submitter that fails for good in many ways, is tried again, or returns something nobody looks at."""

    def strategy(_, attempt):
        return kit.RetryDecision(attempt < 3, kit.Duration.from_seconds(10 * attempt))

    def submitter(name, error, times=1000):
        def body(callback_id, context):
            kit.note(name)
            if kit.ran[name] <= times:
                raise error
            return object()

        return body

    def workflow(event, context):
        config = kit.WaitForCallbackConfig(retry_strategy=strategy)
        errors = {
            "text": ValueError("two\nlines"),
            "own": kit.StepError("step", "Own", "data", ["line"]),
            "callback": kit.CallbackExternalError("external", data="data"),
            "none": Exception(),
        }
        found = [
            kit.attempt(lambda n=name, e=error: context.wait_for_callback(submitter(n, e), n, config))
            for name, error in errors.items()
        ]
        kit.wait(context, 1)
        return [*found, context.wait_for_callback(lambda *_: 7, "late", config)]

    return workflow


# ------------------------------------------------------------------------------------------------------------ invoke


@AWAITS.add(outside=told(n='{"a": [1, null, "ü"]}', e="", s='"x"', r='{"t":"i","v":7}', b="{"))
def invoke_results(kit):
    """Results of any kind, one of which is no JSON; large payloads; targets by any name."""

    def workflow(event, context):
        def call(function, payload, name):
            return kit.attempt(lambda: repr(context.invoke(function, payload, name)))

        return [
            call("f", None, "n"),
            call("f:$LATEST", {"x": (1, 2)}, "e")[0],
            call("arn:aws:lambda:us-west-2:123456789012:function:f:7", "ü" * 1000, "s"),
            call("f:prod", [], "r"),
            call("f:1", 1, "b")[0],
            call("f:1", {1, 2}, "never")[0],
            call("f:1", "after", "n"),
        ]

    return workflow


@AWAITS.add(
    outside=told(
        failed=REFUSED,
        bare=ErrorObject(),
        own=ErrorObject("inner", "aws_durable_execution_sdk_python.exceptions.StepError", "data"),
        stopped=Outcome(status=OperationStatus.STOPPED, error=ErrorObject(type="Stopped")),
        late=Outcome(status=OperationStatus.TIMED_OUT, error=ErrorObject("late", "ChainedInvoke.Timeout", "d", ["l"])),
        good='"good"',
    )
)
def invoke_inside(kit):
    """In children and branches, and their failures as the errors of these."""

    def call(name):
        return lambda context, *_: context.invoke("f:1", name, name)

    def workflow(event, context):
        found = []
        names = ["good", "failed", "bare", "own", "stopped", "late"]
        for nesting in (kit.NestingType.NESTED, kit.NestingType.FLAT):
            config = kit.ParallelConfig(3, kit.CompletionConfig.all_completed(), nesting_type=nesting)
            batch = context.parallel([call(name) for name in names], "p", config)
            found.append([[item.status.value, item.result] for item in batch.all])
            found.append([[error.type, error.message, error.data] for error in batch.get_errors()])
        found += [kit.attempt(lambda n=name: context.run_in_child_context(call(n), "child")) for name in names]
        kit.wait(context, 1)
        return found

    return workflow
