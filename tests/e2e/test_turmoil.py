"""Workers that die and come back while everything a workflow can wait for happens: all of it ends, and rightly."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from perdure.client import Client
from perdure.errors import CallbackClosedError
from tests.e2e.processes import lease_of

WORKFLOWS = 24
PROGRAM = Path(__file__).with_name("turmoil.py")


@pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")
@pytest.mark.parametrize("seed", [1, 2])
def test_everything_ends_whoever_dies(tmp_path, url, seed):
    """Waits, retries, callbacks, children and batches, under two workers of which one is killed again and again."""
    chance = random.Random(seed)
    callbacks = tmp_path / "callbacks"
    callbacks.mkdir()
    with Client(url) as client:
        handles = [client.start("everything", {"n": n, "folder": str(callbacks)}) for n in range(WORKFLOWS)]
        workers = [_worker(url), _worker(url)]
        try:
            deadline = time.monotonic() + 90
            next_kill = time.monotonic() + 0.5
            while any(handle.describe().ended is None for handle in handles):
                assert time.monotonic() < deadline, _told(handles)
                _answer(client, callbacks)
                if time.monotonic() > next_kill:
                    victim = chance.randrange(2)
                    workers[victim].kill()
                    workers[victim].wait()
                    workers[victim] = _worker(url)
                    next_kill = time.monotonic() + chance.uniform(0.5, 1.5)
                time.sleep(0.05)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        for n, handle in enumerate(handles):
            assert handle.result(timeout=0) == ["called", n, [0, 1, 4], "awake"]
            events = handle.history()
            assert [event.event_id for event in events] == list(range(1, len(events) + 1))


def _worker(url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(PROGRAM), url, str(lease_of(url))], stderr=subprocess.DEVNULL)


def _answer(client: Client, folder: Path) -> None:
    for path in folder.iterdir():
        if path.suffix != ".new":
            # A submitter that ran twice asks twice.
            with suppress(CallbackClosedError):
                client.send_callback_success(path.read_text(), "called")
            path.unlink()


def _told(handles) -> list[object]:
    return [handle.describe() for handle in handles if handle.describe().ended is None]
