"""Results of batches, when batches end, and the record of that."""

from __future__ import annotations

import json
import logging
import pickle

import pytest

from perdure.batch import (
    BatchCompletionError,
    BatchItem,
    BatchItemStatus,
    BatchResult,
    CompletionPolicy,
    CompletionReason,
    CompletionRecord,
    envelope_summary_generator,
)
from perdure.config import CompletionConfig, CompletionItemStatus, CompletionOutcome, complete_batch, continue_batch
from perdure.errors import ChildContextError, DurableOperationError, SerDesError, StepError, wire_name
from perdure.model import ErrorObject

SUCCEEDED, FAILED, STARTED = BatchItemStatus.SUCCEEDED, BatchItemStatus.FAILED, BatchItemStatus.STARTED
ERROR = ErrorObject("no", "ValueError")


def result(*items, reason=CompletionReason.ALL_COMPLETED):
    """A batch of (status, result or error)."""
    made = [
        BatchItem(index, status, error=value) if status is FAILED else BatchItem(index, status, value)
        for index, (status, value) in enumerate(items)
    ]
    return BatchResult(made, reason)


MIXED = result((SUCCEEDED, "a"), (FAILED, ERROR), (STARTED, None), (SUCCEEDED, None))


def test_a_result_tells_items_by_status():
    """Lists, counts and values, in index order; None is a result like any other."""
    assert [item.index for item in MIXED.succeeded()] == [0, 3]
    assert [item.index for item in MIXED.failed()] == [1]
    assert [item.index for item in MIXED.started()] == [2]
    assert (MIXED.success_count, MIXED.failure_count, MIXED.started_count, MIXED.total_count) == (2, 1, 1, 4)
    assert MIXED.get_results() == ["a", None]
    assert MIXED.get_errors() == [ERROR]


def test_a_result_is_plain_values_and_back():
    """`to_dict` has the members of the wire, and `from_dict` takes them."""
    assert MIXED.to_dict() == {
        "all": [
            {"index": 0, "status": "SUCCEEDED", "result": "a", "error": None},
            {
                "index": 1,
                "status": "FAILED",
                "result": None,
                "error": {"ErrorMessage": "no", "ErrorType": "ValueError"},
            },
            {"index": 2, "status": "STARTED", "result": None, "error": None},
            {"index": 3, "status": "SUCCEEDED", "result": None, "error": None},
        ],
        "completionReason": "ALL_COMPLETED",
    }
    assert BatchResult.from_dict(json.loads(json.dumps(MIXED.to_dict()))) == MIXED


@pytest.mark.parametrize(
    ("items", "reason", "status"),
    [
        ([(SUCCEEDED, 1)], CompletionReason.ALL_COMPLETED, SUCCEEDED),
        ([], CompletionReason.ALL_COMPLETED, SUCCEEDED),
        ([(SUCCEEDED, 1), (FAILED, ERROR)], CompletionReason.MIN_SUCCESSFUL_REACHED, FAILED),
        ([(SUCCEEDED, 1), (FAILED, ERROR)], CompletionReason.CUSTOM_COMPLETION_SUCCEEDED, SUCCEEDED),
        ([(SUCCEEDED, 1)], CompletionReason.CUSTOM_COMPLETION_FAILED, FAILED),
        ([(SUCCEEDED, 1), (STARTED, None)], CompletionReason.TIMED_OUT, FAILED),
    ],
)
def test_a_batch_is_failed_by_a_branch_its_predicate_or_its_time(items, reason, status):
    """A predicate has the last word, and a batch that timed out is failed whatever its branches did."""
    assert result(*items, reason=reason).status is status


def test_failures_are_raised_on_request_only():
    """The first failure is raised as a context's error, caused by what escaped from the branch."""
    result((SUCCEEDED, 1)).throw_if_error()
    step = ErrorObject("declined", wire_name(StepError), "d", ["line"])
    with pytest.raises(ChildContextError, match="declined") as caught:
        result((SUCCEEDED, 1), (FAILED, step), (FAILED, ERROR)).throw_if_error()
    assert caught.value.error_type == wire_name(StepError)
    assert (caught.value.data, caught.value.stack_trace) == ("d", ["line"])
    assert type(caught.value.__cause__) is StepError


def test_a_failure_without_a_record_is_raised_too():
    """An item whose error is unknown is named by its index."""
    with pytest.raises(ChildContextError, match="branch 0 failed, and its record has no error"):
        result((FAILED, None)).throw_if_error()


def test_a_serializers_failure_is_raised_as_such():
    """A branch whose result could not be stored raises `SerDesError`, as everywhere."""
    with pytest.raises(SerDesError, match="value is a set"):
        result((FAILED, ErrorObject("value is a set", wire_name(SerDesError)))).throw_if_error()


