"""The mapping to and from wire JSON: protocol.md §§3–5."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from aws_durable_execution_sdk_python import lambda_service as aws
from hypothesis import given
from hypothesis import strategies as st

from perdure import codec
from perdure.codec import canonical, digest, from_wire, to_wire
from perdure.errors import ValidationError
from perdure.model import (
    CallbackDetails,
    CallbackOptions,
    ChainedInvokeDetails,
    ChainedInvokeOptions,
    CheckpointAnswer,
    ContextDetails,
    ContextOptions,
    ErrorObject,
    Event,
    ExecutionDetails,
    InvocationInput,
    InvocationOutput,
    InvocationStatus,
    Operation,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
    StatePage,
    StepDetails,
    StepOptions,
    WaitDetails,
    WaitOptions,
)

AT = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)
SECONDS = 1795262400.123456
ERROR = ErrorObject("boom", "ValueError", "data", ["line 1", "line 2"])

UPDATE = OperationUpdate(
    operation_id="op",
    operation_type=OperationType.CHAINED_INVOKE,
    action=OperationAction.START,
    parent_id="p",
    name="n",
    sub_type="ChainedInvoke",
    payload="1",
    error=ERROR,
    context_options=ContextOptions(replay_children=True),
    step_options=StepOptions(5),
    wait_options=WaitOptions(6),
    callback_options=CallbackOptions(7, 8),
    chained_invoke_options=ChainedInvokeOptions("f", "tenant", "Root=1"),
)
UPDATE_MEMBERS = {
    "Id": "op",
    "Type": "CHAINED_INVOKE",
    "Action": "START",
    "ParentId": "p",
    "Name": "n",
    "SubType": "ChainedInvoke",
    "Payload": "1",
    "Error": {
        "ErrorMessage": "boom",
        "ErrorType": "ValueError",
        "ErrorData": "data",
        "StackTrace": ["line 1", "line 2"],
    },
    "ContextOptions": {"ReplayChildren": True},
    "StepOptions": {"NextAttemptDelaySeconds": 5},
    "WaitOptions": {"WaitSeconds": 6},
    "CallbackOptions": {"TimeoutSeconds": 7, "HeartbeatTimeoutSeconds": 8},
    "ChainedInvokeOptions": {"FunctionName": "f", "TenantId": "tenant", "XAmznTraceId": "Root=1"},
}
OPERATION = Operation(
    operation_id="op",
    operation_type=OperationType.STEP,
    status=OperationStatus.PENDING,
    start_timestamp=AT,
    end_timestamp=AT,
    parent_id="p",
    name="n",
    sub_type="Step",
    execution_details=ExecutionDetails("{}"),
    context_details=ContextDetails(True, "1", ERROR),
    step_details=StepDetails(2, AT, "2", ERROR),
    wait_details=WaitDetails(AT),
    callback_details=CallbackDetails("cb", "3", ERROR),
    chained_invoke_details=ChainedInvokeDetails("4", ERROR),
    position=9,
)
OPERATION_MEMBERS = {
    "Id": "op",
    "Type": "STEP",
    "Status": "PENDING",
    "StartTimestamp": SECONDS,
    "EndTimestamp": SECONDS,
    "ParentId": "p",
    "Name": "n",
    "SubType": "Step",
    "ExecutionDetails": {"InputPayload": "{}"},
    "ContextDetails": {"ReplayChildren": True, "Result": "1", "Error": UPDATE_MEMBERS["Error"]},
    "StepDetails": {
        "Attempt": 2,
        "NextAttemptTimestamp": SECONDS,
        "Result": "2",
        "Error": UPDATE_MEMBERS["Error"],
    },
    "WaitDetails": {"ScheduledEndTimestamp": SECONDS},
    "CallbackDetails": {"CallbackId": "cb", "Result": "3", "Error": UPDATE_MEMBERS["Error"]},
    "ChainedInvokeDetails": {"Result": "4", "Error": UPDATE_MEMBERS["Error"]},
}


class TestUpdates:
    def test_every_member_has_the_wires_name(self):
        """All members of §5.2, in both directions."""
        assert to_wire(UPDATE) == UPDATE_MEMBERS
        assert from_wire(OperationUpdate, UPDATE_MEMBERS) == UPDATE

    def test_absent_members_are_left_out(self):
        """A bare update has its three required members."""
        update = OperationUpdate(operation_id="s", operation_type=OperationType.STEP, action=OperationAction.START)
        assert to_wire(update) == {"Id": "s", "Type": "STEP", "Action": "START"}

    def test_aws_reads_what_is_written(self):
        """AWS's SDK finds in our members what was meant."""
        theirs = aws.OperationUpdate.from_dict(to_wire(UPDATE))
        assert theirs.to_dict() == to_wire(UPDATE)


