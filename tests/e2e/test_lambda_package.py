"""What `examples/aws` deploys: the zip, and the template that AWS's linter reads."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from runpy import run_path

import pytest
from botocore.session import Session

from perdure.adapters.worker import Worker
from perdure.client import Client
from tests.e2e.lambda_runtime import EXAMPLE, libraries, packed, unpacked
from tests.e2e.processes import wait_until

ROOT = Path(__file__).parents[2]
TEMPLATE = EXAMPLE / "template.yaml"

LARGEST = 400_000
"""Bytes of the zip: today's and a quarter."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The zip of the order workflow."""
    return packed(tmp_path_factory.mktemp("package"))[0]


def run_alone(archive, folder, script):
    """Output of a script that can import the unpacked zip, boto3 and the standard library, and nothing else."""
    task, beside = unpacked(archive, folder / "task"), libraries(folder / "runtime")
    done = subprocess.run(
        [
            *(sys.executable, "-I", "-S", "-B", "-W", "error", "-c"),
            *(f"import sys; sys.path[:0] = sys.argv[1:]\n{script}", str(task), str(beside)),
        ],
        cwd=folder,
        env={"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def carried_out(tree):
    """What stands in a module, without what only type checkers read."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            yield from carried_out(node)


# ------------------------------------------------------------------------------------------------------------ the zip


def test_the_recipe_says_how_large_the_zip_is(tmp_path):
    """Its size is what it says, and within bounds."""
    archive, said = packed(tmp_path)
    size = archive.stat().st_size
    assert f"order.zip: {size:,} bytes" in said
    assert size < LARGEST


def test_the_zip_holds_what_runs_on_lambda_only(archive):
    """The workflow, the kernel, the adapter and two dependencies; no store, no test, nothing compiled."""
    with zipfile.ZipFile(archive) as found:
        names = set(found.namelist())
    tops = {name.split("/")[0] for name in names}
    metadata = {top for top in tops if top.endswith(".dist-info")}
    assert tops - metadata == {"app.py", "perdure", "attr", "attrs", "cattr", "cattrs", "typing_extensions.py"}
    assert {re.sub(r"-[\d.]+\.dist-info", "", top) for top in metadata} == {
        "perdure",
        "attrs",
        "cattrs",
        "typing_extensions",
    }
    assert {name.split("/")[2] for name in names if name.startswith("perdure/adapters/")} == {"lambda_handler"}
    assert not [name for name in names if re.search(r"__pycache__|\.pyc$|test|backends|direct_url|RECORD", name)]
    assert [name for name in names if name.endswith("entry_points.txt")]
    assert "perdure/__init__.py" not in names


def test_the_zip_is_complete(archive):
    """Every module of Perdure that one in the zip imports, however late, is in the zip too; but for types alone."""
    with zipfile.ZipFile(archive) as found:
        sources = {name: found.read(name) for name in found.namelist() if re.fullmatch(r"perdure/.*\.py", name)}
    for name, source in sources.items():
        for node in carried_out(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("perdure."):
                path = node.module.replace(".", "/")
                assert {f"{path}.py", f"{path}/__init__.py"} & set(sources), f"{name} imports {node.module}"


def test_the_same_files_make_the_same_zip(archive, tmp_path):
    """Byte for byte, so that a deployment without changes deploys nothing."""
    again, _ = packed(tmp_path)
    assert again.read_bytes() == archive.read_bytes()


def test_other_modules_and_distributions_can_be_packed(tmp_path):
    """A workflow of one's own, and what it imports."""
    module = tmp_path / "flow.py"
    module.write_text("import jmespath\n", encoding="utf-8")
    archive, _ = packed(tmp_path, module, "--with", "jmespath")
    with zipfile.ZipFile(archive) as found:
        names = found.namelist()
    assert {"flow.py", "jmespath/__init__.py"} <= set(names)
    assert "app.py" not in names


def test_a_distribution_that_is_missing_is_named(tmp_path):
    """The error says what to install."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "package.py"), "--out", str(tmp_path / "x.zip"), "--with", "no-such-thing"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "pip install no-such-thing" in done.stderr


def test_the_zip_alone_handles_an_event(archive, tmp_path):
    """With boto3 and the standard library beside it, its handler is found, and refuses an event that is none."""
    script = """
import app
try:
    app.order({"card": "4711"}, None)
except Exception as error:
    print(type(error).__name__, error)
import perdure.adapters.lambda_handler
paths = {path for path in map(str, perdure.__path__)}
print(paths == {sys.argv[1] + "/perdure"})
"""
    refusal, paths = run_alone(archive, tmp_path, script).splitlines()
    assert refusal.startswith("ValidationError")
    assert "DurableConfig" in refusal
    assert paths == "True"


# ------------------------------------------------------------------------------------------------------- the workflow


def test_the_workflow_is_that_of_the_readme():
    """What is deployed is, to the letter, what the README shows."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = [
        block for block in re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL) if "# app.py" in block
    ]
    first, _, rest = (EXAMPLE / "app.py").read_text(encoding="utf-8").partition("\n")
    assert first.startswith("# mypy:")
    assert rest == block


