"""
Instrumentation plugins: what `@durable_execution(plugins=[…])` takes.

    class Timing(DurableInstrumentationPlugin):
        def on_operation_end(self, info: OperationEndInfo) -> None:
            print(info.name, info.status, info.end_time)

    class TimingFactory:
        def create_plugin(self, info: InvocationStartInfo) -> Timing:
            return Timing()

The names are those of AWS's Python SDK. Hooks are plain functions: each delays what it is told of. They are called as
`perdure.engine.observer` has it.
"""

from __future__ import annotations

import copy
import inspect
import os
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from perdure.engine.observation import contained
from perdure.engine.observer import Observer
from perdure.errors import PluginLoadError
from perdure.model import ErrorObject, InvocationOutput, OperationStatus, OperationType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from perdure.engine.ids import Identity
    from perdure.engine.observer import Body, Observe, Opening
    from perdure.model import Operation, OperationUpdate

__all__ = [
    "DurableInstrumentationPlugin",
    "DurableInstrumentationPluginFactory",
    "InvocationEndInfo",
    "InvocationInfo",
    "InvocationStartInfo",
    "InvocationStatus",
    "OperationChangeInfo",
    "OperationEndInfo",
    "OperationInfo",
    "OperationStartInfo",
    "OperationStatus",
    "OperationType",
    "PropagationInput",
    "PropagationMetadata",
    "UserFunctionEndInfo",
    "UserFunctionOutcome",
    "UserFunctionStartInfo",
]

ENTRY_POINTS = "perdure.plugins"
VARIABLE = "DURABLE_EXECUTION_PLUGINS"

# ------------------------------------------------------------------------------------------------ what plugins are told


class InvocationStatus(Enum):
    """How an invocation has ended; RETRY: uncleanly, and the service invokes again."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    PENDING = "PENDING"
    RETRY = "RETRY"


class UserFunctionOutcome(Enum):
    """What became of a function; INCOMPLETE: it was stopped, because its invocation or its context ended."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    INCOMPLETE = "INCOMPLETE"

    @classmethod
    def from_error(cls, error: ErrorObject | None) -> UserFunctionOutcome:
        """That of a function that has come to its end."""
        return cls.SUCCEEDED if error is None else cls.FAILED


@attrs.frozen
class OperationInfo:
    """
    An operation as it stands.

    Attributes:
        operation_id, operation_type, sub_type, name, parent_id: Which one; `sub_type` is plain text.
        start_time, end_time: As the service has them; of a function, as this process has them.
        is_replayed: Whether an earlier invocation began it, or ended it.
        status: Of the operation.
        result: As serialized.
        error: A copy of the recorded one.
        attempt: How many attempts of a step have ended; of a function, which attempt it is.
    """

    operation_id: str
    operation_type: OperationType
    sub_type: str | None
    name: str | None
    parent_id: str | None
    start_time: datetime | None
    is_replayed: bool
    status: OperationStatus
    end_time: datetime | None = attrs.field(default=None, kw_only=True)
    result: str | None = attrs.field(default=None, kw_only=True)
    error: ErrorObject | None = attrs.field(default=None, kw_only=True)
    attempt: int | None = attrs.field(default=None, kw_only=True)

    @staticmethod
    def from_operation(operation: Operation, *, is_replayed: bool = False) -> OperationInfo:
        """The info for a record."""
        return OperationInfo(**_recorded(operation), is_replayed=is_replayed)


@attrs.frozen
class OperationStartInfo(OperationInfo):
    """An operation that begins, an attempt that is repeated, or one that replay finds under way."""


@attrs.frozen
class OperationEndInfo(OperationInfo):
    """An operation that has ended."""


@attrs.frozen
class OperationChangeInfo:
    """
    What answers to checkpoints have brought.

    Attributes:
        execution_arn: Of the execution.
        updated_operations: Those whose status has changed since the last time, by id.
        operations: All, by id.
    """

    execution_arn: str | None
    updated_operations: dict[str, OperationInfo]
    operations: dict[str, OperationInfo]


@attrs.frozen
class UserFunctionStartInfo(OperationInfo):
    """
    A function of the author's that begins.

    Attributes:
        is_replay_children: It runs over what is recorded, for a result that was too large to record.
    """

    is_replay_children: bool = False


