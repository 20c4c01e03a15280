"""The endpoint in front of the emulator: Invoke as Lambda has it, histories, faults."""

from __future__ import annotations

import json
from contextlib import closing
from importlib.util import find_spec

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

if find_spec("awslambdaric") is None:
    pytest.skip("awslambdaric has wheels for Linux only", allow_module_level=True)

from tests.official.cloud import Cloud
from tests.official.faults import Fault, Faults, paged, refused, reply_lost
from tests.official.function import Function

SAMPLES = "tests.unit.official.samples"
DURABLE = ("twice", "many", "crash_once")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    functions = [Function(name, f"{SAMPLES}.{name}") for name in DURABLE]
    functions.append(Function("echo", f"{SAMPLES}.echo", durable=False))
    with Cloud(functions, tmp_path_factory.mktemp("cloud")) as cloud:
        yield cloud


@pytest.fixture
def client(cloud):
    around = cloud.front.around
    with closing(cloud.client()) as client:
        yield client
    cloud.front.around = around


def invoke(client, name, event, **options):
    """Start an execution and wait for its end: its ARN and its result."""
    answer = client.invoke(FunctionName=name, Qualifier="$LATEST", Payload=json.dumps(event), **options)
    return answer["DurableExecutionArn"], json.loads(answer["Payload"].read())


def kinds(client, arn, **options):
    events = client.get_durable_execution_history(DurableExecutionArn=arn, **options)["Events"]
    return [event["EventType"] for event in events]


def test_an_invoke_is_held_open_until_the_execution_ends(cloud, client):
    """A synchronous Invoke answers with the result, and the trail has what the handler did."""
    arn, result = invoke(client, "twice", {"number": 4})
    assert result == 8
    trail = cloud.front.trails[arn]
    assert [outcome.failed for outcome in trail.outcomes] == [False, False]
    assert all(checkpoint.accepted for checkpoint in trail.checkpoints)
    names = [update.get("Name") for checkpoint in trail.checkpoints for update in checkpoint.updates]
    assert {"first", "pause", "second"} <= {*names}
    assert kinds(client, arn)[-2:] == ["InvocationCompleted", "ExecutionSucceeded"]


def test_a_name_is_used_once(client):
    """The same name with the same input is the same execution, with another input an error."""
    first, _ = invoke(client, "twice", {"number": 1}, DurableExecutionName="once")
    again, result = invoke(client, "twice", {"number": 1}, DurableExecutionName="once")
    assert (again, result) == (first, 2)
    with pytest.raises(client.exceptions.DurableExecutionAlreadyStartedException):
        invoke(client, "twice", {"number": 2}, DurableExecutionName="once")


def test_an_event_is_answered_at_once(client):
    """202 with the ARN, while the execution goes on."""
    answer = client.invoke(FunctionName="twice:$LATEST", InvocationType="Event", Payload=b'{"number": 1}')
    assert answer["StatusCode"] == 202
    described = client.get_durable_execution(DurableExecutionArn=answer["DurableExecutionArn"])
    assert described["Status"] == "RUNNING"


def test_a_durable_function_needs_a_qualifier(client):
    """Without one it is refused, as Lambda refuses it."""
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="needs a qualifier"):
        client.invoke(FunctionName="twice", Payload=b"{}")


def test_a_plain_function_is_just_run(client):
    """No execution, no qualifier."""
    answer = client.invoke(FunctionName="echo", Payload=b'{"a": 1}')
    assert "DurableExecutionArn" not in answer
    assert json.loads(answer["Payload"].read())["event"] == {"a": 1}


def test_errors_have_their_codes(client):
    """Of the endpoint and of the emulator, whose answers lack them."""
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.invoke(FunctionName="stranger", Payload=b"{}")
    arn, _ = invoke(client, "twice", {"number": 1})
    with pytest.raises(ClientError) as caught:
        client.checkpoint_durable_execution(DurableExecutionArn=arn, CheckpointToken="stale")
    assert caught.value.response["Error"]["Code"] == "InvalidParameterValueException"


def test_a_crash_is_in_the_history(client, tmp_path):
    """The invocation that died has its event, with the error, and the execution goes on."""
    arn, result = invoke(client, "crash_once", {"flag": str(tmp_path / "flag")})
    assert result == "survived"
    events = client.get_durable_execution_history(DurableExecutionArn=arn)["Events"]
    ended = [event["InvocationCompletedDetails"] for event in events if event["EventType"] == "InvocationCompleted"]
    assert [details.get("Error", {}).get("Payload", {}).get("ErrorType") for details in ended] == [
        "Runtime.ExitError",
        None,
    ]
    assert [event["EventId"] for event in events] == [*range(1, len(events) + 1)]


def test_histories_come_in_pages(client):
    """However small the pages and whichever way, together they are the history."""
    arn, _ = invoke(client, "twice", {"number": 1})
    pages = client.get_paginator("get_durable_execution_history")
    whole = kinds(client, arn)
    for reverse in (False, True):
        found = pages.paginate(DurableExecutionArn=arn, ReverseOrder=reverse, PaginationConfig={"PageSize": 3})
        events = [event["EventType"] for page in found for event in page["Events"]]
        assert events == (whole[::-1] if reverse else whole)


def test_state_can_come_in_pages(cloud, client):
    """A handler that goes on is given one operation, and fetches the others one by one."""
    cloud.front.around = Faults(
        Fault("RunHandler", paged(1), times=None), Fault("GetDurableExecutionState", paged(1), times=None)
    )
    arn, result = invoke(client, "many", {"steps": 4})
    assert result == 6
    # EXECUTION is on the first page; four steps and the wait follow.
    assert cloud.front.trails[arn].pages == 5


@pytest.mark.parametrize(
    "act", [reply_lost, refused(429, "TooManyRequestsException", Retry_After="0"), refused(500, "ServiceException")]
)
def test_faults_hit_the_calls_they_are_for(cloud, client, act):
    """A checkpoint that goes wrong once is repeated by boto3, and counts once."""
    cloud.front.around = Faults(Fault("CheckpointDurableExecution", act))
    arn, result = invoke(client, "twice", {"number": 3})
    assert result == 6
    assert [kind for kind in kinds(client, arn) if kind == "StepSucceeded"] == ["StepSucceeded"] * 2


def test_a_fault_can_cut_a_caller_off(cloud, client):
    """The caller sees the connection end, and what it asked for has happened."""
    cloud.front.around = Faults(Fault("Invoke", reply_lost))
    with pytest.raises(ConnectionClosedError):
        invoke(client, "twice", {"number": 5}, DurableExecutionName="heard")
    _, result = invoke(client, "twice", {"number": 5}, DurableExecutionName="heard")
    assert result == 10


@pytest.mark.parametrize("store", ["filesystem", "sqlite"])
def test_time_can_be_skipped(tmp_path, store):
    """A wait of an hour is over at once, on any store of the emulator."""
    nap = Function("nap", f"{SAMPLES}.nap", execution_timeout=7200)
    with Cloud([nap], tmp_path, store=store, skip_time=True) as cloud, closing(cloud.client()) as client:
        arn, result = invoke(client, "nap", {"seconds": 3600})
        assert result == "rested"
        assert "WaitSucceeded" in kinds(client, arn)
    assert (tmp_path / "store").exists()
