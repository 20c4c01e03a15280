"""The vocabulary beside AWS's SDK, call by call: what one accepts, refuses, decides and writes, so does the other."""

from __future__ import annotations

import inspect
import itertools
import json
import random
import re
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from types import SimpleNamespace
from uuid import UUID

import attrs
import aws_durable_execution_sdk_python.concurrency.models as aws_batch
import aws_durable_execution_sdk_python.config as aws_config
import aws_durable_execution_sdk_python.exceptions as aws_errors
import aws_durable_execution_sdk_python.lambda_service as aws_model
import aws_durable_execution_sdk_python.logger as aws_logger
import aws_durable_execution_sdk_python.retries as aws_retries
import aws_durable_execution_sdk_python.serdes as aws_serdes
import aws_durable_execution_sdk_python.types as aws_types
import aws_durable_execution_sdk_python.waits as aws_waits
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure import batch, config, errors, logger, model, retries, serdes, types, waits

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:order:7/durable-execution/o-17/5f0c"


def examples(number):
    """So many of them, however slow a busy machine is in making them."""
    return settings(max_examples=number, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def field_names(kind):
    """The fields of an attrs class or a dataclass, in positional order."""
    if attrs.has(kind):
        return [field.name for field in attrs.fields(kind)]
    return list(getattr(kind, "__dataclass_fields__", ()))


def plain(value):
    """A value without the identity of its classes, so that one SDK's can be compared with the other's."""
    if isinstance(value, Enum):
        return type(value).__name__, value.value
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if names := field_names(type(value)):
        shared = [name for name in names if name not in OURS_ONLY.get(type(value).__name__, ())]
        return type(value).__name__, {name: plain(getattr(value, name)) for name in shared}
    return value


def outcome(call, *args, **kwargs):
    """What a call returns, or the kind of error it raises."""
    try:
        return "returned", plain(call(*args, **kwargs))
    except Exception as error:  # noqa: BLE001 - whatever it is, both must agree
        return "raised", type(error).__name__


# ---------------------------------------------------------------------------------------------------- names and shapes

PAIRS = [
    (config, aws_config),
    (retries, aws_retries),
    (waits, aws_waits),
    (serdes, aws_serdes),
    (batch, aws_batch),
    (types, aws_types),
]
OURS_ONLY = {
    "StepContext": ["idempotency_key"],
    "ParallelConfig": ["timeout", "retry_strategy"],
    "MapConfig": ["timeout", "retry_strategy"],
}
INSIDES = {
    "with_retry",  # of the engine, for it needs contexts
    *("TypeTag", "EncodedValue", "TYPE_CODEC", *(name for name in vars(aws_serdes) if name.endswith("Codec"))),
    *("Branch", "BranchEvent", "BranchEventKind", "BranchStatus", "Executable"),
}
SHAPES = [
    pytest.param(getattr(ours, name), theirs_value, id=name)
    for ours, theirs in PAIRS
    for name, theirs_value in vars(theirs).items()
    if name not in INSIDES
    and not name.startswith("_")
    and getattr(theirs_value, "__module__", None) == theirs.__name__
    and (inspect.isclass(theirs_value) or inspect.isfunction(theirs_value))
]
VALUES = [pair for pair in SHAPES if field_names(pair.values[1]) and pair.id != "DurableExecutionArn"]


def parameters(call):
    """Names and kinds of the parameters of a call, and which of them can be left out."""
    return [(p.name, p.kind, p.default is p.empty) for p in inspect.signature(call).parameters.values()]


@pytest.mark.parametrize(("ours", "theirs"), SHAPES)
def test_everything_public_is_there_with_every_public_member(ours, theirs):
    """No class or function of AWS's modules, and no public member of one, is missing."""
    members = {name for name in dir(theirs) if not name.startswith("_")} if inspect.isclass(theirs) else set()
    assert members - set(dir(ours)) - set(field_names(ours)) - set(getattr(ours, "__annotations__", ())) == set()


@pytest.mark.parametrize(("ours", "theirs"), [pair for pair in SHAPES if inspect.isfunction(pair.values[1])])
def test_functions_take_the_same_arguments(ours, theirs):
    """Module functions have the same parameters in the same order."""
    assert parameters(ours) == parameters(theirs)


@pytest.mark.parametrize(("ours", "theirs"), VALUES)
def test_values_take_the_same_arguments(ours, theirs):
    """Constructors have the same parameters, in the same order, keyword-only or not, required or not."""
    extra = OURS_ONLY.get(theirs.__name__, [])
    assert [p for p in parameters(ours) if p[0] not in extra] == parameters(theirs)
    assert [p[2] for p in parameters(ours) if p[0] in extra] == [False] * len(extra)


@pytest.mark.parametrize(("ours", "theirs"), VALUES)
def test_values_have_the_same_defaults(ours, theirs):
    """A value made with nothing but its required arguments is the same."""
    required = [name for name, _, is_required in parameters(theirs) if is_required]
    particular = {"complete": False, "delay": config.Duration(1)}
    arguments = {name: particular.get(name, repr) for name in required}
    given_ours, given_theirs = ours(**arguments), theirs(**arguments)
    assert {name: plain(getattr(given_ours, name)) for name in field_names(theirs)} == {
        name: plain(getattr(given_theirs, name)) for name in field_names(theirs)
    }


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [pair for pair in SHAPES if inspect.isclass(pair.values[1]) and issubclass(pair.values[1], Enum)],
)
def test_enums_have_the_same_members(ours, theirs):
    """Every member of AWS's has the same name and value; only CompletionReason has one more."""
    extra = {"TIMED_OUT": "TIMED_OUT"} if ours is batch.CompletionReason else {}
    assert {member.name: member.value for member in ours} == {m.name: m.value for m in theirs} | extra


