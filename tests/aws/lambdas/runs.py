"""Executions on AWS's emulator, driven event by event, and what came of them."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import threading
from collections import Counter
from contextlib import contextmanager

from aws_durable_execution_sdk_python import context as aws_context
from aws_durable_execution_sdk_python.lambda_service import OperationStatus, OperationType

from perdure.engine.async_context import AsyncDurableContext
from perdure.engine.context import DurableContext

PATIENCE = 2000
"""Events after which an execution is taken for endless."""


# ------------------------------------------------------------------------------------------------------------ bodies


class Bodies:
    """
    How often bodies of steps, submitters and checks have been called, by whichever SDK.

    Counted where user code hands them over, so that no SDK has a say in it.
    """

    WATCHED = (
        (aws_context.DurableContext, {"step": 0, "wait_for_condition": 0}),
        (DurableContext, {"step": 0, "wait_for_condition": 0, "wait_for_callback": 0}),
        (AsyncDurableContext, {"step": 0, "wait_for_condition": 0, "wait_for_callback": 0}),
    )
    """Methods that take a body, and at which position. AWS's wait_for_callback calls its step."""
    PARAMETERS = ("func", "check", "submitter")

    def __init__(self):
        self._lock = threading.Lock()
        self.ran = Counter()

    @contextmanager
    def watched(self):
        """Count, meanwhile."""
        originals = [(owner, name, getattr(owner, name)) for owner, names in self.WATCHED for name in names]
        for owner, name, original in originals:
            setattr(owner, name, self._watching(original))
        try:
            yield self
        finally:
            for owner, name, original in originals:
                setattr(owner, name, original)

    def _watching(self, method):
        @functools.wraps(method)
        def watching(context, *args, **kwargs):
            for parameter in self.PARAMETERS:
                if parameter in kwargs:
                    return method(context, *args, **{**kwargs, parameter: self._counted(kwargs[parameter])})
            return method(context, self._counted(args[0]), *args[1:], **kwargs)

        return watching

    def _counted(self, body):
        name = getattr(body, "_original_name", None) or getattr(body, "__name__", type(body).__name__)

        def note():
            with self._lock:
                self.ran[name] += 1

        if inspect.iscoroutinefunction(body):

            async def counted(*args):
                note()
                return await body(*args)
        else:

            def counted(*args):
                note()
                return body(*args)

        return functools.wraps(body)(counted) if hasattr(body, "__dict__") else counted


# --------------------------------------------------------------------------------------------------------- executions


