"""The command line on `lambda://`: the same commands, output and exit codes as on own stores."""

from __future__ import annotations

import json
import time
import warnings

import pytest

from perdure.adapters.cli.shell import run
from perdure.nonce import nonce
from tests.official.names import REGION


@pytest.fixture
def perdure(cloud, monkeypatch, capsys):
    """Run a command; returns its exit code and what it has printed on either channel."""
    monkeypatch.setenv("PERDURE_BACKEND", f"lambda://ask:$LATEST?region={REGION}")
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", cloud.url)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def command(*arguments):
        code = run(arguments)
        printed = capsys.readouterr()
        return code, printed.out.strip(), printed.err.strip()

    return command


def started(perdure, function, *options):
    """The name and ARN of a new execution."""
    name = f"o-{nonce()}"
    code, arn, error = perdure("start", function, "--name", name, *options)
    assert (code, error) == (0, "")
    return name, arn


def open_callback(perdure, name):
    limit = time.monotonic() + 20
    while time.monotonic() < limit:
        shown = json.loads(perdure("show", name, "--json")[1])
        for operation in shown["Operations"]:
            if operation["Type"] == "CALLBACK":
                return operation["CallbackDetails"]["CallbackId"]
    raise AssertionError(shown)


def test_the_life_of_an_execution(perdure):
    """Start, list, show, history, callback: as in the README, with names of the function that the URL names."""
    name, arn = started(perdure, "ask", "--input", '{"card": 1}')
    callback = open_callback(perdure, name)
    code, shown, _ = perdure("show", name)
    assert code == 0
    assert "RUNNING" in shown
    assert f"perdure callback success {callback}" in shown
    assert perdure("callback", "heartbeat", callback) == (0, "callback alive", "")
    assert perdure("callback", "success", callback, "--result", '"yes"') == (0, "callback succeeded", "")
    code, result, _ = perdure("start", "ask", "--name", name, "--input", '{"card": 1}', "--wait", "--timeout", "20")
    assert (code, json.loads(json.loads(result))) == (0, "yes")
    described = json.loads(perdure("show", arn, "--json")[1])
    assert (described["DurableExecutionName"], described["Status"]) == (name, "SUCCEEDED")
    assert described["InputPayload"] == '{"card": 1}'
    events = json.loads(perdure("history", name, "--json")[1])["Events"]
    assert [event["EventId"] for event in events] == list(range(1, len(events) + 1))
    assert [event["EventType"] for event in events][-1] == "ExecutionSucceeded"
    assert {"CallbackStarted", "CallbackSucceeded", "InvocationCompleted"} <= {event["EventType"] for event in events}
    listed = json.loads(perdure("list", "--name", name, "--json")[1])["DurableExecutions"]
    assert [found["DurableExecutionArn"] for found in listed] == [arn]
    assert name in perdure("list", "--limit", "1000")[1]


def test_stop(perdure):
    """By name; its error is told."""
    name, _ = started(perdure, "ask")
    open_callback(perdure, name)
    code, printed, _ = perdure("stop", name, "--json")
    assert code == 0
    assert set(json.loads(printed)) == {"StopTimestamp"}
    assert perdure("stop", name)[1].startswith("STOPPED since ")


def test_another_function(perdure):
    """Named in the command, found with --function."""
    name, _ = started(perdure, "fail", "--input", '{"why": "because"}')
    code, _, error = perdure("start", "fail", "--name", name, "--input", '{"why": "because"}', "--wait")
    assert (code, error.rpartition(": ")[2]) == (1, "because")
    assert perdure("show", name)[0] == 3
    assert perdure("show", name, "--function", "fail")[0] == 0


def test_exit_codes(perdure, monkeypatch):
    """Those of the README."""
    name, _ = started(perdure, "ask")
    assert perdure("show", "nobody")[0] == 3
    assert perdure("start", "nowhere")[0] == 3
    assert perdure("callback", "success", "bm9uZQ==")[0] == 3
    code, _, error = perdure("start", "ask", "--name", name, "--input", "7")
    assert (code, "another input" in error) == (4, True)
    assert perdure("start", "ask", "--name", name, "--wait", "--timeout", "0")[0] == 6
    code, _, error = perdure("start", "ask", "--execution-timeout", "5")
    assert (code, "DurableConfig" in error) == (2, True)
    for command in ("workers", "purge"):
        assert perdure(command)[0] == 2
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", "http://127.0.0.1:9")
    code, printed, error = perdure("show", name)
    assert (code, printed) == (5, "")
    assert error.startswith("perdure: AWS Lambda does not answer ListDurableExecutionsByFunction")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    code, _, error = perdure("show", name)
    assert (code, "or name a profile with ?profile=" in error) == (5, True)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    code, _, error = perdure("show", name)
    assert (code, error.startswith("perdure: no usable AWS credentials: Unable to locate credentials; set")) == (
        5,
        True,
    )
    assert perdure("list", "--backend", "lambda://ask")[0] == 5
    code, _, error = perdure("list", "--backend", f"lambda://?region={REGION}")
    assert (code, "name the function too" in error) == (2, True)
    assert perdure("migrate", "--backend", f"lambda://?region={REGION}")[0] == 0