def approve(*arguments):
    """The example's script."""
    command = [sys.executable, "-W", "error", str(EXAMPLE / "approve.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_workflow_and_its_script_run_on_a_store_as_well(tmp_path):
    """On SQLite the same module is served by a worker, and the same script approves, once."""
    order = run_path(str(EXAMPLE / "app.py"))["order"]
    url = f"sqlite:///{tmp_path}/perdure.db"
    with Worker(url, [order]), Client(url) as client:
        handle = client.start(order, {"card": "4711", "articles": ["chair"]}, name="o-17")
        early = approve("o-17", "--backend", url)
        assert (early.returncode, early.stderr) == (1, "order 'o-17' waits for no approval\n")
        wait_until(lambda: any(each.callback_details for each in handle.operations()), "the approval")
        done = approve("o-17", "granted", "--backend", url)
        assert done.returncode == 0, done.stderr
        assert handle.result(timeout=30)["approved"] == "granted"


def test_an_unknown_order_is_one_line(tmp_path):
    """Not a traceback."""
    url = f"sqlite:///{tmp_path}/perdure.db"
    with Client(url):
        done = approve("nobody", "--backend", url)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "nobody" in done.stderr


# ------------------------------------------------------------------------------------------------------- the template


def lint(template):
    """What cfn-lint finds, by rule."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from cfnlint.runner import main; main()",
            "--format",
            "json",
            "--include-checks",
            "I",
            "--",
            str(template),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "AWS_DEFAULT_REGION": "us-east-1"},
        check=False,
    )
    return [finding["Rule"]["Id"] for finding in json.loads(done.stdout)]


def test_the_template_passes_the_linter():
    """Not even a hint is left."""
    assert lint(TEMPLATE) == []


@pytest.mark.parametrize(
    ("right", "wrong", "rule"),
    [
        ("ExecutionTimeout: !Ref ExecutionTimeout", "ExecutionTimeout: soon", "E3012"),
        ("RetentionPeriodInDays:", "RetentionPeriod:", "E3002"),
        ("DurableConfig:", "DurableConfiguration:", "E3002"),
        ("python3.13", "python3.7", "E2531"),
    ],
)
def test_the_linter_knows_what_the_template_says(tmp_path, right, wrong, rule):
    """A wrong value in its place is found, so that passing means something."""
    text = TEMPLATE.read_text(encoding="utf-8")
    assert right in text
    broken = tmp_path / "template.yaml"
    broken.write_text(text.replace(right, wrong), encoding="utf-8")
    assert rule in lint(broken)


@pytest.mark.parametrize(
    ("parameter", "member"), [("ExecutionTimeout",) * 2, ("RetentionDays", "RetentionPeriodInDays")]
)
def test_the_parameters_take_exactly_what_lambda_takes(tmp_path, parameter, member):
    """Their bounds are those of CloudFormation's own schema."""
    declared = re.search(rf"^  {parameter}:\n((?:    .*\n)+)", TEMPLATE.read_text(encoding="utf-8"), re.MULTILINE)[1]
    least, most = (int(re.search(rf"{bound}: (\d+)", declared)[1]) for bound in ("MinValue", "MaxValue"))
    verdicts = []
    for value in (least, most, least - 1, most + 1):
        durable = {"ExecutionTimeout": 1, member: value}
        properties = {
            "Runtime": "python3.13",
            "Handler": "app.order",
            "Role": "arn:aws:iam::123456789012:role/order",
            "Code": {"S3Bucket": "packages", "S3Key": "order.zip"},
            "DurableConfig": durable,
        }
        path = tmp_path / "plain.json"
        path.write_text(json.dumps({"Resources": {"F": {"Type": "AWS::Lambda::Function", "Properties": properties}}}))
        verdicts.append(lint(path))
    assert verdicts == [[], [], ["E3034"], ["E3034"]]


def test_the_permissions_are_actions_of_lambda():
    """Each is an operation of its API (that of Invoke is called otherwise), and the function may do what it needs."""
    operations = set(Session().get_service_model("lambda").operation_names) - {"Invoke"} | {"InvokeFunction"}
    actions = re.findall(r"- lambda:(\w+)", TEMPLATE.read_text(encoding="utf-8"))
    assert set(actions) <= operations
    assert {"CheckpointDurableExecution", "GetDurableExecutionState"} <= set(actions)