# ------------------------------------------------------------------------------------------------------ configuration


@pytest.mark.parametrize("unit", ["seconds", "minutes", "hours", "days"])
@given(st.floats(-2, 1e6) | st.integers(-2, 10**6))
@examples(60)
def test_durations_are_cut_to_whole_seconds_alike(unit, value):
    """Fractions of every unit make the same seconds, and what is negative is refused."""
    assert outcome(getattr(config.Duration, f"from_{unit}"), value) == outcome(
        getattr(aws_config.Duration, f"from_{unit}"), value
    )
    assert outcome(config.Duration, value) == outcome(aws_config.Duration, value)


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("chosen", [None, "SUCCEEDED", "FAILED"])
def test_decisions_are_checked_alike(complete, chosen):
    """A decision that contradicts itself is refused."""
    made = [
        outcome(sdk.CompletionDecision, complete, chosen and sdk.CompletionOutcome(chosen))
        for sdk in (config, aws_config)
    ]
    assert made[0] == made[1]


def test_decision_functions_answer_alike():
    """`continue_batch` and `complete_batch` make the same decisions."""
    for sdk in (config, aws_config):
        assert sdk.continue_batch() == sdk.CompletionDecision(complete=False)
    assert plain(config.complete_batch()) == plain(aws_config.complete_batch())
    assert plain(config.complete_batch(config.CompletionOutcome.FAILED)) == plain(
        aws_config.complete_batch(aws_config.CompletionOutcome.FAILED)
    )


THRESHOLDS = list(
    itertools.product(
        (None, -1, 0, 1, 2, 5), (None, -1, 0, 1, 3), (None, -0.5, 0, 33.4, 50, 100, 100.1), (None, 7, max)
    )
)


def test_completion_configs_are_checked_alike():
    """Every combination of thresholds and predicate is accepted or refused as AWS does."""
    made = [[outcome(sdk.CompletionConfig, *case) for case in THRESHOLDS] for sdk in (config, aws_config)]
    assert made[0] == made[1]
    assert {kind for kind, _ in made[0]} == {"returned", "raised"}


@pytest.mark.parametrize("total", [0, 1, 2, 3])
@pytest.mark.parametrize("minimum", [None, 1, 2, 3])
def test_completion_configs_are_checked_against_the_total_alike(total, minimum):
    """More successes than branches are refused."""
    ours = outcome(config.CompletionConfig(min_successful=minimum).validate_for_total, total)
    assert ours == outcome(aws_config.CompletionConfig(min_successful=minimum)._validate_for_total, total)


@pytest.mark.parametrize("name", ["first_successful", "all_completed", "all_successful"])
def test_completion_presets_are_alike(name):
    """The ready-made configs are the same."""
    assert plain(getattr(config.CompletionConfig, name)()) == plain(getattr(aws_config.CompletionConfig, name)())


@pytest.mark.parametrize("name", ["ParallelConfig", "MapConfig"])
@pytest.mark.parametrize("limit", [None, -1, 0, 1, 9])
def test_concurrency_is_checked_alike(name, limit):
    """A concurrency below one is refused."""
    assert outcome(getattr(config, name), limit) == outcome(getattr(aws_config, name), limit)


