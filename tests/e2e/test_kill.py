"""A worker killed at any moment: nothing recorded is lost, nothing recorded runs again."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from perdure.client import Client
from perdure.model import OperationStatus
from tests.e2e import flows
from tests.e2e.processes import WorkerProcess, lease_of, wait_until

if TYPE_CHECKING:
    from pathlib import Path

EXPECTED = sum(n * n for n in range(50))
MOMENTS = [0, 1, 2, 3, 5, 8, 10, 13, 15, 18, 20, 23, 26, 29, 32, 36, 40, 44, 48, 49]
CASES = [
    *(("sqlite", moment) for moment in MOMENTS),
    *((store, moment) for store in ("postgres", "redis") for moment in (0, 10, 49)),
]


def runs_of(path: Path) -> Counter[str]:
    return Counter(path.read_text().split()) if path.exists() else Counter()


@pytest.mark.parametrize("function", [flows.fifty, flows.fifty_async], ids=lambda function: function.name)
@pytest.mark.parametrize(("url", "moment"), CASES, indirect=["url"])
@pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")
def test_no_step_runs_again_once_it_is_recorded(tmp_path, url, function, moment):
    """After SIGKILL at the start of a step, the next worker goes on; recorded steps do not run again."""
    runs = tmp_path / "runs"
    with Client(url) as client:
        handle = client.start(function, {"runs": str(runs), "pause": 0.001})
        with WorkerProcess(url, lease_of(url)) as first:
            wait_until(lambda: sum(runs_of(runs).values()) > moment, f"step {moment} ran")
            first.kill()
        recorded = {o.name for o in handle.operations() if o.status is OperationStatus.SUCCEEDED}
        before = runs_of(runs)
        with WorkerProcess(url):
            assert handle.result(timeout=60) == EXPECTED
    after = runs_of(runs)
    assert sorted(after) == sorted(str(n) for n in range(50))
    for n in range(50):
        allowed = {before[str(n)] if f"step-{n}" in recorded else before[str(n)] + 1}
        if not url.startswith("sqlite"):
            # What had been sent may be recorded by the server after its sender has died.
            allowed.add(max(1, before[str(n)]))
        assert after[str(n)] in allowed, f"step {n} ran {after[str(n)]} times"
    assert sum(after.values()) <= 51


@pytest.mark.parametrize("nesting", ["NESTED", "FLAT"])
@pytest.mark.parametrize("function", [flows.large, flows.large_async], ids=lambda function: function.name)
@pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")
def test_a_large_map_is_rebuilt_without_its_bodies(tmp_path, url, function, nesting):
    """300 KB of results, recorded by their branches alone: after SIGKILL they are equal, and no body ran again."""
    runs, hold = tmp_path / "runs", tmp_path / "hold"
    hold.touch()
    with Client(url) as client:
        handle = client.start(function, {"runs": str(runs), "hold": str(hold), "nesting": nesting})
        with WorkerProcess(url, lease_of(url)) as first:
            wait_until(lambda: runs_of(runs)["held"] == 1, "the step behind the map began")
            first.kill()
        hold.unlink()
        with WorkerProcess(url):
            live, replayed, sizes = handle.result(timeout=60)
        container = next(operation for operation in handle.operations() if operation.name == "pieces")
    assert live == replayed
    assert sizes == [75_000] * 4
    assert container.context_details.replay_children
    assert runs_of(runs) == {**{f"piece-{n}": 1 for n in range(4)}, "held": 2}
