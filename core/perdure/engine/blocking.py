"""
The driver for `def` workflows: the thread that called an operation carries out its commands.

The workflow's thread coordinates its batches; branches run on a pool. A branch that is blocked gives its thread back
and is run again, from its top over what is recorded, when its record has changed. The first thread that waits for an
answer sends for all.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from contextvars import copy_context
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar

from perdure.engine.admission import Admission
from perdure.engine.commands import Blocked, Call, Checkpoint, Raised, Returned, Transact, stand_in
from perdure.engine.coordinator import Coordinator
from perdure.engine.exchange import exchange_blocking
from perdure.engine.port import transactions_of
from perdure.engine.replay import Aborted, Orphaned, Run, Suspended, Withdrawn
from perdure.engine.scope import ACTIVE, Leaf, Scope
from perdure.engine.threads import park
from perdure.errors import ControlSignal, InvocationError, UnrecoverableError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from perdure.engine.checkpointer import Checkpointer, Ticket
    from perdure.engine.commands import Outcome, Procedure
    from perdure.engine.ids import Identity
    from perdure.engine.port import ControlPlane
    from perdure.engine.replay import Replay
    from perdure.engine.threads import Threads
    from perdure.model import CheckpointAnswer, OperationUpdate

T = TypeVar("T")

SWALLOWED = 1000
"""So many times a strand may swallow a control signal before its thread is given up."""


class BlockingDriver:
    """
    Runs one `def` workflow for one invocation.

    Attributes:
        replay: What is recorded.
        checkpointer: Takes what is to be recorded.
        threads: Where branches run.
        changed: Guards everything here, and tells of every change.
        admission: Lets bodies begin.
        nudged: Whether an empty checkpoint may bring news, and none has been sent since.
        live: How many threads are in this workflow's code.
    """

    def __init__(
        self,
        replay: Replay,
        checkpointer: Checkpointer,
        plane: ControlPlane,
        threads: Threads,
        context_type: Callable[[Scope, BlockingDriver], Any],
    ) -> None:
        """
        Args:
            replay: What is recorded.
            checkpointer: Takes what is to be recorded.
            plane: Where it is sent to.
            threads: Where branches run.
            context_type: Makes the context object of a scope.
        """
        self.replay = replay
        self.checkpointer = checkpointer
        self.threads = threads
        self.changed = threading.Condition(threading.Lock())
        self.admission = Admission(replay.settings.refusal)
        self.nudged = False
        self.live = 0
        self._plane = plane
        self._context_type = context_type
        self._crashed: Callable[[BaseException], object] = lambda _: None

    # ----------------------------------------------------------------------------------------- for the invocation

    def drive(
        self, body: Callable[..., Any], args: tuple[Any, ...], crashed: Callable[[BaseException], object]
    ) -> Outcome | ControlSignal:
        """
        Run the workflow until it has ended or can do nothing more; the calling thread is its strand.

        Args:
            body: Called with the root context and `args`.
            args: Its further arguments.
            crashed: Called if a thread is given up, maybe this one, which then does not come back.

        Returns:
            What the body returned or raised, or the signal that stopped it. No request is in flight, and after a
            signal none will be.
        """
        self._crashed = crashed
        with self.strand():
            while True:
                outcome = self._run(body, args)
                with self.changed:
                    self._quiesce()
                    if isinstance(outcome, Suspended) and self.replay.records.changed(outcome.blocked):
                        # An answer told of it after the strand had looked: the service will not tell again.
                        continue
                    if isinstance(outcome, ControlSignal):
                        self.wake(self.checkpointer.close(outcome))
                    return outcome

    def record(self, update: OperationUpdate) -> ControlSignal | None:
        """Record the execution's own outcome, as the last update; returns why that was not possible, or None."""
        with self.changed:
            try:
                self.wait_for(self.checkpointer.offer((update,)))
            except Withdrawn:
                # No token after the last update is as it should be (protocol.md §6.3).
                return None
            except ControlSignal as signal:
                return signal
            return None

    def close(self) -> None:
        """Nothing is recorded any more, by orphans either."""
        with self.changed:
            self.wake(self.checkpointer.close(Orphaned("the invocation is over", "")))

    def interrupt(self, reason: BaseException) -> None:
        """Begin no further operation; what is being done is finished and recorded."""
        with self.changed:
            self.admission.interrupt(reason)
            self.changed.notify_all()

    def nudge(self) -> None:
        """Something outside has changed: ask, if a strand is blocked while others run."""
        with self.changed:
            self.nudged = True
            self.changed.notify_all()

    def flush(self) -> None:
        """Send what nobody waits for, if it is old enough; called by the flusher."""
        if self.checkpointer.unsent_for() >= self.replay.settings.flush_age:
            self.threads.senders.submit(self._flush)

    def join(self, timeout: float | None) -> bool:
        """Wait until no thread is in this workflow's code; whether that came to pass."""
        with self.changed:
            return self.changed.wait_for(lambda: not self.live, timeout)

    # --------------------------------------------------------------------------------------------- for the context

    def check_transactions(self) -> None:
        """Raise TransactionsUnsupportedError if the backend has none."""
        transactions_of(self._plane)

    def enter(self, scope: Scope) -> None:
        """
        Check that an operation may be called, before it takes its id.

        Raises:
            ControlSignal: Its strand has been stopped.
            ContextMisuseError: The caller is not the strand this context was given to.
        """
        run = scope.run
        signal = run.sticky
        if signal is None and self.admission.interruption is not None:
            signal = Aborted(self.admission.interruption)
            run.stop(signal)
        if signal is not None:
            run.raised += 1
            if run.raised > SWALLOWED:
                self._give_up()
            raise signal.with_traceback(None)
        scope.check_owner(get_ident())

    def operate(self, scope: Scope, identity: Identity, procedure: Procedure[T]) -> T:
        """Perform a drawn operation on its strand."""
        try:
            return self.perform(procedure, scope.run)
        finally:
            scope.received(identity)

    def perform(self, procedure: Procedure[T], run: Run, leave: Callable[[Ticket], T] | None = None) -> T:
        """
        Carry out the commands of a procedure.

        Args:
            procedure: A new one, or one that was left at a checkpoint which has been answered.
            run: The strand.
            leave: Called, with the lock held, when a context's outcome is offered: the procedure is left there, and
                what is returned is its result.

        Raises:
            ControlSignal: The strand cannot go on; it sticks to `run`.
        """
        try:
            return self._perform(procedure, run, leave)
        except UnrecoverableError as error:
            signal = Aborted(error)
            run.stop(signal)
            raise signal from error
        except ControlSignal as signal:
            run.stop(signal)
            raise
        except (KeyboardInterrupt, SystemExit) as error:
            run.stop(Aborted(error))
            raise

    def _perform(self, procedure: Procedure[T], run: Run, leave: Callable[[Ticket], T] | None) -> T:
        batch: Coordinator | None = None
        answer: Any = None
        admitted = False
        try:
            while True:
                try:
                    command = procedure.send(answer)
                except StopIteration as end:
                    return end.value  # type: ignore[no-any-return]
                answer = None
                if isinstance(command, Checkpoint):
                    if leave is not None and command.ends_context and not run.frozen:
                        with self.changed:
                            ticket = self._offer(command, run, batch)
                            assert ticket is not None  # noqa: S101 - an outcome is durable
                            return leave(ticket)
                    admitted = self._checkpoint(command, run, batch)
                    batch = None
                elif isinstance(command, Call):
                    answer = self.call(command, run, admitted=admitted)
                elif isinstance(command, (Blocked, Transact)):
                    answer = self._carry_out(command, run, admitted)
                else:
                    batch = batch or Coordinator(self, run)
                    answer = batch.carry_out(command)
        finally:
            if batch is not None:
                with self.changed:
                    batch.drop()

    # --------------------------------------------------------------------------------------------------- commands

    def _checkpoint(self, command: Checkpoint, run: Run, batch: Coordinator | None) -> bool:
        """Have updates recorded; whether the body of a leaf follows, which has been allowed to begin."""
        begins_leaf, observation = command.begins_leaf, self.replay.observation
        if begins_leaf or run.frozen:
            self._admit(run)
        elif command.begins and self.admission.interruption is not None:
            raise Aborted(self.admission.interruption)
        if observation is not None and run.sticky is None:
            observation.starting(command.updates)
        with self.changed:
            ticket = self._offer(command, run, batch)
            if ticket is not None:
                self.wait_for(ticket)
        if observation is not None:
            observation.tell_changes()
        return begins_leaf

    def _offer(self, command: Checkpoint, run: Run, batch: Coordinator | None) -> Ticket | None:
        """Queue updates, unless the strand has been stopped. The lock is held."""
        signal = run.sticky
        if signal is not None:
            raise signal
        if batch is not None:
            batch.drop()
        return self.checkpointer.offer(command.updates, command.durable)

    def _admit(self, run: Run) -> None:
        """Check that this strand may go beyond what is recorded."""
        if (signal := run.sticky) is not None:
            raise signal
        if run.frozen:
            raise Suspended({})
        if not self.admission.admits():
            assert self.admission.interruption is not None  # noqa: S101 - or it would have
            self.interrupt(self.admission.interruption)
            raise Aborted(self.admission.interruption)

    def _carry_out(self, command: Blocked | Transact, run: Run, admitted: bool) -> Outcome | None:
        if isinstance(command, Transact):
            from perdure.engine.transacting import transact  # noqa: PLC0415 - loads asyncio

            return transact(self, self._plane, command, run, admitted)
        with self.changed:
            records = self.replay.records
            if records.get(command.id) is command.record:
                raise Suspended({command.id: records.version(command.id)}, command.until)
        return None

    def call(self, command: Call, run: Run, *, admitted: bool = False) -> Outcome:
        """
        Run user code on its strand.

        Args:
            command: What to run.
            run: The strand.
            admitted: It is a leaf's, and has been allowed to begin.

        Raises:
            ControlSignal: The strand has been stopped, before or meanwhile.
        """
        if command.context is None and not admitted:
            self._admit(run)
        interruption = self.admission.interruption
        signal = run.sticky
        if signal is None and interruption is not None and not (admitted and self.admission.keeps()):
            signal = Aborted(interruption)
        if signal is not None:
            raise signal
        outcome: Outcome
        try:
            if command.context is None:
                outcome = Returned(copy_context().run(_leaf, command))
            else:
                outcome = Returned(copy_context().run(self._body, command, command.context))
        except BaseException as error:
            signal = run.sticky
            if signal is None and isinstance(error, (KeyboardInterrupt, SystemExit)):
                run.stop(Aborted(error))
                raise
            outcome = Raised(error if isinstance(error, Exception) else stand_in(error))
        signal = run.sticky
        if signal is not None:
            # Whatever the body made of it: it was stopped, and its outcome is none.
            raise signal
        return outcome

    def _body(self, command: Call, scope: Scope) -> Any:
        scope.owner = get_ident()
        ACTIVE.set(scope)
        with command.watch:
            value = command.body(self._context_type(scope, self), *command.args)
        if hasattr(type(value), "__await__"):
            if hasattr(value, "close"):
                value.close()
            name = getattr(command.body, "__qualname__", type(command.body).__qualname__)
            message = f"{name!r} is asynchronous, the workflow is not; make both `async def`, or none"
            raise ValidationError(message)
        return value

    # --------------------------------------------------------------------------------------------------- requests

    def wait_for(self, ticket: Ticket | None) -> None:
        """Wait for an answer, sending for everybody while nobody else does. The lock is held."""
        assert ticket is not None  # noqa: S101 - only durable offers are waited for
        while not ticket.settled:
            if not self.send():
                # Not with the others who wait for a change: whoever waits for an answer is woken by it alone.
                ticket.waiter = woken = threading.Lock()
                woken.acquire()
                self.changed.release()
                woken.acquire()
                self.changed.acquire()
        if ticket.signal is not None:
            raise ticket.signal

    def send(self, *, unwaited: bool = False) -> bool:
        """Send a request, if there is one and none is in flight. The lock is held, but for the time of the request."""
        request = self.checkpointer.take(unwaited=unwaited)
        if request is None:
            return False
        self.nudged = False
        outcome: CheckpointAnswer | Aborted
        self.changed.release()
        try:
            outcome = exchange_blocking(self._plane, request)
        except BaseException as error:  # noqa: BLE001 - all waiters are told, this one among them
            outcome = Aborted(error)
        finally:
            self.changed.acquire()
        if isinstance(outcome, Aborted):
            self.wake(self.checkpointer.failed(outcome))
        else:
            self.wake(self.checkpointer.answered(outcome))
        return True

    def wake(self, settled: Iterable[Ticket] = ()) -> None:
        """
        Let go on who waits for a change, and for these tickets; one of those who still wait sends for all.

        The lock is held.
        """
        self.changed.notify_all()
        heir = self.checkpointer.next_ticket()
        for ticket in settled if heir is None else (*settled, heir):
            if ticket.waiter is not None:
                ticket.waiter.release()
                ticket.waiter = None

    def _flush(self) -> None:
        with self.changed:
            if self.checkpointer.unsent_for() >= self.replay.settings.flush_age:
                self.send(unwaited=True)

    def _quiesce(self) -> None:
        while self.checkpointer.in_flight:
            self.changed.wait()

    # ---------------------------------------------------------------------------------------------------- strands

    @contextmanager
    def strand(self) -> Iterator[None]:
        """The calling thread is in this workflow's code."""
        with self.changed:
            self.live += 1
        try:
            yield
        finally:
            with self.changed:
                self.live -= 1
                if not self.live:
                    self.changed.notify_all()

    def _run(self, body: Callable[..., Any], args: tuple[Any, ...]) -> Outcome | ControlSignal:
        run = Run()
        scope = Scope(self.replay, run, replaying=self.replay.replaying)
        try:
            return self.call(Call(body, args, scope), run)
        except ControlSignal as signal:
            # It stays, and its frames know all: everything would stay until the garbage is collected.
            return signal.with_traceback(None)
        except BaseException as error:  # noqa: BLE001 - an interrupt or exit of user code
            return Aborted(error)

    def _give_up(self) -> None:
        error = InvocationError(
            f"workflow code swallowed the signal to end {SWALLOWED} times and its thread was given up; "
            "catch Exception instead of BaseException, or re-raise what is not one"
        )
        with self.changed:
            self._quiesce()
            self.wake(self.checkpointer.close(Aborted(error)))
            # This thread will not be back: nobody is to wait for it, nor to keep a place for it.
            self.live -= 1
            if not self.live:
                self.changed.notify_all()
        self._crashed(error)
        park()


def _leaf(command: Call) -> Any:
    ACTIVE.set(Leaf.INSIDE)
    with command.watch:
        value = command.body(*command.args)
        if hasattr(type(value), "__await__"):
            from perdure.engine.awaitable import awaited  # noqa: PLC0415 - only then asyncio is needed

            return awaited(value)
        return value
