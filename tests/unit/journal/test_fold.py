"""The fold: protocol.md §7, one state machine after the other, and the bookkeeping of an execution."""

from __future__ import annotations

from datetime import timedelta

import pytest

from perdure.journal.entry import Ended, Entry, Outcome, Paused, Resumed
from perdure.journal.fold import fold
from perdure.model import ErrorObject, ExecutionStatus, OperationStatus
from perdure.storage import OpenInvocation, Tip

S = 1_000_000
BOOM = ErrorObject("boom", "ValueError")


def status(journal, id):
    return journal[id].status.value


class TestStep:
    def test_start_and_succeed_count_one_attempt(self, journal, update):
        """A step that succeeds at once has one finished attempt and its result."""
        journal.update(update("STEP", "START", "s", name="charge", sub_type="Step"))
        assert (status(journal, "s"), journal["s"].attempt) == ("STARTED", 0)
        journal.update(update("STEP", "SUCCEED", "s", payload="1"), after=2)
        step = journal["s"]
        assert (step.status, step.attempt, step.result) == (OperationStatus.SUCCEEDED, 1, "1")
        assert (step.name, step.sub_type) == ("charge", "Step")
        assert step.end_timestamp - step.start_timestamp == timedelta(seconds=2)

    def test_start_is_optional(self, journal, update):
        """SUCCEED, FAIL and RETRY of an unknown id create the operation."""
        journal.update(
            update("STEP", "SUCCEED", "a", payload="1"),
            update("STEP", "FAIL", "b", error=BOOM),
            update("STEP", "RETRY", "c", error=BOOM, delay=5),
        )
        assert [status(journal, id) for id in "abc"] == ["SUCCEEDED", "FAILED", "PENDING"]
        assert [journal[id].attempt for id in "abc"] == [1, 1, 1]

    def test_a_retry_waits_for_its_delay(self, journal, update):
        """RETRY makes the step PENDING until its delay, READY after it, its error staying."""
        row = journal.update(update("STEP", "START", "s"), update("STEP", "RETRY", "s", error=BOOM, delay=5))
        assert journal["s"].due == journal["s"].start_timestamp + timedelta(seconds=5)
        assert journal.execution.next_due() == row.at + 5 * S
        journal.fire("s", after=5)
        assert (status(journal, "s"), journal["s"].due, journal["s"].error) == ("READY", None, BOOM)
        journal.update(update("STEP", "START", "s"), update("STEP", "SUCCEED", "s", payload="2"))
        assert (journal["s"].attempt, journal["s"].error, journal["s"].result) == (2, None, "2")

    def test_the_state_of_a_poll_survives_its_next_start(self, journal, update):
        """RETRY with a payload stores it, and START of the READY step keeps it."""
        journal.update(update("STEP", "RETRY", "s", payload='{"n":1}', delay=1))
        journal.fire("s", after=1)
        journal.update(update("STEP", "START", "s"))
        assert (status(journal, "s"), journal["s"].result, journal["s"].attempt) == ("STARTED", '{"n":1}', 1)

    def test_an_error_between_polls_keeps_the_state(self, journal, update):
        """RETRY with an error records it beside the state of the poll."""
        journal.update(update("STEP", "RETRY", "s", payload='{"n":1}', delay=1))
        journal.fire("s", after=1)
        journal.update(update("STEP", "RETRY", "s", error=BOOM, delay=1))
        assert (journal["s"].result, journal["s"].error, journal["s"].attempt) == ('{"n":1}', BOOM, 2)

    @pytest.mark.parametrize("action", ["START", "RETRY"])
    def test_what_is_illegal_folds_to_nothing(self, journal, update, action):
        """An update its operation's state does not allow changes nothing."""
        journal.update(update("STEP", "SUCCEED", "s", payload="1"))
        before = journal["s"]
        journal.update(update("STEP", action, "s", delay=1))
        assert journal["s"] is before
        assert journal.changed == set()

    def test_an_update_of_another_type_folds_to_nothing(self, journal, update):
        """An id keeps the type it was begun with."""
        journal.update(update("STEP", "START", "s"))
        journal.update(update("CONTEXT", "SUCCEED", "s"), update("STEP", "SUCCEED", journal.execution.id))
        assert status(journal, "s") == "STARTED"
        assert journal[journal.execution.id].operation_type.value == "EXECUTION"


