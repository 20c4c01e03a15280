"""
The same `def` workflow run by AWS's SDK and by ours, against the same service.

A workflow is written once, against the names both SDKs have; a `Kit` gives it those of one SDK and counts its bodies.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from datetime import UTC, datetime
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import attrs
import aws_durable_execution_sdk_python as aws
import aws_durable_execution_sdk_python.concurrency.models as aws_batch
import aws_durable_execution_sdk_python.config as aws_config
import aws_durable_execution_sdk_python.exceptions as aws_errors
import aws_durable_execution_sdk_python.execution as aws_execution
import aws_durable_execution_sdk_python.lambda_service as aws_model
import aws_durable_execution_sdk_python.retries as aws_retries
import aws_durable_execution_sdk_python.serdes as aws_serdes
import aws_durable_execution_sdk_python.waits as aws_waits

from perdure import batch, config, durable, errors, retries, serdes, waits
from perdure.codec import from_wire, to_wire
from perdure.engine.invocation import Invocation
from perdure.errors import InvalidParameterValueError
from perdure.model import InvocationOutput, InvocationStatus, OperationAction, OperationType, OperationUpdate
from tests.aws.wording import alike
from tests.replay.plane import Plane, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from perdure.model import CheckpointAnswer, Operation

AHEAD = datetime(2100, 1, 1, tzinfo=UTC)
"""AWS's SDK resumes branches by the wall clock; virtual time that is far ahead of it moves only between invocations."""


# ------------------------------------------------------------------------------------------------------------- SDKs


class Crash(Exception):  # noqa: N818 - no error, but the end of a process
    """The process dies."""


class Kit:
    """
    What a workflow is written against: the names of one SDK as attributes, and bodies that are counted.

    Attributes:
        ran: How often each body has run, over both SDKs.
    """

    def __init__(self, names: Mapping[str, Any], ran: Counter[str]) -> None:
        self._names = names
        self._lock = threading.Lock()
        self.ran = ran

    def __getattr__(self, name: str) -> Any:
        return self._names[name]

    def note(self, name: str) -> None:
        """A body has run."""
        with self._lock:
            self.ran[name] += 1

    def gives(self, name: str, value: Any = None) -> Callable[..., Any]:
        """A body that returns a value."""

        def body(*_: Any) -> Any:
            self.note(name)
            return value

        return body

    def raises(self, name: str, error: Exception, attempts: int = 1000, value: Any = None) -> Callable[..., Any]:
        """A body that fails in so many attempts and then returns a value."""

        def body(context: Any, *_: Any) -> Any:
            self.note(name)
            if context.attempt <= attempts:
                raise error
            return value

        return body

    def step(self, context: Any, name: str, value: Any = None, **config: Any) -> Any:
        """A named step that returns a value."""
        return context.step(self.gives(name, value), name=name, config=self.StepConfig(**config) if config else None)

    def wait(self, context: Any, seconds: int, name: str | None = None) -> None:
        """A wait."""
        context.wait(self.Duration.from_seconds(seconds), name=name)

    def logger(self) -> Any:
        """A logger that counts what it is told, with whatever comes along."""
        return _CountingLogger(self)

    def told_by(self, error: Exception) -> list[Any]:
        """What any error tells, its cause included."""
        fields = [getattr(error, name, None) for name in ("error_type", "message", "data", "stack_trace")]
        cause = error.__cause__
        return [type(error).__name__, str(error), fields, self.told_by(cause) if isinstance(cause, Exception) else None]

    def attempt(self, call: Callable[[], Any]) -> list[Any]:
        """What a call returned, or what the error it raised tells."""
        try:
            return ["returned", call()]
        except Exception as error:  # noqa: BLE001 - whatever it is
            return self.told_by(error)

    def caught(self, call: Callable[[], Any], *errors: str) -> list[Any]:
        """What a call raised, as a value; one of `errors`, else any of the author's."""
        try:
            return ["returned", call()]
        except tuple(getattr(self, each) for each in errors or ("DurableOperationError",)) as error:
            cause = error.__cause__
            return [
                type(error).__name__,
                error.error_type,
                error.message,
                error.data,
                error.stack_trace,
                type(cause).__name__,
                str(cause),
            ]


