"""Workflows of steps that are tried again, for both SDKs; see `sides`."""

from __future__ import annotations

import random
import re

from tests.aws.sides import Catalogue

RETRIES = Catalogue()


@RETRIES.add()
def retries(kit):
    """Attempts and delays are a strategy's; a delay below a second is one."""

    def strategy(error, attempt):
        kit.note(f"strategy {error} {attempt}")
        return kit.RetryDecision.retry(kit.Duration.from_seconds((attempt - 1) * 5))

    def workflow(event, context):
        body = kit.raises("flaky", ValueError("not yet"), attempts=3, value="there")
        return [context.step(body, "flaky", kit.StepConfig(strategy)), kit.step(context, "after")]

    return workflow


@RETRIES.add()
def retries_exhausted(kit):
    """After the last attempt the error is raised."""
    strategy = kit.create_retry_strategy(
        kit.RetryStrategyConfig(max_attempts=3, backoff_rate=2, jitter_strategy=kit.JitterStrategy.NONE)
    )

    def workflow(event, context):
        body = kit.raises("flaky", ValueError("never"))
        return kit.caught(lambda: context.step(body, "flaky", kit.StepConfig(strategy)))

    return workflow


@RETRIES.add()
def retry_filters(kit):
    """Only errors with a text, of a pattern or of a class are tried again."""

    def strategy(**filters):
        return kit.create_retry_strategy(kit.RetryStrategyConfig(jitter_strategy=kit.JitterStrategy.NONE, **filters))

    def linear(**filters):
        return kit.create_linear_retry_strategy(
            kit.LinearRetryStrategyConfig(jitter_strategy=kit.JitterStrategy.NONE, **filters)
        )

    cases = {
        "text": (strategy(retryable_errors=["out"]), ValueError("timed out")),
        "other text": (strategy(retryable_errors=["out"]), ValueError("refused")),
        "pattern": (strategy(retryable_errors=[re.compile("^E[0-9]+$")]), ValueError("E42")),
        "other pattern": (strategy(retryable_errors=[re.compile("^E[0-9]+$")]), ValueError("WE42")),
        "class": (strategy(retryable_error_types=[OSError]), TimeoutError("x")),
        "other class": (strategy(retryable_error_types=[OSError]), ValueError("x")),
        "either": (strategy(retryable_errors=["a"], retryable_error_types=[OSError]), ValueError("bab")),
        "nothing": (strategy(retryable_errors=[]), ValueError("x")),
        "linear, class": (linear(retryable_error_types=[ValueError]), ValueError("x")),
        "linear, text": (linear(retryable_errors=["out"]), ValueError("timed out")),
        "linear, other text": (linear(retryable_errors=["out"]), ValueError("refused")),
    }

    def workflow(event, context):
        return {
            name: kit.attempt(
                lambda n=name, s=strategy, e=error: context.step(kit.raises(n, e, 1, "got"), n, kit.StepConfig(s))
            )
            for name, (strategy, error) in cases.items()
        }

    return workflow


@RETRIES.add()
def retry_delays(kit):
    """Growing at a rate, by an amount, up to a limit, or not at all."""
    seconds, none = kit.Duration.from_seconds, kit.JitterStrategy.NONE
    strategies = {
        "critical": kit.RetryPresets.critical(),
        "linear": kit.RetryPresets.linear(),
        "fixed": kit.RetryPresets.fixed(),
        "every minute": kit.RetryPresets.fixed(kit.Duration.from_minutes(1)),
        "limited": kit.create_retry_strategy(
            kit.RetryStrategyConfig(
                max_attempts=5,
                initial_delay=seconds(2),
                max_delay=seconds(9),
                backoff_rate=3,
                jitter_strategy=none,
            )
        ),
        "by an amount": kit.create_linear_retry_strategy(
            kit.LinearRetryStrategyConfig(
                max_attempts=5,
                initial_delay=seconds(0),
                increment=seconds(4),
                max_delay=seconds(10),
                jitter_strategy=none,
            )
        ),
    }

    def workflow(event, context):
        return [
            kit.attempt(
                lambda n=name, s=strategy: context.step(kit.raises(n, OSError("x"), 4, "got"), n, kit.StepConfig(s))
            )
            for name, strategy in strategies.items()
        ]

    return workflow


@RETRIES.add()
def retry_jitter(kit):
    """Delays are drawn alike, by the default strategy, too."""

    def drawing(name):
        def body(context):
            kit.note(name)
            random.seed(context.attempt)
            if context.attempt < 3:
                raise OSError(name)
            return context.attempt

        return body

    def workflow(event, context):
        half = kit.create_retry_strategy(kit.RetryStrategyConfig(jitter_strategy=kit.JitterStrategy.HALF))
        linear = kit.create_linear_retry_strategy(
            kit.LinearRetryStrategyConfig(initial_delay=kit.Duration(20), jitter_strategy=kit.JitterStrategy.HALF)
        )
        configs = {
            "no config": None,
            "no strategy": kit.StepConfig(),
            "default": kit.StepConfig(kit.RetryPresets.default()),
            "transient": kit.StepConfig(kit.RetryPresets.transient()),
            "resource": kit.StepConfig(kit.RetryPresets.resource_availability()),
            "half": kit.StepConfig(half),
            "linear, full": kit.StepConfig(kit.create_linear_retry_strategy()),
            "linear, half": kit.StepConfig(linear),
        }
        return [context.step(drawing(name), name, config) for name, config in configs.items()]

    return workflow