class TestContext:
    def test_it_keeps_result_and_replay_children(self, journal, update):
        """A large result is recorded with the order to replay the children."""
        journal.update(update("CONTEXT", "START", "c"))
        journal.update(update("CONTEXT", "SUCCEED", "c", payload="", replay_children=True))
        assert (journal["c"].result, journal["c"].context_details.replay_children) == ("", True)

    def test_a_failed_one_has_its_error(self, journal, update):
        """FAIL records the error; nothing follows."""
        journal.update(update("CONTEXT", "FAIL", "c", error=BOOM))
        journal.update(update("CONTEXT", "SUCCEED", "c", payload="1"))
        assert (status(journal, "c"), journal["c"].error) == ("FAILED", BOOM)

    def test_children_of_an_ended_one_are_not_needed(self, journal, update):
        """Below a context that ended without ReplayChildren nothing needs to be delivered, at any depth."""
        journal.update(
            update("CONTEXT", "START", "done"),
            update("CONTEXT", "START", "done-1", parent_id="done"),
            update("STEP", "START", "done-1-1", parent_id="done-1"),
            update("CONTEXT", "START", "large"),
            update("STEP", "START", "large-1", parent_id="large"),
            update("CONTEXT", "START", "open"),
            update("STEP", "START", "open-1", parent_id="open"),
        )
        journal.update(
            update("CONTEXT", "SUCCEED", "done", payload="1"),
            update("CONTEXT", "SUCCEED", "large", replay_children=True),
        )
        needed = [operation.operation_id for operation in journal.execution.needed_operations()]
        assert needed == [journal.execution.id, "done", "large", "large-1", "open", "open-1"]


class TestWait:
    def test_it_ends_when_fired_in_time(self, journal, update):
        """A wait succeeds by a firing that is not before its end by the row's own time."""
        journal.update(update("WAIT", "START", "w", wait=10))
        journal.fire("w", after=9.999999)
        assert status(journal, "w") == "STARTED"
        assert journal.changed == set()
        journal.fire("w", after=0.000001)
        assert status(journal, "w") == "SUCCEEDED"
        assert journal.changed == {"w"}

    def test_a_second_firing_folds_to_nothing(self, journal, update):
        """A wait ends once."""
        journal.update(update("WAIT", "START", "w", wait=1))
        journal.fire("w", after=1)
        ended = journal["w"]
        journal.fire("w", after=1)
        assert journal["w"] is ended

    def test_it_can_be_cancelled(self, journal, update):
        """CANCEL ends a wait, and its timer with it."""
        journal.update(update("WAIT", "START", "w", wait=1))
        journal.update(update("WAIT", "CANCEL", "w"))
        assert status(journal, "w") == "CANCELLED"
        assert journal.execution.next_due() is None
        journal.fire("w", after=1)
        assert status(journal, "w") == "CANCELLED"


class TestCallback:
    def test_it_carries_the_id_that_was_minted(self, journal, update):
        """START takes the CallbackId from the entry."""
        journal.update(update("CALLBACK", "START", "c"), callbacks={"c": "Y2Jr"})
        assert journal["c"].callback_details.callback_id == "Y2Jr"
        assert [operation.operation_id for operation in journal.execution.open_awaits()] == ["c"]

    @pytest.mark.parametrize(
        ("outcome", "result", "error"), [("SUCCEEDED", "ok", None), ("FAILED", None, BOOM), ("TIMED_OUT", None, BOOM)]
    )
    def test_it_is_completed_from_outside(self, journal, update, outcome, result, error):
        """The outcome's status, result and error become the operation's, and its id stays."""
        journal.update(update("CALLBACK", "START", "c"), callbacks={"c": "Y2Jr"})
        journal.deliver("c", outcome, result, error)
        callback = journal["c"]
        assert (callback.status.value, callback.result, callback.error) == (outcome, result, error)
        assert callback.callback_details.callback_id == "Y2Jr"
        assert journal.execution.open_awaits() == ()

    def test_the_first_outcome_wins(self, journal, update):
        """A late timeout of a completed callback folds to nothing, and so does a second result."""
        journal.update(update("CALLBACK", "START", "c"))
        journal.deliver("c", "SUCCEEDED", "first")
        journal.deliver("c", "TIMED_OUT", error=BOOM)
        assert (status(journal, "c"), journal["c"].result) == ("SUCCEEDED", "first")

    @pytest.mark.parametrize("outcome", ["STARTED", "PENDING", "READY", "CANCELLED", "STOPPED"])
    def test_a_status_it_does_not_have_folds_to_nothing(self, journal, update, outcome):
        """An outcome is one of those protocol.md §7 knows for the type."""
        journal.update(update("CALLBACK", "START", "c"))
        journal.deliver("c", outcome)
        assert status(journal, "c") == "STARTED"

    def test_outcomes_of_nothing_fold_to_nothing(self, journal, update):
        """An outcome for an unknown operation, for one without await, or for none at all is ignored."""
        journal.update(update("STEP", "START", "s"))
        journal.deliver("unknown")
        journal.deliver("s")
        journal.write(Entry(outcome=Outcome(status=OperationStatus.SUCCEEDED)))
        assert status(journal, "s") == "STARTED"


