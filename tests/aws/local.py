"""Workflows run by AWS's SDK in AWS's own local runner, which has a service and a virtual time of its own."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import attrs
import aws_durable_execution_sdk_python as aws
import aws_durable_execution_sdk_python.exceptions as aws_errors
import aws_durable_execution_sdk_python.lambda_service as aws_model
from aws_durable_execution_sdk_python_testing import DurableFunctionTestRunner
from aws_durable_execution_sdk_python_testing.stores.memory import InMemoryExecutionStore

from perdure.codec import to_wire
from perdure.model import OperationStatus
from tests.aws.outside import Told
from tests.aws.sides import Aws, Kit

if TYPE_CHECKING:
    from perdure.model import ErrorObject
    from tests.aws.sides import Run, Workflow

PATIENCE = 10
TRIES = 3
"""The runner may lose the completion of a callback that comes while an invocation ends."""
OF_THE_SERVICE = ("StartTimestamp", "EndTimestamp", "NextAttemptTimestamp", "ScheduledEndTimestamp", "CallbackId")
"""What each service makes up by itself."""


@attrs.frozen
class Surroundings:
    """What happens outside of an execution in AWS's runner."""

    runner: DurableFunctionTestRunner
    store: InMemoryExecutionStore
    told: Told
    answered: set[str] = attrs.field(factory=set)

    def complete_callbacks(self, arn: str) -> None:
        """Those that are to be completed, and are open."""
        for operation in list(self.store.load(arn).operations):
            outcome = self.told.of(operation.name)
            is_open = operation.status is aws_model.OperationStatus.STARTED and operation.callback_details
            if not is_open or outcome is None or operation.operation_id in self.answered:
                continue
            callback = operation.callback_details.callback_id
            if outcome.status is OperationStatus.SUCCEEDED:
                self.runner.send_callback_success(callback, outcome.result and outcome.result.encode())
            elif outcome.status is OperationStatus.FAILED:
                self.runner.send_callback_failure(callback, aws_model.ErrorObject.from_dict(outcome.error.to_dict()))
            self.answered.add(operation.operation_id)

    def invoked(self, arn: str) -> Any:
        """What the function returns that the first open invoke waits for."""
        for operation in list(self.store.load(arn).operations):
            is_open = operation.operation_type is aws_model.OperationType.CHAINED_INVOKE
            if is_open and operation.operation_id not in self.answered:
                self.answered.add(operation.operation_id)
                outcome = self.told.of(operation.name)
                if outcome.error:
                    raise _error(outcome.error)
                return json.loads(outcome.result or "null")
        raise AssertionError("nothing is invoked")


def _error(told: ErrorObject) -> Exception:
    """An exception that is recorded as that error."""
    module, _, name = (told.type or "builtins.Exception").rpartition(".")
    kind = type(name, (aws_errors.DurableOperationError,), {"__module__": module})
    return kind(told.message, data=told.data, stack_trace=told.stack_trace)


def run_locally(workflow: Workflow) -> dict[str, Any]:
    """What came of a workflow: its outcome and its operations by id, without times."""
    for left in reversed(range(TRIES)):
        try:
            return _run(workflow)
        except TimeoutError:
            if not left:
                raise
    raise AssertionError


def _run(workflow: Workflow) -> dict[str, Any]:
    store = InMemoryExecutionStore()
    handler = aws.durable_execution(workflow.build(Kit(Aws.names, Counter())))
    told = workflow.outside if isinstance(workflow.outside, Told) else Told({})
    with DurableFunctionTestRunner(handler, store=store) as runner:
        surroundings = Surroundings(runner, store, told)
        arn: str
        runner.register_function("f", lambda *_: surroundings.invoked(arn))
        arn = runner.run_async(workflow.input)
        deadline = time.monotonic() + PATIENCE
        while not store.load(arn).is_complete:
            if time.monotonic() > deadline:
                raise TimeoutError([(each.name, each.status) for each in store.load(arn).operations])
            surroundings.complete_callbacks(arn)
            time.sleep(0.001)
        result = runner.wait_for_result(arn)
        operations = store.load(arn).operations
    runner._scheduler._loop.close()
    error = result.error.to_dict() if result.error else None
    records = {
        each.operation_id: each.to_json_dict()
        for each in operations
        if each.operation_type is not aws_model.OperationType.EXECUTION
    }
    return _plain([result.status.value, result.result, error], records)


def run_here(run: Run) -> dict[str, Any]:
    """The same of an execution over our service."""
    execution = run.plane.execution
    assert run.output is not None
    error = to_wire(execution.error) if execution.error else None
    return _plain([run.output.status.value, execution.result, error], run.records())


def _plain(outcome: list[Any], records: dict[str, Any]) -> dict[str, Any]:
    callbacks = {}
    for id, record in records.items():
        if callback := record.get("CallbackDetails", {}).get("CallbackId"):
            callbacks[callback] = f"<callback {id[:8]}>"
    return {"outcome": _without(outcome, callbacks), "records": _without(records, callbacks)}


def _without(value: Any, callbacks: dict[str, str]) -> Any:
    """A value without what a service makes up, and without members that are absent."""
    if isinstance(value, dict):
        members = {name: _without(each, callbacks) for name, each in value.items() if name not in OF_THE_SERVICE}
        return {name: each for name, each in members.items() if each not in (None, {}, False)}
    if isinstance(value, list):
        return [_without(each, callbacks) for each in value]
    if isinstance(value, str):
        for callback, name in callbacks.items():
            value = value.replace(callback, name)
    return value