@attrs.frozen
class UserFunctionEndInfo(OperationInfo):
    """The same when it has ended, in whatever way."""

    is_replay_children: bool
    outcome: UserFunctionOutcome

    @classmethod
    def from_start_info(
        cls,
        start_info: UserFunctionStartInfo,
        error: ErrorObject | None,
        *,
        outcome: UserFunctionOutcome | None = None,
    ) -> UserFunctionEndInfo:
        """The info for a function that ends now."""
        members = attrs.asdict(start_info, recurse=False)
        members |= {"end_time": datetime.now(UTC), "error": error}
        return cls(**members, outcome=outcome or UserFunctionOutcome.from_error(error))


@attrs.frozen
class InvocationInfo:
    """
    An invocation.

    Attributes:
        request_id: That of AWS Lambda; None elsewhere.
        execution_arn: Of the execution.
        is_first_invocation: Nothing has been recorded before.
        execution_start_time: When the execution began.
        execution_input: As the workflow gets it; a copy.
        operations: All that is recorded, by id.
    """

    request_id: str | None
    execution_arn: str | None
    is_first_invocation: bool
    execution_start_time: datetime | None = None
    # Payloads of users: not to be logged by chance, nor compared.
    execution_input: Any = attrs.field(default=None, kw_only=True, repr=False, eq=False)
    operations: dict[str, OperationInfo] = attrs.field(factory=dict, kw_only=True, repr=False, eq=False)


@attrs.frozen
class InvocationStartInfo(InvocationInfo):
    """
    An invocation that begins.

    Attributes:
        updated_operations: Those that changed while no invocation ran, by id; only AWS's service tells.
    """

    updated_operations: dict[str, OperationInfo] = attrs.field(factory=dict, kw_only=True, repr=False, eq=False)


@attrs.frozen
class InvocationEndInfo(InvocationInfo):
    """
    An invocation that has ended.

    Attributes:
        status: How.
        error: Why, if it has failed or ended uncleanly.
        execution_result: As serialized; empty if it was too large for the output.
    """

    status: InvocationStatus = attrs.field(kw_only=True)
    error: ErrorObject | None = None
    execution_result: str | None = attrs.field(default=None, kw_only=True, repr=False, eq=False)


@attrs.frozen
class PropagationInput:
    """A chained invoke that is about to be started."""

    execution_arn: str
    operation_id: str
    target_function_name: str
    parent_operation_id: str | None = None


@attrs.frozen
class PropagationMetadata:
    """What the invoked function is to be told."""

    x_amzn_trace_id: str | None = None


# ------------------------------------------------------------------------------------------------------------- plugins


class DurableInstrumentationPlugin:
    """
    Base of plugins; serves one invocation. Override what is needed.

    What a hook raises is logged and ignored, but for KeyboardInterrupt and SystemExit.
    """

    def provide_propagation_metadata(self, info: PropagationInput) -> PropagationMetadata | None:  # noqa: ARG002 - for those who override it
        """What a chained invoke is to carry; asked before its START, not on replay."""
        return None

    def on_invocation_start(self, info: InvocationStartInfo) -> None:
        """Before the workflow's code, in its thread."""

    def on_invocation_end(self, info: InvocationEndInfo) -> None:
        """After everything else, in the same thread."""

    def on_operation_start(self, info: OperationStartInfo) -> None:
        """Before a START is queued, or when replay has come to an operation under way."""

    def on_operation_end(self, info: OperationEndInfo) -> None:
        """Before the workflow's code gets the outcome; in the first invocation that is told of the end, once."""

    def on_operation_change(self, info: OperationChangeInfo) -> None:
        """After answers to checkpoints; one call may cover several."""

    def on_user_function_start(self, info: UserFunctionStartInfo) -> None:
        """Before a function of the author's, in its thread or task and among its context variables."""

    def on_user_function_end(self, info: UserFunctionEndInfo) -> None:
        """After it, in the same place; before its outcome is recorded."""


class DurableInstrumentationPluginFactory(Protocol):
    """What `plugins=` takes: holds what outlives an invocation, and makes a plugin for each."""

    def create_plugin(self, info: InvocationStartInfo, /) -> DurableInstrumentationPlugin:
        """The plugin for the invocation that `info` tells of."""
        ...


# ------------------------------------------------------------------------------------------------------ registration


