"""What `docs/lambda.md` shows is what happens, as far as it can happen without an account of AWS."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from botocore import xform_name
from botocore.session import Session

from tests.e2e.processes import wait_until
from tests.official.names import REGION

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "lambda.md").read_text(encoding="utf-8")
PROGRAMS = {"perdure": [sys.executable, "-m", "perdure.adapters.cli"], "python": [sys.executable]}


def block(language, word):
    """The code block of this language that has this word in it."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    (found,) = [block for block in blocks if word in block]
    return found


@pytest.fixture
def environment(tmp_path):
    """What the page's program and the line below it tell to set, while the program runs."""
    program = block("python", "Cloud(").replace('"build/cloud"', repr(str(tmp_path / "cloud")))
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        told = [process.stdout.readline(), block("sh", "AWS_DEFAULT_REGION")]
        told += [line for line in block("sh", "perdure start").splitlines() if line.startswith("export")]
        yield os.environ | dict(word.split("=", 1) for line in told for word in shlex.split(line)[1:])
        process.communicate("\n", timeout=30)
    assert process.returncode == 0


def test_the_commands_of_the_page(environment):
    """Started, shown, approved and attached to: each command as it stands there, against the emulator."""
    assert environment["AWS_DEFAULT_REGION"] == REGION

    def run(line):
        program, *arguments = shlex.split(line)
        done = subprocess.run(
            [*PROGRAMS[program], *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (line, done.stderr)
        return done.stdout

    commands = [line for line in block("sh", "perdure start").splitlines() if not line.startswith("export")]
    start, show, history, approve, attach = commands
    run(start)
    wait_until(lambda: "perdure callback success" in run(show), "the approval that the order waits for")
    assert "CallbackStarted" in run(history)
    assert run(approve).startswith("approved ")
    assert json.loads(run(attach)) == {
        "paid": "card 4711 charged",
        "reserved": ["chair reserved", "lamp reserved"],
        "approved": "yes",
    }


@pytest.mark.parametrize("command", block("sh", "aws lambda").splitlines())
def test_aws_knows_the_commands_of_its_own_tool(command):
    """Operations and options are those of AWS's API, and no option that it requires is missing."""
    aws, service, operation, *options = shlex.split(command)
    assert (aws, service) == ("aws", "lambda")
    model = Session().get_service_model("lambda")
    names = {xform_name(name, "-"): name for name in model.operation_names}
    shape = model.operation_model(names[operation]).input_shape
    members = {f"--{xform_name(name, '-')}": name for name in shape.members} | {"--zip-file": "Code"}
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert set(given) <= set(members)
    assert set(shape.required_members) <= {members[option] for option in given}
    if durable := given.get("--durable-config"):
        assert {part.split("=")[0] for part in durable.split(",")} <= set(shape.members["DurableConfig"].members)


def test_links_lead_somewhere():
    """To files of the repository, and to headings of the page."""
    headings = {
        re.sub(r"[^\w-]", "", title.lower().replace(" ", "-"))
        for title in re.findall(r"^#+ (.*)", DOCUMENT, re.MULTILINE)
    }
    for page in ("lambda.md", "aws-compatibility.md"):
        for link in re.findall(r"\]\(([^)]+)\)", (ROOT / "docs" / page).read_text(encoding="utf-8")):
            assert link.removeprefix("#") in headings if link.startswith("#") else (ROOT / "docs" / link).exists(), link
    named = re.findall(r"`((?:tests|examples|docs)/[\w./-]+\.\w+)`", DOCUMENT)
    assert [path for path in named if "build" not in path and not (ROOT / path).is_file()] == []
