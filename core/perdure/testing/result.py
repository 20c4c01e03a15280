"""What came of a workflow under test, to be looked up by the names of its operations."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from perdure import serdes
from perdure.desk.answer import failure, value
from perdure.desk.store import status_of
from perdure.engine.ids import operation_id
from perdure.errors import SerDesError, ValidationError
from perdure.model import ExecutionStatus, OperationSubType, OperationType

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from perdure.durable import DurableFunction
    from perdure.model import ErrorObject, Event, Operation, OperationStatus
    from perdure.testing.simulation import Record
    from perdure.testing.tally import Tally

O = TypeVar("O")  # noqa: E741 - output, as in `DurableFunction[I, O]`

_WORDS = {
    OperationType.STEP: "step",
    OperationType.WAIT: "wait",
    OperationType.CALLBACK: "callback",
    OperationType.CHAINED_INVOKE: "invoke",
    OperationType.CONTEXT: "context",
}
_SERDES = {
    OperationType.CHAINED_INVOKE: serdes.DEFAULT_JSON_SERDES,
    OperationType.CALLBACK: serdes.PASS_THROUGH_SERDES,
}

_GAPS = 1000
"""How many branches may be missing before one that was begun."""


class Operations:
    """Operations to be looked up by name."""

    def _below(self) -> Sequence[TestOperation]:
        """Those that are searched, in the order of the code."""
        raise NotImplementedError

    def operation(self, name: str) -> TestOperation:
        """
        The operation of this name, of whatever type.

        Raises:
            ValidationError: There is none, or several: look in the context that it stands in, or use `named`.
        """
        return self._only(name, None)

    def step(self, name: str) -> TestOperation:
        """The step, or the `wait_for_condition`, of this name; raises as `operation`."""
        return self._only(name, OperationType.STEP)

    def wait(self, name: str) -> TestOperation:
        """The wait of this name; raises as `operation`."""
        return self._only(name, OperationType.WAIT)

    def invoke(self, name: str) -> TestOperation:
        """The chained invoke of this name; raises as `operation`."""
        return self._only(name, OperationType.CHAINED_INVOKE)

    def context(self, name: str) -> TestOperation:
        """
        The context of this name; raises as `operation`.

        That is a child context, a map or a parallel, one of their items or branches, or a `wait_for_callback`.
        """
        return self._only(name, OperationType.CONTEXT)

    def callback(self, name: str) -> TestOperation:
        """The callback of this name, or that of the `wait_for_callback` of this name; raises as `operation`."""
        within = [
            child
            for each in self._below()
            if each.name == name and each.sub_type == OperationSubType.WAIT_FOR_CALLBACK
            for child in each.children
            if child.type is OperationType.CALLBACK
        ]
        return within[0] if len(within) == 1 else self._only(name, OperationType.CALLBACK)

    def named(self, name: str) -> list[TestOperation]:
        """All operations of this name, in the order of the code."""
        return [each for each in self._below() if each.name == name]

    def _only(self, name: str, type: OperationType | None) -> TestOperation:
        word = "operation" if type is None else _WORDS[type]
        candidates = [each for each in self._below() if type is None or each.type is type]
        found = [each for each in candidates if each.name == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise ValidationError(
                f"{len(found)} {word}s are named {name!r}; look each up in its own context, or use named({name!r})"
            )
        known = ", ".join(sorted({repr(each.name) for each in candidates if each.name})) or "none with a name"
        raise ValidationError(f"no {word} is named {name!r}; there are: {known}")


@attrs.frozen(eq=False, repr=False)
class TestOperation(Operations):
    """
    One operation of a workflow under test.

    Attributes:
        record: As it is recorded.
        children: Those that stand directly in it, in the order of the code.
    """

    __test__ = False

    record: Operation
    children: tuple[TestOperation, ...]
    _arn: str

    @property
    def id(self) -> str:
        """Its id."""
        return self.record.operation_id

    @property
    def name(self) -> str | None:
        """Its name."""
        return self.record.name

    @property
    def type(self) -> OperationType:
        """Which kind of operation it is."""
        return self.record.operation_type

    @property
    def sub_type(self) -> str | None:
        """Its kind more precisely, as text: `MapIteration`."""
        return self.record.sub_type

    @property
    def status(self) -> OperationStatus:
        """Where it stands."""
        return self.record.status

    @property
    def attempts(self) -> int:
        """How many attempts of a step, or checks of a `wait_for_condition`, have ended; 0 of others."""
        return self.record.attempt

    @property
    def payload(self) -> str | None:
        """The recorded result as text."""
        return self.record.result

    @property
    def result(self) -> Any:
        """
        The recorded result as the workflow got it, if that uses no serializer of its own here; else the text.

        Of a `wait_for_condition` that goes on, it is the last state.
        """
        if self.payload is None:
            return None
        try:
            return serdes.deserialize(_SERDES.get(self.type), self.payload, self.id, self._arn)
        except SerDesError:
            return self.payload

    @property
    def error(self) -> ErrorObject | None:
        """The recorded error."""
        return self.record.error

    @property
    def started(self) -> datetime | None:
        """When it began, in the time of the run."""
        return self.record.start_timestamp

    @property
    def ended(self) -> datetime | None:
        """When it ended."""
        return self.record.end_timestamp

    @property
    def callback_id(self) -> str | None:
        """What completes it, if it is a callback."""
        details = self.record.callback_details
        return None if details is None else details.callback_id

    @property
    def descendants(self) -> list[TestOperation]:
        """All that stand in it, each before those that stand in it."""
        return [each for child in self.children for each in (child, *child.descendants)]

    def _below(self) -> Sequence[TestOperation]:
        return self.descendants

    def __repr__(self) -> str:
        return f"<{_WORDS.get(self.type, 'operation')} {self.name!r} {self.status.value}>"


@attrs.define(eq=False, repr=False, slots=False)  # for the cached property
class TestResult(Operations, Generic[O]):
    """
    How a workflow under test stands, or how it ended.

    Attributes:
        commits: How many commits were durable so far, those of functions it invoked included.
    """

    __test__ = False

    _record: Record
    _function: DurableFunction[Any, O]
    commits: int

    @property
    def status(self) -> ExecutionStatus:
        """RUNNING, PAUSING or PAUSED, or how it ended."""
        return status_of(self._record.header)

    @property
    def value(self) -> O:
        """
        What the workflow returned.

        Raises:
            ExecutionFailedError: It ended otherwise; with type, message and data of the error.
            ValidationError: It has not ended.
        """
        execution, reference = self._record.execution, self._record.reference
        if self.ended is None:
            raise ValidationError(f"execution {reference.name!r} has not ended; ask its run for the result()")
        if self.status is not ExecutionStatus.SUCCEEDED:
            raise failure(reference, self.status.value, execution.error)
        returned: O = value(execution.result, reference, self._function)
        return returned

    @property
    def result(self) -> str | None:
        """The result as JSON text, None unless it has succeeded."""
        return self._record.execution.result

    @property
    def error(self) -> ErrorObject | None:
        """The recorded error of a workflow that ended otherwise."""
        return self._record.execution.error

    @property
    def invocations(self) -> int:
        """How many invocations of the workflow have ended: one more than it was suspended, if nothing went wrong."""
        return self._record.execution.invocations

    @property
    def history(self) -> list[Event]:
        """Its events (protocol.md §12)."""
        return self._record.history

    @property
    def started(self) -> datetime | None:
        """When it began."""
        return self._record.execution.started

    @property
    def ended(self) -> datetime | None:
        """When it ended."""
        return self._record.execution.ended

    @property
    def arn(self) -> str:
        """Its ARN."""
        return self._record.reference.arn

    @cached_property
    def operations(self) -> list[TestOperation]:
        """All its operations in the order of the code, each before those that stand in it."""
        below: dict[str | None, list[Operation]] = {}
        for record in self._record.execution.operations.values():
            if record.operation_type is not OperationType.EXECUTION:
                below.setdefault(record.parent_id, []).append(record)

        def made(parent: str | None) -> tuple[TestOperation, ...]:
            records = _in_order(parent, below.get(parent, ()))
            return tuple(TestOperation(record, made(record.operation_id), self.arn) for record in records)

        return [each for top in made(None) for each in (top, *top.descendants)]

    def _below(self) -> Sequence[TestOperation]:
        return self.operations

    def __repr__(self) -> str:
        return f"<TestResult {self.status.value} {self.operations}>"


def _in_order(parent: str | None, records: Sequence[Operation]) -> list[Operation]:
    """Operations of a context by their positions in it; branches start in any order, as threads take turns."""
    left, found = {record.operation_id: record for record in records}, []
    for position in range(2 * len(records) + _GAPS):
        if not left:
            break
        record = left.pop(operation_id(parent, position), None)
        if record is not None:
            found.append(record)
    # Those of a context without a record are not numbered here.
    return [*found, *left.values()]


def seen(record: Record, function: DurableFunction[Any, O], tally: Tally) -> TestResult[O]:
    """What there is to see of an execution."""
    return TestResult(record, function, len(tally.commits))
