"""
What the methods of a context have in common, whatever its colour.

Each function takes the scope and the arguments of one method, checks them, draws the operation's id and makes its
procedure.
"""

from __future__ import annotations

from collections.abc import Sized
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, TypeAlias

from perdure.config import CallbackConfig, ChildConfig, InvokeConfig, MapConfig, ParallelConfig, StepConfig
from perdure.engine.ids import Identity, check_name, description, operation_name
from perdure.engine.operations.batch import MAP, PARALLEL, batch, map_branches, parallel_branches, repeated
from perdure.engine.operations.callback import create_callback
from perdure.engine.operations.child import child
from perdure.engine.operations.condition import wait_for_condition
from perdure.engine.operations.invoke import invoke
from perdure.engine.operations.step import step
from perdure.engine.operations.transaction import transaction
from perdure.engine.operations.wait import wait, wait_seconds
from perdure.engine.operations.wait_for_callback import wait_for_callback
from perdure.errors import ValidationError
from perdure.model import OperationSubType, OperationType

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perdure.config import Duration, WaitForCallbackConfig
    from perdure.engine.commands import Procedure
    from perdure.engine.operations.batch import Branch, Kind
    from perdure.engine.scope import Scope
    from perdure.waits import WaitForConditionConfig

Drawn: TypeAlias = "tuple[Identity, Procedure[Any]]"

_STEP = StepConfig()
_CALLBACK = CallbackConfig()
_CHILD: ChildConfig[Any] = ChildConfig()
_INVOKE: InvokeConfig[Any, Any] = InvokeConfig()
_PARALLEL = ParallelConfig()
_MAP: MapConfig[Any] = MapConfig()


def draw_step(scope: Scope, func: Callable[..., Any], name: str | None, config: StepConfig | None) -> Drawn:
    """A step."""
    config = config or _STEP
    _check_function(func, OperationSubType.STEP, name)
    identity = scope.draw(OperationType.STEP, config.sub_type or OperationSubType.STEP, operation_name(name, func))
    return identity, step(scope, identity, func, config)


def draw_transaction(
    scope: Scope,
    func: Callable[..., Any],
    name: str | None,
    config: StepConfig | None,
    check: Callable[[], object],
) -> Drawn:
    """A transactional step; `check` raises if the backend has no transactions."""
    config = config or _STEP
    _check_function(func, OperationSubType.STEP, name)
    identity = scope.draw(OperationType.STEP, config.sub_type or OperationSubType.STEP, operation_name(name, func))
    return identity, transaction(scope, identity, func, config, check)


def draw_wait(scope: Scope, duration: Duration, name: str | None) -> Drawn:
    """A wait."""
    seconds = wait_seconds(duration, name)
    identity = scope.draw(OperationType.WAIT, OperationSubType.WAIT, name)
    return identity, wait(scope, identity, seconds)


def draw_callback(scope: Scope, name: str | None, config: CallbackConfig | None) -> Drawn:
    """A callback; its procedure returns the id."""
    config = config or _CALLBACK
    identity = scope.draw(OperationType.CALLBACK, config.sub_type or OperationSubType.CALLBACK, name)
    return identity, create_callback(scope, identity, config)


def draw_wait_for_callback(
    scope: Scope, submitter: Callable[..., Any], name: str | None, config: WaitForCallbackConfig | None
) -> Drawn:
    """A wait_for_callback."""
    _check_function(submitter, OperationSubType.WAIT_FOR_CALLBACK, name)
    name = operation_name(name, submitter)
    identity = scope.draw(OperationType.CONTEXT, OperationSubType.WAIT_FOR_CALLBACK, name)
    return identity, wait_for_callback(scope, identity, submitter, config)