@pytest.mark.parametrize("name", ["StepConfig", "ChildConfig", "CallbackConfig", "WaitForCallbackConfig"])
@pytest.mark.parametrize("sub_type", [None, "", "a", "Az-09_", "x" * 32, "x" * 33, "a b", "ä", "a\n", "a.b"])
def test_sub_types_are_checked_alike(name, sub_type):
    """A sub type the service would not take is refused."""
    ours = outcome(getattr(config, name), sub_type=sub_type)
    assert ours == outcome(getattr(aws_config, name), sub_type=sub_type)


def test_callback_configs_tell_their_seconds_alike():
    """Timeouts can be read in seconds, and the positional order of both configs is the same."""
    for name, more in (("CallbackConfig", ()), ("WaitForCallbackConfig", (max,))):
        ours = getattr(config, name)(config.Duration(7), config.Duration(3), None, *more)
        theirs = getattr(aws_config, name)(aws_config.Duration(7), aws_config.Duration(3), None, *more)
        assert (ours.timeout_seconds, ours.heartbeat_timeout_seconds) == (7, 3)
        assert plain(ours) == plain(theirs)


def test_parallel_branches_are_callable_alike():
    """A named branch passes its arguments on."""
    for sdk in (config, aws_config):
        branch = sdk.ParallelBranch(lambda *args, **kwargs: (args, kwargs), "n")
        assert branch(1, two=2) == ((1,), {"two": 2})


# --------------------------------------------------------------------------------------------------- retries and waits


def seeded(seed, call, *args):
    """A call with the random numbers of `seed`."""
    random.seed(seed)
    return outcome(call, *args)


def jitter_pair(name):
    """The same jitter of both."""
    return config.JitterStrategy(name), aws_config.JitterStrategy(name)


@given(st.sampled_from(["NONE", "FULL", "HALF"]), st.floats(0, 1e6), st.integers(0, 999))
@examples(100)
def test_jitter_draws_alike(name, delay, seed):
    """A seeded draw gives the same delay, raw and in whole seconds."""
    ours, theirs = jitter_pair(name)
    assert seeded(seed, ours.apply_jitter, delay) == seeded(seed, theirs.apply_jitter, delay)
    assert seeded(seed, ours.finalize_delay, delay) == seeded(seed, theirs.finalize_delay, delay)


ERRORS = [ValueError("boom 17"), TimeoutError("timed out"), KeyError("k"), ConnectionError(), RuntimeError("a\nb")]
FILTERS = [None, [], ["boom"], [re.compile(r"\d+$")], [""], ["time", re.compile("^a.b$")]]
TYPES = [None, [], [ValueError], [OSError, KeyError]]


@given(
    attempts=st.integers(1, 9),
    seconds=st.tuples(st.integers(0, 90), st.integers(0, 90), st.integers(0, 400)),
    rate=st.sampled_from([1, 1.5, 2, 2.0, 0.5, 10]),
    jitter=st.sampled_from(["NONE", "FULL", "HALF"]),
    messages=st.sampled_from(FILTERS),
    kinds=st.sampled_from(TYPES),
    seed=st.integers(0, 999),
)
@examples(150)
def test_retry_strategies_decide_alike(attempts, seconds, rate, jitter, messages, kinds, seed):
    """Exponential and linear strategies of the same config give every error and attempt the same decision."""
    first, increment, longest = seconds
    decisions = []
    for sdk, durations, index in ((retries, config, 0), (aws_retries, aws_config, 1)):
        delay = durations.Duration
        rest = (jitter_pair(jitter)[index], messages, kinds)
        exponential = sdk.create_retry_strategy(
            sdk.RetryStrategyConfig(attempts, delay(first), delay(longest), rate, *rest)
        )
        linear = sdk.create_linear_retry_strategy(
            sdk.LinearRetryStrategyConfig(attempts, delay(first), delay(increment), delay(longest), *rest)
        )
        decisions.append(
            [
                seeded(seed, strategy, error, made)
                for strategy in (exponential, linear)
                for error in ERRORS
                for made in range(1, attempts + 2)
            ]
        )
    assert decisions[0] == decisions[1]


PRESETS = ["none", "default", "transient", "resource_availability", "critical", "linear", "fixed"]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_decide_alike(name):
    """Every preset has the same attempts and delays."""
    ours, theirs = getattr(retries.RetryPresets, name)(), getattr(aws_retries.RetryPresets, name)()
    for made, seed in itertools.product(range(1, 13), range(20)):
        assert seeded(seed, ours, ERRORS[0], made) == seeded(seed, theirs, ERRORS[0], made)