class TestChainedInvoke:
    def test_it_waits_for_its_target(self, journal, update):
        """A resolvable target is started, and its end completes the operation."""
        journal.update(
            update("CHAINED_INVOKE", "START", "i", function="pay", payload="{}"), targets={"i": journal.target()}
        )
        assert status(journal, "i") == "STARTED"
        journal.deliver("i", "STOPPED", error=BOOM)
        assert (status(journal, "i"), journal["i"].error) == ("STOPPED", BOOM)

    def test_an_unknown_target_fails_at_once(self, journal, update):
        """A target that was not resolved fails the operation in the same entry, and starts nothing."""
        target = journal.target(version=None, durable_execution_arn=None, error=BOOM)
        journal.update(update("CHAINED_INVOKE", "START", "i", function="gone"), targets={"i": target})
        assert (status(journal, "i"), journal["i"].error) == ("FAILED", BOOM)
        assert journal.execution.effects == []
        assert journal.execution.outstanding == 0


class TestExecution:
    def test_it_begins_with_its_own_operation(self, new_journal):
        """The EXECUTION operation is the first, under the execution's id, with the input."""
        journal = new_journal("e-1").begin(parent="p/op", tenant_id="t", execution_timeout=60, retention_days=3)
        execution = journal.execution
        first = next(iter(execution.operations.values()))
        assert (first.operation_id, first.name, first.execution_details.input_payload) == (
            "e-1",
            "order-17",
            '{"card":"1"}',
        )
        assert (execution.function, execution.version, execution.parent, execution.tenant_id) == (
            "order",
            "3",
            "p/op",
            "t",
        )
        assert (execution.execution_timeout, execution.retention_days, execution.id_scheme) == (60, 3, "blake2b-64")
        assert (execution.status, execution.started, execution.ended) == (
            ExecutionStatus.RUNNING,
            first.start_timestamp,
            None,
        )

    def test_it_ends_with_a_result(self, journal):
        """The end gives status, result and time, to the EXECUTION operation too."""
        journal.end(result='"done"')
        execution = journal.execution
        assert (execution.status, execution.result) == (ExecutionStatus.SUCCEEDED, '"done"')
        assert journal[execution.id].status is OperationStatus.SUCCEEDED
        assert journal[execution.id].end_timestamp == execution.ended

    @pytest.mark.parametrize("result", [None, ""])
    def test_a_recorded_outcome_counts_once_it_ends(self, journal, update, result):
        """What an EXECUTION update recorded is pending, and becomes the result when the end brings none."""
        journal.update(update("EXECUTION", "SUCCEED", "execution-result-1", payload="large"))
        assert journal.execution.outcome == Ended(status=ExecutionStatus.SUCCEEDED, result="large")
        assert journal.execution.status is ExecutionStatus.RUNNING
        assert "execution-result-1" not in journal.execution.operations
        journal.end(result=result)
        assert journal.execution.result == "large"

    def test_nothing_follows_a_recorded_outcome(self, journal, update):
        """After an EXECUTION update no other one counts."""
        journal.update(update("EXECUTION", "FAIL", "r", error=BOOM))
        journal.update(update("STEP", "START", "s"), update("EXECUTION", "SUCCEED", "r2", payload="1"))
        journal.end("FAILED")
        assert "s" not in journal.execution.operations
        assert (journal.execution.status, journal.execution.error) == (ExecutionStatus.FAILED, BOOM)

    @pytest.mark.parametrize("status", [ExecutionStatus.STOPPED, ExecutionStatus.TIMED_OUT])
    def test_a_stop_is_not_overruled_by_a_recorded_outcome(self, journal, update, status):
        """What ended from outside ended so, whatever the handler had recorded."""
        journal.update(update("EXECUTION", "SUCCEED", "r", payload="1"))
        journal.write(Entry(ended=Ended(status=status)))
        assert (journal.execution.status, journal.execution.result) == (status, None)

    def test_a_timeout_tells_how_long_it_was(self, new_journal):
        """The constant entry of a store gets the execution's own seconds."""
        journal = new_journal().begin(execution_timeout=90)
        journal.write(Entry(ended=Ended(status=ExecutionStatus.TIMED_OUT)))
        assert journal.execution.error == ErrorObject("Execution timed out after 90 seconds.")

    def test_behind_the_end_nothing_counts(self, journal, update):
        """Rows after the end only make the journal longer."""
        journal.update(update("CALLBACK", "START", "c"), update("WAIT", "START", "w", wait=1))
        journal.end(result="1")
        operations = dict(journal.execution.operations)
        journal.deliver("c")
        journal.fire("w", after=2)
        row = journal.write(Entry(resumed=Resumed(), ended=Ended(status=ExecutionStatus.FAILED)))
        execution = journal.execution
        assert execution.operations == operations
        assert (execution.status, execution.result) == (ExecutionStatus.SUCCEEDED, "1")
        assert (execution.length, execution.tip) == (len(journal.rows), Tip(row.at, row.tag))
        assert (execution.outstanding, execution.next_due(), execution.due(row.at)) == (0, None, ())

    def test_nothing_counts_before_the_start(self, new_journal, update):
        """A journal that does not begin with a start folds to nothing until there is one, and only the first counts."""
        journal = new_journal()
        journal.update(update("STEP", "START", "s"))
        journal.write(Entry(ended=Ended(status=ExecutionStatus.STOPPED)))
        assert journal.execution.operations == {}
        journal.begin(name="first").begin(name="second")
        assert journal.execution.name == "first"

    def test_ends_are_counted(self, journal, update):
        """Operations that ended carry the place of their end in the journal's order."""
        journal.update(update("STEP", "START", "a"), update("STEP", "START", "b"), update("CALLBACK", "START", "c"))
        journal.update(update("STEP", "SUCCEED", "b"))
        journal.deliver("c")
        journal.update(update("STEP", "FAIL", "a"))
        assert [journal[id].position for id in "abc"] == [3, 1, 2]
        assert journal.execution.ends == 3
        assert [journal.execution.start_order(id) for id in "abc"] == [1, 2, 3]

    def test_a_pause_lasts_until_resumed(self, journal):
        """Pause and resume set and clear the flag; a pause of a paused one changes nothing."""
        journal.write(Entry(paused=Paused(reason="first")))
        since = journal.execution.paused_at
        journal.write(Entry(paused=Paused(reason="second")), after=1)
        assert (journal.execution.paused, journal.execution.paused_at) == (Paused(reason="first"), since)
        journal.write(Entry(resumed=Resumed()))
        assert (journal.execution.paused, journal.execution.paused_at) == (None, None)

    def test_an_end_clears_the_pause(self, journal):
        """An execution that was stopped while paused is stopped."""
        journal.write(Entry(paused=Paused()))
        journal.write(Entry(ended=Ended(status=ExecutionStatus.STOPPED)))
        assert journal.execution.paused is None
        assert journal.execution.error == ErrorObject("Execution stopped by user request")

    def test_a_row_that_was_folded_changes_nothing(self, journal, update):
        """A row may be given again."""
        row = journal.update(update("STEP", "START", "s"))
        assert journal.execution.apply(row) == set()
        assert journal.execution.length == 2

    def test_a_gap_is_refused(self, journal, new_journal):
        """A missing row is an error of the caller, not of the journal."""
        journal.write(Entry(resumed=Resumed()))
        with pytest.raises(ValueError, match="folded up to row 0, and was given row 2"):
            fold("exec-1", journal.rows[1:])

    def test_members_take_effect_in_their_order(self, journal, update):
        """Updates come before firings and the end of the invocation, this before the end of the execution."""
        journal.update(update("WAIT", "START", "old", wait=1))
        entry = Entry(
            updates=(update("WAIT", "START", "new", wait=1),),
            fired=("old", "new"),
            invocation=journal.invocation(),
            ended=Ended(status=ExecutionStatus.SUCCEEDED, result="1"),
        )
        journal.write(entry, after=1, seen=2)
        assert [status(journal, id) for id in ("old", "new")] == ["SUCCEEDED", "STARTED"]
        assert journal.execution.invocations == 1


