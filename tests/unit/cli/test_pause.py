"""`perdure pause`, `resume` and `delete`, and what the other commands show of them."""

from __future__ import annotations

import json
import warnings
from datetime import datetime, timedelta

import pytest

from perdure.adapters.cli.shell import run
from perdure.adapters.worker import Worker
from perdure.client import Client
from perdure.durable import durable_execution
from tests.e2e.processes import wait_until


@durable_execution
def ask(event, context):
    return context.create_callback(name="go").result()


@pytest.fixture
def backend(tmp_path):
    return f"sqlite:///{tmp_path / 'cli.db'}"


@pytest.fixture
def perdure(backend, monkeypatch, capsys):
    """Run a command; returns its exit code and what it has printed on either channel."""
    monkeypatch.setenv("PERDURE_BACKEND", backend)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def command(*arguments):
        code = run(arguments)
        printed = capsys.readouterr()
        return code, printed.out.strip(), printed.err.strip()

    return command


@pytest.fixture
def client(backend):
    """With a worker, and an execution `o-1` that waits."""
    with Worker(backend, [ask]), Client(backend) as client:
        handle = client.start(ask, name="o-1")
        wait_until(lambda: any(one.callback_details for one in handle.operations()), "it waits")
        wait_until(lambda: handle.describe().owner is None, "nobody runs it")
        yield client


def test_pause_and_resume(perdure, client):
    """Each says in a word what it has brought about; in between, what is paused shows."""
    assert perdure("pause", "o-1", "--reason", "lunch") == (0, "pausing", "")
    assert client.describe("o-1").pause.reason == "lunch"
    code, shown, _ = perdure("show", "o-1")
    assert code == 0
    assert "PAUSED" in shown
    assert "`perdure resume` lets it go on: lunch" in shown
    _, listed, _ = perdure("list", "--status", "paused")
    assert "o-1" in listed
    assert perdure("list", "--status", "RUNNING")[1] == "no executions"
    _, shown, _ = perdure("show", "o-1", "--json")
    details = json.loads(shown)["PauseDetails"]
    assert (details["Reason"], details["ExecutionTimeoutPaused"]) == ("lunch", True)
    assert datetime.fromisoformat(details["PauseRequestTimestamp"]).utcoffset() == timedelta()
    assert perdure("resume", "o-1", "--reason", "back") == (0, "resumed", "")
    assert "PauseDetails" not in json.loads(perdure("show", "o-1", "--json")[1])
    _, told, _ = perdure("history", "o-1")
    assert "ExecutionPaused" in told
    assert "Reason back" in told


def test_pause_with_the_timeout_running(perdure, client):
    """On demand the execution timeout counts on."""
    assert perdure("pause", "o-1", "--timeout-runs-on", "--json") == (0, "{}", "")
    assert client.describe("o-1").pause.timeout_paused is False
    assert perdure("resume", "o-1", "--json") == (0, "{}", "")


def test_delete(perdure, client):
    """Only what has ended; it shows until it is gone."""
    code, _, error = perdure("delete", "o-1")
    assert code == 4
    assert "has not ended; stop it first" in error
    client.stop("o-1")
    code, printed, _ = perdure("delete", "o-1", "--json")
    assert code == 0
    assert datetime.fromisoformat(json.loads(printed)["DeletionRequestTimestamp"]).utcoffset() == timedelta()
    assert json.loads(perdure("show", "o-1", "--json")[1])["Status"] == "DELETING"
    assert "o-1" in perdure("list", "--status", "deleting")[1]
    assert perdure("delete", "o-1") == (0, "deleting", "")
    assert perdure("purge") == (0, "1 purged", "")
    assert perdure("show", "o-1")[0] == 3


def test_exit_codes(perdure, client):
    """4 for a status that does not allow it, 3 for what does not exist, 2 for a reason that is too long."""
    assert perdure("resume", "o-1")[0] == 4
    assert perdure("pause", "o-1")[0] == 0
    code, printed, error = perdure("pause", "o-1")
    assert (code, printed) == (4, "")
    assert error.startswith("perdure: execution ")
    assert error.endswith("is paused already; only a running one can be paused")
    for command in ("pause", "resume", "delete"):
        assert perdure(command, "nobody")[0] == 3
    assert perdure("pause", "o-1", "--reason", "x" * 1025)[0] == 2
