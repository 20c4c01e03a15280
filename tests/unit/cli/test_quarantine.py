"""An execution whose invocations crash again and again: what the commands show of it, and its release."""

from __future__ import annotations

import json
import warnings

import pytest

from perdure.adapters.cli.shell import run
from perdure.adapters.worker import Worker
from perdure.client import Client
from perdure.durable import durable_execution
from perdure.service.crash_policy import CrashPolicy
from tests.e2e.processes import wait_until

LIMIT = 2


@pytest.fixture
def perdure(tmp_path, monkeypatch, capsys):
    """Run a command; returns its exit code and what it has printed."""
    monkeypatch.setenv("PERDURE_BACKEND", f"sqlite:///{tmp_path / 'cli.db'}")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def command(*arguments):
        code = run(arguments)
        printed = capsys.readouterr()
        return code, (printed.out + printed.err).strip()

    return command


def test_shown_and_released(perdure, tmp_path, monkeypatch):
    """`list` and `show` tell of it and of the remedy, `resume` lets it go on, and then nothing tells of it any more."""
    runs = []

    @durable_execution
    def poisonous(event, context):
        runs.append(1)
        if len(runs) <= LIMIT:
            raise SystemExit(1)
        return "cured"

    monkeypatch.setattr("perdure.service.service.CrashPolicy", lambda: CrashPolicy(limit=LIMIT, first_pause=0.0))
    backend = f"sqlite:///{tmp_path / 'cli.db'}"
    with Worker(backend, [poisonous]), Client(backend) as client:
        handle = client.start(poisonous, name="o-1")
        wait_until(lambda: handle.describe().quarantined, "it is quarantined")
        assert "RUNNING, quarantined" in perdure("list")[1]
        assert json.loads(perdure("list", "--json")[1])["DurableExecutions"][0]["Quarantined"] is True
        code, shown = perdure("show", "o-1")
        assert code == 0
        assert "2 invocations in a row crashed; `perdure resume` lets it go on" in shown
        assert json.loads(perdure("show", "o-1", "--json")[1])["Quarantined"] is True
        assert perdure("resume", "o-1", "--reason", "mended") == (0, "resumed")
        assert handle.result(timeout=10) == "cured"
        assert "quarantined" not in perdure("list")[1] + perdure("show", "o-1")[1]
        assert "Reason mended" in perdure("history", "o-1")[1]
        assert perdure("resume", "o-1")[0] == 4