def test_default_strategies_and_intervals_decide_alike():
    """Without a config, and with an interval for `fixed`, the delays are the same too."""
    pairs = [
        (retries.create_retry_strategy(), aws_retries.create_retry_strategy()),
        (retries.create_linear_retry_strategy(), aws_retries.create_linear_retry_strategy()),
        (
            retries.RetryPresets.fixed(config.Duration(0)),
            aws_retries.RetryPresets.fixed(aws_config.Duration(0)),
        ),
        (
            retries.RetryPresets.fixed(config.Duration(42)),
            aws_retries.RetryPresets.fixed(aws_config.Duration(42)),
        ),
    ]
    for (ours, theirs), made, seed in itertools.product(pairs, range(1, 9), range(10)):
        assert seeded(seed, ours, ERRORS[0], made) == seeded(seed, theirs, ERRORS[0], made)


@given(
    attempts=st.integers(1, 9),
    seconds=st.tuples(st.integers(0, 90), st.integers(0, 400)),
    rate=st.sampled_from([1, 1.5, 2, 0.5, 10]),
    jitter=st.sampled_from(["NONE", "FULL", "HALF"]),
    seed=st.integers(0, 999),
)
@examples(100)
def test_wait_strategies_decide_alike(attempts, seconds, rate, jitter, seed):
    """A condition that is met, not yet met, or met too late gets the same decision."""
    decisions = []
    for sdk, durations, index in ((waits, config, 0), (aws_waits, aws_config, 1)):
        delays = [durations.Duration(part) for part in seconds]
        strategy = sdk.create_wait_strategy(
            sdk.WaitStrategyConfig(lambda state: state < 3, attempts, *delays, rate, jitter_pair(jitter)[index])
        )
        decisions.append([seeded(seed, strategy, state, made) for state in (2, 3) for made in range(1, attempts + 2)])
    assert decisions[0] == decisions[1]
    assert ("raised", "WaitForConditionError") in decisions[0]


# ------------------------------------------------------------------------------------------------------------ batches


def batch_pair(items, reason):
    """The same batch result of both, from (index, status, result, error members or None)."""
    results = []
    for sdk, statuses, error_object in (
        (batch, config.BatchItemStatus, model.ErrorObject),
        (aws_batch, aws_config.BatchItemStatus, aws_model.ErrorObject),
    ):
        made = [
            sdk.BatchItem(index, statuses(status), result, None if error is None else error_object(*error))
            for index, status, result, error in items
        ]
        results.append(sdk.BatchResult(made, sdk.CompletionReason(reason)))
    return results


ERROR = st.none() | st.tuples(
    st.none() | st.text(max_size=5),
    st.sampled_from(
        [
            None,
            "ValueError",
            "app.errors.Declined",
            "aws_durable_execution_sdk_python.exceptions.StepError",
            "aws_durable_execution_sdk_python.exceptions.SerDesError",
            "aws_durable_execution_sdk_python.concurrency.models.BatchCompletionError",
        ]
    ),
    st.none() | st.text(max_size=5),
    st.none() | st.lists(st.text(max_size=5), max_size=2),
)
AWS_REASONS = st.sampled_from([reason.value for reason in aws_batch.CompletionReason])


RESULT = st.none() | st.integers() | st.text(max_size=4)


@st.composite
def batches(draw, results=RESULT):
    """Items of a batch and the reason it ended for."""
    statuses = draw(st.lists(st.sampled_from(["SUCCEEDED", "FAILED", "STARTED"]), max_size=5))
    items = [
        (
            index,
            status,
            draw(results) if status == "SUCCEEDED" else None,
            draw(ERROR) if status == "FAILED" else None,
        )
        for index, status in enumerate(statuses)
    ]
    return items, draw(AWS_REASONS)


READINGS = ["status", "has_failure", "success_count", "failure_count", "started_count", "total_count"]
CALLS = ["to_dict", "succeeded", "failed", "started", "get_results", "get_errors"]


