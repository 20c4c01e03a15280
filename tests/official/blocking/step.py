"""Suite `step` as `def` workflows: results, replay, retries, interruption, errors."""

from __future__ import annotations

import os

from perdure.config import Duration, JitterStrategy, StepConfig, StepSemantics
from perdure.durable import StepError, durable_execution, durable_step
from perdure.retries import RetryDecision, RetryPresets, RetryStrategyConfig, create_retry_strategy
from perdure.serdes import SerDes

NO_RETRY = StepConfig(retry_strategy=RetryPresets.none())


def every_second(max_attempts):
    """A strategy that tries again a second after each failure."""
    return create_retry_strategy(
        RetryStrategyConfig(
            max_attempts=max_attempts,
            initial_delay=Duration.from_seconds(1),
            backoff_rate=1,
            jitter_strategy=JitterStrategy.NONE,
        )
    )


# ------------------------------------------------------------------------------------------------------------- results


@durable_step
def greet(_, name):
    return f"Hello, {name}!"


@durable_execution
def step_basic(name, context):
    """One step that greets."""
    return context.step(greet(name))


@durable_execution
def step_with_name(name, context):
    """The same step under a name of its own."""
    return context.step(greet(name), name="custom_step_name")


@durable_execution
def sequential_steps(_, context):
    """The second step continues the result of the first."""
    first = context.step(lambda _: "first")
    return context.step(lambda _: f"{first}_second")


@durable_execution
def complex_result(person, context):
    """A step returns an object with objects and lists in it."""
    return context.step(
        lambda _: {"user": {"name": person["name"], "tags": person["tags"]}, "count": len(person["tags"])}
    )


@durable_execution
def null_result(_, context):
    """A step returns nothing."""
    return context.step(lambda _: None)


class UpperCase(SerDes):
    """Stores texts in capitals."""

    def serialize(self, value, _):
        return value.upper()

    def deserialize(self, data, _):
        return data


@durable_execution
def custom_serdes(text, context):
    """What a step returned is what its serdes made of it."""
    return context.step(lambda _: text, config=StepConfig(serdes=UpperCase()))


@durable_step
def greet_and_log(step_context, name):
    step_context.logger.info("Greeting step started for: %s", name)
    greeting = f"Hello, {name}!"
    step_context.logger.info("Greeting step completed with: %s", greeting)
    return greeting


@durable_execution
def step_logger(name, context):
    """A step logs through its context."""
    return context.step(greet_and_log(name))


# -------------------------------------------------------------------------------------------------------------- replay


@durable_execution
def step_then_wait(_, context):
    """A step's result outlasts a wait."""
    result = context.step(lambda _: "computed")
    context.wait(Duration.from_seconds(2))
    return result


@durable_step
def compute(step_context):
    step_context.logger.info("step executed")
    return "cached_value"


@durable_execution
def replayed_success(_, context):
    """A step that logs its run is not run again after a wait."""
    result = context.step(compute())
    context.wait(Duration.from_seconds(1))
    return result


@durable_step
def compute_in_vain(step_context):
    step_context.logger.info("step executed")
    raise ValueError("computed in vain")


@durable_execution
def replayed_failure(_, context):
    """A step that failed for good fails again on replay, without a run."""
    try:
        context.step(compute_in_vain(), config=NO_RETRY)
    except StepError as error:
        caught = str(error)
    context.wait(Duration.from_seconds(1))
    return caught


# ------------------------------------------------------------------------------------------------------------- retries


class TransientError(Exception):
    """Passes by itself."""


@durable_step
def unreliable(step_context, failures, result):
    """Fails so many times, then returns the result."""
    if step_context.attempt <= failures:
        raise TransientError(f"attempt {step_context.attempt} failed")
    return result


@durable_execution
def retry_succeeds(_, context):
    """The second attempt succeeds."""
    return context.step(unreliable(1, "Operation succeeded"), config=StepConfig(every_second(2)))


@durable_execution
def retry_exhausted(_, context):
    """Four attempts fail, and a fifth is not made."""
    return context.step(unreliable(4, "too late"), config=StepConfig(every_second(4)))


@durable_execution
def default_retry(_, context):
    """Without a strategy a step has the default one; the third attempt succeeds."""
    return context.step(unreliable(2, "Operation succeeded"))


@durable_execution
def retry_with_backoff(_, context):
    """Two failures, two seconds and then thrice as long until the next attempt."""
    strategy = create_retry_strategy(
        RetryStrategyConfig(
            max_attempts=5,
            initial_delay=Duration.from_seconds(2),
            backoff_rate=3,
            jitter_strategy=JitterStrategy.NONE,
        )
    )
    return context.step(unreliable(2, "Operation succeeded"), config=StepConfig(strategy))


def retry_transient_errors(error, _):
    """Try again after a second, if the error is transient."""
    if isinstance(error, TransientError):
        return RetryDecision.retry(Duration.from_seconds(1))
    return RetryDecision.no_retry()


@durable_execution
def retried_error_type(_, context):
    """The strategy retries this type of error."""
    return context.step(unreliable(1, "Operation succeeded"), config=StepConfig(retry_transient_errors))


def retry_unless_transient(error, _):
    """Give up if the error is transient."""
    if isinstance(error, TransientError):
        return RetryDecision.no_retry()
    return RetryDecision.retry(Duration.from_seconds(1))


@durable_execution
def fatal_error_type(_, context):
    """The strategy does not retry this type of error."""
    return context.step(unreliable(1, "too late"), config=StepConfig(retry_unless_transient))


# -------------------------------------------------------------------------------------------------------- interruption


@durable_step
def crash(step_context, text, *, attempts):
    """Kills its process in so many attempts."""
    step_context.logger.info("Running for: %s", text)
    if step_context.attempt <= attempts:
        os._exit(1)
    return "succeeded on second attempt"


@durable_execution
def interrupted_at_most_once(text, context):
    """A step that may run once at most and is interrupted has failed."""
    config = StepConfig(RetryPresets.none(), StepSemantics.AT_MOST_ONCE_PER_RETRY)
    return context.step(crash(text, attempts=1), name="at_most_once_flaky_step", config=config)


@durable_execution
def interrupted_and_retried(text, context):
    """A step that may run once per attempt is interrupted, and succeeds in its second attempt."""
    config = StepConfig(every_second(2), StepSemantics.AT_MOST_ONCE_PER_RETRY)
    return context.step(crash(text, attempts=1), config=config)


# -------------------------------------------------------------------------------------------------------------- errors


@durable_step
def fail(_):
    raise RuntimeError("this step always fails")


@durable_execution
def step_fails(_, context):
    """A step fails, and its execution with it."""
    return context.step(fail(), config=NO_RETRY)


@durable_execution
def error_handled(_, context):
    """A failed step is replaced by another one."""
    try:
        return context.step(fail(), config=NO_RETRY)
    except StepError:
        return context.step(lambda _: "fallback_result")


REQUIREMENTS = {
    "1-1": step_basic,
    "1-2": step_with_name,
    "1-3": sequential_steps,
    "1-4": complex_result,
    "1-5": null_result,
    "1-6": custom_serdes,
    "1-7": step_logger,
    "1-8": step_then_wait,
    "1-9": replayed_success,
    "1-10": replayed_failure,
    "1-11": retry_succeeds,
    "1-12": retry_exhausted,
    "1-13": default_retry,
    "1-14": retry_with_backoff,
    "1-15": retried_error_type,
    "1-16": fatal_error_type,
    "1-17": interrupted_at_most_once,
    "1-18": interrupted_and_retried,
    "1-19": step_fails,
    "1-20": error_handled,
}