class TestTimers:
    def test_the_earliest_comes_first(self, journal, update):
        """Due times are told in their order, equal ones in start order, and only once they have come."""
        journal.update(
            update("WAIT", "START", "z", wait=2),
            update("WAIT", "START", "a", wait=2),
            update("WAIT", "START", "b", wait=1),
        )
        execution, begun = journal.execution, journal.now
        assert execution.next_due() == begun + 1 * S
        assert execution.due(begun + 1 * S - 1) == ()
        assert execution.due(begun + 1 * S) == ("b",)
        assert execution.due(begun + 9 * S) == ("b", "z", "a")
        assert execution.due(begun + 9 * S) == ("b", "z", "a")
        journal.fire("b", "z", after=2)
        assert execution.due(begun + 9 * S) == ("a",)
        assert execution.next_due() == begun + 2 * S

    def test_outstanding_is_what_pending_may_wait_for(self, journal, update):
        """Pending steps, open waits, callbacks and invokes count; running and ready steps and contexts do not."""
        journal.update(
            update("STEP", "START", "s"),
            update("CONTEXT", "START", "x"),
            update("STEP", "RETRY", "r", delay=1),
            update("WAIT", "START", "w", wait=1),
            update("CALLBACK", "START", "c"),
            update("CHAINED_INVOKE", "START", "i", function="f"),
            targets={"i": journal.target()},
        )
        assert journal.execution.outstanding == 4
        journal.fire("r", "w", after=1)
        assert journal.execution.outstanding == 2
        journal.deliver("c")
        journal.deliver("i")
        assert journal.execution.outstanding == 0


