"""What plugins are told by AWS's SDK and by ours, of the same execution; see `sides`."""

from __future__ import annotations

import threading
from collections import defaultdict
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

import attrs
import aws_durable_execution_sdk_python.execution as aws_execution
import aws_durable_execution_sdk_python.plugin as aws_plugin

from perdure import durable, plugin
from perdure.codec import from_wire, to_wire
from perdure.engine.invocation import Invocation
from perdure.model import InvocationOutput, OperationType
from tests.aws.sides import Aws, Perdure, _ServiceClient
from tests.replay.plane import settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.model import InvocationInput
    from tests.replay.plane import Plane

HOOKS = [name for name in vars(aws_plugin.DurableInstrumentationPlugin) if name.startswith("on_")]
OF_FUNCTIONS = {"on_user_function_start", "on_user_function_end"}


class Record:
    """
    What the plugins of one side were told of one execution.

    Attributes:
        told: Hook and info, as plain values, in order.
        trace_id: What a chained invoke is to carry.
    """

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.trace_id: str | None = None
        self._lock = threading.Lock()
        self._statuses: dict[str, Any] = {}

    def add(self, hook: str, info: Any) -> None:
        """A hook is called."""
        with self._lock:
            self.told.append((hook, plain(hook, info)))

    def factory(self, base: type) -> Any:
        """A factory of plugins that record all, for one SDK's base class."""

        def told(hook: str) -> Callable[[Any, Any], None]:
            return lambda _, info: self.add(hook, info)

        def provide(_: Any, info: Any) -> Any:
            self.add("provide_propagation_metadata", info)
            module = aws_plugin if base is aws_plugin.DurableInstrumentationPlugin else plugin
            return module.PropagationMetadata(self.trace_id)

        kind = type(
            "Recording", (base,), {**{hook: told(hook) for hook in HOOKS}, "provide_propagation_metadata": provide}
        )
        return type("Factory", (), {"create_plugin": lambda _, info: kind()})()

    def begin(self, plane: Plane) -> InvocationInput:
        """An invocation that tells which operations have changed since the last one, as AWS's service does."""
        given = plane.begin()
        changed = [
            each for each in plane.operations() if self._statuses.get(each.operation_id, each.status) != each.status
        ]
        return attrs.evolve(given, updated_operation_ids=tuple(each.operation_id for each in changed))

    def end(self, plane: Plane) -> None:
        """It is over."""
        self._statuses = {each.operation_id: each.status for each in plane.operations()}

    # --------------------------------------------------------------------------------------------------- comparison

    def of_operations(self) -> dict[str, list[Any]]:
        """What was told of each operation, in order."""
        told = defaultdict(list)
        for hook, info in self.told:
            if hook.startswith("on_") and "operation_id" in info:
                told[info["operation_id"]].append((hook, info))
        return dict(told)

    def of_invocations(self) -> list[Any]:
        """What was told of the invocations."""
        return [each for each in self.told if "operations" in each[1] and each[0] != "on_operation_change"]

    def sequence(self) -> list[tuple[str, str | None]]:
        """The hooks in order, each with the operation's name; without changes, which have an order of their own."""
        return [(hook, info.get("name")) for hook, info in self.told if hook != "on_operation_change"]

    def changes(self) -> set[tuple[str, str]]:
        """Ids and statuses of operations that were told to have changed, as they were at last."""
        last = {}
        for hook, info in self.told:
            if hook == "on_operation_change":
                last.update(info["updated_operations"])
        return set(last.items())


def plain(hook: str, info: Any) -> dict[str, Any]:
    """An info without the types of its SDK."""
    names = [each.name for each in attrs.fields(type(info))] if attrs.has(type(info)) else list(vars(info))
    shown = {name: _plain(getattr(info, name)) for name in names}
    if hook in OF_FUNCTIONS or (hook == "on_operation_end" and shown["start_time"] is None):
        # Taken from the clock of the process.
        shown |= {name: "now" for name in ("start_time", "end_time") if shown[name] is not None}
    if "updated_operations" in shown and hook == "on_operation_change":
        shown["operations"] = None
    return shown


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, dict) and all(hasattr(each, "operation_id") for each in value.values()):
        return {
            id: each.status.value
            for id, each in value.items()
            if each.operation_type.value != OperationType.EXECUTION.value
        }
    if hasattr(value, "stack_trace"):
        return [value.type.rpartition(".")[2] if value.type else None, value.message, value.data, value.stack_trace]
    return value


class WatchedAws(Aws):
    """AWS's SDK with plugins that record."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def invoke(self, workflow: Callable[..., Any], plane: Plane) -> InvocationOutput:
        event = aws_execution.DurableExecutionInvocationInputWithClient.from_durable_execution_invocation_input(
            aws_execution.DurableExecutionInvocationInput.from_json_dict(
                to_wire(self.record.begin(plane), millis=True)
            ),
            _ServiceClient(plane),
        )
        factory = self.record.factory(aws_plugin.DurableInstrumentationPlugin)
        try:
            handler = aws_execution.durable_execution(workflow, plugins=[factory])
            return from_wire(InvocationOutput, handler(event, None))
        finally:
            self.record.end(plane)


class WatchedPerdure(Perdure):
    """Ours with plugins that record."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def invoke(self, workflow: Callable[..., Any], plane: Plane) -> InvocationOutput:
        function = durable.durable_execution(
            workflow, plugins=[self.record.factory(plugin.DurableInstrumentationPlugin)]
        )
        given = self.record.begin(plane)
        try:
            chosen = settings(plane, grace=lambda: None)
            return Invocation(function, given, settings=chosen).run(plane)
        finally:
            self.record.end(plane)
