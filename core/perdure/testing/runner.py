"""
Running workflows in tests, without waiting for anything.

    runner = DurableTestRunner(order)
    runner.on_callback("approval", lambda callback: callback.succeed("yes"))
    result = runner.run({"card": "4711"})
    assert result.value == {"paid": True}
    assert result.step("charge").attempts == 1

A wait of a month, the delay of a retry and the timeout of a callback take no time at all: where nothing can run, the
clock leaps to the next instant at which something is due.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from perdure import values
from perdure.desk.caller import refuse_to_block
from perdure.errors import (
    CallbackNotFoundError,
    DurableExecutionsError,
    InvalidStateError,
    ValidationError,
)
from perdure.portal import store_portal
from perdure.service.request import StartRequest
from perdure.storage import MICROSECONDS, FunctionVersion
from perdure.testing.callback import PendingCallback
from perdure.testing.result import TestResult, seen
from perdure.testing.scenario import Plan, durable_function, durable_functions
from perdure.testing.simulation import Simulation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from perdure.durable import DurableFunction
    from perdure.duration import Duration
    from perdure.model import ErrorObject
    from perdure.testing.lifeline import Crash
    from perdure.testing.scenario import Answer, Functions

O = TypeVar("O")  # noqa: E741 - output, as in `DurableFunction[I, O]`

PATIENCE = 60.0
"""Seconds of real time for a run, unless told otherwise."""
NAME = "test"
"""Of executions that are given none."""


class BlockedExecutionError(DurableExecutionsError):
    """The workflow under test waits for something that will not come of itself."""


class TestRun(Generic[O]):
    """
    One execution of a workflow under test, on a store and in a time of its own.

    It runs only during the calls of these methods, up to where they say. In the body of a step only `advance` may be
    called of those that run something: what the body does takes so long.

    Attributes:
        simulation: What it runs in.
    """

    __test__ = False

    def __init__(
        self, simulation: Simulation, function: DurableFunction[Any, O], id: str, plans: list[Plan], timeout: float
    ) -> None:
        self.simulation = simulation
        self._function = function
        self._id = id
        self._plans = plans
        self._timeout = timeout
        self._done: set[tuple[str, int]] = set()
        self._is_working = False

    # ---------------------------------------------------------------------------------------------------- going on

    def result(self, timeout: float | None = None) -> TestResult[O]:
        """
        Run to the end, skipping all waits, and tell how that came out; a failure of the workflow is not raised.

        Args:
            timeout: Seconds of real time; the runner's if None.

        Raises:
            BlockedExecutionError: It waits for a callback that nobody completes, is paused, or was given up.
            ResultTimeoutError: The body of a step does not return, or the workflow does not end.
        """
        until = self._until(timeout)
        self._halt(until)
        while not self.has_ended:
            if not self._leap():
                raise BlockedExecutionError(self._blockage())
            self._halt(until)
        return self.state

    def until_blocked(self, timeout: float | None = None) -> Self:
        """Run until nothing can go on without time passing or a callback being completed; raises as `result`."""
        self._halt(self._until(timeout))
        return self

    def until_callback(self, name: str, timeout: float | None = None) -> PendingCallback:
        """
        Run, skipping waits, until a callback of this name is open.

        Raises:
            CallbackNotFoundError: None will be: the workflow has ended, or waits for something else.
            ResultTimeoutError: As `result`.
        """
        until = self._until(timeout)
        while True:
            self._halt(until)
            found = [each for each in self.callbacks if name in each.names]
            if found:
                return found[0]
            if self.has_ended or not self._leap():
                raise CallbackNotFoundError(self._no_callback(name))

    def advance(self, duration: Duration, timeout: float | None = None) -> Self:
        """Let time pass, and run what falls due meanwhile, in its order; raises as `result`."""
        simulation, span = self.simulation, duration.to_seconds() * MICROSECONDS
        if self._is_working:
            # In the body of a step: what it does takes so long.
            store_portal().call(simulation.pass_time(span))
            return self
        until, target = self._until(timeout), simulation.clock() + span
        self._halt(until)
        while (instant := self._next_instant()) is not None and instant <= target:
            self._pass_until(instant)
            self._halt(until)
        self._pass_until(target)
        self._halt(until)
        return self

    # ------------------------------------------------------------------------------------------------- from outside

    def callback(self, name: str) -> PendingCallback:
        """
        The open callback of this name, or of the `wait_for_callback` of this name; of several the eldest.

        Raises:
            CallbackNotFoundError: None is open.
        """
        self.until_blocked()
        for each in self.callbacks:
            if name in each.names:
                return each
        raise CallbackNotFoundError(self._no_callback(name))

    @property
    def callbacks(self) -> list[PendingCallback]:
        """All open callbacks, also those of functions that it has invoked, the eldest first."""
        simulation = self.simulation
        return [PendingCallback(simulation, each) for each in store_portal().call(simulation.open_callbacks())]

    def stop(self, error: ErrorObject | None = None) -> None:
        """End it as STOPPED."""
        store_portal().call(self.simulation.service.stop(self._id, error))

    def pause(self) -> None:
        """Begin no invocation of it until it is resumed."""
        store_portal().call(self.simulation.service.pause(self._id))

    def resume(self) -> None:
        """Let it go on that was paused, or given up after too many crashes."""
        store_portal().call(self.simulation.service.resume(self._id))

    def redeploy(self, handler: Any) -> Self:
        """
        Go on with other code, as after a deploy that has not made it a new version.

        Code that does not fit what is recorded fails the execution with a NonDeterministicExecutionError.
        """
        version = FunctionVersion(self._function.name, self._function.version)
        self.simulation.redeploy(version, durable_function(handler))
        return self

    # ------------------------------------------------------------------------------------------------------ looking

    @property
    def state(self) -> TestResult[O]:
        """How it stands."""
        record = store_portal().call(self.simulation.record(self._id))
        return seen(record, self._function, self.simulation.tally)

    @property
    def has_ended(self) -> bool:
        """Whether it has ended."""
        return store_portal().call(self.simulation.header(self._id)).status.is_end

    # ------------------------------------------------------------------------------------------------- step by step

    def _until(self, timeout: float | None) -> float:
        return time.monotonic() + (self._timeout if timeout is None else timeout)

    def _halt(self, until: float) -> None:
        """Run, and carry out plans for callbacks, until only time can bring something."""
        refuse_to_block()
        if self._is_working:
            raise InvalidStateError("the run goes on already; in a step's body only advance() can be called of it")
        while True:
            self._is_working = True
            try:
                store_portal().call(self.simulation.work(until))
            finally:
                self._is_working = False
            if not self._carry_out_plans():
                return

    def _carry_out_plans(self) -> bool:
        """Do what is planned for open callbacks by now; whether there was anything."""
        is_any = False
        # Each may close callbacks that others are planned for.
        while (planned := self._upcoming()) and planned[0][0] <= self.simulation.clock():
            _, key, plan, callback = planned[0]
            self._done.add(key)
            plan.carry_out(callback)
            is_any = True
        return is_any

    def _upcoming(self) -> list[tuple[int, tuple[str, int], Plan, PendingCallback]]:
        """Plans that were not carried out, for callbacks that are open, with their instants, the earliest first."""
        if not self._plans:
            return []
        simulation = self.simulation
        found = [
            (each.started + plan.after, (each.id, number), plan, PendingCallback(simulation, each))
            for each in store_portal().call(simulation.open_callbacks())
            for number, plan in enumerate(self._plans)
            if (each.id, number) not in self._done and (plan.name is None or plan.name in (each.name, each.own_name))
        ]
        return sorted(found, key=lambda planned: planned[0])

    def _next_instant(self) -> int | None:
        planned = [at for at, *_ in self._upcoming()]
        if self.simulation.next_instant is not None:
            planned.append(self.simulation.next_instant)
        return min(planned, default=None)

    def _leap(self) -> bool:
        """Go to the next instant; False if there is none."""
        instant = self._next_instant()
        if instant is not None:
            self._pass_until(instant)
        return instant is not None

    def _pass_until(self, instant: int) -> None:
        store_portal().call(self.simulation.pass_time(instant - self.simulation.clock()))

    # ------------------------------------------------------------------------------------------------------ messages

    def _blockage(self) -> str:
        """Why it does not go on."""
        header = store_portal().call(self.simulation.header(self._id))
        if header.paused:
            return f"execution {header.name!r} is paused; call resume() of its run"
        if header.quarantined:
            return (
                f"execution {header.name!r} was left alone after {header.crashes} invocations in a row that did not "
                f"end well, the last one with {self._last_crash()}; its log tells where that was raised"
            )
        names = ", ".join(repr(each.name) for each in self.callbacks)
        if not names:
            return f"execution {header.name!r} waits, and nothing is due; its operations: {self.state.operations}"
        first = self.callbacks[0].name
        return (
            f"execution {header.name!r} waits for callback {names}, which nobody completes and which has no timeout; "
            f"say what becomes of it before, runner.on_callback({first!r}, …), or complete it in between, "
            f"run.callback({first!r}).succeed(…)"
        )

    def _last_crash(self) -> str:
        ends = [each.details for each in self.state.history if each.event_type == "InvocationCompleted"]
        told = ends[-1].get("Error", {}).get("Payload", {}) if ends else {}
        return f"{told.get('ErrorType')}: {told.get('ErrorMessage')}"

    def _no_callback(self, name: str) -> str:
        known = ", ".join(repr(each.name) for each in self.callbacks) or "none"
        ended = f", and the execution has ended as {self.state.status.value}" if self.has_ended else ""
        return f"no callback named {name!r} is open{ended}; open are: {known}"


class DurableTestRunner(Generic[O]):
    """
    Runs a workflow in a test; each run has a store and a time of its own.

    Args:
        handler: A workflow, `def` or `async def`, decorated or not.
        functions: What it may invoke: durable functions, and plain functions of an event that stand for others; or all
            of these by name.
        timeout: Seconds of real time for each call that runs something.
    """

    @overload
    def __init__(
        self, handler: DurableFunction[Any, O], *, functions: Functions = ..., timeout: float = ...
    ) -> None: ...
    @overload
    def __init__(
        self: DurableTestRunner[Any],
        handler: Callable[[Any, Any], Any] | Callable[[Any, Any], Awaitable[Any]],
        *,
        functions: Functions = ...,
        timeout: float = ...,
    ) -> None: ...
    def __init__(self, handler: Any, *, functions: Functions = (), timeout: float = PATIENCE) -> None:
        self._handler: DurableFunction[Any, O] = durable_function(handler)
        others = [each for each in durable_functions(functions) if each is not self._handler]
        self._functions = [self._handler, *others]
        self._timeout = timeout
        self._plans: list[Plan] = []
        known = [f"{each.name}:{each.version}" for each in self._functions]
        if twice := {each for each in known if known.count(each) > 1}:
            raise ValidationError(f"two functions are called {min(twice)!r}; give one another name")

    def __enter__(self) -> Self:
        """As AWS's runner has it; there is nothing to close."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def on_callback(self, name: str | None, answer: Answer, *, after: Duration | None = None) -> Self:
        """
        Say what becomes of callbacks in runs that begin from now on, as soon as the workflow waits for them.

        Args:
            name: Of the callback, or of the `wait_for_callback`; None for any.
            answer: Called once for each such callback, with a `PendingCallback`; or a text, which it succeeds with.
            after: How long after the callback's creation, in the time of the run.
        """
        self._plans.append(Plan(name, answer, after.to_seconds() * MICROSECONDS if after is not None else 0))
        return self

    def run(
        self,
        input: Any = None,
        timeout: float | None = None,
        *,
        name: str | None = None,
        execution_timeout: Duration | None = None,
    ) -> TestResult[O]:
        """
        Run an execution to its end; arguments as for `start`, errors as of `TestRun.result`.

        Args:
            input: As for `start`.
            timeout: Seconds of real time; the runner's if None.
            name: As for `start`.
            execution_timeout: As for `start`.
        """
        return self.start(input, name=name, execution_timeout=execution_timeout).result(timeout)

    def start(
        self, input: Any = None, *, name: str | None = None, execution_timeout: Duration | None = None
    ) -> TestRun[O]:
        """
        Begin an execution that is run by and by.

        Args:
            input: JSON values, or what the function's annotation says.
            name: Of the execution.
            execution_timeout: In the time of the run, instead of the function's own.
        """
        return self.begin(input, name=name, execution_timeout=execution_timeout)

    def begin(
        self,
        input: Any = None,
        *,
        name: str | None = None,
        execution_timeout: Duration | None = None,
        crash: Crash | None = None,
    ) -> TestRun[O]:
        """As `start`; the worker's process crashes there, and another one takes over."""
        refuse_to_block()
        request = StartRequest(
            function=f"{self._handler.name}:{self._handler.version}",
            input=values.dump(input, "the input"),
            name=name or NAME,
            execution_timeout=None if execution_timeout is None else execution_timeout.to_seconds(),
        )
        simulation = Simulation(self._functions, crash)
        id = store_portal().call(simulation.start(request))
        return TestRun(simulation, self._handler, id, list(self._plans), self._timeout)
