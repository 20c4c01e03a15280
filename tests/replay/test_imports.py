"""What importing the author's module costs, and what it offers."""

from __future__ import annotations

import inspect
import subprocess
import sys
from types import SimpleNamespace

import pytest

from perdure import durable
from perdure.durable import Duration, durable_execution

HEAVY = ("asyncio", "cattrs", "cattr", "importlib.metadata", "sqlite3")


def loaded(code):
    script = f"import sys\n{code}\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_durable_loads_neither_asyncio_nor_cattrs():
    """A cold start on AWS Lambda pays for every import."""
    assert loaded("import perdure.durable") == "[]"


def test_a_def_workflow_loads_neither():
    """Nor does running one with plain input."""
    code = """
from perdure.durable import durable_execution
from perdure.engine.invocation import Invocation
from perdure.model import *
@durable_execution
def workflow(event, context):
    return context.parallel([lambda inner: inner.step(lambda _: event)]).get_results()
class Service:
    def checkpoint(self, token, updates):
        last = updates[-1]
        details = dict(step_details=StepDetails(1, None, last.payload)) if last.operation_type is OperationType.STEP \\
            else dict(context_details=ContextDetails(False, last.payload))
        return CheckpointAnswer(token, (Operation(operation_id=last.operation_id, operation_type=last.operation_type,
            status=OperationStatus.SUCCEEDED, sub_type=last.sub_type, name=last.name, parent_id=last.parent_id,
            **details),))
execution = Operation(operation_id="e", operation_type=OperationType.EXECUTION, status=OperationStatus.STARTED)
given = InvocationInput(durable_execution_arn="a/n/e", checkpoint_token="t", operations=(execution,))
assert Invocation(workflow, given).run(Service()).result == "[{}]"
"""
    assert loaded(code) == "[]"


def test_names_of_aws():
    """All root names of AWS's SDK are there."""
    aws = pytest.importorskip("aws_durable_execution_sdk_python")
    missing = [name for name in aws.__all__ if name != "__version__" and not hasattr(durable, name)]
    assert missing == []


@pytest.mark.parametrize(
    "method",
    [
        *("step", "wait", "create_callback", "wait_for_callback", "wait_for_condition", "invoke", "map", "parallel"),
        *("run_in_child_context", "set_logger", "is_replaying"),
    ],
)
def test_arguments_of_aws(method):
    """Methods of the context take the same arguments."""
    aws = pytest.importorskip("aws_durable_execution_sdk_python")
    theirs = inspect.signature(getattr(aws.DurableContext, method)).parameters
    ours = inspect.signature(getattr(durable.DurableContext, method)).parameters
    assert [(each.name, each.default) for each in ours.values()] == [
        (each.name, each.default) for each in theirs.values()
    ]


@pytest.mark.parametrize("name", durable.__all__)
def test_all_is_there(name):
    """Every exported name exists, those that load asyncio too."""
    assert getattr(durable, name) is not None


def test_all_is_sorted():
    """As style has it."""
    assert sorted(durable.__all__) == durable.__all__


def test_unknown_names():
    """The module's own lookup says what is missing."""
    with pytest.raises(AttributeError, match="nonsense"):
        durable.nonsense  # noqa: B018


def test_a_function_and_its_options():
    """One object is handler, registration and start target."""

    def order(event, context):
        """Docs."""

    plain = durable_execution(order)
    assert (plain.name, plain.version, plain.func, plain.is_async) == ("order", "$LATEST", order, False)
    assert (plain.execution_timeout, plain.retention, plain.__doc__) == (None, None, "Docs.")
    factory = SimpleNamespace(create_plugin=lambda info: None)
    named = durable_execution(
        name="o", version="3", execution_timeout=Duration(9), retention=30, boto3_client="b", plugins=[factory]
    )(order)
    assert (named.name, named.version, named.timeout_seconds, named.retention_days) == ("o", "3", 9, 30)
    assert (named.boto3_client, named.plugins) == ("b", (factory,))

    async def later(event, context):
        raise AssertionError("run")

    assert durable_execution(later).is_async


def test_called_as_a_handler(monkeypatch):
    """The adapter for AWS Lambda is asked for a handler when there is a call, once."""
    found = []

    def handler(function):
        found.append(function)
        return lambda event, lambda_context: (function.name, event, lambda_context)

    monkeypatch.setitem(sys.modules, "perdure.adapters.lambda_handler", SimpleNamespace(handler=handler))
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME", raising=False)

    @durable_execution
    def order(event, context):
        raise AssertionError("run")

    assert [order({"a": 1}, "context"), order(None, None)] == [("order", {"a": 1}, "context"), ("order", None, None)]
    assert len(found) == 1
