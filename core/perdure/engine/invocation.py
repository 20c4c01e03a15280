"""
One invocation of one workflow function: the frame that both drivers share (protocol.md §10.1).

It pages the recorded operations in, reads the input, has a driver run the function, and makes an output of what came
of it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from perdure import serdes, values
from perdure.engine.checkpointer import Checkpointer
from perdure.engine.commands import Raised, Returned
from perdure.engine.exchange import read_on, read_on_blocking
from perdure.engine.replay import Aborted, Orphaned, Records, Replay, Suspended, Withdrawn
from perdure.engine.settings import Settings
from perdure.engine.threads import shared_threads
from perdure.errors import (
    ExecutionError,
    GetExecutionStateError,
    InvocationError,
    NonDeterministicExecutionError,
    NotDurableError,
)
from perdure.logger import LogInfo, complain
from perdure.model import (
    ErrorObject,
    InvocationOutput,
    InvocationStatus,
    OperationAction,
    OperationType,
    OperationUpdate,
)
from perdure.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from perdure.durable import DurableFunction
    from perdure.engine.activity import Activity
    from perdure.engine.blocking import BlockingDriver
    from perdure.engine.commands import Outcome
    from perdure.engine.observation import Observation
    from perdure.engine.observer import Observe
    from perdure.engine.port import AsyncControlPlane, ControlPlane
    from perdure.engine.scope import Scope
    from perdure.engine.threads import Threads
    from perdure.errors import ControlSignal
    from perdure.model import InvocationInput, Operation
    from perdure.portal import Waiter
    from perdure.types import LambdaContext

    class Driver(Protocol):
        """What an invocation asks of its driver from outside, in either colour; all of it thread-safe."""

        def interrupt(self, reason: BaseException) -> None:
            """Begin no further operation."""

        @property
        def live(self) -> int:
            """How many threads, or bodies, are in the workflow's code."""

        def nudge(self) -> None:
            """Something outside has changed."""


_MILLISECONDS = 1000

logger = logging.getLogger("perdure.engine")


@attrs.frozen(eq=False, repr=False)
class Conclusion(Value):
    """
    What an invocation ends with.

    Attributes:
        output: For the service.
        update: To be recorded before, for an outcome too large for the output; or None.
    """

    output: InvocationOutput
    update: OperationUpdate | None = None


