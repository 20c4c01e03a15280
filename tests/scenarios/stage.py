"""Where a scenario is played: a worker and a client on one store, whose time a test can skip."""

from __future__ import annotations

import threading
import time
from collections import Counter
from textwrap import dedent
from typing import TYPE_CHECKING, Any, Self

import attrs

from perdure.adapters.worker import Worker
from perdure.client import Client, Handle
from perdure.durable import DurableFunction
from perdure.errors import ExecutionFailedError, ResultTimeoutError
from perdure.portal import store_portal
from perdure.service.upkeep import TIMEOUTS
from perdure.storage import MICROSECONDS, Header, Hint, HintKind, Query, Status
from perdure.testing.clock import system_clock
from tests.scenarios import history
from tests.scenarios.colour import Colour, durable

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.model import Event, Operation

PATIENCE = 20.0
LOOK = 0.01
LEASE = 1e7


class SkippingClock:
    """
    The time of this machine, and what was skipped.

    Attributes:
        skipped: Microseconds.
        follow: Called with `skipped` whenever time was skipped, for a store whose time is its server's.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self.follow: Callable[[int], None] = lambda _: None

    def __call__(self) -> int:
        return system_clock() + self.skipped

    def skip(self, span: int) -> None:
        self.skipped += span
        self.follow(self.skipped)


class ToldStore:
    """A store as it is, that can tell its watchers that something may be due because time was skipped."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._listeners: list[Callable[[Hint], None]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def watch(self, listener: Callable[[Hint], None]) -> Callable[[], None]:
        unwatch = self._store.watch(listener)
        self._listeners.append(listener)

        def end() -> None:
            self._listeners.remove(listener)
            unwatch()

        return end

    async def tell(self) -> None:
        # Timeouts come from upkeep, which a worker does every now and then; a test need not wait for it.
        for shard in range(self._store.shards):
            await self._store.expire(100, TIMEOUTS, shard)
        for listener in self._listeners:
            listener(Hint(HintKind.DUE))


@attrs.frozen
class Outcome:
    """How an execution ended, and all that is known of it."""

    handle: Handle[Any]
    result: Any
    error: ExecutionFailedError | None
    events: list[Event]

    @property
    def status(self) -> str:
        return self.error.status if self.error else "SUCCEEDED"

    @property
    def history(self) -> str:
        return history.told(self.events)

    @property
    def by_operation(self) -> dict[str, str]:
        return history.by_operation(self.events)

    @property
    def invocations(self) -> int:
        return sum(event.event_type == "InvocationCompleted" for event in self.events)


