"""
What a parallel or map comes to: its result, when it is over, and the record of that decision.

Pure: the engine's batch operation asks, this module decides (protocol.md §10.6 and §10.7).
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import attrs

from perdure.config import (
    BatchItemStatus,
    CompletionDecision,
    CompletionItemStatus,
    CompletionOutcome,
    CompletionStatus,
    require_decision,
)
from perdure.errors import ChildContextError, DurableOperationError, register_operation_error
from perdure.model import ErrorObject
from perdure.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from perdure.config import CompletionConfig
    from perdure.types import SummaryGenerator

__all__ = [
    "BatchCompletionError",
    "BatchItem",
    "BatchItemStatus",
    "BatchResult",
    "CompletionPolicy",
    "CompletionReason",
    "CompletionRecord",
    "envelope_summary_generator",
]

_R = TypeVar("_R")
_log = logging.getLogger(__name__)


class CompletionReason(Enum):
    """Why a batch ended; TIMED_OUT is ours, the others are AWS's."""

    ALL_COMPLETED = "ALL_COMPLETED"
    MIN_SUCCESSFUL_REACHED = "MIN_SUCCESSFUL_REACHED"
    FAILURE_TOLERANCE_EXCEEDED = "FAILURE_TOLERANCE_EXCEEDED"
    CUSTOM_COMPLETION_SUCCEEDED = "CUSTOM_COMPLETION_SUCCEEDED"
    CUSTOM_COMPLETION_FAILED = "CUSTOM_COMPLETION_FAILED"
    TIMED_OUT = "TIMED_OUT"


_FAILED_BATCH = frozenset({CompletionReason.CUSTOM_COMPLETION_FAILED, CompletionReason.TIMED_OUT})


class BatchCompletionError(DurableOperationError):
    """The batch as a whole failed though none of its items did: its predicate said so, or its time was over."""

    wire_module = "aws_durable_execution_sdk_python.concurrency.models"

    def __init__(
        self,
        completion_reason: CompletionReason = CompletionReason.CUSTOM_COMPLETION_FAILED,
        message: str | None = None,
        error_type: str | None = None,
        data: str | None = None,
        stack_trace: list[str] | None = None,
    ) -> None:
        super().__init__(
            message or f"the batch ended as failed without a failed item ({completion_reason.value})",
            error_type,
            data,
            stack_trace,
        )
        self.completion_reason = completion_reason


register_operation_error(BatchCompletionError)


# -------------------------------------------------------------------------------------------------------------- result