@given(batches())
@examples(200)
def test_batch_results_tell_the_same(made):
    """Counts, status, lists and dicts of the same items are the same, and come back from the dict."""
    ours, theirs = batch_pair(*made)
    for name in READINGS:
        assert plain(getattr(ours, name)) == plain(getattr(theirs, name))
    for name in CALLS:
        assert plain(getattr(ours, name)()) == plain(getattr(theirs, name)())
    assert plain(type(ours).from_dict(theirs.to_dict())) == plain(type(theirs).from_dict(ours.to_dict()))


@given(batches())
@examples(200)
def test_batch_results_raise_the_same(made):
    """`throw_if_error` raises the same error from the same cause, or neither does."""
    raised = []
    for result in batch_pair(*made):
        try:
            result.throw_if_error()
            raised.append(None)
        except Exception as error:  # noqa: BLE001
            names = ("error_type", "data", "stack_trace", "completion_reason")
            fields = {name: plain(getattr(error, name, None)) for name in names}
            cause = error.__cause__
            words = None if cause is None else (type(cause).__name__, cause.error_type, error.message)
            raised.append((type(error).__name__, fields, words))
    assert raised[0] == raised[1]


def test_batch_errors_are_recorded_alike():
    """A batch that failed as a whole is recorded under AWS's name, and each reads the other's record."""
    ours = model.ErrorObject.from_exception(batch.BatchCompletionError())
    theirs = aws_model.ErrorObject.from_exception(aws_batch.BatchCompletionError())
    assert ours.type == theirs.type
    read = model.ErrorObject.from_dict(theirs.to_dict()).to_durable_operation_error()
    assert type(read) is batch.BatchCompletionError
    assert read.completion_reason is batch.CompletionReason.CUSTOM_COMPLETION_FAILED
    assert type(aws_model.ErrorObject.from_dict(ours.to_dict()).to_durable_operation_error()) is (
        aws_batch.BatchCompletionError
    )


PREDICATES = [
    None,
    lambda sdk, status: sdk.continue_batch(),
    lambda sdk, status: sdk.complete_batch() if status.success_count >= 2 else sdk.continue_batch(),
    lambda sdk, status: (
        sdk.complete_batch(sdk.CompletionOutcome.FAILED)
        if status.failure_count * 2 > status.total_count
        else sdk.continue_batch()
    ),
    lambda sdk, status: (
        sdk.complete_batch() if any(item.index == 1 and item.status for item in status.items) else sdk.continue_batch()
    ),
]


def decisions(sdk, sdk_config, sdk_total, thresholds, predicate):
    """All that a policy says about every split of `sdk_total` branches into succeeded, failed and neither."""
    bound = None if predicate is None else lambda status: predicate(sdk_config, status)
    policy = sdk.CompletionPolicy.from_config(sdk_total, sdk_config.CompletionConfig(*thresholds, bound))
    said = [policy.has_criteria]
    for succeeded in range(sdk_total + 1):
        for failed in range(sdk_total + 1 - succeeded):
            words = ["SUCCEEDED"] * succeeded + ["FAILED"] * failed + ["STARTED"] * (sdk_total - succeeded - failed)
            items = tuple(
                sdk_config.CompletionItemStatus(index, None, sdk_config.BatchItemStatus(word))
                for index, word in enumerate(words)
            )
            decision = policy.evaluate(succeeded, failed, items)
            said += [
                policy.should_continue(failed),
                policy.is_tolerance_exceeded(failed),
                plain(decision),
                policy.is_complete(succeeded, failed, items),
                policy.is_complete(succeeded, failed, items, decision),
                plain(policy.reason(succeeded, failed, items)),
                plain(policy.reason(succeeded, failed, items, decision)),
            ]
    return said


LIMITS = list(itertools.product((None, 1, 2, 4), (None, 0, 1, 3), (None, 0, 25, 33.3, 50, 100)))


@pytest.mark.parametrize("total", range(6))
def test_policies_decide_alike(total):
    """Every count of successes and failures, under every kind of criterion, gets the same decisions and reason."""
    cases = [(limits, None) for limits in LIMITS] + [((None, None, None), predicate) for predicate in PREDICATES]
    for thresholds, predicate in cases:
        assert decisions(batch, config, total, thresholds, predicate) == decisions(
            aws_batch, aws_config, total, thresholds, predicate
        )


def test_percentages_round_alike():
    """Also where a percentage is not exact in binary, both count the same number of failures as too many."""
    for total, tolerated in itertools.product((3, 7, 30, 100), range(101)):
        ours, theirs = (sdk.CompletionPolicy(total, None, None, tolerated) for sdk in (batch, aws_batch))
        assert [ours.should_continue(failed) for failed in range(total + 1)] == [
            theirs.should_continue(failed) for failed in range(total + 1)
        ]