@pytest.mark.parametrize("reason", [CompletionReason.CUSTOM_COMPLETION_FAILED, CompletionReason.TIMED_OUT])
def test_a_batch_that_failed_as_a_whole_raises_its_reason(reason):
    """Without a failed branch the batch's own error is raised, with one that branch's."""
    with pytest.raises(BatchCompletionError, match=reason.value) as caught:
        result((SUCCEEDED, 1), (STARTED, None), reason=reason).throw_if_error()
    assert caught.value.completion_reason is reason
    with pytest.raises(ChildContextError, match="no"):
        result((FAILED, ERROR), reason=reason).throw_if_error()


def test_a_batchs_error_is_an_operation_error_under_awss_name():
    """It is recorded, rebuilt and pickled like the others."""
    error = BatchCompletionError(CompletionReason.TIMED_OUT)
    name = "aws_durable_execution_sdk_python.concurrency.models.BatchCompletionError"
    assert error.error_type == wire_name(BatchCompletionError) == name
    rebuilt = DurableOperationError.from_error_fields(name, "m", "d", ["line"])
    assert type(rebuilt) is BatchCompletionError
    assert (rebuilt.message, rebuilt.data, rebuilt.stack_trace) == ("m", "d", ["line"])
    again = pickle.loads(pickle.dumps(error))
    assert (again.message, again.completion_reason) == (error.message, CompletionReason.TIMED_OUT)


def test_a_missing_reason_is_inferred_with_a_warning(caplog):
    """From the statuses and, if given, the config; the log tells what was inferred."""
    data = result((SUCCEEDED, 1), (STARTED, None)).to_dict() | {"completionReason": None}
    config = CompletionConfig.first_successful()
    with caplog.at_level(logging.WARNING, "perdure.batch"):
        inferred = BatchResult.from_dict(data, config)
    assert inferred.completion_reason is CompletionReason.MIN_SUCCESSFUL_REACHED
    assert "inferred MIN_SUCCESSFUL_REACHED" in caplog.text


def test_an_inference_shows_the_items_to_a_predicate():
    """A quorum by index can be inferred as well."""

    def first_two(status):
        done = [item.index for item in status.items if item.status is SUCCEEDED]
        return complete_batch() if {0, 1} <= set(done) else continue_batch()

    items = result((SUCCEEDED, 1), (SUCCEEDED, 2), (STARTED, None)).all
    config = CompletionConfig(should_complete=first_two)
    inferred = BatchResult.from_items(items, config)
    assert inferred.completion_reason is CompletionReason.CUSTOM_COMPLETION_SUCCEEDED


# ------------------------------------------------------------------------------------------------------------ decision


@pytest.mark.parametrize(
    ("config", "total", "failed", "tolerated"),
    [
        (None, 3, 0, True),
        (None, 3, 1, False),
        (CompletionConfig(), 3, 1, False),
        (CompletionConfig.all_successful(), 3, 1, False),
        (CompletionConfig.all_completed(), 3, 3, True),
        (CompletionConfig.first_successful(), 3, 3, True),
        (CompletionConfig(tolerated_failure_count=1), 9, 1, True),
        (CompletionConfig(tolerated_failure_count=1), 9, 2, False),
        (CompletionConfig(tolerated_failure_percentage=50), 4, 2, True),
        (CompletionConfig(tolerated_failure_percentage=50), 4, 3, False),
        (CompletionConfig(tolerated_failure_count=3, tolerated_failure_percentage=10), 10, 2, False),
        (CompletionConfig(tolerated_failure_percentage=0), 0, 0, True),
        (CompletionConfig(should_complete=lambda _: continue_batch()), 3, 3, True),
    ],
)
def test_tolerance_is_exceeded_strictly(config, total, failed, tolerated):
    """As many failures as are tolerated are; a percentage is of all branches; a predicate tolerates all."""
    policy = CompletionPolicy.from_config(total, config)
    assert policy.should_continue(failed) is tolerated
    assert policy.is_tolerance_exceeded(failed) is not tolerated


@pytest.mark.parametrize(
    ("config", "succeeded", "failed", "complete", "reason"),
    [
        (CompletionConfig.all_completed(), 1, 1, False, CompletionReason.ALL_COMPLETED),
        (CompletionConfig.all_completed(), 1, 2, True, CompletionReason.ALL_COMPLETED),
        (CompletionConfig(min_successful=2), 1, 1, False, CompletionReason.ALL_COMPLETED),
        (CompletionConfig(min_successful=2), 2, 0, True, CompletionReason.MIN_SUCCESSFUL_REACHED),
        (CompletionConfig(min_successful=2), 2, 1, True, CompletionReason.ALL_COMPLETED),
        (CompletionConfig(min_successful=2), 0, 3, True, CompletionReason.ALL_COMPLETED),
        (CompletionConfig.all_successful(), 2, 1, True, CompletionReason.FAILURE_TOLERANCE_EXCEEDED),
        (CompletionConfig.all_successful(), 0, 1, False, CompletionReason.FAILURE_TOLERANCE_EXCEEDED),
    ],
)
def test_the_reason_puts_tolerance_first_and_completion_before_the_minimum(config, succeeded, failed, complete, reason):
    """Of three branches; a batch whose branches have all ended is never ended early."""
    policy = CompletionPolicy.from_config(3, config)
    assert policy.is_complete(succeeded, failed) is complete
    assert policy.reason(succeeded, failed) is reason