class TestOperations:
    def test_every_member_has_the_wires_name(self):
        """All members of §5.3; the position is ours and not among them."""
        assert to_wire(OPERATION) == OPERATION_MEMBERS
        read = from_wire(Operation, OPERATION_MEMBERS)
        assert read.position is None
        assert to_wire(read) == OPERATION_MEMBERS

    def test_instants_are_milliseconds_in_an_invocation(self):
        """With `millis` they are whole numbers of milliseconds, inside details too."""
        members = to_wire(OPERATION, millis=True)
        millis = 1795262400123
        assert (members["StartTimestamp"], members["StepDetails"]["NextAttemptTimestamp"]) == (millis, millis)
        read = from_wire(Operation, members, millis=True)
        assert read.start_timestamp == AT.replace(microsecond=123000)

    def test_null_is_absent(self):
        """A member that is null is as if it were not there, at any depth."""
        members = {
            "Id": "s",
            "Type": "STEP",
            "Status": "STARTED",
            "StartTimestamp": 0,
            "Name": None,
            "WaitDetails": None,
            "StepDetails": {"Attempt": None, "Result": None},
        }
        read = from_wire(Operation, members)
        assert (read.name, read.wait_details, read.step_details) == (None, None, StepDetails())

    def test_unknown_members_are_ignored(self):
        """A newer service may say more."""
        members = {**OPERATION_MEMBERS, "Novelty": 1, "StepDetails": {"Attempt": 1, "Novelty": {}}}
        assert from_wire(Operation, members).attempt == 1

    def test_aws_reads_what_is_written(self):
        """AWS's SDK reads our operations, in both encodings of instants."""
        theirs = aws.Operation.from_json_dict(to_wire(OPERATION, millis=True))
        assert (theirs.start_timestamp, theirs.step_details.attempt) == (AT.replace(microsecond=123000), 2)
        assert theirs.to_json_dict() == to_wire(OPERATION, millis=True)

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"Id": 1}, "a int is not a string"),
            ({"Status": "WAITING"}, "'WAITING' is not an OperationStatus"),
            ({"Status": ["STARTED"]}, "is not an OperationStatus"),
            ({"StartTimestamp": "now"}, "'now' is not an instant"),
            ({"StartTimestamp": True}, "True is not an instant"),
            ({"StartTimestamp": 1e300}, "too large|out of range"),
            ({"StepDetails": {"Attempt": "1"}}, "'1' is not an integer"),
            ({"ContextDetails": {"ReplayChildren": 1}}, "1 is not true or false"),
            ({"StepDetails": 5}, "not the members of an Operation"),
            ({"Type": None}, "member 'Type' is missing"),
        ],
    )
    def test_what_is_malformed_is_refused(self, change, complaint):
        """A member that is missing or of another type is an error that names it."""
        with pytest.raises(ValidationError, match=complaint):
            from_wire(Operation, {**OPERATION_MEMBERS, **change})


@pytest.mark.parametrize("value", [UPDATE, OPERATION], ids=["update", "operation"])
def test_the_journal_writes_members_as_the_wire_does(value):
    """Two ways to write the same mapping: one needs no cattrs, the other is part of the journal's converter."""
    converter = codec.converter(codec.Instants.SECONDS)
    assert converter.unstructure(value) == to_wire(value)
    assert converter.structure(to_wire(value), type(value)) == from_wire(type(value), to_wire(value))


class TestInstants:
    @given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1)))  # noqa: DTZ001
    def test_seconds_are_exact_to_the_microsecond(self, naive):
        """A float of seconds carries every microsecond there and back, through JSON too."""
        operation = Operation(
            operation_id="s",
            operation_type=OperationType.STEP,
            status=OperationStatus.STARTED,
            start_timestamp=naive.replace(tzinfo=UTC),
        )
        assert from_wire(Operation, json.loads(json.dumps(to_wire(operation)))) == operation

    @pytest.mark.parametrize(
        "given_as", [SECONDS, AT, AT.astimezone(timezone(timedelta(hours=2)))], ids=["float", "utc", "zoned"]
    )
    def test_datetimes_are_instants_too(self, given_as):
        """boto3 hands out datetimes, in any zone; they come out in UTC."""
        read = from_wire(WaitDetails, {"ScheduledEndTimestamp": given_as})
        assert read.scheduled_end_timestamp == AT
        assert read.scheduled_end_timestamp.tzinfo is UTC

    def test_whole_seconds_may_be_integers(self):
        """A service may leave out the fraction."""
        read = from_wire(WaitDetails, {"ScheduledEndTimestamp": 1795262400})
        assert read.scheduled_end_timestamp == AT.replace(microsecond=0)


