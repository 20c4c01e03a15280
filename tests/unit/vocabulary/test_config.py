"""Durations and the configuration of operations."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import config as module
from perdure.config import (
    BatchItemStatus,
    CallbackConfig,
    ChildConfig,
    CompletionConfig,
    CompletionDecision,
    CompletionOutcome,
    Duration,
    InvokeConfig,
    JitterStrategy,
    MapConfig,
    NestingType,
    ParallelBranch,
    ParallelConfig,
    StepConfig,
    StepSemantics,
    WaitForCallbackConfig,
    complete_batch,
    continue_batch,
)
from perdure.errors import ValidationError


def test_a_duration_is_whole_seconds():
    """Every unit becomes seconds, and what is below a second is dropped."""
    made = [Duration(2), Duration.from_seconds(2.9), Duration.from_minutes(1.5), Duration.from_hours(2)]
    assert [duration.to_seconds() for duration in made] == [2, 2, 90, 7200]
    assert Duration.from_days(365) == Duration(365 * 24 * 3600)
    assert Duration().seconds == 0


def test_a_negative_duration_is_refused_with_its_length():
    """The error names what was given."""
    with pytest.raises(ValidationError, match="is -1 seconds; it may not be negative"):
        Duration.from_seconds(-1)


def test_a_fraction_below_zero_is_cut_to_zero():
    """Cutting is towards zero on either side."""
    assert Duration.from_seconds(-0.5) == Duration()


@pytest.mark.parametrize("name", [name for name in module.__all__ if attrs.has(getattr(module, name))])
def test_no_configuration_can_be_changed(name):
    """Every class is frozen and has slots, so that nothing can be set by a misspelt name."""
    kind = getattr(module, name)
    required = {"CompletionDecision": [False], "CompletionItemStatus": [0], "CompletionStatus": [0, 0, 0, 0]}
    value = kind(*required.get(name, [max] if name == "ParallelBranch" else []))
    for attribute in (attrs.fields(kind)[0].name, "no_such_option"):
        with pytest.raises(AttributeError):
            setattr(value, attribute, 1)


def test_configurations_can_be_varied_and_compared():
    """`attrs.evolve` makes a variant, and equal configurations are equal and hash alike."""
    varied = attrs.evolve(StepConfig(), sub_type="Charge")
    assert varied == StepConfig(sub_type="Charge")
    assert hash(varied) == hash(StepConfig(sub_type="Charge"))
    with pytest.raises(ValidationError):
        attrs.evolve(varied, sub_type="no spaces")


@pytest.mark.parametrize("kind", [StepConfig, ChildConfig, CallbackConfig, WaitForCallbackConfig])
@pytest.mark.parametrize("sub_type", ["a b", "x" * 33, "é", "a.b", "a\n"])
def test_a_sub_type_the_service_would_refuse_is_refused(kind, sub_type):
    """The error names it and what is allowed."""
    with pytest.raises(ValidationError, match="1 to 32 characters of A-Z, a-z, 0-9") as caught:
        kind(sub_type=sub_type)
    assert repr(sub_type) in str(caught.value)


@pytest.mark.parametrize("kind", [StepConfig, ChildConfig, CallbackConfig, WaitForCallbackConfig])
@pytest.mark.parametrize("sub_type", [None, "", "Charge-Card_2", "x" * 32])
def test_other_sub_types_are_kept(kind, sub_type):
    """None and the empty text select the default."""
    assert kind(sub_type=sub_type).sub_type == sub_type


def test_a_sub_type_is_keyword_only_where_aws_has_it_so():
    """Positional order beyond the named options is not spent on it."""
    assert WaitForCallbackConfig(Duration(1), Duration(2), None, max).retry_strategy is max
    assert ChildConfig(None, "Mine").sub_type == "Mine"
    with pytest.raises(TypeError):
        StepConfig(None, StepSemantics.AT_MOST_ONCE_PER_RETRY, None, "Mine")


@pytest.mark.parametrize("kind", [CallbackConfig, WaitForCallbackConfig])
def test_a_callback_waits_for_ever_unless_told_otherwise(kind):
    """Zero seconds is no timeout, as the service has it."""
    assert (kind().timeout_seconds, kind().heartbeat_timeout_seconds) == (0, 0)
    limited = kind(timeout=Duration.from_hours(1), heartbeat_timeout=Duration(5))
    assert (limited.timeout_seconds, limited.heartbeat_timeout_seconds) == (3600, 5)


@pytest.mark.parametrize("kind", [ParallelConfig, MapConfig])
def test_a_batch_runs_at_least_one_branch_at_a_time(kind):
    """A limit below one is refused, and none is no limit."""
    with pytest.raises(ValidationError, match="max_concurrency is 0; use at least 1, or None"):
        kind(max_concurrency=0)
    assert kind().max_concurrency is None
    assert kind(1).max_concurrency == 1


def test_defaults_of_batches_fail_fast_in_two_ways():
    """A parallel tolerates no failure, a map has no criterion."""
    assert ParallelConfig().completion_config == CompletionConfig.all_successful()
    assert MapConfig().completion_config == CompletionConfig()
    assert ParallelConfig().nesting_type is MapConfig().nesting_type is NestingType.NESTED


@pytest.mark.parametrize(
    ("thresholds", "expected"),
    [
        ({"min_successful": 0}, "min_successful is 0; use at least 1"),
        ({"tolerated_failure_count": -1}, "tolerated_failure_count is -1; use at least 0"),
        ({"tolerated_failure_percentage": 100.5}, "tolerated_failure_percentage is 100.5; use 0 to 100"),
        ({"tolerated_failure_percentage": -1}, "tolerated_failure_percentage is -1; use 0 to 100"),
        ({"should_complete": 7}, "should_complete is 7; use a callable"),
        ({"should_complete": max, "min_successful": 1}, "let the predicate look at the counts instead"),
    ],
)
def test_thresholds_are_checked_and_the_error_says_how(thresholds, expected):
    """Every impossible criterion is refused with what would be possible."""
    with pytest.raises(ValidationError, match=expected):
        CompletionConfig(**thresholds)


def test_more_successes_than_branches_are_refused():
    """As many as there are branches is the most that can be asked for."""
    CompletionConfig(min_successful=3).validate_for_total(3)
    CompletionConfig().validate_for_total(0)
    with pytest.raises(ValidationError, match="min_successful is 3, but the batch has only 2 branches"):
        CompletionConfig(min_successful=3).validate_for_total(2)


def test_a_decision_agrees_with_itself():
    """An outcome belongs to an end, and an end has an outcome."""
    assert continue_batch() == CompletionDecision(complete=False)
    assert complete_batch() == CompletionDecision(complete=True, outcome=CompletionOutcome.SUCCEEDED)
    with pytest.raises(ValidationError, match=r"use complete_batch\(outcome\)"):
        CompletionDecision(complete=True)
    with pytest.raises(ValidationError, match=r"use continue_batch\(\)"):
        CompletionDecision(complete=False, outcome=CompletionOutcome.FAILED)


def test_a_named_branch_is_the_function_it_names():
    """Calling it calls the function."""
    branch = ParallelBranch(lambda context, *, twice: context * (1 + twice), name="doubled")
    assert branch("x", twice=True) == "xx"
    assert branch.name == "doubled"


def test_configurations_can_be_subscripted_for_type_checkers():
    """The generic classes are so at run time too, for annotations that are evaluated."""
    assert InvokeConfig[int, str]().serdes_payload is None
    assert MapConfig[int](2) == MapConfig(2)
    assert ChildConfig[str]() == ChildConfig()
    assert BatchItemStatus("STARTED") is BatchItemStatus.STARTED


@given(st.sampled_from(JitterStrategy), st.floats(0, 1e6))
def test_jitter_stays_in_its_range(strategy, delay):
    """NONE leaves a delay, HALF takes away half of it at most, FULL all; at least a second is left."""
    lowest = {"NONE": delay, "HALF": delay / 2, "FULL": 0}[strategy]
    assert lowest <= strategy.apply_jitter(delay) <= delay
    assert max(1, lowest) <= strategy.finalize_delay(delay) <= max(1, delay + 1)
