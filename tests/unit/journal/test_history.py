"""The history: protocol.md §12, with what §14 recommends."""

from __future__ import annotations

from datetime import timedelta

import pytest

from perdure.journal.entry import Ended, Entry, Paused, Resumed
from perdure.journal.history import events
from perdure.model import ErrorObject, ExecutionStatus
from perdure.storage import OpenInvocation

BOOM = ErrorObject("boom", "ValueError")
BOOM_MEMBERS = {"ErrorMessage": "boom", "ErrorType": "ValueError"}


def history(journal, **options):
    return events(journal.execution.id, journal.rows, **options)


def kinds(journal):
    return [event.event_type for event in history(journal)]


def last(journal, **options):
    return history(journal, **options)[-1]


class TestOrder:
    def test_a_step_that_fails_once(self, journal, update):
        """The first example of §12: no event between the failure and the next start."""
        journal.update(update("STEP", "START", "A"), update("STEP", "RETRY", "A", error=BOOM, delay=5))
        journal.suspend()
        journal.fire("A", after=5)
        journal.update(update("STEP", "START", "A"), update("STEP", "SUCCEED", "A", payload="1"))
        journal.end(result="1")
        told = history(journal)
        assert [(event.event_id, event.event_type) for event in told] == [
            (1, "ExecutionStarted"),
            (2, "StepStarted"),
            (3, "StepFailed"),
            (4, "InvocationCompleted"),
            (5, "StepStarted"),
            (6, "StepSucceeded"),
            (7, "InvocationCompleted"),
            (8, "ExecutionSucceeded"),
        ]
        failed = {"Error": {"Payload": BOOM_MEMBERS, "Truncated": False}}
        assert told[2].details == failed | {"RetryDetails": {"CurrentAttempt": 1, "NextAttemptDelaySeconds": 5}}
        assert told[5].details == {
            "Result": {"Payload": "1", "Truncated": False},
            "RetryDetails": {"CurrentAttempt": 2},
        }

    def test_wait_for_callback(self, journal, update):
        """The second example: the callback's end comes after the invocation that opened it."""
        journal.update(
            update("CONTEXT", "START", "c", name="X", sub_type="WaitForCallback"),
            update("CALLBACK", "START", "c-1", parent_id="c", sub_type="Callback"),
            callbacks={"c-1": "Y2Jr"},
        )
        journal.update(update("STEP", "START", "c-2", parent_id="c"), update("STEP", "SUCCEED", "c-2", parent_id="c"))
        journal.suspend()
        journal.deliver("c-1", result="ok")
        journal.update(update("CONTEXT", "SUCCEED", "c", payload='"ok"'))
        journal.end(result='"ok"')
        assert kinds(journal) == [
            "ExecutionStarted",
            "ContextStarted",
            "CallbackStarted",
            "StepStarted",
            "StepSucceeded",
            "InvocationCompleted",
            "CallbackSucceeded",
            "ContextSucceeded",
            "InvocationCompleted",
            "ExecutionSucceeded",
        ]

    def test_a_poll_of_two_checks(self, journal, update):
        """The third example: RETRY with a payload is a success with the state as its result."""
        journal.update(update("STEP", "START", "A"), update("STEP", "RETRY", "A", payload="1", delay=1))
        journal.suspend()
        journal.fire("A", after=1)
        journal.update(update("STEP", "START", "A"), update("STEP", "SUCCEED", "A", payload="2"))
        assert kinds(journal)[1:] == [
            "StepStarted",
            "StepSucceeded",
            "InvocationCompleted",
            "StepStarted",
            "StepSucceeded",
        ]
        assert history(journal)[2].details == {
            "Result": {"Payload": "1", "Truncated": False},
            "RetryDetails": {"CurrentAttempt": 1},
        }

    def test_a_crash(self, journal, update):
        """The crashed invocation is completed with its error; the replay starts its step no second time."""
        journal.update(update("STEP", "START", "A"))
        died = ErrorObject("died", "Runtime.ExitError")
        journal.write(Entry(crashed=journal.invocation("crashed", error=died, cut_short=True)), seen=2)
        journal.update(update("STEP", "SUCCEED", "A"))
        told = history(journal)
        assert [event.event_type for event in told[1:]] == ["StepStarted", "InvocationCompleted", "StepSucceeded"]
        assert told[2].details["RequestId"] == "crashed"
        assert told[2].details["Error"]["Payload"] == {"ErrorMessage": "died", "ErrorType": "Runtime.ExitError"}

    @pytest.mark.parametrize(
        ("status", "kind"),
        [(ExecutionStatus.STOPPED, "ExecutionStopped"), (ExecutionStatus.TIMED_OUT, "ExecutionTimedOut")],
    )
    def test_an_end_from_outside_closes_the_open_invocation(self, journal, status, kind):
        """The invocation that is running is completed first."""
        opened = OpenInvocation("open", journal.now)
        journal.write(Entry(ended=Ended(status=status)), invocation=opened, after=3)
        completed, ended = history(journal)[1:]
        assert (completed.event_type, ended.event_type) == ("InvocationCompleted", kind)
        assert completed.details == {
            "StartTimestamp": journal.execution.started,
            "EndTimestamp": journal.execution.started + timedelta(seconds=3),
            "RequestId": "open",
        }

    def test_what_folds_to_nothing_has_no_event(self, journal, update):
        """Losers of races and rows behind the end are not told of."""
        journal.update(update("CALLBACK", "START", "c"), update("WAIT", "START", "w", wait=5))
        journal.fire("w", after=1)
        journal.deliver("c")
        journal.deliver("c", "TIMED_OUT")
        journal.update(update("STEP", "START", "c"))
        journal.end()
        journal.fire("w", after=9)
        assert kinds(journal)[3:] == ["CallbackSucceeded", "InvocationCompleted", "ExecutionSucceeded"]

    def test_one_event_per_update_in_their_order(self, journal, update):
        """Whatever the request mixes, at the time of its row."""
        journal.update(
            update("STEP", "SUCCEED", "b"),
            update("WAIT", "START", "a", wait=1),
            update("CONTEXT", "FAIL", "c", error=BOOM),
            after=2,
        )
        told = history(journal)[1:]
        assert [(event.event_type, event.operation_id) for event in told] == [
            ("StepSucceeded", "b"),
            ("WaitStarted", "a"),
            ("ContextFailed", "c"),
        ]
        assert {event.event_timestamp - journal.execution.started for event in told} == {timedelta(seconds=2)}


