"""
Bodies that run in a database transaction, until the service has committed it together with their recorded result.

Whatever happens in between (the body fails, its result cannot be recorded, its strand is stopped, the commit's outcome
is not known) leaves the `with` of the transaction, which rolls back.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from perdure.engine.awaitable import awaited, entered
from perdure.engine.bodies import is_async
from perdure.engine.commands import Call, Raised
from perdure.engine.port import transactions_of
from perdure.errors import ControlSignal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextvars import Context

    from perdure.engine.activity import Activity
    from perdure.engine.awaiting import AwaitingDriver
    from perdure.engine.blocking import BlockingDriver
    from perdure.engine.bodies import Bodies
    from perdure.engine.checkpointer import Checkpointer, Hold, Ticket
    from perdure.engine.commands import Outcome, Transact
    from perdure.engine.port import Transaction, Transactions
    from perdure.engine.replay import Aborted, Run
    from perdure.model import OperationUpdate

    Record = Callable[[OperationUpdate, Transaction, Outcome], object]
    """
    Has a transaction committed with an update, from which the outcome is known; returns once that has happened, or
    cannot happen any more.
    """
    AsyncRecord = Callable[[OperationUpdate, Transaction, Outcome], Awaitable[object]]
    Attach = Callable[["Recording", OperationUpdate, Transaction, Outcome], None]

T = TypeVar("T")


def in_thread(command: Transact, transactions: Transactions, record: Record) -> Callable[..., Any]:
    """A leaf body that does all of a command in the thread that calls it."""

    def body(*args: Any) -> Any:
        variables = copy_context()
        is_asynchronous = is_async(command.body)
        with (
            entered(transactions.async_transaction(), variables) if is_asynchronous else transactions.transaction()
        ) as transaction:
            with command.watch:
                value = _settled(command.body(*args, transaction.connection), variables)
            sealed = transaction.seal()
            if is_asynchronous:
                awaited(sealed, variables)
            outcome, update = command.conclude(value)
            if isinstance(outcome, Raised) or update is None:
                return _value(outcome)
            record(update, transaction, outcome)
        return outcome.value

    return _named(body, command)


def _settled(value: Any, variables: Context) -> Any:
    return awaited(value, variables) if hasattr(type(value), "__await__") else value


def _value(outcome: Outcome) -> Any:
    if isinstance(outcome, Raised):
        raise outcome.error
    return outcome.value


def _named(body: Callable[..., T], command: Transact) -> Callable[..., T]:
    # The log tells which body has failed.
    body.__qualname__ = getattr(command.body, "__qualname__", repr(command.body))
    return body


# ------------------------------------------------------------------------------------------------- `def` workflows


def transact(driver: BlockingDriver, plane: object, command: Transact, run: Run, admitted: bool) -> Outcome:
    """
    Carry out a command on a strand of a `def` workflow.

    Args:
        driver: Of the workflow.
        plane: Where its checkpoints are sent to.
        command: What to do.
        run: The strand.
        admitted: The body has been allowed to begin.

    Raises:
        ControlSignal: The strand has been stopped; the transaction is rolled back.
    """
    transactions = transactions_of(plane)

    def record(update: OperationUpdate, transaction: Transaction, _: Outcome) -> None:
        with driver.changed:
            signal = run.sticky
            if signal is None:
                try:
                    driver.wait_for(driver.checkpointer.attach(update, transaction, hold))
                except ControlSignal as stopped:
                    signal = stopped
                    run.stop(signal)
        if signal is not None:
            raise signal

    with _held(driver, run) if transactions.exclusive else nullcontext() as hold:
        return driver.call(Call(in_thread(command, transactions, record), command.args), run, admitted=admitted)


@contextmanager
def _held(driver: BlockingDriver, run: Run) -> Iterator[Hold]:
    """While nothing but the strand's own transaction is recorded."""
    checkpointer = driver.checkpointer
    with driver.changed:
        hold = checkpointer.hold()
    try:
        with driver.changed:
            while not checkpointer.grant(hold):
                signal = run.sticky or checkpointer.signal
                if signal is not None:
                    raise signal
                if not driver.send(unwaited=True):
                    driver.changed.wait()
        yield hold
    finally:
        with driver.changed:
            checkpointer.release(hold)
            driver.wake()


# ------------------------------------------------------------------------------------------- `async def` workflows