def observe_with(factories: Sequence[Any]) -> Observe:
    """
    What makes an invocation tell the plugins of these factories, and of those that the environment names.

    The environment variable `DURABLE_EXECUTION_PLUGINS` lists entry points of the group `perdure.plugins`, separated
    by commas.

    Raises:
        PluginLoadError: Something given or named is no factory, or is not there.
    """
    chosen = [_checked(each, f"plugins[{index}]") for index, each in enumerate(factories)]
    for name in filter(None, map(str.strip, os.environ.get(VARIABLE, "").split(","))):
        factory = _checked(_loaded(name), f"entry point {name!r} of group {ENTRY_POINTS!r}")
        if factory not in chosen:
            chosen.append(factory)

    def observers(opening: Opening) -> list[Observer]:
        info = _start_info(opening)
        made = (contained(_created, each, info) for each in chosen)
        return [_Told(plugin, info, opening) for plugin in made if plugin is not None]

    return observers


def _checked(factory: Any, where: str) -> DurableInstrumentationPluginFactory:
    """
    A factory.

    Raises:
        PluginLoadError: It is none.
    """
    try:
        inspect.signature(factory.create_plugin).bind(None)
    except (AttributeError, TypeError):
        shown = f"the class {factory.__qualname__}" if isinstance(factory, type) else repr(factory)
        message = (
            f"{where} is {shown}, which has no method create_plugin(info); give an object whose create_plugin returns "
            "a DurableInstrumentationPlugin, an instance of a factory class for example"
        )
        raise PluginLoadError(message) from None
    except ValueError:
        pass  # its signature is not known
    return factory  # type: ignore[no-any-return]


def _loaded(name: str) -> Any:
    from importlib.metadata import entry_points  # noqa: PLC0415 - few functions have plugins from the environment

    found = entry_points(group=ENTRY_POINTS)
    named = [each for each in found if each.name == name]
    if len(named) != 1:
        message = (
            f"{VARIABLE} names {name!r}, of which group {ENTRY_POINTS!r} has {len(named)} entry points among "
            f"{sorted(each.name for each in found)}; install one package that has it, or leave it out"
        )
        raise PluginLoadError(message)
    try:
        return named[0].load()
    except Exception as error:
        message = f"plugin {name!r} could not be imported from {named[0].value!r}: {error!r}; see the cause"
        raise PluginLoadError(message) from error


def _created(factory: DurableInstrumentationPluginFactory, info: InvocationStartInfo) -> DurableInstrumentationPlugin:
    plugin = factory.create_plugin(info)
    if not isinstance(plugin, DurableInstrumentationPlugin):
        message = f"{factory!r} made {plugin!r}, which is no DurableInstrumentationPlugin"
        raise TypeError(message)
    return plugin


# --------------------------------------------------------------------------------------------- from observer to plugin