class TestDetails:
    def test_execution_started(self, new_journal):
        """The first event has input and timeout, and the execution's id and name."""
        event = last(new_journal().begin(execution_timeout=60))
        assert (event.event_id, event.operation_id, event.name) == (1, "exec-1", "order-17")
        assert event.details == {"Input": {"Payload": '{"card":"1"}', "Truncated": False}, "ExecutionTimeout": 60}

    def test_an_execution_without_timeout_names_none(self, journal):
        """The member is absent then."""
        assert set(last(journal).details) == {"Input"}

    @pytest.mark.parametrize(
        ("ended", "kind", "details"),
        [
            (
                Ended(status=ExecutionStatus.SUCCEEDED, result="1"),
                "ExecutionSucceeded",
                {"Result": {"Payload": "1", "Truncated": False}},
            ),
            (
                Ended(status=ExecutionStatus.FAILED, error=BOOM),
                "ExecutionFailed",
                {"Error": {"Payload": BOOM_MEMBERS, "Truncated": False}},
            ),
            (
                Ended(status=ExecutionStatus.TIMED_OUT),
                "ExecutionTimedOut",
                {
                    "Error": {
                        "Payload": {"ErrorMessage": "Execution timed out after 60 seconds."},
                        "Truncated": False,
                    }
                },
            ),
            (
                Ended(status=ExecutionStatus.STOPPED, error=BOOM),
                "ExecutionStopped",
                {"Error": {"Payload": BOOM_MEMBERS, "Truncated": False}},
            ),
        ],
    )
    def test_ends(self, new_journal, ended, kind, details):
        """Result or error of the whole execution."""
        journal = new_journal().begin(execution_timeout=60)
        journal.write(Entry(ended=ended))
        assert (last(journal).event_type, last(journal).details) == (kind, details)

    def test_a_recorded_outcome(self, journal, update):
        """A large result appears in the event of the end, and nowhere else."""
        journal.update(update("EXECUTION", "SUCCEED", "r", payload="large"))
        journal.end(result="")
        assert kinds(journal)[1:] == ["InvocationCompleted", "ExecutionSucceeded"]
        assert last(journal).details["Result"]["Payload"] == "large"

    def test_pause_and_resume(self, journal):
        """When and why."""
        journal.write(Entry(paused=Paused(reason="holiday", execution_timeout_paused=False)), after=1)
        journal.write(Entry(resumed=Resumed()), after=1)
        paused, resumed = history(journal)[1:]
        assert (paused.event_type, resumed.event_type) == ("ExecutionPaused", "ExecutionResumed")
        assert paused.details == {
            "PauseRequestTimestamp": paused.event_timestamp,
            "Reason": "holiday",
            "ExecutionTimeoutPaused": False,
        }
        assert resumed.details == {"ResumeRequestTimestamp": resumed.event_timestamp}

    def test_an_invocation_has_no_operation(self, journal):
        """Neither Id nor Name; no Error unless it failed."""
        journal.suspend()
        event = last(journal)
        assert (event.operation_id, event.name) == (None, None)
        assert set(event.details) == {"StartTimestamp", "EndTimestamp", "RequestId"}

    def test_identity_of_operations(self, journal, update):
        """Id, Name, SubType and ParentId, also where the update left them out."""
        journal.update(update("CONTEXT", "START", "p"))
        journal.update(update("STEP", "START", "s", name="n", sub_type="Step", parent_id="p"))
        journal.update(update("STEP", "FAIL", "s", error=BOOM))
        event = last(journal)
        assert (event.operation_id, event.name, event.sub_type, event.parent_id) == ("s", "n", "Step", "p")
        assert event.details["RetryDetails"] == {"CurrentAttempt": 1}

    def test_waits(self, journal, update):
        """Duration and end; the duration again when it is over."""
        journal.update(update("WAIT", "START", "w", wait=7), update("WAIT", "START", "x", wait=7))
        started = last(journal)
        assert started.details == {
            "Duration": 7,
            "ScheduledEndTimestamp": started.event_timestamp + timedelta(seconds=7),
        }
        journal.fire("w", after=8)
        assert (last(journal).event_type, last(journal).details) == ("WaitSucceeded", {"Duration": 7})
        journal.update(update("WAIT", "CANCEL", "x", error=BOOM))
        assert (last(journal).event_type, last(journal).details["Error"]["Payload"]) == ("WaitCancelled", BOOM_MEMBERS)

    @pytest.mark.parametrize(
        ("timeouts", "members"),
        [((0, 0), {}), ((5, 0), {"Timeout": 5}), ((5, 6), {"Timeout": 5, "HeartbeatTimeout": 6})],
    )
    def test_callbacks_tell_their_timeouts(self, journal, update, timeouts, members):
        """Only those that are set."""
        journal.update(update("CALLBACK", "START", "c", timeouts=timeouts), callbacks={"c": "Y2Jr"})
        assert last(journal).details == {"CallbackId": "Y2Jr"} | members

    @pytest.mark.parametrize(
        ("outcome", "kind", "details"),
        [
            ({"result": "ok"}, "CallbackSucceeded", {"Result": {"Payload": "ok", "Truncated": False}}),
            ({}, "CallbackSucceeded", {"Result": {"Truncated": False}}),
            (
                {"status": "FAILED", "error": BOOM},
                "CallbackFailed",
                {"Error": {"Payload": BOOM_MEMBERS, "Truncated": False}},
            ),
            (
                {"status": "TIMED_OUT", "error": BOOM},
                "CallbackTimedOut",
                {"Error": {"Payload": BOOM_MEMBERS, "Truncated": False}},
            ),
        ],
    )
    def test_callbacks_tell_their_outcome(self, journal, update, outcome, kind, details):
        """Result, absent when empty, or the error as sent."""
        journal.update(update("CALLBACK", "START", "c"))
        journal.deliver("c", **outcome)
        assert (last(journal).event_type, last(journal).details) == (kind, details)

    def test_invokes_tell_their_target(self, journal, update):
        """What was asked for and what it resolved to."""
        invoke = update("CHAINED_INVOKE", "START", "i", function="pay", payload="1")
        journal.update(invoke, targets={"i": journal.target()})
        assert last(journal).details == {
            "FunctionName": "pay",
            "Input": {"Payload": "1", "Truncated": False},
            "ExecutedVersion": "7",
            "DurableExecutionArn": "arn:child",
        }
        journal.deliver("i", "STOPPED", error=BOOM)
        assert (last(journal).event_type, last(journal).details["Error"]["Payload"]) == (
            "ChainedInvokeStopped",
            BOOM_MEMBERS,
        )

    def test_an_invoke_of_nothing_fails_at_once(self, journal, update):
        """Its start and its failure, without the input."""
        target = journal.target(version=None, durable_execution_arn=None, error=BOOM)
        journal.update(update("CHAINED_INVOKE", "START", "i", function="gone", payload="1"), targets={"i": target})
        started, failed = history(journal)[1:]
        assert started.details == {"FunctionName": "gone"}
        assert (failed.event_type, failed.details["Error"]["Payload"]) == ("ChainedInvokeFailed", BOOM_MEMBERS)

    def test_without_data_payloads_are_truncated(self, journal, update):
        """`include_data=False` leaves payloads out and says so; nothing else changes."""
        journal.update(update("STEP", "SUCCEED", "s", payload="1"), update("STEP", "FAIL", "t", error=BOOM))
        bare, full = history(journal, include_data=False), history(journal)
        assert [event.event_type for event in bare] == [event.event_type for event in full]
        assert bare[0].details["Input"] == {"Truncated": True}
        assert bare[1].details == {"Result": {"Truncated": True}, "RetryDetails": {"CurrentAttempt": 1}}
        assert bare[2].details["Error"] == {"Truncated": True}