def draw_wait_for_condition(
    scope: Scope, check: Callable[..., Any], config: WaitForConditionConfig[Any], name: str | None
) -> Drawn:
    """A wait_for_condition."""
    if check is None or config is None:
        message = "wait_for_condition needs a check and a config"
        raise ValidationError(message)
    _check_function(check, OperationSubType.WAIT_FOR_CONDITION, name)
    identity = scope.draw(OperationType.STEP, OperationSubType.WAIT_FOR_CONDITION, name)
    return identity, wait_for_condition(scope, identity, check, config)


def draw_invoke(
    scope: Scope, function_name: str, payload: object, name: str | None, config: InvokeConfig[Any, Any] | None
) -> Drawn:
    """An invoke."""
    if not isinstance(function_name, str):
        raise ValidationError(
            f"{_described(OperationSubType.CHAINED_INVOKE, name)} was given {function_name!r}; "
            "use the name of a function, such as 'order' or 'order:2'"
        )
    identity = scope.draw(OperationType.CHAINED_INVOKE, OperationSubType.CHAINED_INVOKE, name)
    return identity, invoke(scope, identity, function_name, payload, config or _INVOKE)


def draw_child(scope: Scope, func: Callable[..., Any], name: str | None, config: ChildConfig[Any] | None) -> Drawn:
    """A child context."""
    config = config or _CHILD
    _check_function(func, OperationSubType.RUN_IN_CHILD_CONTEXT, name)
    sub_type = config.sub_type or OperationSubType.RUN_IN_CHILD_CONTEXT
    identity = scope.draw(OperationType.CONTEXT, sub_type, operation_name(name, func))
    return identity, child(scope, identity, func, config)


def draw_parallel(
    scope: Scope, functions: Sequence[Callable[..., Any]], name: str | None, config: ParallelConfig | None
) -> Drawn:
    """A parallel."""
    used = config or _PARALLEL
    _check_list(functions, OperationSubType.PARALLEL, name)
    for function in functions:
        _check_function(function, OperationSubType.PARALLEL, name)
    used.completion_config.validate_for_total(len(functions), _described(OperationSubType.PARALLEL, name))
    return _draw_batch(scope, PARALLEL, name, lambda: parallel_branches(functions), used)


def draw_map(
    scope: Scope, inputs: Sequence[Any], func: Callable[..., Any], name: str | None, config: MapConfig[Any] | None
) -> Drawn:
    """A map."""
    used = config or _MAP
    _check_function(func, OperationSubType.MAP, name)
    _check_list(inputs, OperationSubType.MAP, name)
    name = operation_name(name, func)
    used.completion_config.validate_for_total(len(inputs), _described(OperationSubType.MAP, name))
    return _draw_batch(scope, MAP, name, lambda: map_branches(inputs, func, used), used)


def _draw_batch(
    scope: Scope,
    kind: Kind,
    name: str | None,
    branches: Callable[[], Sequence[Branch]],
    config: ParallelConfig | MapConfig[Any],
) -> Drawn:
    if config.retry_strategy is None:
        identity = scope.draw(OperationType.CONTEXT, kind.sub_type, name)
        return identity, batch(scope, identity, kind, branches, config)
    identity = scope.draw(OperationType.CONTEXT, OperationSubType.RUN_IN_CHILD_CONTEXT, name)
    return identity, repeated(scope, identity, kind, branches, config)


def _check_function(function: object, sub_type: OperationSubType, name: str | None) -> None:
    if callable(function):
        return
    if iscoroutine(function):
        # Or Python would complain, besides, that nobody has awaited it.
        function.close()
    raise ValidationError(
        f"{_described(sub_type, name)} needs a function to call, not a value of type {type(function).__name__!r}; "
        "pass the function itself, without calling it"
    )


def _check_list(given: object, sub_type: OperationSubType, name: str | None) -> None:
    if not isinstance(given, Sized):
        raise ValidationError(
            f"{_described(sub_type, name)} needs a list, not a value of type {type(given).__name__!r}; "
            "make one of it first, as list(…) does"
        )


def _described(sub_type: OperationSubType, name: str | None) -> str:
    check_name(name)
    return description(OperationType.CONTEXT, sub_type, name)
