"""
Programs written for AWS's SDK run on Perdure after a change of their import lines, and do the same.

`samples/` has them as they were written. Each runs as it is, with AWS's SDK on the emulator; and with its import lines
changed by the map in `docs/aws-compatibility.md`, on the emulator and on `memory://`.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import re
import shlex
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from perdure.adapters.worker import Worker
from perdure.client import Client
from perdure.model import ErrorObject, OperationStatus
from perdure.storage import open_backend
from tests.aws.test_compatibility import DOCUMENT, MODULES, ROOT
from tests.e2e.processes import wait_until
from tests.official.cloud import Cloud
from tests.official.function import Function
from tests.official.names import REGION

SAMPLES = sorted(Path(__file__).with_name("samples").glob("*.py"))
FAILED = "aws_durable_execution_sdk_python.exceptions"
BOOKED = ["flight booked in attempt 2", "hotel booked in attempt 1"]
CASES = {
    "travel": (
        ({"who": "Ada", "full": []}, {"booked": BOOKED, "insured": True}, {}),
        (
            {"who": "Bob", "full": ["insurance"]},
            {"booked": BOOKED, "insured": "no insurance is free", "type": "LookupError"},
            {},
        ),
        (
            {"who": "Eve", "full": ["hotel"]},
            {"cancelled": ["flight cancelled"], "errors": ["no hotel is free"]},
            {},
        ),
    ),
    "ledger": tuple(
        (
            {"entries": entries, "tolerated": tolerated, "flat": flat},
            {
                "day": "2026-02-28",
                "sum": total,
                "whole": True,
                "failed": failed,
                "booked": "booked",
                "audit": [True, "IndexError", "list index out of range"],
            },
            {},
        )
        for flat in (False, True)
        for entries, tolerated, total, failed in (
            ([{"currency": "USD", "amount": 10}, {"currency": "CHF", "amount": 20}], 0, "30", []),
            (
                [{"currency": "EUR", "amount": 7}, {"currency": "XXX", "amount": 1}],
                1,
                "7",
                [[1, f"{FAILED}.StepError"]],
            ),
        )
    ),
    "expense": (
        (
            {"chain": ["ann", "bob", "eve", "max"], "patience": 2},
            {
                "story": [
                    ["ann", "was silent", True],
                    ["bob", "not mine", f"{FAILED}.CallbackExternalError"],
                    ["eve", "yes"],
                ],
                "receipt": {"total": 12},
            },
            {"receipt": '{"total": 12}', "ask bob": LookupError("not mine"), "ask eve": "yes"},
        ),
    ),
    "report": (
        (
            {"pages": 2},
            {"report": {"pages": 2, "attempt": 2}, "appendix": "page 1 is lost", "type": "ValueError"},
            {},
        ),
    ),
}
ALL = [
    pytest.param(sample, *case, id=f"{sample}-{number}")
    for sample, cases in CASES.items()
    for number, case in enumerate(cases)
]
METRICS = Counter(
    [
        *["metric STEP report SUCCEEDED", "metric STEP appendix FAILED"],
        *["metric function report 1", "metric function report 2", "metric function appendix 1"],
        *["metric first PENDING", "metric later PENDING", "metric later SUCCEEDED"],
    ]
)
"""What the plugin of `report` says. The emulator calls again when a poll is due, and so do our stores."""


def ported(text):
    """A program with its import lines changed by the map of the documentation."""

    def other(found):
        indent, verb, module, rest = found.groups()
        return f"{indent}{verb} {MODULES[module[1:] if module else ROOT]}{rest}"

    return re.sub(rf"^( *)(from|import) {ROOT}((?:\.\w+)*)\b(.*)$", other, text, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The changed programs."""
    folder = tmp_path_factory.mktemp("ported")
    for sample in SAMPLES:
        (folder / sample.name).write_text(ported(sample.read_text(encoding="utf-8")), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def cloud(folder, tmp_path_factory):
    """All programs deployed, as they were and changed."""
    functions = [
        Function(f"{prefix}-{sample}", f"{sample}.handler", code=code)
        for prefix, code in (("aws", SAMPLES[0].parent), ("ported", folder))
        for sample in CASES
    ]
    with Cloud(functions, tmp_path_factory.mktemp("cloud")) as cloud:
        yield cloud


def test_every_sample_is_run():
    """A program added to the samples needs cases."""
    assert {sample.stem for sample in SAMPLES} == set(CASES)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_only_import_lines_change(sample, folder):
    """No other line is touched, and nothing of AWS's SDK is left."""
    before = sample.read_text(encoding="utf-8")
    after = (folder / sample.name).read_text(encoding="utf-8")
    changed = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "-+"]
    assert changed
    assert all(re.match(r"[-+] (from|import) [\w.]+( import| as)", line) for line in changed)
    assert ROOT not in after