def on_loop(command: Transact, transactions: Transactions, record: AsyncRecord) -> Callable[..., Any]:
    """A leaf body that does all of a command in the task that awaits it."""

    async def body(*args: Any) -> Any:
        async with transactions.async_transaction() as transaction:
            with command.watch:
                value = await command.body(*args, transaction.connection)
            await transaction.seal()
            outcome, update = command.conclude(value)
            if isinstance(outcome, Raised) or update is None:
                return _value(outcome)
            await record(update, transaction, outcome)
        return outcome.value

    return _named(body, command)


@attrs.define(eq=False)
class Recording:
    """
    The end of a transaction that is to be recorded.

    Attributes:
        recorded: To be called when it is, within a turn of the driver.
        over: Done as soon as the body may leave its transaction.
    """

    recorded: Callable[[], None]
    over: Future[None] = attrs.field(factory=Future)

    def end(self) -> None:
        """Let the body leave."""
        if not self.over.done():
            self.over.set_result(None)


class Transacting:
    """The transactions of one invocation of an `async def` workflow; on the host's loop, but for the bodies."""

    def __init__(self, driver: AwaitingDriver, plane: object, checkpointer: Checkpointer, bodies: Bodies) -> None:
        """
        Args:
            driver: Of the workflow.
            plane: Where its checkpoints are sent to.
            checkpointer: Takes what is to be recorded.
            bodies: Runs the bodies.
        """
        self._driver = driver
        self._plane = plane
        self._checkpointer = checkpointer
        self._bodies = bodies
        self._host = asyncio.get_running_loop()
        self._variables = copy_context()
        self._pending: dict[Recording, Ticket] = {}
        self._hold: Hold | None = None
        self._closed = False

    def begin(self, activity: Activity, command: Transact) -> bool:
        """Run the body of a command in a transaction, if that can be opened now; else the next turn asks again."""
        transactions = transactions_of(self._plane)
        hold = None
        if transactions.exclusive:
            hold = self._checkpointer.hold()
            if not self._checkpointer.grant(hold):
                self._checkpointer.release(hold)
                return False
            self._hold = hold
        attach = partial(self._attach, activity, hold)
        if is_async(command.body):
            body = on_loop(command, transactions, partial(self._record_from_task, attach))
        else:
            body = in_thread(command, transactions, partial(self._record_from_thread, attach))
        self._bodies.start(Call(body, command.args), activity.variables, partial(self._ended, activity, hold))
        return True

    def close(self) -> None:
        """Nothing is recorded any more: the bodies leave, and roll back."""
        self._closed = True
        if self._hold is not None:
            self._checkpointer.release(self._hold)
        for recording, ticket in tuple(self._pending.items()):
            self._checkpointer.detach(ticket)
            self._end(recording)

    def _ended(self, activity: Activity, hold: Hold | None, outcome: Outcome | Aborted) -> None:
        was_held = hold is not None and self._checkpointer.release(hold)
        if activity.working:
            self._driver.returned(activity, outcome)
        elif was_held:
            self._driver.turn()

    # --------------------------------------------------------------------------------------------------- the bodies

    def _record_from_thread(
        self, attach: Attach, update: OperationUpdate, transaction: Transaction, outcome: Outcome
    ) -> None:
        recording = Recording(lambda: None)
        self._host.call_soon_threadsafe(attach, recording, update, transaction, outcome, context=self._variables)
        recording.over.result()

    async def _record_from_task(
        self, attach: Attach, update: OperationUpdate, transaction: Transaction, outcome: Outcome
    ) -> None:
        recording = Recording(lambda: None)
        # Not within the task: the driver enters the workflow's loop.
        self._host.call_soon(attach, recording, update, transaction, outcome, context=self._variables)
        await asyncio.wrap_future(recording.over)

    def _attach(
        self,
        activity: Activity,
        hold: Hold | None,
        recording: Recording,
        update: OperationUpdate,
        transaction: Transaction,
        outcome: Outcome,
    ) -> None:
        if self._closed or not activity.working:
            recording.end()
            return
        try:
            ticket = self._checkpointer.attach(update, transaction, hold)
        except ControlSignal as signal:
            recording.end()
            self._driver.abort(signal)
            return

        def recorded() -> None:
            # Now, not when the body has left: what else came with the answer must not be delivered before.
            self._driver.resume(activity, outcome)
            self._end(recording)

        recording.recorded = recorded
        ticket.waiter = recording
        self._pending[recording] = ticket
        self._driver.turn()

    def _end(self, recording: Recording) -> None:
        self._pending.pop(recording, None)
        recording.end()