class Stage:
    """
    Runs workflows in one colour on one store.

    Attributes:
        runs: How often each body really ran.
    """

    def __init__(self, colour: Colour, make_store: Callable[[SkippingClock], Any]) -> None:
        self.colour = colour
        self.clock = SkippingClock()
        self.store = ToldStore(make_store(self.clock))
        self.client = Client(self.store)
        self.runs: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._functions: list[DurableFunction[Any, Any]] = []
        self._worker: Worker | None = None

    # ------------------------------------------------------------------------------------------------------- bodies

    def ran(self, name: str) -> int:
        """Count a run of a body; returns the how-manieth it is."""
        with self._lock:
            self.runs[name] += 1
            return self.runs[name]

    def body(self, name: str, *outcomes: Any) -> Callable[..., Any]:
        """A body that is counted, and returns or raises one outcome after another, the last one again and again."""

        def body(*_: Any) -> Any:
            turn = self.ran(name)
            outcome = outcomes[min(turn, len(outcomes)) - 1] if outcomes else None
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        return body

    # ---------------------------------------------------------------------------------------------------- the worker

    def durable(self, workflow: Callable[..., Any], **options: Any) -> DurableFunction[Any, Any]:
        """A workflow as a function of this stage's colour, known to its worker from the next start on."""
        function = durable(self.colour, workflow, **options)
        self._functions.append(function)
        return function

    def work(self, *functions: DurableFunction[Any, Any]) -> None:
        """Start a worker for these functions, or for all."""
        self._worker = Worker(self.store, list(functions or self._functions), lease=LEASE)
        self._worker.start()

    def halt(self) -> None:
        """Stop the worker."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()

    def restart(self, *functions: DurableFunction[Any, Any]) -> None:
        """Stop the worker; another one, which remembers nothing, goes on."""
        self.halt()
        self.work(*functions)

    def close(self) -> None:
        self.halt()
        self.client.close()

    # ------------------------------------------------------------------------------------------------- one execution

    def start(self, workflow: Any, input: Any = None, **options: Any) -> Handle[Any]:
        """Begin an execution of a workflow."""
        function = workflow if isinstance(workflow, DurableFunction) else self.durable(workflow)
        if self._worker is None:
            self.work()
        return self.client.start(function, input, **options)

    def run(self, workflow: Any, input: Any = None, **options: Any) -> Outcome:
        """Run a workflow to its end; waits and retry delays are skipped."""
        return self.end(self.start(workflow, input, **options))

    def end(self, handle: Handle[Any]) -> Outcome:
        """Wait for the end; waits and retry delays are skipped."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                result = handle.result(timeout=LOOK)
            except ResultTimeoutError:
                self.skip_idle_time()
            except ExecutionFailedError as error:
                return Outcome(handle, None, error, handle.history())
            else:
                return Outcome(handle, result, None, handle.history())
            if time.monotonic() > deadline:
                raise AssertionError(f"not ended after {PATIENCE} s:\n{history.told(handle.history())}")

    def suspended(self, handle: Handle[Any], *names: str, skipping: bool = False) -> Self:
        """Wait until an execution waits for something, and operations of these names have been started."""

        def condition() -> bool:
            if not self._is_suspended(handle):
                return False
            if set(names) <= {operation.name for operation in handle.operations()}:
                return True
            if skipping:
                self.skip_idle_time()
            return False

        self._until(condition, f"suspended with {names}", handle)
        return self

    def reached(self, handle: Handle[Any], condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        self._until(condition, "reached", handle)

    def operation(self, handle: Handle[Any], name: str) -> Operation:
        """The operation of this name."""
        return next(operation for operation in handle.operations() if operation.name == name)

    def callback_id(self, handle: Handle[Any], name: str) -> str:
        """The id of a callback, once the execution waits for it."""
        operation = self.suspended(handle, name).operation(handle, name)
        assert operation.callback_details is not None
        assert operation.callback_details.callback_id is not None
        return operation.callback_details.callback_id

    def _is_suspended(self, handle: Handle[Any]) -> bool:
        header = store_portal().call(self.store.describe(handle.id))
        if header.owner is not None or header.status is not Status.RUNNING:
            return False
        return header.wake is None or header.wake > self.clock()

    def _until(self, condition: Callable[[], bool], what: str, handle: Handle[Any]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"after {PATIENCE} s not {what}:\n{history.told(handle.history())}")
            time.sleep(LOOK / 5)

    # ---------------------------------------------------------------------------------------------------------- time

    def skip(self, seconds: float) -> None:
        """Let the store's time go on."""
        self.clock.skip(int(seconds * MICROSECONDS))
        store_portal().call(self.store.tell())

    def skip_idle_time(self) -> None:
        """If every execution waits, skip to the moment for which the first one does."""
        running: list[Header] = store_portal().call(self.store.list(Query(statuses=(Status.RUNNING,))))
        moments = [header.wake for header in running if header.wake is not None]
        idle = moments and all(header.owner is None for header in running)
        if idle and (span := min(moments) - self.clock()) > 0:
            self.skip((span + 1000) / MICROSECONDS)


def lines(text: str) -> str:
    """A history as a test writes it."""
    return dedent(text).strip()
