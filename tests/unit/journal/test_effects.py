"""What a journal asks to be done to other executions."""

from __future__ import annotations

import pytest

from perdure.journal.effects import DeliverResult, StartChild, outcome_for_parent
from perdure.journal.entry import Ended, Entry, Outcome
from perdure.model import ChainedInvokeOptions, ErrorObject, ExecutionStatus, OperationStatus

BOOM = ErrorObject("boom", "ValueError")


class TestStartChild:
    def test_an_invoke_starts_its_target(self, journal, update):
        """The effect has all that the child is started with, and the row that asked for it."""
        options = ChainedInvokeOptions("pay:7", "tenant")
        invoke = update("CHAINED_INVOKE", "START", "i", payload='{"a":1}', chained_invoke_options=options)
        row = journal.update(invoke, targets={"i": journal.target()})
        assert journal.execution.effects == [
            StartChild(
                index=row.index,
                operation_id="i",
                function="pay",
                version="7",
                input='{"a":1}',
                durable_execution_arn="arn:child",
                tenant_id="tenant",
            )
        ]

    @pytest.mark.parametrize(
        "identifier",
        [
            "function",
            "function:7",
            "000000000000:function:function",
            "000000000000:function:function:7",
            "arn:perdure:lambda:local:000000000000:function:function",
            "arn:perdure:lambda:local:000000000000:function:function:$LATEST",
        ],
    )
    def test_a_function_has_one_name(self, journal, update, identifier):
        """However it was identified (protocol.md §2), the child is started by the bare name."""
        journal.update(update("CHAINED_INVOKE", "START", "i", function=identifier), targets={"i": journal.target()})
        assert [effect.function for effect in journal.execution.effects] == ["function"]

    def test_an_absent_input_is_an_empty_object(self, journal, update):
        """`{}`, as protocol.md §7 says."""
        journal.update(update("CHAINED_INVOKE", "START", "i", function="f"), targets={"i": journal.target()})
        assert journal.execution.effects[0].input == "{}"

    def test_a_start_that_folds_to_nothing_asks_for_nothing(self, journal, update):
        """One child per operation."""
        for _ in range(2):
            journal.update(update("CHAINED_INVOKE", "START", "i", function="f"), targets={"i": journal.target()})
        assert len(journal.execution.effects) == 1


class TestDeliverResult:
    @pytest.mark.parametrize(
        ("ended", "outcome"),
        [
            (
                Ended(status=ExecutionStatus.SUCCEEDED, result="1"),
                Outcome(status=OperationStatus.SUCCEEDED, result="1"),
            ),
            (Ended(status=ExecutionStatus.FAILED, error=BOOM), Outcome(status=OperationStatus.FAILED, error=BOOM)),
            (Ended(status=ExecutionStatus.STOPPED, error=BOOM), Outcome(status=OperationStatus.STOPPED, error=BOOM)),
            (
                Ended(status=ExecutionStatus.TIMED_OUT),
                Outcome(
                    status=OperationStatus.TIMED_OUT,
                    error=ErrorObject("CHAINED_INVOKE timed out after 90 seconds.", "ChainedInvoke.Timeout"),
                ),
            ),
        ],
    )
    def test_every_end_reaches_the_parent(self, new_journal, ended, outcome):
        """Result, error, or what a timeout means to the one who waits."""
        journal = new_journal().begin(parent="parent/op", execution_timeout=90)
        row = journal.write(Entry(ended=ended))
        assert journal.execution.effects == [DeliverResult(index=row.index, await_id="parent/op", outcome=outcome)]
        assert outcome_for_parent(journal.execution) == outcome

    def test_a_recorded_result_is_delivered_too(self, new_journal, update):
        """A large result that an EXECUTION update recorded is what the parent gets."""
        journal = new_journal().begin(parent="parent/op")
        journal.update(update("EXECUTION", "SUCCEED", "r", payload="large"))
        journal.end(result="")
        assert journal.execution.effects[0].outcome.result == "large"

    def test_without_parent_nothing_is_delivered(self, journal):
        """Most executions have nobody waiting."""
        journal.end(result="1")
        assert journal.execution.effects == []

    def test_a_running_execution_has_no_outcome(self, journal):
        """Asking too early is an error of the caller."""
        with pytest.raises(ValueError, match="'exec-1' is RUNNING"):
            outcome_for_parent(journal.execution)