def test_a_predicate_is_asked_once_per_change():
    """Given its decision, neither question asks it again; it sees counts and items."""
    seen = []

    def quorum(status):
        seen.append(status)
        return complete_batch(CompletionOutcome.FAILED) if status.completed_count else continue_batch()

    policy = CompletionPolicy.from_config(3, CompletionConfig(should_complete=quorum))
    items = (CompletionItemStatus(0, "a", FAILED), CompletionItemStatus(1), CompletionItemStatus(2))
    decision = policy.evaluate(0, 1, items)
    assert policy.is_complete(0, 1, items, decision)
    assert policy.reason(0, 1, items, decision) is CompletionReason.CUSTOM_COMPLETION_FAILED
    assert [(status.failure_count, status.total_count, status.items) for status in seen] == [(1, 3, items)]


def test_a_predicate_that_never_decides_ends_with_the_last_branch():
    """All branches ended is the end whatever it says, as completed."""
    policy = CompletionPolicy.from_config(2, CompletionConfig(should_complete=lambda _: continue_batch()))
    assert not policy.is_complete(1, 0)
    assert policy.is_complete(1, 1)
    assert policy.reason(1, 1) is CompletionReason.ALL_COMPLETED


# -------------------------------------------------------------------------------------------------------------- record


def test_a_summary_has_the_members_of_the_protocol():
    """In their order, with whichever list of indexes is shorter, and the user's text if there is one."""
    summary = envelope_summary_generator("ParallelResult", lambda batch: f"{batch.success_count} fine")(MIXED)
    assert summary == (
        '{"type": "ParallelResult", "totalCount": 4, "completionReason": "ALL_COMPLETED", "startedIndexes": [2], '
        '"startedCount": 1, "successCount": 2, "failureCount": 1, "status": "FAILED", "summary": "2 fine"}'
    )
    early = result((SUCCEEDED, 1), (STARTED, None), (STARTED, None), reason=CompletionReason.MIN_SUCCESSFUL_REACHED)
    members = json.loads(envelope_summary_generator("MapResult", None)(early))
    assert members["completedIndexes"] == [0]
    assert "startedIndexes" not in members
    assert "summary" not in members
    assert CompletionRecord.summary_index_fields(early.all[:2]) == {"startedIndexes": [1]}


@pytest.mark.parametrize("reason", CompletionReason)
@pytest.mark.parametrize("statuses", [[], [SUCCEEDED, STARTED], [STARTED, STARTED, FAILED], [SUCCEEDED] * 3])
def test_a_summary_tells_replay_what_was_decided(reason, statuses):
    """Reason, number of branches begun and those unfinished come back from either list."""
    made = result(*((status, None) for status in statuses), reason=reason)
    record = CompletionRecord.from_summary_payload(CompletionRecord.summary_envelope(made, "MapResult", None))
    unfinished = frozenset(index for index, status in enumerate(statuses) if status is STARTED)
    assert record == CompletionRecord(reason, len(statuses), unfinished)


@pytest.mark.parametrize(
    "payload",
    [
        None,
        "",
        "{",
        "[]",
        "7",
        '"text"',
        "null",
        "{}",
        '{"completionReason": "NEW", "totalCount": 1, "startedIndexes": []}',
        '{"completionReason": "ALL_COMPLETED", "totalCount": true, "startedIndexes": []}',
        '{"completionReason": "ALL_COMPLETED", "totalCount": -1, "startedIndexes": []}',
        '{"completionReason": "ALL_COMPLETED", "totalCount": 1}',
        '{"completionReason": "ALL_COMPLETED", "totalCount": 1, "startedIndexes": [1]}',
        '{"completionReason": "ALL_COMPLETED", "totalCount": 1, "completedIndexes": [1]}',
        '{"completionReason": "ALL_COMPLETED", "totalCount": 2, "startedIndexes": [true]}',
        '{"completionReason": ["ALL_COMPLETED"], "totalCount": 1, "startedIndexes": []}',
    ],
)
def test_what_is_no_summary_is_none(payload):
    """Payloads of other versions, or of nobody's, are not decisions."""
    assert CompletionRecord.from_summary_payload(payload) is None