def test_policies_without_a_config_are_alike():
    """No config is no criterion."""
    assert plain(batch.CompletionPolicy.from_config(3, None)) == plain(aws_batch.CompletionPolicy.from_config(3, None))


@given(batches(), st.sampled_from(LIMITS))
@examples(100)
def test_reasons_are_inferred_alike(made, thresholds):
    """Where a reason was not recorded, both infer the same."""
    ours, theirs = batch_pair(*made)
    assert plain(batch.BatchResult.from_items(ours.all, config.CompletionConfig(*thresholds))) == plain(
        aws_batch.BatchResult.from_items(theirs.all, aws_config.CompletionConfig(*thresholds))
    )
    assert plain(batch.BatchResult.from_items(ours.all)) == plain(aws_batch.BatchResult.from_items(theirs.all))


@given(batches(), st.none() | st.text(max_size=8) | st.integers(), st.sampled_from(["ParallelResult", "MapResult"]))
@examples(100)
def test_summaries_are_written_and_read_alike(made, summary, kind):
    """The envelope of a large result is the same text, and each reads the other's decision record."""
    ours, theirs = batch_pair(*made)
    generator = None if summary is None else lambda _: summary
    written = batch.envelope_summary_generator(kind, generator)(ours)
    assert written == aws_batch.envelope_summary_generator(kind, generator)(theirs)
    record = batch.CompletionRecord.from_summary_payload(written)
    assert record is not None
    assert plain(record) == plain(aws_batch.CompletionRecord.from_summary_payload(written))


MEMBER = (
    st.none() | st.booleans() | st.integers(-1, 4) | st.floats(0, 3) | st.just("ALL_COMPLETED") | st.text(max_size=2)
)
SUMMARY = st.fixed_dictionaries(
    {},
    optional={
        "completionReason": st.just("ALL_COMPLETED") | MEMBER | st.lists(MEMBER, max_size=1),
        "totalCount": st.integers(0, 3) | MEMBER,
        "startedIndexes": st.lists(st.integers(0, 2), max_size=2) | st.lists(MEMBER, max_size=2) | MEMBER,
        "completedIndexes": st.lists(st.integers(0, 2), max_size=2) | st.lists(MEMBER, max_size=2) | MEMBER,
    },
)


@given((SUMMARY | MEMBER | st.lists(MEMBER, max_size=2)).map(json.dumps) | st.none() | st.text(max_size=6))
@examples(400)
def test_malformed_summaries_are_ignored_alike(payload):
    """Whatever text stands where a summary should, both find the same record in it, or none."""
    assert outcome(batch.CompletionRecord.from_summary_payload, payload) == outcome(
        aws_batch.CompletionRecord.from_summary_payload, payload
    )


# ------------------------------------------------------------------------------------------------------------- serdes


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Row(tuple):  # noqa: SLOT001
    """A tuple's subclass, like a named tuple."""


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=6)
    | st.binary(max_size=6)
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.datetimes(timezones=st.none() | st.just(UTC) | st.timezones())
    | st.dates()
    | st.sampled_from([Colour.RED, Level.HIGH])
)
KEYS = st.text(max_size=3) | st.integers(-3, 3) | st.floats(-3, 3) | st.booleans() | st.none() | st.sampled_from("tv")


@attrs.frozen
class BatchSpec:
    """Stands for the batch result of either SDK within a generated value."""

    items: list
    reason: str


VALUE = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.lists(inner, max_size=2).map(Row)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.builds(lambda made: BatchSpec(*made), batches(results=inner))
    ),
    max_leaves=8,
)


def realized(value, index):
    """A generated value with batch results of our library (0) or AWS's (1)."""
    if isinstance(value, BatchSpec):
        items = [(*item[:2], realized(item[2], index), item[3]) for item in value.items]
        return batch_pair(items, value.reason)[index]
    if isinstance(value, (list, tuple)):
        return type(value)(realized(item, index) for item in value)
    if isinstance(value, dict):
        return {key: realized(item, index) for key, item in value.items()}
    return value


@given(VALUE)
@examples(400)
def test_default_payloads_are_the_same_bytes(value):
    """The default serdes of both writes the same text for any value, and each reads it as the other does."""
    ours = serdes.serialize(None, realized(value, 0), "op", ARN)
    theirs = aws_serdes.serialize(None, realized(value, 1), "op", ARN)
    assert ours == theirs
    assert plain(serdes.deserialize(None, theirs, "op", ARN)) == plain(aws_serdes.deserialize(None, ours, "op", ARN))


JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(JSON_VALUE)
@examples(150)
def test_json_payloads_are_the_same_bytes(value):
    """`JsonSerDes` of both writes the same text and reads it alike."""
    ours = serdes.serialize(serdes.DEFAULT_JSON_SERDES, value, "op", ARN)
    assert ours == aws_serdes.serialize(aws_serdes.DEFAULT_JSON_SERDES, value, "op", ARN)
    assert serdes.deserialize(serdes.DEFAULT_JSON_SERDES, ours, "op", ARN) == json.loads(ours)


ODD_VALUES = {
    "NaN": float("nan"),
    "infinity": [float("inf"), -float("inf")],
    "NaN in a dict": {"a": float("nan")},
    "Decimal NaN": Decimal("NaN"),
    "half a surrogate pair": "\ud800",
    "bytearray": bytearray(b"ab"),
    "memoryview": memoryview(b"abcd")[::2],
    "colliding keys": {1: "a", "1": "b"},
    "datetime with fold": datetime(2024, 10, 27, 2, 30, fold=1),  # noqa: DTZ001
    "set": {1},
    "set inside": {"a": [1, {2}]},
    "object": object(),
    "complex": 1j,
    "function": max,
    "tuple key": {(1, 2): 3},
    "bytes key": {b"k": 3},
    "UUID key": {UUID(int=1): 3},
    "class": Decimal,
    "Enum": inspect.Parameter.KEYWORD_ONLY,
    "other Enum": config.NestingType.FLAT,
    "huge integer": 10**5000,
}


@pytest.mark.parametrize("name", ODD_VALUES)
def test_odd_values_are_taken_or_refused_alike(name):
    """What is at the edge of the default serdes, or beyond, is written or refused alike."""
    value = ODD_VALUES[name]
    assert outcome(serdes.serialize, None, value, "op", ARN) == outcome(aws_serdes.serialize, None, value, "op", ARN)


def test_circular_and_deep_values_are_refused_alike():
    """Circular values and such as are nested too deeply are a `SerDesError` in both."""
    circle = {"a": []}
    circle["a"].append(circle)
    ring: list = []
    ring.append(ring)
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    for value in (circle, ring, deep):
        for ours, theirs in ((None, None), (serdes.DEFAULT_JSON_SERDES, aws_serdes.DEFAULT_JSON_SERDES)):
            assert outcome(serdes.serialize, ours, value, "op", ARN) == ("raised", "SerDesError")
            assert outcome(aws_serdes.serialize, theirs, value, "op", ARN) == ("raised", "SerDesError")


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "{",
        "nope",
        "{}",
        '{"t":"i"}',
        '{"t":"zz","v":1}',
        '{"t":["i"],"v":1}',
        '{"t":"i","v":"x"}',
        '{"t":"i","v":"5"}',
        '{"t":"s","v":5}',
        '{"t":"f","v":5}',
        '{"t":"b","v":0}',
        '{"t":"n","v":0}',
        '{"t":"u","v":"x"}',
        '{"t":"u","v":5}',
        '{"t":"d","v":"x"}',
        '{"t":"dt","v":"2024-01-02T03:04:05Z"}',
        '{"t":"dt","v":"2024-13-02"}',
        '{"t":"D","v":"2024-01-02"}',
        '{"t":"l","v":{}}',
        '{"t":"t","v":5}',
        '{"t":"m","v":[]}',
        '{"t":"m","v":{"a":5,"b":[{"t":"i","v":1}],"c":{"t":"i"}}}',
        '{"t":"l","v":[{"t":"zz","v":1}]}',
        '{"t":"br","v":{}}',
        '{"t":"br","v":{"all":{"t":"l","v":[]},"completionReason":{"t":"s","v":"NEW"}}}',
        '{"t":"br","v":{"all":{"t":"l","v":[]},"completionReason":{"t":"n","v":null}}}',
        '[{"t":"i","v":1}]',
        "[1,[2,[null]]]",
        "NaN1",
    ],
)
def test_odd_payloads_are_read_or_refused_alike(payload):
    """Payloads by other versions and other hands are read or refused alike."""
    assert outcome(serdes.deserialize, None, payload, "op", ARN) == outcome(
        aws_serdes.deserialize, None, payload, "op", ARN
    )