def test_the_command_of_the_documentation_changes_the_same(folder, tmp_path):
    """What it tells to run on a program makes of it what is tested here."""
    (command,) = re.findall(r"^```sh\n(sed .*?)\n```", DOCUMENT, re.MULTILINE | re.DOTALL)
    for sample in SAMPLES:
        program = tmp_path / "app.py"
        program.write_text(sample.read_text(encoding="utf-8"), encoding="utf-8")
        subprocess.run(shlex.split(command), cwd=tmp_path, check=True, timeout=30)
        assert program.read_text(encoding="utf-8") == (folder / sample.name).read_text(encoding="utf-8")


def answers_due(open_callbacks, answers):
    """Of the callbacks that are open, those that are to be completed: id and answer."""
    for callback_id, name in open_callbacks:
        for begin, answer in answers.items():
            if name.startswith(begin):
                yield callback_id, answer


@pytest.mark.parametrize(("sample", "event", "expected", "answers"), ALL)
@pytest.mark.parametrize("prefix", ["aws", "ported"])
def test_on_lambda(cloud, prefix, sample, event, expected, answers):
    """Called by AWS's runtime client, both versions come to the result."""
    client = cloud.client()
    started = client.invoke(
        FunctionName=f"{prefix}-{sample}", Qualifier="1", InvocationType="Event", Payload=json.dumps(event)
    )
    arn = started["DurableExecutionArn"]
    done = set()

    def is_over():
        events = client.get_durable_execution_history(DurableExecutionArn=arn)["Events"]
        opened = [
            (each["CallbackStartedDetails"]["CallbackId"], each["Name"])
            for each in events
            if "CallbackStartedDetails" in each
        ]
        for callback_id, answer in answers_due([one for one in opened if one[0] not in done], answers):
            done.add(callback_id)
            if isinstance(answer, Exception):
                error = {"ErrorMessage": str(answer), "ErrorType": type(answer).__name__}
                client.send_durable_execution_callback_failure(CallbackId=callback_id, Error=error)
            else:
                client.send_durable_execution_callback_success(CallbackId=callback_id, Result=answer)
        return client.get_durable_execution(DurableExecutionArn=arn)["Status"] != "RUNNING"

    wait_until(is_over, f"the end of {sample}", seconds=40)
    found = client.get_durable_execution(DurableExecutionArn=arn)
    client.close()
    assert found["Status"] == "SUCCEEDED", found
    assert json.loads(found["Result"]) == expected


@pytest.fixture
def own_place(monkeypatch):
    """An environment in which boto3 makes clients, and a store with its client."""
    for name, value in {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": REGION}.items():
        monkeypatch.setenv(name, value)
    backend = open_backend("memory://")
    with Client(backend) as client:
        yield backend, client


def loaded(path):
    """A program's handler."""
    spec = importlib.util.spec_from_file_location(f"ported_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.handler


@pytest.mark.parametrize(("sample", "event", "expected", "answers"), ALL)
def test_on_a_worker_of_ones_own(folder, own_place, sample, event, expected, answers):
    """The same changed program on a store, where AWS is not needed at all."""
    backend, client = own_place
    handler = loaded(folder / f"{sample}.py")
    with Worker(backend, [handler]):
        handle = client.start(handler, event)

        def is_over():
            opened = [
                (each.callback_details.callback_id, each.name)
                for each in handle.operations()
                if each.callback_details and each.status is OperationStatus.STARTED
            ]
            for callback_id, answer in answers_due(opened, answers):
                if isinstance(answer, Exception):
                    client.send_callback_failure(callback_id, ErrorObject.from_exception(answer))
                else:
                    client.send_callback_success(callback_id, answer)
            return handle.describe().status.value != "RUNNING"

        wait_until(is_over, f"the end of {sample}", seconds=40)
        assert handle.result(timeout=1) == expected


@pytest.mark.parametrize("prefix", ["aws", "ported"])
def test_plugins_are_told_alike_on_lambda(cloud, prefix):
    """The plugin of a program prints the same under either SDK."""
    client = cloud.client()
    name = f"{prefix}-report"
    before = len(cloud.host.log.lines(name))
    client.invoke(FunctionName=name, Qualifier="1", Payload=json.dumps({"pages": 2}))
    client.close()
    lines = [line.text for line in cloud.host.log.lines(name)[before:]]
    assert Counter(line for line in lines if line.startswith("metric")) == METRICS


def test_plugins_are_told_alike_on_a_worker(folder, own_place, capsys):
    """And on a worker of one's own."""
    backend, client = own_place
    handler = loaded(folder / "report.py")
    with Worker(backend, [handler]):
        client.start(handler, {"pages": 2}).result(timeout=30)
    lines = capsys.readouterr().out.splitlines()
    assert Counter(line for line in lines if line.startswith("metric")) == METRICS
