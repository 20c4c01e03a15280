"""What the README shows is what happens."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
PERDURE = [sys.executable, "-m", "perdure.adapters.cli"]


def block(language: str, word: str) -> str:
    """The code block of this language that has this word in it."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    (found,) = [block for block in blocks if word in block]
    return found


def perdure(folder: Path, *arguments: str) -> str:
    """Output of a command that must succeed."""
    done = subprocess.run([*PERDURE, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def callback_id(folder: Path, execution: str) -> str:
    """The id of the callback that an execution waits for, once it does."""
    limit = time.monotonic() + 60
    while not (found := re.search(r"perdure callback success (\S+)", perdure(folder, "show", execution))):
        assert time.monotonic() < limit, f"{execution} has no callback"
    return found[1]


def test_the_workflow_the_commands_and_the_client(tmp_path: Path) -> None:
    """The README's workflow runs on a worker, is started and completed by its commands, and by its client snippet."""
    (tmp_path / "app.py").write_text(block("python", "# app.py"), encoding="utf-8")
    worker, start, show, complete, attach = [shlex.split(line) for line in block("sh", "app:order").splitlines()]
    assert worker == ["perdure", "worker", "app:order", "&"]
    process = subprocess.Popen([*PERDURE, *worker[1:-1]], cwd=tmp_path)
    try:
        arn = perdure(tmp_path, *start[1:])
        snippet = block("python", "import Client")
        with subprocess.Popen(
            [sys.executable, "-c", snippet], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        ) as application:
            approval = callback_id(tmp_path, "o-17")
            assert "cool-off" in perdure(tmp_path, *show[1:])
            perdure(tmp_path, *[approval if word == "ID" else word for word in complete[1:]])
            paid = "card 4711 charged"
            assert json.loads(perdure(tmp_path, *attach[1:])) == {
                "paid": paid,
                "reserved": ["chair reserved", "lamp reserved"],
                "approved": "yes",
            }
            assert arn.endswith(json.loads(perdure(tmp_path, *show[1:], "--json"))["DurableExecutionArn"])
            perdure(tmp_path, "callback", "success", callback_id(tmp_path, "o-18"))
            said, _ = application.communicate(timeout=60)
        assert application.returncode == 0
        assert said.splitlines()[-1] == f"{{'paid': '{paid}', 'reserved': ['chair reserved'], 'approved': None}}"
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