class Run:
    """
    An execution of a function.

    Attributes:
        emulator: Its service.
        arn: Its name there.
        outputs: What each of its invocations returned, or the error that it raised.
        bodies: How often bodies have run.
    """

    def __init__(self, emulator, *handlers, event=None, targets=(), outside=None, tenant_id=None, pick=None):
        """
        Args:
            emulator: Where it runs.
            *handlers: Called with event and Lambda context; invocation by invocation the next, the last for the rest.
            event: The input.
            targets: Of chained invokes: handlers by name.
            outside: What is done about each callback that is open: a function of this and the operation.
            tenant_id: Of the execution.
            pick: Chooses among the handlers: a function of the number of the invocation.
        """
        self.emulator = emulator
        self.outputs = []
        self.bodies = Bodies()
        self._handlers = handlers
        self._pick = pick or (lambda number: min(number, len(handlers) - 1))
        self._outside = outside
        self._met = set()
        self._first_call = len(emulator.calls)
        emulator.functions.update(targets)
        emulator.functions["Run"] = self._invoke
        self.arn = emulator.start("Run", event, tenant_id)

    def _invoke(self, event, context):
        handler = self._handlers[self._pick(len(self.outputs))]
        try:
            output = handler(event, context)
        except Exception as error:
            self.outputs.append(error)
            raise
        self.outputs.append(output)
        return output

    @property
    def execution(self):
        """The emulator's record."""
        return self.emulator.execution(self.arn)

    @property
    def is_over(self):
        """Whether it has ended."""
        return self.execution.is_complete

    def step(self):
        """Let the next thing happen."""
        with self.bodies.watched():
            assert self.emulator.timeline.step(), f"nothing will ever happen: {self.statuses()} {self.outputs}"
        if self._outside and not self.is_over:
            for operation in list(self.execution.operations):
                new = operation.operation_id not in self._met
                if operation.operation_type is OperationType.CALLBACK and new:
                    self._met.add(operation.operation_id)
                    self._outside(self, operation)

    def invoke(self):
        """Up to the end of the next invocation; its output."""
        number = len(self.outputs)
        while len(self.outputs) == number:
            self.step()
        return self.outputs[-1]

    def finish(self):
        """Until it has ended."""
        for _ in range(PATIENCE):
            if self.is_over:
                return self
            self.step()
        raise AssertionError(f"no end: {self.statuses()}")

    # ------------------------------------------------------------------------------------------------ what came of it

    def statuses(self):
        """By name, in the order in which they began."""
        return {each.name: each.status.value for each in self.execution.operations[1:]}

    @property
    def status(self):
        """How it ended."""
        return self.execution.current_status().value

    @property
    def result(self):
        """What it returned."""
        assert self.status == "SUCCEEDED", self.error
        return json.loads(self.execution.result.result)

    @property
    def error(self):
        """What it failed with."""
        return self.execution.result.error

    def calls(self, kind="checkpoint"):
        """The requests for it."""
        return [each for each in self.emulator.calls[self._first_call :] if each.arn == self.arn and each.kind == kind]

    def ends_of_bodies(self):
        """How many ends of bodies are recorded: of steps, submitters and checks, each attempt once."""
        ends = {"SUCCEED", "FAIL", "RETRY"}
        return sum(
            each.operation_type is OperationType.STEP and each.action.value in ends for each in self.execution.updates
        )

    def story(self):
        """All that is recorded, without times and without what is random; the same whoever ran it."""
        execution = self.execution
        return self._brief(
            {
                "status": self.status,
                "output": execution.result.to_dict(),
                "operations": {each.operation_id: self._operation(each) for each in execution.operations[1:]},
                "updates": self._updates(),
                "invocations": [self._output(each) for each in self.outputs],
                "ran": self.bodies.ran.total(),
            }
        )

    def sequence(self):
        """The updates in the order in which they are recorded."""
        return [(self._key(each), each.action.value) for each in self.execution.updates]

    @staticmethod
    def _output(output):
        return type(output).__name__ if isinstance(output, Exception) else output

    @staticmethod
    def _operation(operation):
        record = json.loads(json.dumps(operation.to_json_dict()))
        for name in ("StartTimestamp", "EndTimestamp"):
            record.pop(name, None)
        for details, name in (("StepDetails", "NextAttemptTimestamp"), ("WaitDetails", "ScheduledEndTimestamp")):
            if details in record:
                record[details] = {key: value for key, value in record[details].items() if key != name}
        return record

    @staticmethod
    def _key(update):
        # Its id is made of the time.
        return "execution" if update.operation_type is OperationType.EXECUTION else update.operation_id

    def _updates(self):
        sent = {}
        for update in self.execution.updates:
            key = self._key(update)
            sent.setdefault(key, []).append({**update.to_dict(), "Id": key})
        return sent

    def _brief(self, value):
        if isinstance(value, dict):
            return {name: self._brief(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self._brief(each) for each in value]
        if isinstance(value, str):
            value = self._without_ids(value)
            if len(value) > 1000:
                return f"{len(value)}: {hashlib.sha256(value.encode()).hexdigest()}"
        return value

    def _without_ids(self, text):
        for operation in self.execution.operations:
            if operation.callback_details is not None:
                text = text.replace(operation.callback_details.callback_id, f"<{operation.operation_id}>")
        return text.replace(self.arn, "<arn>")


# ------------------------------------------------------------------------------------------------------------ outside


def succeeds(result=b"", delay=1.0, beats=()):
    """Callbacks succeed after so many seconds, with heartbeats before."""

    def outside(run, operation):
        callback_id = operation.callback_details.callback_id
        executor, timeline = run.emulator.executor, run.emulator.timeline
        for beat in beats:
            timeline.call_later(lambda: executor.send_callback_heartbeat(callback_id), beat)
        timeline.call_later(lambda: executor.send_callback_success(callback_id, result), delay)

    return outside


def fails(error, delay=1.0):
    """Callbacks fail after so many seconds."""

    def outside(run, operation):
        callback_id = operation.callback_details.callback_id
        executor, timeline = run.emulator.executor, run.emulator.timeline
        timeline.call_later(lambda: executor.send_callback_failure(callback_id, error), delay)

    return outside


def is_open(operation):
    """Whether a callback waits to be completed."""
    return operation.operation_type is OperationType.CALLBACK and operation.status is OperationStatus.STARTED
