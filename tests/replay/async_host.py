"""Runs `async def` workflows against the plane, with latencies, interruptions and bodies that are counted."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import TYPE_CHECKING, Any

import attrs

from perdure.durable import Duration, RetryDecision, StepConfig, durable_execution
from perdure.engine.checkpointer import Request
from perdure.engine.exchange import exchange
from perdure.engine.invocation import Invocation
from perdure.model import InvocationStatus
from tests.replay.plane import AsyncPlane, Plane, settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from perdure.engine.port import Transaction
    from perdure.model import CheckpointAnswer, InvocationOutput, OperationUpdate


SECOND = Duration.from_seconds(1)
NEVER = StepConfig(retry_strategy=lambda _error, _attempt: RetryDecision.no_retry())


class Bodies:
    """Makes bodies of steps that count their runs."""

    def __init__(self) -> None:
        self.runs: dict[Any, int] = {}

    def __call__(
        self, key: Any, value: Any = None, *, after: float = 0.0, error: Exception | None = None
    ) -> Callable[[Any], Awaitable[Any]]:
        async def body(_: Any) -> Any:
            self.runs[key] = self.runs.get(key, 0) + 1
            if after:
                await asyncio.sleep(after)
            if error is not None:
                raise error
            return key if value is None else value

        return body


def result(output: InvocationOutput) -> Any:
    """The result of an execution that succeeded."""
    assert output.status is InvocationStatus.SUCCEEDED, output.error
    return json.loads(output.result)


def error_type(output: InvocationOutput) -> str:
    """The type of the error of an execution that failed."""
    assert output.status is InvocationStatus.FAILED, output
    return output.error.type.rpartition(".")[2]


class SlowPlane(AsyncPlane):
    """
    A service that takes its time, and notices if it is asked for two things at once.

    Every other invocation has it post its checkpoints.

    Attributes:
        pause: Awaited before, and again after, every checkpoint takes effect.
    """

    def __init__(self, plane: Plane, pause: Callable[[], Awaitable[object]]) -> None:
        super().__init__(plane)
        self.pause = pause
        self.busy = False
        self.posted: set[asyncio.Task[CheckpointAnswer]] = set()
        if plane.invocations % 2:
            self.post = self.begin_posted

    async def checkpoint(self, token: str, updates: Sequence[OperationUpdate]) -> CheckpointAnswer:
        assert not self.busy, "two requests in flight"
        self.busy = True
        try:
            await self.pause()
            answer = await super().checkpoint(token, updates)
            await self.pause()
        finally:
            self.busy = False
        return answer

    def begin_posted(
        self,
        token: str,
        updates: Sequence[OperationUpdate],
        transaction: Transaction | None,
        answered: Callable[[CheckpointAnswer | BaseException], object],
    ) -> None:
        assert transaction is None
        task = asyncio.get_running_loop().create_task(exchange(self, Request(token, tuple(updates))))
        self.posted.add(task)

        def end(_: object) -> None:
            self.posted.discard(task)
            answered(task.exception() or task.result())

        task.add_done_callback(end)


async def immediately() -> None:
    """No latency."""


async def invoke(
    function: Callable[..., Any],
    plane: Plane,
    *,
    pause: Callable[[], Awaitable[object]] = immediately,
    begun: Callable[[Invocation], object] = lambda _: None,
    **members: Any,
) -> InvocationOutput:
    """
    One invocation on the running loop, begun and ended at the plane.

    Raises:
        BaseException: It ended uncleanly; the plane has noted that.
    """
    workflow = function if hasattr(function, "func") else durable_execution(function)
    chosen = attrs.evolve(settings(plane), **members)
    invocation = Invocation(workflow, plane.begin(), settings=chosen)
    begun(invocation)
    try:
        async with asyncio.timeout(10):
            output = await invocation.run_async(SlowPlane(plane, pause))
    except BaseException as error:
        plane.crash(error)
        raise
    plane.finish(output)
    return output


def invoke_once(function: Callable[..., Any], plane: Plane, **options: Any) -> InvocationOutput:
    """The same on a loop of its own."""
    return asyncio.run(invoke(function, plane, **options))


def execute(
    function: Callable[..., Any],
    plane: Plane,
    *,
    pending: Callable[[int], object] = lambda _: None,
    limit: int = 50,
    **options: Any,
) -> InvocationOutput:
    """Invocations until the execution has ended, time skipping to what is due next."""
    for _ in range(limit):
        output = invoke_once(function, plane, **options)
        if output.status is not InvocationStatus.PENDING:
            gc.collect()  # whatever is left behind complains now, in the test that left it
            return output
        pending(plane.invocations)
        if not plane.execution.has_news:
            assert plane.advance_to_next(), f"nothing will ever happen: {plane.statuses()}"
    raise AssertionError(f"no end after {limit} invocations: {plane.statuses()}")