@attrs.frozen(eq=False, repr=False)
class BatchItem(Value, Generic[_R]):
    """
    One branch of a batch.

    Attributes:
        index: Of the branch, from 0.
        status: STARTED: begun, and not finished when the batch ended.
        result: Of a SUCCEEDED one.
        error: Of a FAILED one; None if its record has none.
    """

    index: int
    status: BatchItemStatus
    result: _R | None = None
    error: ErrorObject | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain values, as far as `result` is one."""
        return {
            "index": self.index,
            "status": self.status.value,
            "result": self.result,
            "error": self.error.to_dict() if self.error else None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BatchItem[_R]:
        """What `to_dict` made."""
        error = data.get("error")
        return cls(
            index=data["index"],
            status=BatchItemStatus(data["status"]),
            result=data.get("result"),
            error=ErrorObject.from_dict(error) if error else None,
        )


@attrs.frozen(eq=False, repr=False)
class BatchResult(Value, Generic[_R]):
    """
    The outcome of a parallel or map: its branches in index order, as far as they were started.

    Failures are in here and not raised, until `throw_if_error` is called.
    """

    all: list[BatchItem[_R]]
    completion_reason: CompletionReason

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], completion_config: CompletionConfig | None = None) -> BatchResult[_R]:
        """What `to_dict` made; without a completion reason it is inferred as by `from_items`, with a warning."""
        items: list[BatchItem[_R]] = [BatchItem.from_dict(item) for item in data["all"]]
        recorded = data.get("completionReason")
        if recorded is not None:
            return cls(items, CompletionReason(recorded))
        result = cls.from_items(items, completion_config)
        _log.warning("a batch result has no completionReason; inferred %s", result.completion_reason.value)
        return result

    @classmethod
    def from_items(
        cls, items: list[BatchItem[_R]], completion_config: CompletionConfig | None = None
    ) -> BatchResult[_R]:
        """Infer the completion reason; exact only if `items` are all the branches there were."""
        counts = Counter(item.status for item in items)
        policy = CompletionPolicy.from_config(len(items), completion_config)
        statuses = tuple(CompletionItemStatus(item.index, status=item.status) for item in items)
        reason = policy.reason(counts[BatchItemStatus.SUCCEEDED], counts[BatchItemStatus.FAILED], statuses)
        return cls(items, reason)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, as far as the results are."""
        return {
            "all": [item.to_dict() for item in self.all],
            "completionReason": self.completion_reason.value,
        }

    def succeeded(self) -> list[BatchItem[_R]]:
        """The branches that succeeded."""
        return self._having(BatchItemStatus.SUCCEEDED)

    def failed(self) -> list[BatchItem[_R]]:
        """The branches that failed."""
        return self._having(BatchItemStatus.FAILED)

    def started(self) -> list[BatchItem[_R]]:
        """The branches that were begun and not finished."""
        return self._having(BatchItemStatus.STARTED)

    def _having(self, status: BatchItemStatus) -> list[BatchItem[_R]]:
        return [item for item in self.all if item.status is status]

    @property
    def status(self) -> BatchItemStatus:
        """FAILED if a branch failed, the batch timed out or its predicate said so, else SUCCEEDED."""
        if self.completion_reason is CompletionReason.CUSTOM_COMPLETION_SUCCEEDED:
            return BatchItemStatus.SUCCEEDED
        failed = self.has_failure or self.completion_reason in _FAILED_BATCH
        return BatchItemStatus.FAILED if failed else BatchItemStatus.SUCCEEDED

    @property
    def has_failure(self) -> bool:
        """Whether a branch failed."""
        return any(item.status is BatchItemStatus.FAILED for item in self.all)

    def throw_if_error(self) -> None:
        """
        Raise the first failure, if there is one.

        Raises:
            ChildContextError: The first failed branch, caused by what escaped from it.
            BatchCompletionError: No branch failed, but the batch as a whole did.
        """
        for item in self.all:
            if item.status is not BatchItemStatus.FAILED:
                continue
            if item.error is None:
                raise ChildContextError(f"branch {item.index!r} failed, and its record has no error")
            item.error.raise_as_operation_error(ChildContextError)
        if self.completion_reason in _FAILED_BATCH:
            raise BatchCompletionError(self.completion_reason)

    def get_results(self) -> list[_R]:
        """The results of the branches that succeeded, in index order."""
        return [cast("_R", item.result) for item in self.succeeded()]

    def get_errors(self) -> list[ErrorObject | None]:
        """The errors of the branches that failed, in index order; None where the record has none."""
        return [item.error for item in self.failed()]

    @property
    def success_count(self) -> int:
        """How many succeeded."""
        return len(self.succeeded())

    @property
    def failure_count(self) -> int:
        """How many failed."""
        return len(self.failed())

    @property
    def started_count(self) -> int:
        """How many were begun and not finished."""
        return len(self.started())

    @property
    def total_count(self) -> int:
        """How many were begun."""
        return len(self.all)


# ------------------------------------------------------------------------------------------------------------ decision


@attrs.frozen(eq=False, repr=False)
class CompletionPolicy(Value):
    """
    When a batch of `total` branches is over, and why.

    A predicate decides alone; without predicate and thresholds one failure is too many. The batch is over in any case
    when all branches are. `items` and `decision` are for predicates: `evaluate` once per change, and pass the decision
    on, or the predicate is asked again.
    """

    total: int
    min_successful: int | None = None
    tolerated_failure_count: int | None = None
    tolerated_failure_percentage: float | None = None
    should_complete: Callable[[CompletionStatus], CompletionDecision] | None = None

    @classmethod
    def from_config(cls, total: int, config: CompletionConfig | None) -> CompletionPolicy:
        """The policy a config asks for; None is no criterion."""
        if config is None:
            return cls(total)
        return cls(
            total,
            config.min_successful,
            config.tolerated_failure_count,
            config.tolerated_failure_percentage,
            config.should_complete,
        )

    @property
    def has_criteria(self) -> bool:
        """Whether a threshold is set."""
        thresholds = (self.min_successful, self.tolerated_failure_count, self.tolerated_failure_percentage)
        return any(threshold is not None for threshold in thresholds)

    def is_tolerance_exceeded(self, failed: int) -> bool:
        """Whether so many failures are too many."""
        if self.should_complete is not None:
            return False
        if not self.has_criteria:
            return failed > 0
        if self.tolerated_failure_count is not None and failed > self.tolerated_failure_count:
            return True
        if self.tolerated_failure_percentage is None or self.total <= 0:
            return False
        # In this order of operations, which rounds: 7 of 100 are more than 7 %. AWS's SDK decides so too.
        return (failed / self.total) * 100 > self.tolerated_failure_percentage

    def should_continue(self, failed: int) -> bool:
        """Whether further branches may be started."""
        return not self.is_tolerance_exceeded(failed)

    def evaluate(
        self, succeeded: int, failed: int, items: tuple[CompletionItemStatus, ...] = ()
    ) -> CompletionDecision | None:
        """What the predicate says now; None without one."""
        if self.should_complete is None:
            return None
        decision = self.should_complete(CompletionStatus(succeeded, failed, succeeded + failed, self.total, items))
        # None, which AWS's SDK takes as well, is no decision yet.
        if decision is not None:
            require_decision(decision, CompletionDecision, "should_complete", "continue_batch() or complete_batch()")
        return decision

    def is_complete(
        self,
        succeeded: int,
        failed: int,
        items: tuple[CompletionItemStatus, ...] = (),
        decision: CompletionDecision | None = None,
    ) -> bool:
        """Whether a criterion is met; exceeded tolerance is not one, see `should_continue`."""
        if decision is None:
            decision = self.evaluate(succeeded, failed, items)
        if decision is not None and decision.complete:
            return True
        return succeeded + failed >= self.total or self._has_enough(succeeded)

    def reason(
        self,
        succeeded: int,
        failed: int,
        items: tuple[CompletionItemStatus, ...] = (),
        decision: CompletionDecision | None = None,
    ) -> CompletionReason:
        """Why a batch that is over is over."""
        if self.is_tolerance_exceeded(failed):
            return CompletionReason.FAILURE_TOLERANCE_EXCEEDED
        if decision is None:
            decision = self.evaluate(succeeded, failed, items)
        if self.should_complete is not None and decision is not None and decision.complete:
            if decision.outcome is CompletionOutcome.FAILED:
                return CompletionReason.CUSTOM_COMPLETION_FAILED
            return CompletionReason.CUSTOM_COMPLETION_SUCCEEDED
        if succeeded + failed < self.total and self._has_enough(succeeded):
            return CompletionReason.MIN_SUCCESSFUL_REACHED
        return CompletionReason.ALL_COMPLETED

    def _has_enough(self, succeeded: int) -> bool:
        return self.min_successful is not None and succeeded >= self.min_successful