class _CountingLogger:
    """Counts messages, by level, text and extra."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def __getattr__(self, level: str) -> Callable[..., None]:
        def log(message: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
            told = {name: value for name, value in sorted((extra or {}).items()) if name != "executionArn"}
            self._kit.note(f"{level} {message} {args} {told}")

        return log


def _names(*modules: Any) -> dict[str, Any]:
    return {name: value for module in modules for name, value in vars(module).items() if not name.startswith("_")}


class Aws:
    """AWS's SDK."""

    names = _names(aws_batch, aws_errors, aws_serdes, aws_retries, aws_waits, aws_config, aws)

    def invoke(self, workflow: Callable[..., Any], plane: Plane) -> InvocationOutput:
        """One invocation; raises if it ends uncleanly."""
        event = aws_execution.DurableExecutionInvocationInputWithClient.from_durable_execution_invocation_input(
            aws_execution.DurableExecutionInvocationInput.from_json_dict(to_wire(plane.begin(), millis=True)),
            _ServiceClient(plane),
        )
        return from_wire(InvocationOutput, aws_execution.durable_execution(workflow)(event, None))


class Perdure:
    """Ours."""

    names = _names(batch, errors, serdes, retries, waits, config, durable)

    def invoke(self, workflow: Callable[..., Any], plane: Plane) -> InvocationOutput:
        """One invocation; raises if it ends uncleanly."""
        function = durable.durable_execution(workflow)
        return Invocation(function, plane.begin(), settings=settings(plane)).run(plane)


class _ServiceClient:
    """AWS's port, over ours."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    def checkpoint(
        self, durable_execution_arn: str, checkpoint_token: str, updates: list[Any], client_token: str | None
    ) -> aws_model.CheckpointOutput:
        try:
            answer: CheckpointAnswer = self._plane.checkpoint(
                checkpoint_token, [from_wire(OperationUpdate, each.to_dict()) for each in updates]
            )
        except InvalidParameterValueError as error:
            raise aws_errors.CheckpointError(str(error), aws_errors.DurableApiErrorCategory.EXECUTION) from error
        return aws_model.CheckpointOutput(
            answer.token,
            aws_model.CheckpointUpdatedExecutionState(_operations(answer.operations), answer.next_marker),
        )

    def get_execution_state(
        self, durable_execution_arn: str, checkpoint_token: str, next_marker: str, max_items: int = 1000
    ) -> aws_model.StateOutput:
        page = self._plane.state(checkpoint_token, next_marker)
        return aws_model.StateOutput(_operations(page.operations), page.next_marker)


def _operations(operations: Iterable[Operation]) -> list[aws_model.Operation]:
    return [aws_model.Operation.from_json_dict(to_wire(each, millis=True)) for each in operations]


DIGEST = 1000
"""Characters of the longest text that is shown as it is."""
AWS, PERDURE = Aws(), Perdure()


# -------------------------------------------------------------------------------------------------------- workflows


class BrokenError(Exception):
    """An error of the author's own, whose class is not importable by name alone."""


def time_passes(_: Plane) -> None:
    """Nothing happens outside."""


@attrs.frozen
class Workflow:
    """
    A workflow and its surroundings.

    Attributes:
        name: Of the workflow.
        build: Makes the function of (event, context), given a kit.
        outside: What happens outside while no invocation runs.
        input: The execution's.
        races: What becomes of it depends on threads, mostly those of AWS's SDK.
    """

    name: str
    build: Callable[[Kit], Callable[..., Any]]
    outside: Callable[[Plane], None] = time_passes
    input: str = "{}"
    races: bool = False


class Catalogue(dict[str, Workflow]):
    """
    Workflows by name.

    Args:
        prefix: Of their names.
    """

    def __init__(self, prefix: str = "") -> None:
        super().__init__()
        self.prefix = prefix

    @classmethod
    def of(cls, *catalogues: Catalogue) -> Catalogue:
        """The workflows of several catalogues."""
        whole = cls()
        for each in catalogues:
            assert not whole.keys() & each.keys()
            whole.update(each)
        return whole

    def add(self, **options: Any) -> Callable[[Any], Any]:
        """Add the decorated function, which is called with a kit and returns a function of (event, context)."""

        def decorate(build: Any) -> Any:
            name = self.prefix + build.__name__
            assert name not in self, name
            self[name] = Workflow(name, build, **options)
            return build

        return decorate


