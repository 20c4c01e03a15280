"""Two workers on one store, one of them stopped past its lease and continued."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections import Counter
from contextlib import closing

import pytest

from perdure.client import Client
from tests.e2e import flows
from tests.e2e.processes import WorkerProcess, wait_until

WORKFLOWS = 200
LEASE = 1.5


@pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")
def test_a_worker_stopped_past_its_lease_is_fenced(tmp_path, url):
    """No result is lost, no operation is recorded twice, and the woken worker learns that others own its work."""
    log, hold = tmp_path / "zombie.log", tmp_path / "hold"
    hold.touch()
    with Client(url) as client:
        handles = []
        for n in range(WORKFLOWS):
            function = flows.crowd_async if n % 2 else flows.crowd
            event = {"runs": str(tmp_path / f"runs-{n}"), "pause": 0.05, "hold": str(hold)}
            handles.append(client.start(function, event))
        with WorkerProcess(url, LEASE, log) as zombie, WorkerProcess(url, LEASE):
            # Until both have something to do, none gets on: one alone would soon be through.
            wait_until(lambda: _owners(client) >= 2, "both workers own something")
            wait_until(lambda: _stopped(zombie, url), "it is stopped without the file's write lock")
            hold.unlink()
            results = [handle.result(timeout=120) for handle in handles]
            zombie.send(signal.SIGCONT)
            wait_until(lambda: "has another owner" in zombie.log or "lease was lost" in zombie.log, "it is fenced")
        assert results == [0 + 1 + 4 + 9] * WORKFLOWS
        for handle in handles:
            events = handle.history()
            ends = Counter(event.name for event in events if event.event_type == "StepSucceeded")
            assert ends == Counter({f"step-{n}": 1 for n in range(4)})
            assert [event.event_id for event in events] == list(range(1, len(events) + 1))


def _stopped(zombie: WorkerProcess, url: str) -> bool:
    """Stop the process, unless it is writing: then nobody could write until it is continued, as SQLite has it."""
    zombie.send(signal.SIGSTOP)
    os.waitpid(zombie.process.pid, os.WUNTRACED)
    if not url.startswith("sqlite"):
        return True
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=1.0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            zombie.send(signal.SIGCONT)
            return False
        connection.execute("ROLLBACK")
        return True


def _owners(client: Client) -> int:
    running = client.list(statuses=["RUNNING"], limit=80, oldest_first=True).items
    return len({client.describe(summary.id).owner for summary in running} - {None})
