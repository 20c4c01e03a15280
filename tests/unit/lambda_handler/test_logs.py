"""What is logged on Lambda tells of which execution and operation it is; shown by AWS's own formatter."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import pytest
from awslambdaric.lambda_runtime_log_utils import JsonFormatter

from perdure.config import StepConfig
from perdure.durable import durable_execution
from perdure.retries import RetryPresets
from tests.official.web import Reply
from tests.unit.lambda_handler.service import ARN, ENVIRONMENT, LambdaContext


@pytest.fixture
def lines():
    """Every record as awslambdaric writes it where the function's log format is JSON."""
    written = []

    class Handler(logging.Handler):
        def emit(self, record):
            written.append(json.loads(self.format(record)))

    handler, root = Handler(), logging.getLogger()
    handler.setFormatter(JsonFormatter())
    level = root.level
    root.addHandler(handler)
    root.setLevel("INFO")
    yield written
    root.setLevel(level)
    root.removeHandler(handler)


def told(lines, message):
    """The fields of the one line that begins so."""
    (line,) = [each for each in lines if each["message"].startswith(message)]
    return {name: line.get(name) for name in ("executionArn", "operationId", "operationName", "attempt", "parentId")}


def logging_function(colour):
    @durable_execution
    def blocking(event, context):
        context.logger.info("outside")

        def child(inner):
            inner.logger.info("within")
            return inner.step(body, name="pay")

        def body(step):
            step.logger.info("attempt", extra={"amount": 5})

        context.run_in_child_context(child, name="block")

    @durable_execution
    async def awaiting(event, context):
        context.logger.info("outside")

        async def child(inner):
            inner.logger.info("within")
            return await inner.step(body, name="pay")

        async def body(step):
            step.logger.info("attempt", extra={"amount": 5})

        await context.run_in_child_context(child, name="block")

    return {"blocking": blocking, "awaiting": awaiting}[colour]


def test_the_fields_are_members_of_a_json_line(colour, service, lines):
    """At top level, where a query of CloudWatch finds them; the author's own beside."""
    logging_function(colour)(service.event(), LambdaContext())
    by_name = {each.get("Name"): each["Id"] for each in service.operations.values()}
    nothing = dict.fromkeys(("executionArn", "operationId", "operationName", "attempt", "parentId"))
    assert told(lines, "outside") == {**nothing, "executionArn": ARN}
    assert told(lines, "within") == {**nothing, "executionArn": ARN, "parentId": by_name["block"]}
    assert told(lines, "attempt") == {
        "executionArn": ARN,
        "operationId": by_name["pay"],
        "operationName": "pay",
        "attempt": 1,
        "parentId": by_name["block"],
    }
    assert [line["amount"] for line in lines if line["message"] == "attempt"] == [5]


def test_failures_that_the_engine_logs_have_them_too(colour, service, lines):
    """A failed attempt, a failed execution, an invocation that ends uncleanly; with their stack traces."""
    config = StepConfig(retry_strategy=RetryPresets.none())

    def body(_):
        raise ValueError("no card")

    @durable_execution
    def blocking(event, context):
        context.step(body, name="pay", config=config)

    @durable_execution
    async def awaiting(event, context):
        await context.step(body, name="pay", config=config)

    function = {"blocking": blocking, "awaiting": awaiting}[colour]
    assert function(service.event(), LambdaContext())["Status"] == "FAILED"
    (step,) = [each["Id"] for each in service.operations.values() if each["Type"] == "STEP"]
    failed = told(lines, "execution 5b2c: attempt 1 of step 'pay' failed")
    assert failed == {
        "executionArn": ARN,
        "operationId": step,
        "operationName": "pay",
        "attempt": 1,
        "parentId": None,
    }
    assert told(lines, f"execution '{ARN}' fails")["executionArn"] == ARN
    traces = [line["stackTrace"] for line in lines if "stackTrace" in line]
    assert any("no card" in "".join(trace) for trace in traces)

    lines.clear()
    service.operations.popitem()
    service.misdeeds.extend([Reply.error(500, "ServiceException", "internal")] * 2)
    with pytest.raises(Exception, match="internal"):
        function(service.event(), LambdaContext())
    assert told(lines, f"an invocation of '{ARN}' ends uncleanly")["executionArn"] == ARN


@pytest.mark.parametrize("kind", ["JSON", "Text"])
def test_nothing_of_the_authors_logging_is_changed(kind, service):
    """Whatever awslambdaric has set up stays: handlers, levels and formats of all loggers, and stdout."""
    code = """
import logging, sys
from awslambdaric import bootstrap
bootstrap._setup_logging(bootstrap._AWS_LAMBDA_LOG_FORMAT, "INFO", bootstrap.StandardLogSink())
def state():
    root = logging.getLogger()
    loggers = {name: each for name, each in logging.root.manager.loggerDict.items() if name.startswith("perdure")}
    own = [each for each in loggers.values() if getattr(each, "handlers", None) or getattr(each, "level", 0)]
    return [root.level, [(type(each), each.level, type(each.formatter)) for each in root.handlers], own, sys.stdout]
before = state()
from perdure.durable import durable_execution
from tests.unit.lambda_handler.service import LambdaContext
@durable_execution
def function(event, context):
    context.logger.info("told")
    return context.step(lambda _: 1, name="pay")
import json
print(function(json.loads(sys.argv[1]), LambdaContext())["Status"])
assert state() == before, (state(), before)
"""
    environment = {
        **os.environ,
        **ENVIRONMENT,
        "AWS_ENDPOINT_URL_LAMBDA": service.url,
        "AWS_LAMBDA_LOG_FORMAT": kind,
    }
    ran = subprocess.run(
        [sys.executable, "-c", code, json.dumps(service.event())],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    *logged, status = ran.stdout.splitlines()
    assert status == "SUCCEEDED"
    (line,) = [each for each in logged if "told" in each]
    if kind == "JSON":
        assert json.loads(line)["executionArn"] == ARN
    else:
        assert line.startswith("[INFO]")
        assert line.endswith("told")