class _Told(Observer):
    """A plugin that is told of one invocation."""

    def __init__(self, plugin: DurableInstrumentationPlugin, start: InvocationStartInfo, opening: Opening) -> None:
        self._plugin = plugin
        self._start = start
        self._opening = opening
        self._wants_changes = type(plugin).on_operation_change is not DurableInstrumentationPlugin.on_operation_change

    def __repr__(self) -> str:
        return f"<plugin {type(self._plugin).__qualname__}>"

    def invocation_started(self, opening: Opening) -> None:  # noqa: ARG002 - known
        _call(self._plugin.on_invocation_start, self._start)

    def invocation_ended(self, outcome: InvocationOutput | BaseException) -> None:
        begun = attrs.asdict(self._start, recurse=False)
        del begun["updated_operations"]
        begun["operations"] = _infos(self._opening.records.snapshot())
        if isinstance(outcome, InvocationOutput):
            status, error, result = InvocationStatus[outcome.status.name], outcome.error, outcome.result
        else:
            status, error, result = InvocationStatus.RETRY, ErrorObject.from_exception(outcome), None
        info = InvocationEndInfo(**begun, status=status, error=_copied(error), execution_result=result)
        _call(self._plugin.on_invocation_end, info)

    def operation_started(self, update: OperationUpdate, record: Operation | None) -> None:
        info = OperationStartInfo(
            update.operation_id,
            update.operation_type,
            _text(update.sub_type),
            update.name,
            update.parent_id,
            None,
            record is not None,
            OperationStatus.STARTED,
        )
        _call(self._plugin.on_operation_start, info)

    def operation_resumed(self, record: Operation) -> None:
        members = {name: value for name, value in _recorded(record).items() if name not in _OF_AN_END}
        _call(self._plugin.on_operation_start, OperationStartInfo(**members, is_replayed=True))

    def operation_ended(self, record: Operation) -> None:
        _call(self._plugin.on_operation_end, OperationEndInfo(**_recorded(record), is_replayed=False))

    def context_ended(self, identity: Identity, error: ErrorObject | None, *, again: bool) -> None:
        status = OperationStatus.SUCCEEDED if error is None else OperationStatus.FAILED
        ended, copied = datetime.now(UTC), _copied(error)
        info = OperationEndInfo(
            **_identified(identity), start_time=None, is_replayed=again, status=status, end_time=ended, error=copied
        )
        _call(self._plugin.on_operation_end, info)

    def body_started(self, body: Body) -> None:
        _call(self._plugin.on_user_function_start, _function_info(body))

    def body_ended(self, body: Body, error: BaseException | None) -> None:
        recorded, outcome = None, UserFunctionOutcome.SUCCEEDED
        if isinstance(error, Exception):
            recorded, outcome = ErrorObject.from_exception(error), UserFunctionOutcome.FAILED
        elif error is not None:
            outcome = UserFunctionOutcome.INCOMPLETE
        info = UserFunctionEndInfo.from_start_info(_function_info(body), recorded, outcome=outcome)
        _call(self._plugin.on_user_function_end, info)

    def operations_changed(self, changed: Mapping[str, Operation]) -> None:
        if self._wants_changes:
            all_of_them = _infos(self._opening.records.snapshot())
            info = OperationChangeInfo(self._opening.arn, _infos(changed), all_of_them)
            _call(self._plugin.on_operation_change, info)

    def trace_id(self, identity: Identity, function_name: str) -> str | None:
        info = PropagationInput(self._opening.arn, identity.operation_id, function_name, identity.parent_id)
        metadata = _call(self._plugin.provide_propagation_metadata, info)
        return None if metadata is None else metadata.x_amzn_trace_id


_OF_AN_END = "end_time", "result", "error", "attempt"


def _call(hook: Callable[[Any], Any], info: Any) -> Any:
    answer = hook(info)
    if inspect.iscoroutine(answer):
        answer.close()
        message = f"{hook!r} is a coroutine function; hooks are plain functions"
        raise TypeError(message)
    return answer


def _start_info(opening: Opening) -> InvocationStartInfo:
    operations = _infos(opening.records.snapshot())
    return InvocationStartInfo(
        opening.request_id,
        opening.arn,
        opening.is_first,
        opening.started,
        execution_input=contained(copy.deepcopy, opening.event),
        operations=operations,
        updated_operations={id: operations[id] for id in opening.updated if id in operations},
    )


def _function_info(body: Body) -> UserFunctionStartInfo:
    return UserFunctionStartInfo(
        **_identified(body.identity),
        start_time=body.started,
        is_replayed=False,
        status=OperationStatus.STARTED,
        is_replay_children=body.again,
        attempt=body.attempt,
    )


def _identified(identity: Identity) -> dict[str, Any]:
    return {
        "operation_id": identity.operation_id,
        "operation_type": identity.type,
        "sub_type": _text(identity.sub_type),
        "name": identity.name,
        "parent_id": identity.parent_id,
    }


def _recorded(operation: Operation) -> dict[str, Any]:
    return {
        "operation_id": operation.operation_id,
        "operation_type": operation.operation_type,
        "sub_type": _text(operation.sub_type),
        "name": operation.name,
        "parent_id": operation.parent_id,
        "start_time": operation.start_timestamp,
        "end_time": operation.end_timestamp,
        "status": operation.status,
        "result": operation.result,
        "error": _copied(operation.error),
        "attempt": operation.step_details.attempt if operation.step_details else None,
    }


def _infos(operations: Mapping[str, Operation]) -> dict[str, OperationInfo]:
    return {id: OperationInfo.from_operation(operation) for id, operation in operations.items()}


def _copied(error: ErrorObject | None) -> ErrorObject | None:
    """The same, with a list of its own: the recorded one goes on to the workflow."""
    if error is None or error.stack_trace is None:
        return error
    return attrs.evolve(error, stack_trace=list(error.stack_trace))


def _text(sub_type: str | None) -> str | None:
    return None if sub_type is None else str(sub_type)