class Invocation:
    """One invocation; good for one `run` or `run_async`."""

    def __init__(
        self,
        function: DurableFunction[Any, Any],
        input: InvocationInput,
        *,
        lambda_context: LambdaContext | None = None,
        settings: Settings | None = None,
        threads: Threads | None = None,
        observe: Sequence[Observe] | None = None,
    ) -> None:
        """
        Args:
            function: What to run.
            input: What the service invoked with.
            lambda_context: What AWS Lambda gave the handler.
            settings: Limits and clock.
            threads: Pools to use instead of the process's own.
            observe: Make the observers; those of the function if None.
        """
        self._function = function
        self._input = input
        self._lambda_context = lambda_context
        self._settings = settings or Settings()
        self._threads = threads
        self._observe = function.observe if observe is None else observe
        self._driver: Driver | None = None
        self._blocking: BlockingDriver | None = None
        self._interruption: BaseException | None = None
        self._nudged = False
        self._lock = threading.Lock()

    # ----------------------------------------------------------------------------------------------- from outside

    def interrupt(self, reason: Exception) -> None:
        """
        Begin no further operation; `run` then raises `reason`. Thread-safe, for good.

        A body that runs is not cut off: its result is recorded first. A `def` workflow that ends or suspends before it
        calls another operation ends as it would have; an `async def` one is told of nothing more.
        """
        self._interrupt(reason)

    def nudge(self) -> None:
        """Hint that an empty checkpoint may bring news: if a strand is blocked while others run, one is sent."""
        with self._lock:
            self._nudged = True
            if self._driver is not None:
                self._driver.nudge()

    @property
    def orphans(self) -> int:
        """How many threads, or bodies, are still in this workflow's code; after the end they can record nothing."""
        return 0 if self._driver is None else self._driver.live

    def join(self, timeout: float | None = None) -> bool:
        """Wait at most `timeout` seconds for `orphans` to become 0; whether it has."""
        return self._blocking is None or self._blocking.join(timeout)

    # ------------------------------------------------------------------------------------------- `def` workflows

    def run(self, plane: ControlPlane) -> InvocationOutput:
        """
        Run a `def` workflow and wait until this invocation is over.

        Raises:
            InvocationError: It ended uncleanly; the service invokes again.
            KeyboardInterrupt, SystemExit: Raised by the workflow; the same.
        """
        future: Future[InvocationOutput] = Future()
        self.submit(plane, future)
        try:
            return future.result()
        except BaseException as error:
            # An interrupt of the waiting thread: the workflow's own stops at its next operation.
            if not future.done():
                self._interrupt(error)
            raise

    def submit(self, plane: ControlPlane, waiter: Waiter[InvocationOutput]) -> None:
        """The same without waiting: `waiter` is given the output, or any `BaseException`."""
        threads = self._threads or shared_threads()
        work: Callable[[], object] = partial(self._work, plane, threads, waiter)
        # Observers belong to whoever has the invocation run, as the span does in which that is done.
        threads.executions.submit(partial(copy_context().run, work) if self._observe else work)

    def _work(self, plane: ControlPlane, threads: Threads, waiter: Waiter[InvocationOutput]) -> None:
        def end(outcome: InvocationOutput | BaseException) -> None:
            if waiter.done():
                return
            if isinstance(outcome, BaseException):
                waiter.set_exception(outcome)
            else:
                waiter.set_result(outcome)

        try:
            end(self._run(plane, threads, end))
        except BaseException as error:  # noqa: BLE001 - the future's business
            end(error)

    def _run(self, plane: ControlPlane, threads: Threads, crashed: Callable[[BaseException], None]) -> InvocationOutput:
        try:
            operations = read_on_blocking(plane, self._input.checkpoint_token, self._input)
        except GetExecutionStateError as error:
            return self._refused(error)
        replay = self._replay(operations)
        event = self._event(replay)
        if isinstance(event, Raised):
            return self._conclude(event).output
        observation = self._observation(replay, event.value)
        if observation is None:
            return self._drive(plane, threads, crashed, replay, event.value)

        def observed() -> InvocationOutput:
            with observation:
                return observation.outcome(self._drive(plane, threads, observation.told(crashed), replay, event.value))

        # Context variables that observers set are not for the next execution that this thread runs.
        return copy_context().run(observed)

    def _drive(
        self,
        plane: ControlPlane,
        threads: Threads,
        crashed: Callable[[BaseException], None],
        replay: Replay,
        event: Any,
    ) -> InvocationOutput:
        from perdure.engine.blocking import BlockingDriver  # noqa: PLC0415 - each colour loads its own
        from perdure.engine.context import DurableContext  # noqa: PLC0415

        lambda_context = self._lambda_context

        def context(scope: Scope, driver: BlockingDriver) -> DurableContext:
            return DurableContext(scope, driver, lambda_context)

        checkpointer = self._checkpointer(replay)
        driver = BlockingDriver(replay, checkpointer, plane, threads, context)
        self._blocking = driver
        self._attach(driver)
        threads.flusher.add(driver)
        try:
            conclusion = self._conclude(driver.drive(self._body(), (event,), crashed))
            if conclusion.update is not None and (signal := driver.record(conclusion.update)) is not None:
                conclusion = self._conclude(signal)
            return conclusion.output
        finally:
            threads.flusher.discard(driver)
            driver.close()
            if replay.observation is not None:
                driver.join(self._settings.grace())

    # -------------------------------------------------------------------------------------- `async def` workflows

    async def run_async(self, plane: AsyncControlPlane) -> InvocationOutput:
        """
        Run an `async def` workflow on the running loop.

        Raises:
            InvocationError: It ended uncleanly; the service invokes again.
            KeyboardInterrupt, SystemExit: Raised by the workflow; the same.
        """
        try:
            operations = await read_on(plane, self._input.checkpoint_token, self._input)
        except GetExecutionStateError as error:
            return self._refused(error)
        replay = self._replay(operations)
        event = self._event(replay)
        if isinstance(event, Raised):
            return self._conclude(event).output
        observation = self._observation(replay, event.value)
        if observation is None:
            return await self._drive_async(plane, replay, event.value)
        with observation:
            return observation.outcome(await self._drive_async(plane, replay, event.value))

    async def _drive_async(self, plane: AsyncControlPlane, replay: Replay, event: Any) -> InvocationOutput:
        from perdure.engine.async_context import AsyncDurableContext  # noqa: PLC0415 - loads asyncio
        from perdure.engine.awaiting import AwaitingDriver  # noqa: PLC0415
        from perdure.engine.delivery import ordered_by_time  # noqa: PLC0415
        from perdure.engine.requests import record  # noqa: PLC0415

        lambda_context = self._lambda_context

        def context(scope: Scope, driver: AwaitingDriver, activity: Activity) -> AsyncDurableContext:
            return AsyncDurableContext(scope, driver, activity, lambda_context)

        checkpointer = self._checkpointer(replay)
        if self._input.next_marker and replay.records.awaits_outside and ordered_by_time(replay.records):
            # What was open when one page was read may have ended before what a later page shows as ended.
            checkpointer.poll()
        driver = AwaitingDriver(replay, checkpointer, plane, context)
        self._attach(driver)
        conclusion = self._conclude(await driver.drive(self._body(), (event,)))
        if (
            conclusion.update is not None
            and (signal := await record(plane, checkpointer, conclusion.update)) is not None
        ):
            conclusion = self._conclude(signal)
        return conclusion.output

    # ---------------------------------------------------------------------------------------------- either colour

    def _interrupt(self, reason: BaseException) -> None:
        with self._lock:
            self._interruption = self._interruption or reason
            if self._driver is not None:
                self._driver.interrupt(self._interruption)

    def _attach(self, driver: Driver) -> None:
        with self._lock:
            self._driver = driver
            if self._interruption is not None:
                driver.interrupt(self._interruption)
            if self._nudged:
                driver.nudge()

    def _replay(self, operations: list[Operation]) -> Replay:
        arn = self._input.durable_execution_arn
        execution_id = arn.rpartition("/")[2]
        if not operations:
            message = f"the input of an invocation of {arn!r} has no operations, not even the execution's own"
            raise GetExecutionStateError(message)
        # The id is that of the ARN; where a service does it otherwise, the execution still comes first.
        first = next((each for each in operations if each.operation_id == execution_id), operations[0])
        started = first.start_timestamp or self._settings.now()
        return Replay(arn, Records(operations), self._settings, started, first)

    def _checkpointer(self, replay: Replay) -> Checkpointer:
        checkpointer = Checkpointer(self._input.checkpoint_token, replay.records, time.monotonic)
        checkpointer.observation = replay.observation
        return checkpointer

    def _observation(self, replay: Replay, event: Any) -> Observation | None:
        """What watches the invocation; its workflow has not begun."""
        if not self._observe:
            return None
        from perdure.engine.observation import Observation  # noqa: PLC0415 - few are observed
        from perdure.engine.observer import Opening  # noqa: PLC0415

        opening = Opening(
            arn=replay.arn,
            request_id=getattr(self._lambda_context, "aws_request_id", None),
            is_first=not replay.replaying,
            started=replay.execution.start_timestamp if replay.execution is not None else None,
            event=event,
            records=replay.records,
            updated=self._input.updated_operation_ids,
        )
        replay.observation = Observation(self._observe, opening)
        return replay.observation

    def _event(self, replay: Replay) -> Outcome:
        """The input of the workflow."""
        execution = replay.execution
        details = execution.execution_details if execution is not None else None
        payload = details.input_payload if details is not None else None
        text = payload if payload and payload.strip() else "{}"
        try:
            annotation = self._function.input_type
            return Returned(values.load(text, annotation, f"the input of execution {replay.execution_name!r}"))
        except Exception as error:  # noqa: BLE001 - the author's class has a say in it
            return Raised(error)

    def _body(self) -> Callable[[Any, Any], Any]:
        """The workflow with its arguments as other bodies of contexts have them, the context first."""
        function = self._function.func
        return lambda context, event: function(event, context)

    def _conclude(self, outcome: Outcome | ControlSignal) -> Conclusion:
        """
        What an invocation ends with, given what came of its workflow.

        Raises:
            BaseException: It does not end cleanly.
        """
        match outcome:
            case Returned(value):
                return self._succeeded(value)
            case Raised(error):
                if isinstance(error, InvocationError) and error.is_retryable():
                    raise error
                return self._failed(error)
            case Aborted():
                return self._aborted(outcome.reason)
            case Orphaned():
                message = (
                    "the replay of a context that has ended called an operation that its journal does not have; "
                    "deploy changed code as a new version"
                )
                return self._failed(NonDeterministicExecutionError(message, step_id=outcome.operation_id))
            case Suspended() | Withdrawn():
                return Conclusion(InvocationOutput(status=InvocationStatus.PENDING))
            case _:
                message = f"workflow code raised {outcome!r}, which belongs to the kernel; raise an error of your own"
                return self._failed(NotDurableError(message))

    def _refused(self, error: GetExecutionStateError) -> InvocationOutput:
        return self._aborted(error).output

    def _aborted(self, reason: BaseException) -> Conclusion:
        if isinstance(reason, ExecutionError) or (isinstance(reason, InvocationError) and not reason.is_retryable()):
            return self._failed(reason)
        raise reason

    def _succeeded(self, value: object) -> Conclusion:
        try:
            what = f"the result of function {self._function.name!r}"
            result = values.dump(value, what)
            serdes.check_size(result, what, self._settings.result_limit, _ELSEWHERE)
        except Exception as error:  # noqa: BLE001 - the author's value
            return self._failed(error)
        if _size_in_output(result) > self._settings.result_inline_limit:
            update = _execution_update(OperationAction.SUCCEED, payload=result)
            return Conclusion(InvocationOutput(status=InvocationStatus.SUCCEEDED, result=""), update)
        return Conclusion(InvocationOutput(status=InvocationStatus.SUCCEEDED, result=result))

    def _failed(self, reason: Exception) -> Conclusion:
        # The record keeps no stack trace of it.
        arn = self._input.durable_execution_arn
        complain(logger, "execution %r fails: %r", arn, reason, exc_info=reason, extra=LogInfo(arn).extra())
        error = ErrorObject.from_exception(reason)
        if len(json.dumps(error.to_dict())) > self._settings.result_inline_limit:
            update = _execution_update(OperationAction.FAIL, error=error)
            return Conclusion(InvocationOutput(status=InvocationStatus.FAILED), update)
        return Conclusion(InvocationOutput(status=InvocationStatus.FAILED, error=error))


_ELSEWHERE = "store it elsewhere and return a reference to it"


def _size_in_output(result: str) -> int:
    """Bytes of a result within the output, which is JSON itself: quotes and backslashes take two there."""
    return len(result) + result.count('"') + result.count("\\")


def _execution_update(action: OperationAction, **members: Any) -> OperationUpdate:
    return OperationUpdate(
        operation_id=f"execution-result-{int(time.time() * _MILLISECONDS)}",
        operation_type=OperationType.EXECUTION,
        action=action,
        **members,
    )