class Run:
    """
    An execution of a workflow.

    Attributes:
        plane: Its service.
        ran: How often each body has run.
        output: Of the last invocation; None before it has ended.
        crashes: How many invocations have ended uncleanly.
    """

    def __init__(self, workflow: Workflow) -> None:
        self.workflow = workflow
        self.plane = Plane(workflow.input, now=AHEAD)
        self.ran: Counter[str] = Counter()
        self.output: InvocationOutput | None = None
        self.crashes = 0

    def invoke(self, side: Aws | Perdure) -> bool:
        """One invocation by a side, and what happens after it; whether the execution has ended."""
        try:
            output = side.invoke(self.workflow.build(Kit(side.names, self.ran)), self.plane)
        except (Crash, errors.InvocationError, aws_errors.InvocationError) as error:
            self.crashes += 1
            self.plane.crash(error)
            return False
        self.plane.finish(output)
        if output.status is not InvocationStatus.PENDING:
            self.output = output
            return True
        self.workflow.outside(self.plane)
        if not self.plane.execution.has_news:
            assert self.plane.advance_to_next(), f"nothing will ever happen: {self.plane.statuses()}"
        return False

    def finish(self, *sides: Aws | Perdure) -> Run:
        """Invocations until the execution has ended, by the sides in turn."""
        for side in islice(cycle(sides), 500):
            if self.invoke(side):
                return self
        raise AssertionError(f"no end: {self.plane.statuses()}")

    def crash_everywhere(self) -> None:
        """Have the process die at every update that is waited for, once before and once after it is recorded."""
        crashed = set()

        def dying(moment: str) -> Callable[[Iterable[OperationUpdate]], None]:
            def around(updates: Iterable[OperationUpdate]) -> None:
                new = {(moment, each.operation_id, each.action) for each in updates if _is_awaited(each)} - crashed
                if new:
                    crashed.update(new)
                    raise Crash

            return around

        self.plane.before, self.plane.after = dying("before"), dying("after")

    # ------------------------------------------------------------------------------------------ what came of it

    def outcome(self) -> dict[str, Any]:
        """How the execution ended."""
        assert self.output is not None
        execution = self.plane.execution
        recorded = {"result": execution.result, "error": to_wire(execution.error) if execution.error else None}
        return {"output": to_wire(self.output), **recorded}

    def records(self) -> dict[str, Any]:
        """The operations as they are recorded, with virtual times, by id."""
        return {each.operation_id: to_wire(each) for each in self.plane.operations()}

    def updates(self) -> dict[str, Any]:
        """What was sent for each operation, in order."""
        sent: dict[str, list[Any]] = {}
        for update in (each for request in self.plane.requests for each in request):
            key = "execution" if update.operation_id.startswith("execution-result") else update.operation_id
            sent.setdefault(key, []).append(to_wire(update) | {"Id": key})
        return sent

    def history(self) -> dict[str, Any]:
        """The events of each operation, in order, and of the execution under its own id."""
        events: dict[str, list[Any]] = {}
        for event in self.plane.history.events:
            members = {name: value for name, value in to_wire(event).items() if name != "EventId"}
            members.pop("InvocationCompletedDetails", None)
            events.setdefault(event.operation_id or "invocations", []).append(members)
        return events

    def story(self) -> dict[str, Any]:
        """All of that; it is the same whoever ran the workflow."""
        story = {
            "outcome": self.outcome(),
            "records": self.records(),
            "updates": self.updates(),
            "history": self.history(),
            "ran": dict(self.ran),
        }
        return _brief(story)  # type: ignore[no-any-return]


def _is_awaited(update: OperationUpdate) -> bool:
    """Whether it surely is waited for: the START of a step or a context need not be."""
    unawaited = {OperationType.STEP, OperationType.CONTEXT}
    if update.operation_type is OperationType.EXECUTION:
        return False
    return update.action is not OperationAction.START or update.operation_type not in unawaited


def _brief(value: Any) -> Any:
    """A value in words that both use, and with large texts replaced by their digests."""
    if isinstance(value, dict):
        return {name: _brief(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_brief(each) for each in value]
    if isinstance(value, str):
        text = alike(value)
        return text if len(text) <= DIGEST else f"{len(text)}: {hashlib.sha256(text.encode()).hexdigest()}"
    return value