# -------------------------------------------------------------------------------------------------------------- record


@attrs.frozen(eq=False, repr=False)
class CompletionRecord(Value):
    """
    The decision that ended a batch whose result was too large to store, read from its summary.

    Replay reproduces it instead of deciding again.

    Attributes:
        completion_reason: Why it ended.
        started_total: How many branches were begun; they begin in index order, so it was `range(started_total)`.
        started_indexes: Those of them that had not finished.
    """

    completion_reason: CompletionReason
    started_total: int
    started_indexes: frozenset[int]

    @classmethod
    def from_summary_payload(cls, payload: str | None) -> CompletionRecord | None:
        """The record in a summary; None if there is no valid one."""
        try:
            data = json.loads(payload or "null")
            reason = CompletionReason(data["completionReason"])
            total = data["totalCount"]
        except (ValueError, TypeError, KeyError):
            return None
        if not _is_count(total):
            return None
        if isinstance(raw := data.get("startedIndexes"), list):
            started = _indexes(raw, total)
        elif isinstance(raw := data.get("completedIndexes"), list):
            completed = _indexes(raw, total)
            started = None if completed is None else frozenset(range(total)) - completed
        else:
            started = None
        return None if started is None else cls(reason, total, started)

    @staticmethod
    def summary_index_fields(items: Sequence[BatchItem[Any]]) -> dict[str, list[int]]:
        """Which branches had finished, told by whichever list is shorter."""
        started = [item.index for item in items if item.status is BatchItemStatus.STARTED]
        completed = [item.index for item in items if item.status is not BatchItemStatus.STARTED]
        return {"startedIndexes": started} if len(started) <= len(completed) else {"completedIndexes": completed}

    @staticmethod
    def summary_envelope(result: BatchResult[Any], result_type: str, summary: str | None) -> str:
        """
        The payload that is stored in place of a result too large to store (protocol.md §10.7).

        Args:
            result: What is summarized.
            result_type: `ParallelResult` or `MapResult`.
            summary: The user's own text, or None.
        """
        fields: dict[str, object] = {
            "type": result_type,
            "totalCount": result.total_count,
            "completionReason": result.completion_reason.value,
            **CompletionRecord.summary_index_fields(result.all),
            "startedCount": result.started_count,
            "successCount": result.success_count,
            "failureCount": result.failure_count,
            "status": result.status.value,
        }
        if summary is not None:
            fields["summary"] = str(summary)
        return json.dumps(fields)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _indexes(raw: list[Any], total: int) -> frozenset[int] | None:
    return frozenset(raw) if all(_is_count(index) and index < total for index in raw) else None


def envelope_summary_generator(
    result_type: str, custom_generator: SummaryGenerator[Any] | None
) -> Callable[[BatchResult[Any]], str]:
    """What makes the stored summary of a batch, with the user's text in it if there is a generator for that."""

    def generate(result: BatchResult[Any]) -> str:
        summary = None if custom_generator is None else custom_generator(result)
        return CompletionRecord.summary_envelope(result, result_type, summary)

    return generate
