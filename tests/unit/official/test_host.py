"""Processes of AWS's runtime interface client, and how their ends look to the service."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest

if find_spec("awslambdaric") is None:
    pytest.skip("awslambdaric has wheels for Linux only", allow_module_level=True)

from tests.official.function import Function, name_and_qualifier
from tests.official.host import Host

SAMPLES = "tests.unit.official.samples"


def function(name, **options):
    return Function(name, f"{SAMPLES}.{name}", durable=False, **options)


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    functions = [
        *map(function, ("echo", "fail", "die", "kill_itself", "talk")),
        function("hang", timeout=1.5),
        Function("unknown_module", "tests.unit.official.no_such_module.handle"),
        Function("unknown_handler", f"{SAMPLES}.no_such_handler"),
    ]
    host = Host(functions, tmp_path_factory.mktemp("host"), environment={"AWS_ENDPOINT_URL_LAMBDA": "http://x.invalid"})
    yield host
    host.close()


def run(host, name, event=None, **options):
    return host.run(host.functions[name], json.dumps(event or {}).encode(), **options)


def test_a_function_runs_with_what_lambda_tells_it(host):
    """Event, ARN as invoked, tenant, name and the time it has reach the handler."""
    outcome = run(host, "echo", {"a": [1]}, qualifier="$LATEST", tenant="t-1")
    took = outcome.ended - outcome.started
    found = json.loads(outcome.payload)
    assert not outcome.failed
    assert found["event"] == {"a": [1]}
    assert found["arn"] == "arn:aws:lambda:us-west-2:123456789012:function:echo:$LATEST"
    assert (found["tenant"], found["name"], found["request"]) == ("t-1", "echo", outcome.request_id)
    assert 59 - took < found["seconds"] <= 60


def test_a_process_is_used_again_until_the_host_is_cooled(host):
    """The second invocation is a warm start; after `cool` comes a cold one."""
    before = host.started["echo"]
    first, second = (json.loads(run(host, "echo").payload)["pid"] for _ in range(2))
    assert first == second
    assert host.idle(host.functions["echo"]) == [first]
    host.cool()
    assert json.loads(run(host, "echo").payload)["pid"] != first
    assert 1 <= host.started["echo"] - before <= 2


def test_an_exception_is_a_function_error(host):
    """Type, message and trace, as the runtime interface client tells them; the process lives on."""
    outcome = run(host, "fail", {"message": "no"})
    error = outcome.error()
    assert (error["errorType"], error["errorMessage"]) == ("ValueError", "no")
    assert host.idle(host.functions["fail"])


@pytest.mark.parametrize(
    ("name", "event", "end"),
    [
        ("die", {"code": 0}, "exit status 0"),
        ("die", {"code": 3}, "exit status 3"),
        ("kill_itself", {}, "signal: killed"),
    ],
)
def test_a_process_that_dies_is_an_exit_error(host, name, event, end):
    """However it died, the service hears of `Runtime.ExitError`, and the next invocation gets a new process."""
    outcome = run(host, name, event)
    assert outcome.error() == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {outcome.request_id} Error: Runtime exited with error: {end}",
    }
    assert host.idle(host.functions[name]) == []


def test_a_function_that_takes_too_long_is_ended(host):
    """`Sandbox.Timedout`, once its time is over; what it wrote is kept."""
    outcome = run(host, "hang")
    assert outcome.error()["errorType"] == "Sandbox.Timedout"
    assert outcome.error()["errorMessage"].endswith("Task timed out after 1.50 seconds")
    assert 1.4 < outcome.ended - outcome.started < 10
    assert "begun" in [line.text for line in host.log.lines("hang")]
    assert host.idle(host.functions["hang"]) == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [("unknown_module", "Runtime.ImportModuleError"), ("unknown_handler", "Runtime.HandlerNotFound")],
)
def test_a_process_that_cannot_begin_says_why(host, name, kind):
    """An error before the first invocation is that invocation's error."""
    assert run(host, name).error()["errorType"] == kind


def test_what_a_function_writes_is_found_by_its_execution(host):
    """Records of the logger and lines of JSON are records; all lines are the function's; the last words are kept."""
    for arn in ("arn:one", "arn:two"):
        run(host, "talk", {"arn": arn})
    assert [record["message"] for record in host.log.records("talk", "arn:one")] == ["hello", "hello too"]
    assert [line.text for line in host.log.lines("talk")].count("plain") == 2
    run(host, "die", {"code": 1})
    assert "last words" in [line.text for line in host.log.lines("die")]


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        ("f", ("f", "")),
        ("f:live", ("f", "live")),
        ("123456789012:function:f", ("f", "")),
        ("arn:aws:lambda:us-west-2:123456789012:function:f", ("f", "")),
        ("arn:aws:lambda:us-west-2:123456789012:function:f:$LATEST", ("f", "$LATEST")),
    ],
)
def test_functions_are_named_as_invoke_allows(identifier, expected):
    """Names, partial ARNs and ARNs, with and without a qualifier."""
    assert name_and_qualifier(identifier) == expected
