"""Retry strategies and wait strategies."""

from __future__ import annotations

import re

import pytest

from perdure.config import Duration, JitterStrategy
from perdure.errors import WaitForConditionError
from perdure.retries import (
    LinearRetryStrategyConfig,
    RetryDecision,
    RetryPresets,
    RetryStrategyConfig,
    WithRetryConfig,
    create_linear_retry_strategy,
    create_retry_strategy,
)
from perdure.waits import WaitForConditionConfig, WaitForConditionDecision, WaitStrategyConfig, create_wait_strategy

NONE = JitterStrategy.NONE


def delays(strategy, error=None):
    """The delays a strategy orders one after another, until it gives up."""
    made = []
    while (decision := strategy(error or ValueError("boom"), len(made) + 1)).should_retry:
        made.append(decision.delay_seconds)
    return made


def test_exponential_delays_grow_to_their_limit():
    """Each delay is the last one times the rate, cut at the maximum."""
    config = RetryStrategyConfig(
        max_attempts=6, initial_delay=Duration(5), max_delay=Duration(60), jitter_strategy=NONE
    )
    assert delays(create_retry_strategy(config)) == [5, 10, 20, 40, 60]


def test_linear_delays_grow_to_their_limit():
    """Each delay is the last one plus the increment, cut at the maximum."""
    config = LinearRetryStrategyConfig(
        max_attempts=5, initial_delay=Duration(2), increment=Duration(3), max_delay=Duration(7), jitter_strategy=NONE
    )
    assert delays(create_linear_retry_strategy(config)) == [2, 5, 7, 7]
    assert config.increment_seconds == 3


def test_delays_of_thousands_of_attempts_stay_at_their_limit():
    """A growth too large for a float is the maximum too, for retries and for polling."""
    retry = create_retry_strategy(RetryStrategyConfig(max_attempts=10**6, jitter_strategy=NONE))
    assert retry(ValueError(), 5000).delay == Duration(300)
    wait = create_wait_strategy(WaitStrategyConfig(bool, max_attempts=10**6, jitter_strategy=NONE))
    assert wait(True, 5000).delay == Duration(300)


@pytest.mark.parametrize(
    ("filters", "error", "retried"),
    [
        ({}, KeyError("anything"), True),
        ({"retryable_errors": ["429"]}, ValueError("status 429"), True),
        ({"retryable_errors": ["429"]}, ValueError("status 404"), False),
        ({"retryable_errors": [re.compile(r"5\d\d$")]}, ValueError("status 503"), True),
        ({"retryable_errors": [re.compile(r"^503")]}, ValueError("status 503"), False),
        ({"retryable_errors": ["a.c"]}, ValueError("abc"), False),
        ({"retryable_error_types": [OSError]}, TimeoutError(), True),
        ({"retryable_error_types": [OSError]}, ValueError(), False),
        ({"retryable_errors": ["429"], "retryable_error_types": [OSError]}, ConnectionError("x"), True),
        ({"retryable_errors": ["429"], "retryable_error_types": [OSError]}, ValueError("429"), True),
        ({"retryable_errors": []}, ValueError("x"), False),
        ({"retryable_error_types": []}, ValueError("x"), False),
    ],
)
def test_errors_are_chosen_by_message_or_type(filters, error, retried):
    """Either filter is enough; texts are looked for as they are, patterns anywhere; no filter takes all."""
    assert create_retry_strategy(RetryStrategyConfig(**filters))(error, 1).should_retry is retried
    assert create_linear_retry_strategy(LinearRetryStrategyConfig(**filters))(error, 1).should_retry is retried


def test_presets_make_as_many_attempts_as_they_say():
    """One delay fewer than attempts."""
    attempts = {
        "none": 1,
        "default": 6,
        "transient": 3,
        "resource_availability": 5,
        "critical": 10,
        "linear": 6,
        "fixed": 5,
    }
    assert {name: len(delays(getattr(RetryPresets, name)())) + 1 for name in attempts} == attempts


def test_presets_without_jitter_have_fixed_delays():
    """What the documentation promises is what is ordered."""
    assert delays(RetryPresets.linear()) == [1, 2, 3, 4, 5]
    assert delays(RetryPresets.fixed()) == [5] * 4
    assert delays(RetryPresets.fixed(Duration.from_minutes(2))) == [120] * 4
    assert delays(RetryPresets.critical()) == [1, 2, 3, 4, 6, 8, 12, 18, 26]


def test_a_zero_delay_is_a_second():
    """The service waits in whole seconds from one."""
    assert delays(RetryPresets.fixed(Duration(0))) == [1] * 4


def test_decisions_say_what_they_are():
    """Both kinds of both decisions."""
    assert RetryDecision.retry(Duration(3)) == RetryDecision(should_retry=True, delay=Duration(3))
    assert RetryDecision.no_retry().should_retry is False
    assert WaitForConditionDecision.continue_waiting(Duration(3)).delay_seconds == 3
    assert WaitForConditionDecision.stop_polling().should_continue is False


def test_polling_goes_on_until_the_condition_is_met():
    """The delay grows while the state is not the one waited for, and the last attempt may still meet it."""
    strategy = create_wait_strategy(
        WaitStrategyConfig(
            lambda state: state != "done", max_attempts=3, initial_delay=Duration(4), jitter_strategy=NONE
        )
    )
    assert strategy("busy", 1) == WaitForConditionDecision.continue_waiting(Duration(4))
    assert strategy("busy", 2) == WaitForConditionDecision.continue_waiting(Duration(6))
    assert strategy("done", 3) == WaitForConditionDecision.stop_polling()


def test_polling_too_often_is_an_error_that_says_so():
    """The last attempt without the condition raises; the partial state is not taken for the result."""
    strategy = create_wait_strategy(WaitStrategyConfig(lambda _: True, max_attempts=3))
    with pytest.raises(WaitForConditionError, match="not met after 3 attempts of at most 3; raise max_attempts"):
        strategy("busy", 3)


def test_configurations_have_their_defaults():
    """Wrapping is on, and the rest is chosen by the engine."""
    assert WithRetryConfig() == WithRetryConfig(None, True, None)
    strategy = create_wait_strategy(WaitStrategyConfig(bool))
    assert WaitForConditionConfig(strategy, {"n": 0}).serdes is None
    assert (WaitStrategyConfig(bool).initial_delay_seconds, WaitStrategyConfig(bool).max_delay_seconds) == (5, 300)
    assert (RetryStrategyConfig().initial_delay_seconds, RetryStrategyConfig().max_delay_seconds) == (5, 300)
    linear = LinearRetryStrategyConfig()
    assert (linear.initial_delay_seconds, linear.max_delay_seconds) == (1, 300)
