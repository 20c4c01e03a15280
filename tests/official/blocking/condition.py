"""Suite `wait_for_condition` as `def` workflows: polling a counter, mostly."""

from __future__ import annotations

import base64

from perdure.config import Duration, JitterStrategy
from perdure.durable import WaitForConditionError, durable_execution
from perdure.serdes import SerDes
from perdure.waits import (
    WaitForConditionConfig,
    WaitForConditionDecision,
    WaitStrategyConfig,
    create_wait_strategy,
)


def poll_while(is_pending, seconds=1, max_attempts=60):
    """A strategy that checks at a fixed distance, while the state is pending."""
    return create_wait_strategy(
        WaitStrategyConfig(
            should_continue_polling=is_pending,
            max_attempts=max_attempts,
            initial_delay=Duration.from_seconds(seconds),
            backoff_rate=1,
            jitter_strategy=JitterStrategy.NONE,
        )
    )


def increment(count, _):
    return count + 1


def counting(threshold, start=0):
    """Count from the start until the threshold is reached."""
    return WaitForConditionConfig(poll_while(lambda count: count < threshold), initial_state=start)


# -------------------------------------------------------------------------------------------------------------- states


@durable_execution
def condition_basic(threshold, context):
    """Count until the input is reached."""
    return context.wait_for_condition(increment, counting(threshold))


@durable_execution
def met_at_once(threshold, context):
    """The first check is the last."""
    config = WaitForConditionConfig(poll_while(lambda state: state < threshold), initial_state=5)
    return context.wait_for_condition(lambda state, _: state, config)


@durable_execution
def condition_with_name(threshold, context):
    """A condition with a name."""
    return context.wait_for_condition(increment, counting(threshold), name="poll-status")


@durable_execution
def initial_state(threshold, context):
    """Count from five."""
    return context.wait_for_condition(increment, counting(threshold, start=5))


@durable_execution
def fixed_delay(threshold, context):
    """Two seconds from check to check."""
    strategy = poll_while(lambda count: count < threshold, seconds=2)
    return context.wait_for_condition(increment, WaitForConditionConfig(strategy, initial_state=0))


def advance(job, _):
    attempts = job["attempts"] + 1
    return {"status": "DONE" if attempts == 2 else "PENDING", "attempts": attempts}


@durable_execution
def object_state(_, context):
    """The state is an object."""
    strategy = poll_while(lambda job: job["status"] == "PENDING")
    start = {"status": "PENDING", "attempts": 0}
    return context.wait_for_condition(advance, WaitForConditionConfig(strategy, initial_state=start))


def stop_polling(_, __):
    """A strategy that is always content."""
    return WaitForConditionDecision.stop_polling()


@durable_execution
def null_state(_, context):
    """The last state is nothing."""
    return context.wait_for_condition(lambda _, __: None, WaitForConditionConfig(stop_polling, initial_state=0))


class Base64SerDes(SerDes):
    """Stores texts in base64."""

    def serialize(self, value, _):
        return base64.b64encode(value.encode()).decode()

    def deserialize(self, data, _):
        return base64.b64decode(data).decode()


@durable_execution
def custom_serdes(_, context):
    """The state is stored as its serdes makes it."""
    strategy = poll_while(lambda text: len(text) < 2)
    config = WaitForConditionConfig(strategy, initial_state="", serdes=Base64SerDes())
    return context.wait_for_condition(lambda text, _: text + "x", config)


# -------------------------------------------------------------------------------------------------------------- errors


@durable_execution
def attempts_exhausted(_, context):
    """The condition is not met by the third check, and a fourth is not made."""
    strategy = poll_while(lambda _: True, max_attempts=3)
    return context.wait_for_condition(increment, WaitForConditionConfig(strategy, initial_state=0))


def fail(_, __):
    raise RuntimeError("this check always fails")


@durable_execution
def check_fails(_, context):
    """A check fails, and the execution with it."""
    return context.wait_for_condition(fail, counting(1))


@durable_execution
def error_caught(_, context):
    """A failed check is replaced by another result."""
    try:
        return context.wait_for_condition(fail, counting(1))
    except WaitForConditionError:
        return "recovered"


# ---------------------------------------------------------------------------------------------- beside other operations


@durable_execution
def step_after(threshold, context):
    """A step continues the last state."""
    count = context.wait_for_condition(increment, counting(threshold))
    return context.step(lambda _: count * 10)


@durable_execution
def sequential_conditions(_, context):
    """The second condition starts from where the first ended."""
    first = context.wait_for_condition(increment, counting(2))
    return context.wait_for_condition(increment, counting(4, start=first))


REQUIREMENTS = {
    "6-1": condition_basic,
    "6-2": met_at_once,
    "6-3": condition_with_name,
    "6-4": initial_state,
    "6-5": fixed_delay,
    "6-6": attempts_exhausted,
    "6-7": check_fails,
    "6-8": error_caught,
    "6-9": object_state,
    "6-10": null_state,
    "6-11": custom_serdes,
    "6-12": step_after,
    "6-13": sequential_conditions,
}
