"""What the body of an `async def` workflow is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from perdure.batch import BatchResult
from perdure.config import (
    CallbackConfig,
    ChildConfig,
    InvokeConfig,
    MapConfig,
    ParallelBranch,
    ParallelConfig,
    StepConfig,
)
from perdure.engine.operations.batch import MAP, PARALLEL, Branch, Kind, batch
from perdure.engine.operations.callback import callback_result, create_callback
from perdure.engine.operations.child import child
from perdure.engine.operations.condition import wait_for_condition
from perdure.engine.operations.invoke import invoke
from perdure.engine.operations.step import step
from perdure.engine.operations.wait import wait
from perdure.engine.operations.wait_for_callback import wait_for_callback
from perdure.engine.promise import Promise
from perdure.model import OperationSubType, OperationType

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from perdure.duration import Duration
    from perdure.engine.activity import Activity
    from perdure.engine.awaiting import AwaitingDriver
    from perdure.engine.commands import Procedure
    from perdure.engine.future import DurableFuture
    from perdure.engine.ids import Identity
    from perdure.engine.scope import Scope
