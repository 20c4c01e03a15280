"""Suite `wait_for_callback` as `def` workflows."""

from __future__ import annotations

from perdure.config import Duration, JitterStrategy, WaitForCallbackConfig
from perdure.durable import CallbackError, durable_execution
from perdure.retries import RetryStrategyConfig, create_retry_strategy
from perdure.serdes import JsonSerDes


def submit(_, __):
    """Where an external system would be told the callback's id."""


# ------------------------------------------------------------------------------------------------------------- results


@durable_execution
def submitted(name, context):
    """The payload is the result."""
    return context.wait_for_callback(submit, name=name)


@durable_execution
def with_name(_, context):
    """A fixed name."""
    return context.wait_for_callback(submit, name="approval")


@durable_execution
def without_name(_, context):
    """No name."""
    return context.wait_for_callback(lambda _, __: None)


@durable_execution
def json_payload(name, context):
    """The payload is read as JSON."""
    answer = context.wait_for_callback(submit, name=name, config=WaitForCallbackConfig(serdes=JsonSerDes()))
    return answer["status"]


@durable_execution
def heartbeat_received(name, context):
    """A heartbeat, and then the payload."""
    config = WaitForCallbackConfig(heartbeat_timeout=Duration.from_seconds(10))
    return context.wait_for_callback(submit, name=name, config=config)


@durable_execution
def empty_payload(name, context):
    """Success without a payload."""
    return context.wait_for_callback(submit, name=name)


# -------------------------------------------------------------------------------------------------------------- errors


@durable_execution
def callback_fails(name, context):
    """A failure reported from outside is not caught."""
    return context.wait_for_callback(submit, name=name)


@durable_execution
def failure_caught(name, context):
    """A failure reported from outside is caught."""
    try:
        return context.wait_for_callback(submit, name=name)
    except CallbackError:
        return "recovered"


@durable_execution
def times_out(name, context):
    """Nobody completes the callback within three seconds."""
    config = WaitForCallbackConfig(timeout=Duration.from_seconds(3))
    return context.wait_for_callback(submit, name=name, config=config)


@durable_execution
def timeout_caught(name, context):
    """That nobody completes the callback within three seconds is caught."""
    config = WaitForCallbackConfig(timeout=Duration.from_seconds(3))
    try:
        return context.wait_for_callback(submit, name=name, config=config)
    except CallbackError:
        return "timed-out-handled"


@durable_execution
def heartbeat_times_out(name, context):
    """Nobody sends a heartbeat within five seconds."""
    config = WaitForCallbackConfig(heartbeat_timeout=Duration.from_seconds(5))
    return context.wait_for_callback(submit, name=name, config=config)


def submit_in_vain(_, __):
    raise ConnectionError("the external system is away")


@durable_execution
def submitter_fails(name, context):
    """The submitter fails twice, and the execution with it."""
    strategy = create_retry_strategy(
        RetryStrategyConfig(max_attempts=2, initial_delay=Duration.from_seconds(1), jitter_strategy=JitterStrategy.NONE)
    )
    return context.wait_for_callback(submit_in_vain, name=name, config=WaitForCallbackConfig(retry_strategy=strategy))


# ---------------------------------------------------------------------------------------------- beside other operations


@durable_execution
def in_child(name, context):
    """In a child context."""
    return context.run_in_child_context(lambda child: child.wait_for_callback(submit, name=name), name="wrapper")


@durable_execution
def sequential_callbacks(_, context):
    """One after the other."""
    context.wait_for_callback(submit, name="first")
    return context.wait_for_callback(submit, name="second")


@durable_execution
def after_wait_and_step(name, context):
    """After a wait and a step."""
    context.wait(Duration.from_seconds(1))
    context.step(lambda _: {"data": "fixed"})
    return context.wait_for_callback(submit, name=name)


REQUIREMENTS = {
    "7-1": submitted,
    "7-2": with_name,
    "7-3": without_name,
    "7-4": callback_fails,
    "7-5": times_out,
    "7-6": failure_caught,
    "7-7": submitter_fails,
    "7-8": in_child,
    "7-9": sequential_callbacks,
    "7-10": after_wait_and_step,
    "7-11": json_payload,
    "7-12": heartbeat_times_out,
    "7-13": heartbeat_received,
    "7-14": timeout_caught,
    "7-15": empty_payload,
}
