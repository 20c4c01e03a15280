"""Workflows of what concerns the whole execution, for both SDKs; see `sides`."""

from __future__ import annotations

import contextlib

from perdure.model import ErrorObject
from tests.aws.outside import LATE, REFUSED, told
from tests.aws.sides import BrokenError, Catalogue

EXECUTIONS = Catalogue()


@EXECUTIONS.add()
def large_result(kit):
    """A result too large for the output is recorded before."""

    def workflow(event, context):
        kit.wait(context, 1)
        return "x" * (6 * 1024 * 1024 - 51)

    return workflow


@EXECUTIONS.add()
def execution_error(kit):
    """Errors of the author's, among them the SDK's own classes."""

    def workflow(event, context):
        kit.wait(context, 1)
        raise kit.ExecutionError("enough")

    return workflow


@EXECUTIONS.add()
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


# ------------------------------------------------------------------------------------------- how an execution fails


def _failing(kit, context):
    """Calls that fail, by what fails."""
    none = kit.RetryPresets.none()
    seconds = kit.Duration.from_seconds
    step = kit.StepConfig(none)
    poll = kit.WaitForConditionConfig(lambda *_: kit.WaitForConditionDecision.stop_polling(), 0)
    failed = kit.CompletionConfig(should_complete=lambda _: kit.complete_batch(kit.CompletionOutcome.FAILED))

    def broken(*_):
        raise BrokenError("two\nlines")

    def fail(inner, *_):
        inner.step(kit.raises("f", ValueError("bad")), "f", step)

    return {
        "step": lambda: fail(context),
        "child": lambda: context.run_in_child_context(fail, "child"),
        "own_in_child": lambda: context.run_in_child_context(broken, "child"),
        "virtual": lambda: context.run_in_child_context(fail, "child", kit.ChildConfig(is_virtual=True)),
        "condition": lambda: context.wait_for_condition(broken, poll, "poll"),
        "callback": lambda: context.create_callback("refused").result(),
        "callback_timeout": lambda: context.create_callback("late", kit.CallbackConfig(seconds(1))).result(),
        "wait_for_callback": lambda: context.wait_for_callback(kit.gives("send"), "w"),
        "submitter": lambda: context.wait_for_callback(
            broken, "submitter", kit.WaitForCallbackConfig(retry_strategy=none)
        ),
        "invoke": lambda: context.invoke("f:1", "invoke", "invoke"),
        "batch": lambda: context.map([1, 2], fail, "m", kit.MapConfig(1)).throw_if_error(),
        "custom_batch": lambda: context.map(
            [1], lambda *_: 1, "m", kit.MapConfig(completion_config=failed)
        ).throw_if_error(),
        "with_retry": lambda: kit.with_retry(context, fail, kit.WithRetryConfig(none, False), "retry"),
        "cause": lambda: _raise_cause(kit, lambda: fail(context)),
        "group": lambda: _raise(ExceptionGroup("several", [ValueError(1), BrokenError("b")])),
        "texts": lambda: _raise(ValueError("two\nlines ü€\U0001f600")),
        "nothing": lambda: _raise(BrokenError()),
        "large": lambda: _raise(ValueError("x" * 300_000)),
        "operation_error": lambda: _raise(kit.CallbackExternalError("own", "Own", "data", ["line"])),
        "validation": lambda: _raise(kit.ValidationError("own")),
    }


def _raise(error):
    raise error


def _raise_cause(kit, call):
    try:
        call()
    except kit.StepError as error:
        raise error.__cause__ from None


def _fails(name):
    def build(kit):
        def workflow(event, context):
            kit.wait(context, 1)
            return _failing(kit, context)[name]()

        return workflow

    build.__name__ = f"fails_by_{name}"
    return build


_TOLD = told(refused=REFUSED, w_create_callback_id=REFUSED, invoke=ErrorObject("no", "Their.Error"), late=LATE)

for _name in [
    "step",
    "child",
    "own_in_child",
    "virtual",
    "condition",
    "callback",
    "callback_timeout",
    "wait_for_callback",
    "submitter",
    "invoke",
    "batch",
    "custom_batch",
    "with_retry",
    "cause",
    "group",
    "texts",
    "nothing",
    "large",
    "operation_error",
    "validation",
]:
    EXECUTIONS.add(outside=_TOLD)(_fails(_name))


# ------------------------------------------------------------------------------------------------ results, and inputs


def _echo(number, input):
    def build(kit):
        def workflow(event, context):
            kit.step(context, "s", event)
            kit.wait(context, 1)
            return event

        return workflow

    build.__name__ = f"echo_{number}"
    EXECUTIONS.add(input=input)(build)