@pytest.mark.parametrize("name", ["SerDesError", "RetryableSerDesError", "ValueError", "InvocationError"])
def test_errors_of_custom_serdes_are_passed_on_alike(name):
    """An error of a custom serdes passes if it is classified, and is a `SerDesError` if it is not."""
    seen = []
    for sdk, sdk_errors in ((serdes, errors), (aws_serdes, aws_errors)):
        raised = getattr(sdk_errors, name, ValueError)

        class Failing(sdk.SerDes):
            def serialize(self, value, context, raised=raised):
                raise raised("no")

            def deserialize(self, data, context, raised=raised):
                raise raised("no")

        seen.append(
            [outcome(sdk.serialize, Failing(), 1, "op", ARN), outcome(sdk.deserialize, Failing(), "1", "op", ARN)]
        )
    assert seen[0] == seen[1]


def test_custom_serdes_are_told_whose_value_it_is_alike():
    """A serdes is given operation and execution, positionally or not."""
    for sdk in (serdes, aws_serdes):

        class Telling(sdk.SerDes):
            def serialize(self, value, context):
                return f"{value} {context.operation_id} {context.durable_execution_arn}"

            def deserialize(self, data, context):
                return data, context

        assert sdk.serialize(Telling(), 1, "op", ARN) == f"1 op {ARN}"
        assert sdk.deserialize(Telling(), "1", "op", ARN) == ("1", sdk.SerDesContext("op", ARN))


# ---------------------------------------------------------------------------------------------------- types and logger


@pytest.mark.parametrize(
    "arn",
    [
        ARN,
        "arn:aws-cn:lambda:cn-north-1:1:function:f:$LATEST/durable-execution/n/i",
        "arn:perdure:lambda:local:000000000000:function:order:$LATEST/durable-execution/o-17/5f0c",
        "arn:aws:lambda:r:1:function:f/durable-execution/n/i",
        "arn:aws:lambda:r:1:function:f:1/durable-execution/n/i/j",
        "arn:aws:lambda:r:1:function:f:1",
        f"x{ARN}",
        "",
    ],
)
def test_arns_are_taken_apart_alike(arn):
    """The parts AWS names are the same, and what is no execution's ARN is None to both."""
    ours, theirs = types.DurableExecutionArn.from_arn(arn), aws_types.DurableExecutionArn.from_arn(arn)
    names = ("function_name", "execution_name", "invocation_id")
    assert (ours and [getattr(ours, name) for name in names]) == (theirs and [getattr(theirs, name) for name in names])


class Recording:
    """A custom logger that keeps what it is told."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, level):
        return lambda msg, *args, extra=None: self.calls.append((level, msg, args, extra))


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "parent_id": st.sampled_from([None, "", "p"]),
            "operation_id": st.sampled_from([None, "", "o"]),
            "name": st.sampled_from([None, "", "n"]),
            "attempt": st.sampled_from([None, 0, 1, 2]),
        },
    ),
    st.none() | st.dictionaries(st.sampled_from(["a", "executionArn", "attempt"]), st.integers(0, 3)),
    st.booleans(),
)
@examples(150)
def test_log_records_are_enriched_alike(fields, extra, replaying):
    """The same place and call give the same record, and none during replay."""
    ours, theirs = Recording(), Recording()
    info = logger.LogInfo(ARN, **fields)
    their_info = aws_logger.LogInfo(SimpleNamespace(durable_execution_arn=ARN), **fields)
    first = logger.Logger(ours, {"x": 1}).with_info(info).with_is_replaying(lambda: replaying)
    second = aws_logger.Logger(theirs, {"x": 1}).with_log_info(their_info).with_is_replaying(lambda: replaying)
    for sdk_logger in (first, second):
        for level in ("debug", "info", "warning", "error", "exception"):
            getattr(sdk_logger, level)("at %s", 7, extra=extra)
    assert ours.calls == theirs.calls
    assert bool(ours.calls) is not replaying


def test_loggers_tell_their_target_alike():
    """The logger underneath can be reached, and is inherited by what is made from log infos."""
    target = Recording()
    made = logger.Logger.from_log_info(target, logger.LogInfo(ARN, "p"))
    theirs = aws_logger.Logger.from_log_info(
        target, aws_logger.LogInfo(SimpleNamespace(durable_execution_arn=ARN), "p")
    )
    assert made.get_logger() is theirs.get_logger() is target
    made.info("a")
    theirs.info("a")
    assert target.calls[0] == target.calls[1]
