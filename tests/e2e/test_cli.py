"""The command line as a user has it: real processes, what they print and how they exit."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tests.servers import with_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

APP = """
import time

from perdure.config import WaitForCallbackConfig
from perdure.durable import Duration, durable_execution


@durable_execution
def greet(event, context):
    name = context.step(lambda _: event["name"], name="look up")
    return {"hello": name}


@durable_execution
def fail(event, context):
    raise ValueError(event["why"])


@durable_execution
def ask(event, context):
    config = WaitForCallbackConfig(timeout=Duration.from_hours(1), heartbeat_timeout=Duration.from_hours(1))
    return context.wait_for_callback(lambda id, _: None, name="approval", config=config)


@durable_execution
def sleep(event, context):
    context.wait(Duration.from_days(30), name="month")


@durable_execution
def dawdle(event, context):
    context.step(lambda _: time.sleep(60), name="take a minute")


@durable_execution
def tell(event, context):
    context.step(lambda step: step.logger.warning("two lines"), name="pay")


@durable_execution
def refuse(event, context):
    context.step(lambda _: "x" * 2_000_000, name="too much")


number = 7
"""
LETHAL = """
import os

from perdure.durable import durable_execution


@durable_execution
def die(event, context):
    context.step(lambda _: os._exit(9))
