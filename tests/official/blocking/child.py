"""Suite `child` as `def` workflows: contexts in contexts, their errors, replay and results."""

from __future__ import annotations

import os
import time
from pathlib import Path

from perdure.config import ChildConfig, Duration, JitterStrategy, StepConfig
from perdure.durable import ChildContextError, durable_execution, durable_step, durable_with_child_context
from perdure.retries import RetryPresets, RetryStrategyConfig, create_retry_strategy
from perdure.serdes import SerDes
from tests.official.names import SCRATCH

TWO_ATTEMPTS = StepConfig(
    create_retry_strategy(
        RetryStrategyConfig(max_attempts=2, initial_delay=Duration.from_seconds(1), jitter_strategy=JitterStrategy.NONE)
    )
)


# --------------------------------------------------------------------------------------------------------------- shape


@durable_with_child_context
def one_step(child, value):
    return child.step(lambda _: value)


@durable_execution
def child_basic(value, context):
    """A child context with one step."""
    return context.run_in_child_context(one_step(value))


@durable_execution
def child_with_name(event, context):
    """A child context named by the input."""
    return context.run_in_child_context(one_step(event["value"]), name=event["name"])


@durable_with_child_context
def two_steps(child, value):
    first = child.step(lambda _: value)
    return child.step(lambda _: first)


@durable_execution
def sequential_steps(value, context):
    """The second step in a child context passes on the result of the first."""
    return context.run_in_child_context(two_steps(value))


@durable_with_child_context
def outer(child, value):
    child.step(lambda _: value)
    return child.run_in_child_context(one_step(value), name="inner")


@durable_execution
def nested_children(value, context):
    """A child context in a child context, a step in each."""
    return context.run_in_child_context(outer(value))


@durable_with_child_context
def step_and_wait(child, value):
    result = child.step(lambda _: value)
    child.wait(Duration.from_seconds(1))
    return result


@durable_execution
def step_and_wait_inside(value, context):
    """A child context that waits after its step."""
    return context.run_in_child_context(step_and_wait(value))


# -------------------------------------------------------------------------------------------------------------- errors


@durable_step
def fail(_):
    raise RuntimeError("this step always fails")


@durable_with_child_context
def failing_step(child):
    return child.step(fail(), config=StepConfig(retry_strategy=RetryPresets.none()))


@durable_execution
def child_fails(_, context):
    """A step fails, with it the child context, and with that the execution."""
    return context.run_in_child_context(failing_step())


@durable_execution
def error_caught(value, context):
    """A failed child context is followed by a step that recovers."""
    try:
        return context.run_in_child_context(failing_step())
    except ChildContextError:
        return context.step(lambda _: value, name="recover")


@durable_with_child_context
def failing_body(_):
    raise ValueError("raised without an operation")


@durable_execution
def body_fails(_, context):
    """A child context fails without an operation in it."""
    return context.run_in_child_context(failing_body())


@durable_step
def unreliable(step_context, value):
    if step_context.attempt == 1:
        raise RuntimeError("the first attempt fails")
    return value


@durable_with_child_context
def retried_step(child, value):
    return child.step(unreliable(value), config=TWO_ATTEMPTS)


@durable_execution
def step_retried(value, context):
    """A step in a child context succeeds in its second attempt."""
    return context.run_in_child_context(retried_step(value))


@durable_with_child_context
def exhausted_step(child):
    return child.step(fail(), config=TWO_ATTEMPTS)


@durable_execution
def step_exhausted(_, context):
    """A child context fails with the last attempt of its step."""
    return context.run_in_child_context(exhausted_step())


# -------------------------------------------------------------------------------------------------------------- replay


@durable_execution
def replayed_child(value, context):
    """A child context that has ended is not run again after a wait."""
    result = context.run_in_child_context(one_step(value))
    context.wait(Duration.from_seconds(1))
    return result


@durable_with_child_context
def large_body(child, text):
    # Not silent on replay, so that it shows when the body runs.
    child.logger.with_is_replaying(lambda: False).info("Building for: %s", text)
    return child.step(lambda _: "x") * 300_000


@durable_execution
def large_result(text, context):
    """The result of a child context, too large to be stored, is built again after a wait."""
    result = context.run_in_child_context(large_body(text))
    context.wait(Duration.from_seconds(1))
    return len(result)


@durable_step
def crash_once(_, arn, value):
    """Kills its process when it runs for the first time; the execution's id names what remembers that."""
    mark = Path(os.environ[SCRATCH], arn.rpartition("/")[2])
    if not mark.exists():
        mark.touch()
        # The start of a step that may run again is recorded while it runs.
        time.sleep(1)
        os._exit(1)
    return value


@durable_with_child_context
def crashing_step(child, value):
    return child.step(crash_once(child.execution_context.durable_execution_arn, value))


@durable_execution
def interrupted_child(value, context):
    """A step in a child context is interrupted, and run again."""
    return context.run_in_child_context(crashing_step(value))


@durable_with_child_context
def wait_only(child, value):
    child.wait(Duration.from_seconds(1))
    return value


@durable_execution
def wait_inside(value, context):
    """A step follows a child context that only waits."""
    result = context.run_in_child_context(wait_only(value))
    return context.step(lambda _: result)


@durable_with_child_context
def logging_body(child, text):
    child.logger.with_is_replaying(lambda: False).info("Running for: %s", text)
    return text


@durable_execution
def logged_once(text, context):
    """The body of a child context that has ended does not run again, as its log shows."""
    result = context.run_in_child_context(logging_body(text))
    context.wait(Duration.from_seconds(1))
    return result


@durable_execution
def operations_inside_and_after(value, context):
    """A step and a wait in a child context, and after it."""
    inner = context.run_in_child_context(step_and_wait(value))
    result = context.step(lambda _: inner)
    context.wait(Duration.from_seconds(1))
    return result


# ------------------------------------------------------------------------------------------------------------- results


class UpperCase(SerDes):
    """Stores texts in capitals."""

    def serialize(self, value, _):
        return value.upper()

    def deserialize(self, data, _):
        return data


@durable_execution
def custom_serdes(text, context):
    """What a child context returned is what its serdes made of it."""
    return context.run_in_child_context(one_step(text), config=ChildConfig(serdes=UpperCase()))


@durable_with_child_context
def nothing(_):
    return None


@durable_execution
def null_result(_, context):
    """A child context returns nothing."""
    return context.run_in_child_context(nothing())


REQUIREMENTS = {
    "3-1": child_basic,
    "3-2": child_with_name,
    "3-3": sequential_steps,
    "3-4": child_fails,
    "3-5": error_caught,
    "3-6": nested_children,
    "3-7": step_retried,
    "3-8": step_exhausted,
    "3-9": replayed_child,
    "3-10": step_and_wait_inside,
    "3-11": large_result,
    "3-12": interrupted_child,
    "3-13": wait_inside,
    "3-14": custom_serdes,
    "3-15": body_fails,
    "3-16": null_result,
    "3-17": logged_once,
    "3-18": operations_inside_and_after,
}
