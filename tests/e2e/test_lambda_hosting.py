"""
What `examples/aws` deploys, run by AWS's own runtime interface client against AWS's emulator.

The processes see the unpacked zip, what Lambda's runtime brings (boto3 and the client itself) and the standard library.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import attrs
import pytest

from tests.e2e.lambda_runtime import EXAMPLE, interpreter, packed, unpacked
from tests.e2e.processes import wait_until
from tests.official.cloud import Cloud
from tests.official.function import Function
from tests.official.names import REGION

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_REGION": REGION}


@attrs.frozen
class Place:
    """Where the functions are deployed."""

    cloud: Cloud
    client: object
    runs: Path

    def start(self, function, event, name):
        """Begin an execution; its ARN."""
        answer = self.client.invoke(
            FunctionName=function,
            Qualifier="live",
            InvocationType="Event",
            DurableExecutionName=name,
            Payload=json.dumps(event),
        )
        return answer["DurableExecutionArn"]

    def ended(self, arn):
        """The execution, once it has ended."""

        def describe():
            return self.client.get_durable_execution(DurableExecutionArn=arn)

        wait_until(lambda: describe()["Status"] != "RUNNING", f"the end of {arn}")
        return describe()

    def ran(self, order):
        """Which step has run in which process, in order."""
        lines = self.runs.read_text(encoding="utf-8").splitlines() if self.runs.exists() else []
        return [(step, int(pid)) for name, step, pid in map(str.split, lines) if name == order]

    def errors(self, arn):
        """How invocations of an execution broke off."""
        events = self.client.get_durable_execution_history(DurableExecutionArn=arn)["Events"]
        ends = [event["InvocationCompletedDetails"] for event in events if "InvocationCompletedDetails" in event]
        return [end["Error"]["Payload"]["ErrorType"] for end in ends if end.get("Error", {}).get("Payload")]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The example and the workflows that get stuck, deployed."""
    folder = tmp_path_factory.mktemp("lambda")
    runs = folder / "runs"
    order = unpacked(packed(folder)[0], folder / "order")
    flows = unpacked(packed(folder, Path(__file__).with_name("lambda_flow.py"))[0], folder / "flows")
    environment = {"PERDURE_RUNS": str(runs)}
    functions = [
        Function("order", "app.order", code=order),
        Function("flow", "lambda_flow.flow", code=flows, environment=environment),
        Function("async_flow", "lambda_flow.async_flow", code=flows, environment=environment),
        # Long enough for a cold start, which each of its invocations is.
        Function("hasty", "lambda_flow.flow", code=flows, timeout=8, environment=environment),
    ]
    with Cloud(functions, folder / "cloud", python=interpreter(folder)) as cloud:
        client = cloud.client()
        yield Place(cloud, client, runs)
        client.close()


def perdure(place, *arguments):
    """What a program of ours prints, with the environment in which it finds AWS."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **CREDENTIALS, "AWS_ENDPOINT_URL_LAMBDA": place.cloud.url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def has_callback(place, arn):
    """Whether an execution waits for a callback."""
    events = place.client.get_durable_execution_history(DurableExecutionArn=arn)["Events"]
    return any("CallbackStartedDetails" in event for event in events)


def test_the_order_is_charged_reserved_and_approved(place):
    """From a cold start over a wait and a callback, which the example's script completes, to the result."""
    arn = place.start("order", {"card": "4711", "articles": ["chair", "lamp"]}, "o-17")
    wait_until(lambda: has_callback(place, arn), "the approval that the order waits for")
    perdure(place, str(EXAMPLE / "approve.py"), arn, "yes", "--backend", f"lambda://order:live?region={REGION}")
    found = place.ended(arn)
    assert found["Status"] == "SUCCEEDED"
    assert json.loads(found["Result"]) == {
        "paid": "card 4711 charged",
        "reserved": ["chair reserved", "lamp reserved"],
        "approved": "yes",
    }
    assert place.cloud.host.started["order"] == 1, "the process that was cold has gone on warm"


def test_a_process_is_cold_once(place):
    """Executions that come later run in the process there is; when that is gone, in another."""
    arns = [place.start("flow", {"order": f"warm-{number}"}, f"warm-{number}") for number in range(2)]
    first = {place.ended(arn)["Status"] for arn in arns}
    pids = {pid for number in range(2) for _, pid in place.ran(f"warm-{number}")}
    place.cloud.host.cool()
    again = place.ended(place.start("flow", {"order": "cold"}, "cold"))["Status"]
    assert first | {again} == {"SUCCEEDED"}
    assert pids.isdisjoint(pid for _, pid in place.ran("cold"))


@pytest.mark.parametrize("function", ["flow", "async_flow"])
def test_a_killed_process(place, function):
    """Another process goes on: what was recorded is not run again, the step that was running is."""
    name = f"killed-{function}"
    arn = place.start(function, {"order": name, "stuck": "second"}, name)
    wait_until(lambda: len(place.ran(name)) == 2, "the second step")
    pid = place.ran(name)[-1][1]
    os.kill(pid, signal.SIGKILL)
    assert json.loads(place.ended(arn)["Result"]) == ["first", "second", "third"]
    ran = place.ran(name)
    assert Counter(step for step, _ in ran) == {"first": 1, "second": 2, "third": 1}
    assert [step for step, runner in ran if runner == pid] == ["first", "second"]
    assert place.errors(arn) == ["Runtime.ExitError"]


def test_an_invocation_that_takes_too_long(place):
    """Lambda ends it, and the next one goes on as after a crash."""
    arn = place.start("hasty", {"order": "late", "stuck": "second"}, "late")
    assert json.loads(place.ended(arn)["Result"]) == ["first", "second", "third"]
    assert Counter(step for step, _ in place.ran("late")) == {"first": 1, "second": 2, "third": 1}
    assert place.errors(arn) == ["Sandbox.Timedout"]


@pytest.mark.parametrize("function", ["flow", "async_flow"])
def test_logs_are_json_and_tell_where_they_are_from(place, function):
    """Each record is one line of JSON with the execution, and those of a step with the step and its attempt."""
    name = f"logged-{function}"
    arn = place.start(function, {"order": name}, name)
    place.ended(arn)
    wait_until(lambda: len(place.cloud.host.log.records(function, arn)) >= 4, "all of the log")
    records = {record["message"]: record for record in place.cloud.host.log.records(function, arn)}
    assert set(records) == {f"order {name}", "ran first", "ran second", "ran third"}
    assert {record["level"] for record in records.values()} == {"INFO"}
    assert "operationId" not in records[f"order {name}"]
    step = records["ran second"]
    assert (step["operationName"], step["attempt"], step["order"]) == ("second", 1, name)
    events = place.client.get_durable_execution_history(DurableExecutionArn=arn)["Events"]
    assert {step["operationId"]} == {event["Id"] for event in events if event.get("Name") == "second"}