for _number, _input in enumerate(["null", '"ü€\\ud83d\\ude00"', "[1, 2.5, [], {}]", '{"": {"a": null}}', "true", '""']):
    _echo(_number, _input)


@EXECUTIONS.add()
def plain_result(kit):
    """What plain JSON makes of it: tuples are lists, keys are texts, and numbers may be none."""

    def workflow(event, context):
        kit.wait(context, 1)
        return {1: (1, (2,)), None: [True, float("inf")], "ü": "ü", 2.5: {"x": -0.0}}

    return workflow


# ------------------------------------------------------------------------------------------------ code around calls


@EXECUTIONS.add(outside=told(late=LATE))
def clean_up(kit):
    """Blocks that are left by a suspension: `finally`, context managers, `except Exception`, generators."""

    @contextlib.contextmanager
    def noted(name):
        try:
            yield
        except Exception:
            kit.note(f"{name} failed")
            raise
        finally:
            kit.note(f"{name} left")

    def generated(context):
        for index in range(3):
            yield kit.step(context, f"g{index}", index)
            kit.wait(context, 1)

    def workflow(event, context):
        found = []
        with noted("outer"), noted("inner"):
            try:
                kit.wait(context, 1)
                found.append(kit.step(context, "between"))
                context.create_callback("late", kit.CallbackConfig(kit.Duration(1))).result()
            except Exception as error:  # noqa: BLE001 - the callback's, not the suspension
                found.append(type(error).__name__)
            finally:
                kit.note("finally")
        with contextlib.suppress(kit.StepError), noted("failing"):
            context.step(kit.raises("f", ValueError("bad")), "f", kit.StepConfig(kit.RetryPresets.none()))
        return [*found, list(generated(context)), sum(generated(context))]

    return workflow


@EXECUTIONS.add(outside=told(cb="there", w_create_callback_id="come"))
def logs(kit):
    """A logger is told what is new, not what is replayed, with the operation it is about."""

    def workflow(event, context):
        context.set_logger(kit.logger())

        def step(name, *, fails=0):
            def body(inner):
                inner.logger.info("in step %s", name)
                if inner.attempt <= fails:
                    inner.logger.exception("attempt", extra={"mine": 1})  # noqa: LOG004 - no logger of logging
                    raise OSError(name)

            return body

        def submit(callback_id, inner):
            inner.logger.warning("submitting")

        def check(state, inner):
            inner.logger.debug("polled", extra={"state": state})
            return state + 1

        def child(inner):
            inner.logger.info("child begins")
            inner.step(step("in child"), "in child")
            kit.wait(inner, 1)
            inner.logger.info("child goes on")
            inner.step(step("late in child"), "late in child")
            inner.logger.info("child ends")

        def until(state, attempt):
            wait = kit.WaitForConditionDecision.continue_waiting(kit.Duration(1))
            return wait if state < 2 else kit.WaitForConditionDecision.stop_polling()

        context.logger.info("begins", extra={"event": event})
        context.step(step("one"), "one")
        context.logger.info("before %s", "wait")
        kit.wait(context, 1)
        context.logger.info("after wait")
        context.step(step("flaky", fails=1), "flaky", kit.StepConfig(kit.RetryPresets.fixed()))
        context.logger.error("after flaky")
        context.run_in_child_context(child, "child")
        context.logger.info("after child")
        context.run_in_child_context(child, "child", kit.ChildConfig(sub_type="Mine"))
        context.create_callback("cb").result()
        context.logger.info("after callback")
        context.wait_for_callback(submit, "w")
        context.wait_for_condition(check, kit.WaitForConditionConfig(until, 0), "poll")
        context.logger.debug("ends", extra={"operationName": "mine"})

    return workflow


@EXECUTIONS.add()
def surroundings(kit):
    """What a context tells of itself, invocation by invocation and level by level."""

    def seen(name, context):
        of_execution = context.execution_context.durable_execution_arn.rpartition("/")[2]
        kit.note(f"{name}: {context.is_replaying()} {of_execution} {context.lambda_context}")

    def child(context):
        seen("child before", context)
        kit.step(context, "s")
        seen("child between", context)
        kit.wait(context, 1)
        seen("child after", context)

    def workflow(event, context):
        seen("begin", context)
        kit.step(context, "s")
        seen("step", context)
        kit.wait(context, 1)
        seen("wait", context)
        context.run_in_child_context(child, "child")
        seen("child", context)
        kit.wait(context, 1)
        seen("end", context)

    return workflow