class TestNews:
    def test_the_start_is_news(self, journal):
        """An execution that has just begun has something to tell its handler."""
        assert journal.execution.has_news

    def test_an_invocation_that_saw_everything_leaves_none(self, journal):
        """What the owner had folded, the handler was told."""
        journal.suspend()
        assert not journal.execution.has_news

    def test_what_came_between_stays_news(self, journal, update):
        """An outcome behind what the owner had seen is told to the next invocation: no wake-up is lost."""
        journal.update(update("CALLBACK", "START", "c"))
        row = journal.deliver("c")
        journal.suspend(seen=row.index - 1)
        assert journal.execution.news == [row.index]

    def test_a_firing_is_news_if_it_took_effect(self, journal, update):
        """A wait that elapsed wakes the handler, a firing that was too early does not."""
        journal.update(update("WAIT", "START", "w", wait=5))
        journal.suspend()
        journal.fire("w", after=1)
        assert not journal.execution.has_news
        journal.fire("w", after=4)
        assert journal.execution.has_news

    def test_updates_are_not_news(self, journal, update):
        """Their owner knows them."""
        journal.suspend()
        journal.update(update("STEP", "SUCCEED", "s"))
        assert not journal.execution.has_news

    @pytest.mark.parametrize("entry", [Entry(resumed=Resumed()), Entry(paused=Paused(), resumed=Resumed())])
    def test_a_resume_is_news(self, journal, entry):
        """Resuming always wakes."""
        journal.suspend()
        journal.write(entry)
        assert journal.execution.has_news

    def test_a_lost_outcome_is_no_news(self, journal, update):
        """What folds to nothing wakes nobody."""
        journal.update(update("CALLBACK", "START", "c"))
        journal.deliver("c")
        journal.suspend()
        journal.deliver("c", "TIMED_OUT")
        assert not journal.execution.has_news

    def test_a_crash_tells_everything_again(self, journal, update):
        """What the crashed invocation had been told is not told, and the crash alone is reason to go on."""
        journal.suspend()
        journal.write(Entry(crashed=journal.invocation(error=BOOM, cut_short=True)), seen=2)
        assert journal.execution.has_news
        assert (journal.execution.crashes, journal.execution.invocations) == (1, 2)
        journal.suspend()
        assert not journal.execution.has_news
        assert journal.execution.crashes == 0

    def test_an_invocation_that_was_cut_short_goes_on(self, journal):
        """A drained invocation has work left that needs no further event; it is no crash, and forgives none."""
        journal.write(Entry(crashed=journal.invocation(cut_short=True)))
        journal.suspend(cut_short=True)
        assert journal.execution.news == [3]
        assert journal.execution.crashes == 1

    def test_a_resume_forgives_crashes(self, journal):
        """Resuming a quarantined execution starts the count anew."""
        journal.write(Entry(crashed=journal.invocation(cut_short=True)))
        journal.write(Entry(resumed=Resumed()))
        assert journal.execution.crashes == 0


def test_a_stop_closes_the_open_invocation(journal):
    """A row stamped with an invocation ends that before it ends the execution."""
    row = journal.write(
        Entry(ended=Ended(status=ExecutionStatus.STOPPED)), invocation=OpenInvocation("request-9", journal.now)
    )
    assert row.invocation is not None
    assert journal.execution.invocations == 1


def test_fold_is_apply_over_all_rows(journal, update):
    """Folding at once gives what folding row by row gave."""
    journal.update(update("STEP", "SUCCEED", "s", payload="1"))
    journal.end(result="1")
    folded = fold("exec-1", journal.rows)
    assert folded.operations == journal.execution.operations
    assert (folded.status, folded.started, folded.ended) == (
        ExecutionStatus.SUCCEEDED,
        journal.execution.started,
        journal.execution.ended,
    )
