"""What a step returned is on disk before the next body begins."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.e2e.tracer import trace

STEPS = 12
PROGRAM = """
import sys
from perdure.adapters.worker import Worker
from perdure.client import Client
from tests.e2e import flows

url, runs, name = sys.argv[1:]
function = getattr(flows, name)
with Worker(url, flows.FUNCTIONS), Client(url) as client:
    assert client.start(function, {"runs": runs, "steps": 12}).result(timeout=120) == 506
"""


@pytest.mark.parametrize("name", ["row", "row_async"])
def test_a_sync_precedes_every_body_that_follows_a_recorded_step(tmp_path, name):
    """Between two bodies the log is written and synced; when a body begins, nothing written is unsynced."""
    runs = tmp_path / "runs"
    bodies = synced = 0
    dirty = False
    for call in trace([sys.executable, "-c", PROGRAM, f"sqlite:///{tmp_path / 'd.db'}", str(runs), name]):
        in_log = Path(call.file).name == "d.db-wal"
        if in_log and call.name in ("write", "pwrite64") and call.begins:
            dirty = True
        elif in_log and call.name in ("fsync", "fdatasync") and not call.begins:
            dirty = False
            synced += 1
        elif call.file == str(runs) and call.name == "write" and call.begins:
            if bodies:
                assert synced, f"no sync between body {bodies - 1} and body {bodies}"
                assert not dirty, f"body {bodies} began while its predecessor's record was not synced"
            bodies += 1
            synced = 0
    assert bodies == STEPS