"""
PERDURE = [sys.executable, "-m", "perdure.adapters.cli"]


@attrs.frozen
class Shell:
    """A folder with a backend and an app, and `perdure` run in it."""

    folder: Path
    environment: Mapping[str, str] = attrs.field(factory=dict)

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """One command, to its end."""
        return subprocess.run(
            [*PERDURE, *arguments],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def output(self, *arguments: str) -> str:
        """What a command prints that must succeed without a word on standard error."""
        done = self.run(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    def json(self, *arguments: str) -> Any:
        """What it prints with `--json`."""
        return json.loads(self.output(*arguments, "--json"))

    def fails(self, code: int, *arguments: str) -> str:
        """The one line it says on standard error when it exits with `code`."""
        done = self.run(*arguments)
        assert done.returncode == code, done.stderr
        assert re.fullmatch(r"perdure: [^\n]+\n", done.stderr)
        return done.stderr.strip()

    def until(self, execution: str, status: str) -> dict[str, Any]:
        """The execution once it has this status."""
        return self._shown(execution, lambda shown: shown["Status"] == status)

    def callback_id(self, execution: str) -> str:
        """The id of the callback that an execution waits for, once it does."""
        shown = self._shown(execution, _callbacks)
        return _callbacks(shown)[0]["CallbackDetails"]["CallbackId"]

    def _shown(self, execution: str, reached: Any) -> dict[str, Any]:
        limit = time.monotonic() + 30
        while not reached(shown := self.json("show", execution)):
            assert time.monotonic() < limit, shown
        return shown


def _callbacks(shown: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for operation in shown["Operations"] if operation["Type"] == "CALLBACK"]


def instant(text: str) -> datetime:
    """An instant of an answer: ISO 8601 with an offset."""
    at = datetime.fromisoformat(text)
    assert at.utcoffset() == timedelta(0)
    return at


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A shell whose backend has a worker; tests use names of their own."""
    folder = tmp_path_factory.mktemp("busy")
    (folder / "app.py").write_text(APP, encoding="utf-8")
    with (folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen([*PERDURE, "worker", "app"], cwd=folder, stdout=log, stderr=log)
    try:
        shell = Shell(folder)
        # Its functions are registered once it has run one.
        done = shell.run("start", "greet", "--input", '{"name": "worker"}', "--wait", "--timeout", "30")
        assert done.returncode == 0, done.stderr + (folder / "worker.log").read_text()
        yield shell
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0, (folder / "worker.log").read_text()


@pytest.fixture
def idle(tmp_path: Path) -> Shell:
    """A shell with an empty backend and no worker."""
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    return Shell(tmp_path)


class TestStart:
    def test_prints_the_arn(self, busy: Shell) -> None:
        """Without options, the ARN is all that is printed, for scripts to keep."""
        arn = busy.output("start", "greet", "--input", '{"name": "Ada"}', "--name", "plain")
        assert re.fullmatch(
            r"arn:perdure:lambda:local:000000000000:function:greet:\$LATEST/durable-execution/plain/[\w-]+", arn
        )

    def test_json_is_the_answer_of_get_durable_execution(self, busy: Shell) -> None:
        """With --json, start describes what it has started."""
        started = busy.json("start", "greet", "--input", '{"name": "Ada"}', "--name", "as-json")
        assert started["DurableExecutionArn"].endswith("/" + started["DurableExecutionArn"].split("/")[-1])
        assert started["DurableExecutionName"] == "as-json"
        assert started["FunctionArn"] == "arn:perdure:lambda:local:000000000000:function:greet:$LATEST"
        assert started["Version"] == "$LATEST"
        assert json.loads(started["InputPayload"]) == {"name": "Ada"}
        assert started["DurableConfig"] == {"RetentionPeriodInDays": 14}

    def test_wait_prints_the_result(self, busy: Shell) -> None:
        """With --wait, the result is printed as JSON text."""
        assert json.loads(busy.output("start", "greet", "--input", '{"name": "Bob"}', "--wait")) == {"hello": "Bob"}

    def test_wait_with_json_describes_the_end(self, busy: Shell) -> None:
        """With --wait --json, the description is that of the ended execution."""
        ended = busy.json("start", "greet", "--input", '{"name": "Eve"}', "--wait")
        assert ended["Status"] == "SUCCEEDED"
        assert json.loads(ended["Result"]) == {"hello": "Eve"}
        assert instant(ended["StartTimestamp"]) <= instant(ended["EndTimestamp"])

    def test_wait_for_a_failure_exits_with_1(self, busy: Shell) -> None:
        """An execution that ends otherwise than SUCCEEDED is told in one line and by the exit code."""
        told = busy.fails(1, "start", "fail", "--input", '{"why": "no luck"}', "--wait")
        assert "FAILED" in told
        assert "no luck" in told

    def test_a_failure_as_json_has_the_error(self, busy: Shell) -> None:
        """With --json a failure is described on standard output, the exit code is the same."""
        done = busy.run("start", "fail", "--input", '{"why": "no luck"}', "--wait", "--json")
        assert (done.returncode, done.stderr) == (1, "")
        ended = json.loads(done.stdout)
        assert ended["Status"] == "FAILED"
        assert ended["Error"]["ErrorType"] == "ValueError"
        assert ended["Error"]["ErrorMessage"] == "no luck"
        assert "Result" not in ended

    def test_a_wait_that_takes_too_long_exits_with_6(self, busy: Shell) -> None:
        """--timeout bounds the waiting only; the execution goes on."""
        busy.fails(6, "start", "sleep", "--name", "long", "--wait", "--timeout", "0.2")
        assert busy.json("show", "long")["Status"] == "RUNNING"

    def test_the_same_name_and_input_start_once(self, busy: Shell) -> None:
        """Starting again under a name attaches to the execution that is there, whatever the input's spacing."""
        first = busy.output("start", "greet", "--input", '{"name":"Ada"}', "--name", "twice")
        assert busy.output("start", "greet", "--input", '{ "name" : "Ada" }', "--name", "twice") == first

    def test_the_same_name_with_another_input_is_a_conflict(self, busy: Shell) -> None:
        """A name that is taken with another input exits with 4."""
        busy.output("start", "greet", "--input", '{"name": "Ada"}', "--name", "taken")
        assert "another input" in busy.fails(4, "start", "greet", "--input", '{"name": "Eve"}', "--name", "taken")

    def test_an_unknown_function_is_accepted_with_a_warning(self, idle: Shell) -> None:
        """A function that no worker has registered may come later: the start counts, a warning tells."""
        done = idle.run("start", "nobody", "--name", "early", "--json")
        assert done.returncode == 0
        assert re.fullmatch(r"perdure: warning: [^\n]*nobody[^\n]*\n", done.stderr)
        assert json.loads(done.stdout)["Status"] == "RUNNING"

    def test_input_may_be_a_file_or_standard_input(self, busy: Shell) -> None:
        """@FILE names a file with the input, @- is standard input."""
        (busy.folder / "input.json").write_text('{"name": "file"}', encoding="utf-8")
        assert "file" in busy.output("start", "greet", "--input", "@input.json", "--wait")
        piped = busy.run("start", "greet", "--input", "@-", "--wait", stdin='{"name": "pipe"}')
        assert json.loads(piped.stdout) == {"hello": "pipe"}

    def test_execution_timeout_and_retention_are_recorded(self, idle: Shell) -> None:
        """What start was given beyond the input is in the description, with AWS's names."""
        done = idle.run("start", "nobody", "--execution-timeout", "60", "--retention", "3", "--json")
        started = json.loads(done.stdout)
        assert started["DurableConfig"] == {"ExecutionTimeout": 60, "RetentionPeriodInDays": 3}
        due = instant(started["ExpectedExecutionTimeoutTimestamp"])
        assert due - instant(started["StartTimestamp"]) == timedelta(seconds=60)

    @pytest.mark.parametrize(
        ("arguments", "word"),
        [
            (["greet", "--input", "{name: Ada}"], "no JSON"),
            (["greet", "--input", "@missing.json"], "missing.json"),
            (["greet", "--timeout", "3"], "--wait"),
            (["greet", "--retention", "91"], "91"),
            ([], "missing argument"),
            (["greet", "--nonsense"], "--nonsense"),
            (["greet", "--name", "not a name"], "not a name"),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, list) else None,
    )
    def test_wrong_arguments_are_told_in_one_line(self, idle: Shell, arguments: list[str], word: str) -> None:
        """Wrong usage exits with 2 and one line that names what is wrong."""
        assert word in idle.fails(2, "start", *arguments)


class TestShow:
    def test_json_has_execution_and_operations(self, busy: Shell) -> None:
        """`show --json` is GetDurableExecution's answer with the operations of its state."""
        arn = busy.output("start", "greet", "--input", '{"name": "Ada"}', "--name", "shown")
        shown = busy.until("shown", "SUCCEEDED")
        assert shown["DurableExecutionArn"] == arn
        execution, step = shown["Operations"]
        assert execution["Type"] == "EXECUTION"
        assert execution["Id"] == arn.split("/")[-1]
        assert (step["Type"], step["SubType"], step["Name"], step["Status"]) == ("STEP", "Step", "look up", "SUCCEEDED")
        assert json.loads(step["StepDetails"]["Result"]) == "Ada"
        assert instant(step["StartTimestamp"]) <= instant(step["EndTimestamp"])

    def test_arn_id_and_name_lead_to_the_same(self, busy: Shell) -> None:
        """An execution is named by its ARN, its id or its name."""
        arn = busy.output("start", "greet", "--input", '{"name": "Ada"}', "--name", "three-ways")
        shown = [busy.json("show", given)["DurableExecutionArn"] for given in (arn, arn.split("/")[-1], "three-ways")]
        assert shown == [arn, arn, arn]

    def test_people_see_a_tree(self, busy: Shell) -> None:
        """Without --json: facts, and operations below the contexts they belong to."""
        busy.output("start", "ask", "--name", "tree")
        id = busy.callback_id("tree")
        shown = busy.output("show", "tree")
        assert re.search(r"status +RUNNING", shown)
        context, callback, submitter, hint = shown.splitlines()[-4:]
        assert re.search(r"^└── ▸ approval +WaitForCallback +STARTED", context)
        assert re.search(r"^    ├── ▸ approval create callback id +Callback +STARTED", callback)
        assert re.search(r"^    └── ✓ approval submitter +Step +SUCCEEDED +\d+ ms", submitter)
        assert hint == f"waits for: perdure callback success {id}"

    def test_errors_are_told_whole_and_by_the_names_of_perdure(self, busy: Shell) -> None:
        """The remedy is not cut off, and no module of AWS's SDK is named; --json has what is recorded."""
        told = busy.fails(1, "start", "refuse", "--name", "large", "--wait")
        assert re.search(r"FAILED: SerDesError: .* 2000002 bytes.* or pass a serdes that", told)
        shown = busy.output("show", "large")
        assert re.search(r"^error +SerDesError: .* 2000002 bytes.* or pass a serdes that", shown, re.MULTILINE)
        assert "aws_" not in shown + busy.output("history", "large")
        assert busy.json("show", "large")["Error"]["ErrorType"].startswith("aws_")

    def test_crashes_are_counted(self, idle: Shell) -> None:
        """An execution whose worker died again and again says so."""
        (idle.folder / "lethal.py").write_text(LETHAL, encoding="utf-8")
        idle.run("start", "die", "--name", "deadly")
        for _ in range(2):
            assert idle.run("worker", "lethal").returncode == 9
        assert re.search(r"^crashes +1 in a row; the next invocation ", idle.output("show", "deadly"), re.MULTILINE)

    def test_an_ambiguous_name_needs_the_function(self, busy: Shell) -> None:
        """A name that two functions have is refused with 2 until --function says which."""
        busy.output("start", "sleep", "--name", "both")
        arn = busy.output("start", "ask", "--name", "both")
        assert "--function" in busy.fails(2, "show", "both")
        assert busy.json("show", "both", "--function", "ask")["DurableExecutionArn"] == arn

    @pytest.mark.parametrize("command", ["show", "history", "stop"])
    def test_what_does_not_exist_exits_with_3(self, idle: Shell, command: str) -> None:
        """An unknown execution is told in one line."""
        told = idle.fails(3, command, "nothing")
        assert "'nothing'" in told
        assert "'sqlite:///perdure.db'" in told


class TestHistory:
    def test_json_has_the_events(self, busy: Shell) -> None:
        """`history --json` is GetDurableExecutionHistory's answer: events numbered from 1, with their details."""
        busy.output("start", "greet", "--input", '{"name": "Ada"}', "--name", "told", "--wait")
        events = busy.json("history", "told")["Events"]
        assert [event["EventId"] for event in events] == list(range(1, len(events) + 1))
        assert [event["EventType"] for event in events] == [
            "ExecutionStarted",
            "StepStarted",
            "StepSucceeded",
            "InvocationCompleted",
            "ExecutionSucceeded",
        ]
        assert json.loads(events[0]["ExecutionStartedDetails"]["Input"]["Payload"]) == {"name": "Ada"}
        assert events[2]["StepSucceededDetails"]["RetryDetails"] == {"CurrentAttempt": 1}
        for event in events:
            instant(event["EventTimestamp"])
        instant(events[3]["InvocationCompletedDetails"]["StartTimestamp"])

    def test_data_can_be_left_out(self, busy: Shell) -> None:
        """--no-data leaves payloads out, and marks them."""
        busy.output("start", "greet", "--input", '{"name": "secret"}', "--name", "discreet", "--wait")
        events = busy.json("history", "discreet", "--no-data")["Events"]
        assert events[0]["ExecutionStartedDetails"]["Input"] == {"Truncated": True}
        assert "secret" not in busy.output("history", "discreet", "--no-data")

    def test_people_see_one_event_a_line(self, busy: Shell) -> None:
        """Without --json: a table."""
        busy.output("start", "greet", "--input", '{"name": "Ada"}', "--name", "table", "--wait")
        heading, *events = busy.output("history", "table").splitlines()
        assert heading.split() == ["#", "TIME", "EVENT", "NAME", "DETAILS"]
        assert [line.split()[0] for line in events] == ["1", "2", "3", "4", "5"]
        assert "StepSucceeded" in events[2]
        assert "look up" in events[2]


class TestList:
    @pytest.fixture
    def stocked(self, idle: Shell) -> Shell:
        """Three executions: two of `one`, of which the second is stopped, then one of `two`."""
        for function, name in (("one", "a"), ("one", "b"), ("two", "c")):
            assert idle.run("start", function, "--name", name).returncode == 0
        idle.output("stop", "b")
        return idle

    def names(self, shell: Shell, *options: str) -> list[str]:
        """Names of what is listed."""
        return [execution["DurableExecutionName"] for execution in shell.json("list", *options)["DurableExecutions"]]

    def test_filters(self, stocked: Shell) -> None:
        """By function, status and name; newest first unless asked otherwise; at most as many as asked for."""
        assert self.names(stocked) == ["c", "b", "a"]
        assert self.names(stocked, "--function", "one") == ["b", "a"]
        assert self.names(stocked, "--status", "stopped") == ["b"]
        assert self.names(stocked, "--status", "RUNNING", "--status", "STOPPED", "--limit", "2") == ["c", "b"]
        assert self.names(stocked, "--oldest-first", "--limit", "1") == ["a"]
        assert self.names(stocked, "--name", "c") == ["c"]

    def test_json_shape(self, stocked: Shell) -> None:
        """`list --json` is ListDurableExecutionsByFunction's answer; an end only where there is one."""
        running, stopped, _ = stocked.json("list")["DurableExecutions"]
        assert set(running) == {
            "DurableExecutionArn",
            "DurableExecutionName",
            "FunctionArn",
            "Version",
            "Status",
            "StartTimestamp",
        }
        assert set(stopped) == {*running, "EndTimestamp"}
        assert stopped["Status"] == "STOPPED"

    def test_people_see_a_table(self, stocked: Shell) -> None:
        """Without --json: one execution a line, ids whole even in a pipe."""
        heading, *lines = stocked.output("list").splitlines()
        assert heading.split() == ["NAME", "FUNCTION", "STATUS", "STARTED", "DURATION", "ID"]
        ids = [
            execution["DurableExecutionArn"].split("/")[-1] for execution in stocked.json("list")["DurableExecutions"]
        ]
        assert [line.split()[-1] for line in lines] == ids

    def test_nothing_to_list(self, idle: Shell) -> None:
        """An empty backend is no error."""
        assert idle.output("list") == "no executions"
        assert idle.json("list") == {"DurableExecutions": []}


class TestCallback:
    def test_success_completes_it(self, busy: Shell) -> None:
        """The result is handed to the workflow as it is."""
        busy.output("start", "ask", "--name", "granted")
        assert busy.json("callback", "success", busy.callback_id("granted"), "--result", '{"by": "Ada"}') == {}
        assert json.loads(busy.until("granted", "SUCCEEDED")["Result"]) == '{"by": "Ada"}'

    def test_failure_fails_it(self, busy: Shell) -> None:
        """The error reaches the workflow, which fails of it here."""
        busy.output("start", "ask", "--name", "refused")
        id = busy.callback_id("refused")
        busy.output("callback", "failure", id, "--error", "too dear", "--error-type", "Refusal", "--error-data", "17")
        error = busy.until("refused", "FAILED")["Error"]
        assert error["ErrorMessage"] == "too dear"
        (callback,) = _callbacks(busy.json("show", "refused"))
        assert callback["CallbackDetails"]["Error"] == {
            "ErrorMessage": "too dear",
            "ErrorType": "Refusal",
            "ErrorData": "17",
        }

    def test_heartbeat_leaves_it_open(self, busy: Shell) -> None:
        """A heartbeat completes nothing; after the end every one of the three is a conflict."""
        busy.output("start", "ask", "--name", "alive")
        id = busy.callback_id("alive")
        assert busy.output("callback", "heartbeat", id) == "callback alive"
        assert busy.json("show", "alive")["Status"] == "RUNNING"
        busy.output("callback", "success", id)
        for command in ("success", "failure", "heartbeat"):
            busy.fails(4, "callback", command, id)

    def test_an_unknown_callback_exits_with_3(self, busy: Shell) -> None:
        """An id that leads nowhere is not found."""
        busy.fails(3, "callback", "success", "bm90aGluZw==")


class TestStop:
    def test_ends_an_execution(self, busy: Shell) -> None:
        """Stopping ends it with the error given; stopping again changes nothing and tells the same time."""
        busy.output("start", "sleep", "--name", "halted")
        at = busy.json("stop", "halted", "--error", "no longer wanted", "--error-type", "Cancelled")["StopTimestamp"]
        shown = busy.json("show", "halted")
        assert (shown["Status"], shown["EndTimestamp"]) == ("STOPPED", at)
        assert shown["Error"] == {"ErrorMessage": "no longer wanted", "ErrorType": "Cancelled"}
        assert busy.json("stop", "halted")["StopTimestamp"] == at
        assert busy.output("stop", "halted").startswith("STOPPED since ")

    def test_resume_is_for_what_was_quarantined(self, busy: Shell) -> None:
        """Any other execution is a conflict, and stays as it is."""
        busy.output("start", "sleep", "--name", "unharmed")
        assert "nothing to resume" in busy.fails(4, "resume", "unharmed")
        assert busy.json("show", "unharmed")["Status"] == "RUNNING"
        busy.output("stop", "unharmed")

    def test_purge_keeps_what_is_within_its_retention(self, busy: Shell) -> None:
        """Nothing is purged before its time."""
        busy.output("start", "greet", "--input", '{"name": "Ada"}', "--name", "kept", "--wait")
        assert busy.json("purge") == {"Purged": 0}
        assert busy.json("show", "kept")["Status"] == "SUCCEEDED"


class TestWorker:
    @pytest.mark.parametrize(
        ("target", "word"),
        [
            ("missing", "'missing'"),
            ("app:number", "not a function"),
            ("app:nothing", "'nothing'; its durable functions: 'greet', 'fail'"),
            ("app.py", "no module name"),
            ("./app", "no module name"),
            ("broken", "broken.py:3"),
            ("misspelt", "misspelt.py:2"),
            ("needy", "'no_such_module'"),
            ("empty", "@durable_execution"),
        ],
    )
    def test_a_target_that_is_none_exits_with_2(self, idle: Shell, target: str, word: str) -> None:
        """A module that is missing, does not load or has no durable function is told in one line, with the place."""
        (idle.folder / "broken.py").write_text("\n\nraise RuntimeError('broken\\nin two lines')\n", encoding="utf-8")
        (idle.folder / "misspelt.py").write_text("\ndef f(:\n", encoding="utf-8")
        (idle.folder / "needy.py").write_text("import no_such_module\n", encoding="utf-8")
        (idle.folder / "empty.py").write_text("", encoding="utf-8")
        assert word in idle.fails(2, "worker", target)

    def test_a_backend_that_cannot_be_opened_is_all_that_is_told(self, idle: Shell) -> None:
        """The worker does not say that it works before it can."""
        done = idle.run("worker", "app", "--backend", "sqlite:///nowhere/perdure.db")
        assert (done.returncode, done.stdout) == (5, "")
        assert re.fullmatch(r"perdure: [^\n]*nowhere[^\n]*\n", done.stderr)

    def test_logs_of_which_execution_a_record_is(self, idle: Shell) -> None:
        """What a context's logger says is told with its place; so is, without being asked, that the worker drains."""
        with subprocess.Popen(
            [*PERDURE, "worker", "app"], cwd=idle.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as worker:
            idle.run("start", "tell", "--name", "told", "--wait", "--timeout", "30")
            worker.send_signal(signal.SIGTERM)
            _, said = worker.communicate(timeout=30)
        assert "WARNING root: tell told, 'pay', attempt 1: two lines\n" in said
        assert "draining" in said.splitlines()[-1]

    def test_runs_only_the_function_named(self, idle: Shell) -> None:
        """MODULE:NAME leaves the other functions of the module alone; SIGTERM drains, with exit code 0."""
        worker = subprocess.Popen(
            [*PERDURE, "worker", "app:greet", "--json"], cwd=idle.folder, stdout=subprocess.PIPE, text=True
        )
        try:
            done = idle.run("start", "greet", "--input", '{"name": "Ada"}', "--wait", "--timeout", "30")
            assert json.loads(done.stdout) == {"hello": "Ada"}
            assert "ask" in idle.run("start", "ask").stderr
        finally:
            worker.send_signal(signal.SIGTERM)
        said, _ = worker.communicate(timeout=30)
        assert worker.returncode == 0
        assert json.loads(said) == {"Functions": ["greet:$LATEST"]}


class TestWorkers:
    def test_nobody_works(self, idle: Shell) -> None:
        """A store without workers says so."""
        assert idle.output("workers") == "no workers"
        assert idle.json("workers") == {"Workers": []}

    def test_tells_where_it_runs_and_what_it_holds(self, idle: Shell, url: str) -> None:
        """Each worker with host and process, the age of its lease and the executions whose steps it runs."""
        idle = Shell(idle.folder, {"PERDURE_BACKEND": url})
        with (idle.folder / "worker.log").open("wb") as log:
            command = [*PERDURE, "worker", "app", "--backend", url]
            process = subprocess.Popen(command, cwd=idle.folder, stdout=log, stderr=log)
        try:
            self.only_one(idle, holding=0)
            arn = idle.json("start", "dawdle", "--name", "held")["DurableExecutionArn"]
            worker = self.only_one(idle, holding=1)
            told = idle.output("workers").splitlines()
        finally:
            process.kill()
            process.wait()
        assert (worker["Host"], worker["ProcessId"]) == (socket.gethostname(), process.pid)
        assert instant(worker["StartTimestamp"]) <= instant(worker["RenewTimestamp"])
        assert instant(worker["RenewTimestamp"]) < instant(worker["ExpiryTimestamp"])
        assert 0 <= worker["LeaseAgeSeconds"] < 30
        assert worker["Executions"] == [arn.rpartition("/")[2]]
        assert re.search(rf"process {process.pid}  since .*  last sign .* ago.*  holds 1$", told[0])
        assert told[1].endswith(worker["Executions"][0])

    def only_one(self, shell: Shell, holding: int) -> dict[str, Any]:
        """The worker, once it holds so many executions."""
        limit = time.monotonic() + 30
        while not (found := shell.json("workers")["Workers"]) or len(found[0]["Executions"]) != holding:
            assert time.monotonic() < limit, (found, (shell.folder / "worker.log").read_text())
        (worker,) = found
        return worker


class TestMigrate:
    def test_tells_what_is_missing_and_what_it_did(self, idle: Shell) -> None:
        """--check changes nothing and exits with 1 while anything is missing; after a migration nothing is."""
        missing = idle.run("migrate", "--check", "--json")
        names = json.loads(missing.stdout)["Missing"]
        assert (missing.returncode, names[0]) == (1, "0001_initial")
        assert not (idle.folder / "perdure.db").exists()
        assert idle.output("migrate").splitlines() == [f"applied: {name}" for name in names]
        assert idle.output("migrate", "--check") == "sqlite:///perdure.db is up to date"
        assert idle.json("migrate") == {"Applied": []}

    def test_a_database_is_migrated_only_by_this_where_it_says_so(self, idle: Shell, postgres_url: str) -> None:
        """With migrate=refuse nothing else makes the schema, and the error tells what does."""
        url = with_options(postgres_url, migrate="refuse")
        told = idle.fails(5, "list", "--backend", url)
        assert "perdure migrate" in told
        missing = idle.run("migrate", "--check", "--backend", url)
        assert missing.returncode == 1
        names = [line.removeprefix("missing: ") for line in missing.stdout.splitlines()]
        assert all(name in told for name in names)
        assert idle.json("migrate", "--backend", url) == {"Applied": names}
        assert idle.json("migrate", "--check", "--backend", url) == {"Missing": []}
        assert idle.output("list", "--backend", url) == "no executions"

    def test_a_store_without_a_schema_is_up_to_date(self, idle: Shell, redis_url: str) -> None:
        """There is nothing to migrate in Redis."""
        assert idle.json("migrate", "--check", "--backend", redis_url) == {"Missing": []}

    def test_a_newer_schema_is_left_alone(self, idle: Shell) -> None:
        """What a newer version wrote is neither checked nor migrated."""
        idle.output("migrate")
        with closing(sqlite3.connect(idle.folder / "perdure.db")) as connection:
            connection.execute("PRAGMA user_version = 999")
        assert "999" in idle.fails(5, "migrate", "--check")
        assert "999" in idle.fails(5, "migrate")

    def test_a_server_that_is_not_there(self, idle: Shell) -> None:
        """Nothing can be told of it."""
        idle.fails(5, "migrate", "--check", "--backend", "postgresql://perdure@/nowhere?host=/nonexistent")


class TestShell:
    @pytest.mark.parametrize("url", ["nosuch://somewhere", "nonsense", "sqlite:////no/such/folder/perdure.db"])
    def test_a_backend_that_cannot_be_used_exits_with_5(self, idle: Shell, url: str) -> None:
        """A wrong URL or an unreachable place is told in one line."""
        idle.fails(5, "list", "--backend", url)

    def test_memory_is_refused(self, idle: Shell) -> None:
        """What one command would put into memory, no other could see."""
        assert "private" in idle.fails(2, "list", "--backend", "memory://")

    def test_the_environment_names_the_backend(self, idle: Shell) -> None:
        """PERDURE_BACKEND is used where --backend is not given."""
        shell = Shell(idle.folder, {"PERDURE_BACKEND": "sqlite:///elsewhere.db"})
        assert shell.run("start", "nobody", "--name", "there").returncode == 0
        assert shell.json("show", "there")["DurableExecutionName"] == "there"
        idle.fails(3, "show", "there")

    def test_help_explains_the_exit_codes(self, idle: Shell) -> None:
        """Without arguments and with --help, all commands and exit codes are explained."""
        text = idle.output()
        assert text == idle.output("--help")
        for command in (
            *("callback", "demo", "history", "list", "migrate", "purge", "resume"),
            *("show", "start", "stop", "worker", "workers"),
        ):
            assert re.search(rf"^  {command} ", text, re.MULTILINE)
        codes = [int(code) for code in re.findall(r"^    (\d+) ", text, re.MULTILINE)]
        assert codes == [0, 1, 2, 3, 4, 5, 6, 70, 130]
        assert text.splitlines()[-1].strip() == "130  interrupted"

    @pytest.mark.parametrize("arguments", [["nonsense"], ["callback"], ["callback", "nonsense", "x"]])
    def test_an_unknown_command_exits_with_2(self, idle: Shell, arguments: list[str]) -> None:
        """What is no command is told in one line that points at the help."""
        assert "--help" in idle.fails(2, *arguments)

    def test_the_version(self, idle: Shell) -> None:
        """--version prints name and version."""
        assert re.fullmatch(r"perdure \d+\.\d+\.\d+", idle.output("--version"))

    @pytest.mark.parametrize("missing", ["click", "rich"])
    def test_a_missing_extra_is_named(self, missing: str) -> None:
        """Without click or rich, the message names the extra that brings them."""
        script = f"import sys; sys.modules[{missing!r}] = None; from perdure.adapters.cli import main; main()"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        assert re.fullmatch(r"perdure: [^\n]*'perdure\[cli\]'\n", done.stderr)

    def test_a_closed_pipe_is_no_error(self, idle: Shell) -> None:
        """`perdure list | head -0` ends silently."""
        with subprocess.Popen(
            [*PERDURE, "list"], cwd=idle.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == ""
            assert process.wait(30) == 0