class TestInvocations:
    def test_the_input_frames_its_operations(self):
        """§4.1: the state is a page, instants are milliseconds."""
        given_input = InvocationInput(
            durable_execution_arn="arn",
            checkpoint_token="token",
            operations=(Operation(**EXECUTION),),
            next_marker="more",
            updated_operation_ids=("a", "b"),
        )
        members = to_wire(given_input, millis=True)
        assert members == {
            "DurableExecutionArn": "arn",
            "CheckpointToken": "token",
            "InitialExecutionState": {
                "Operations": [
                    {
                        "Id": "e",
                        "Type": "EXECUTION",
                        "Status": "STARTED",
                        "StartTimestamp": 1795262400000,
                        "ExecutionDetails": {"InputPayload": "{}"},
                    }
                ],
                "NextMarker": "more",
            },
            "UpdatedOperationIds": ["a", "b"],
        }
        assert from_wire(InvocationInput, members, millis=True) == given_input

    def test_an_empty_marker_is_none(self):
        """§4.1: an empty or absent marker means that the state is complete."""
        members = {"DurableExecutionArn": "a", "CheckpointToken": "t", "InitialExecutionState": {"NextMarker": ""}}
        read = from_wire(InvocationInput, members, millis=True)
        assert (read.operations, read.next_marker, read.updated_operation_ids) == ((), None, ())

    def test_an_input_without_token_is_refused(self):
        """What is no durable invocation is told apart."""
        with pytest.raises(ValidationError, match="an InvocationInput: member 'DurableExecutionArn' is missing"):
            from_wire(InvocationInput, {"key": "value"})

    def test_the_output_has_what_it_needs(self):
        """§4.2: status, and result or error where there is one; an empty result is one."""
        assert to_wire(InvocationOutput(status=InvocationStatus.PENDING)) == {"Status": "PENDING"}
        succeeded = InvocationOutput(status=InvocationStatus.SUCCEEDED, result="")
        assert to_wire(succeeded) == {"Status": "SUCCEEDED", "Result": ""}
        assert from_wire(InvocationOutput, to_wire(succeeded)) == succeeded
        failed = InvocationOutput(status=InvocationStatus.FAILED, error=ErrorObject("m", "t"))
        assert to_wire(failed) == {"Status": "FAILED", "Error": {"ErrorMessage": "m", "ErrorType": "t"}}

    def test_a_checkpoint_answer_frames_its_operations(self):
        """§3: the new state is a page; without token there is no such member."""
        answer = CheckpointAnswer("t", (Operation(**EXECUTION),), "m")
        members = to_wire(answer)
        assert (members["CheckpointToken"], members["NewExecutionState"]["NextMarker"]) == ("t", "m")
        assert from_wire(CheckpointAnswer, members) == answer
        assert to_wire(CheckpointAnswer(None)) == {"NewExecutionState": {"Operations": []}}
        assert from_wire(CheckpointAnswer, {"CheckpointToken": "", "NewExecutionState": None}).token is None

    def test_a_state_page_is_flat(self):
        """§3: operations and marker."""
        page = StatePage((Operation(**EXECUTION),))
        assert from_wire(StatePage, to_wire(page)) == page


EXECUTION = {
    "operation_id": "e",
    "operation_type": OperationType.EXECUTION,
    "status": OperationStatus.STARTED,
    "start_timestamp": AT.replace(microsecond=0),
    "execution_details": ExecutionDetails("{}"),
}


class TestEvents:
    EVENT = Event(
        event_id=2,
        event_type="WaitStarted",
        event_timestamp=AT,
        operation_id="w",
        name="nap",
        sub_type="Wait",
        parent_id="c",
        details={"Duration": 5, "ScheduledEndTimestamp": AT},
    )

    def test_details_are_named_after_the_event(self):
        """§12: exactly one details member, its instants converted too."""
        members = to_wire(self.EVENT)
        assert members == {
            "EventId": 2,
            "EventType": "WaitStarted",
            "EventTimestamp": SECONDS,
            "Id": "w",
            "Name": "nap",
            "SubType": "Wait",
            "ParentId": "c",
            "WaitStartedDetails": {"Duration": 5, "ScheduledEndTimestamp": SECONDS},
        }
        assert from_wire(Event, members) == self.EVENT

    def test_an_event_without_details_has_empty_ones(self):
        """The member is there, even if nothing is in it."""
        event = Event(event_id=1, event_type="StepStarted", event_timestamp=AT, operation_id="s")
        assert to_wire(event)["StepStartedDetails"] == {}


class TestDigests:
    def test_equal_values_have_equal_digests(self):
        """Order of keys and white space do not count, order of lists does."""
        assert canonical('{"b": 1, "a": [1, 2]}') == '{"a":[1,2],"b":1}'
        assert digest('{"b": 1, "a": [1, 2]}') == digest('{"a":[1,2],"b":1}')
        assert digest('{"a":[1,2]}') != digest('{"a":[2,1]}')

    @pytest.mark.parametrize("text", ["not json", "", "{", "[" * 100_000, "\ud800", "1" * 5_000])
    def test_any_text_has_a_digest(self, text):
        """What is not JSON, or is too deep to be read, counts as it is."""
        assert len(digest(text)) == 64
        assert digest(text) != digest(text + " x")


def test_a_stores_time_is_an_instant():
    """Microseconds and datetimes are the same thing."""
    assert codec.instant(codec.microseconds(AT)) == AT
    assert codec.microseconds(AT) == 1795262400123456
