"""
The driver for `async def` workflows.

The workflow runs on a loop of its own (`DurableLoop`), everything else on the host's: step bodies, requests, timers.
Only callbacks of the host enter the workflow's loop, and only while no request is in flight. When that loop is at
rest, the workflow waits for operations and for nothing else; then exactly one completion is delivered, the one that
came first in the journal, and the loop runs to rest again. So the workflow's code sees one order of events, live as
on every replay.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from perdure.engine.activity import Activity
from perdure.engine.admission import Admission
from perdure.engine.alarm import Alarm
from perdure.engine.blockage import Blockage
from perdure.engine.bodies import Bodies, body_of_context, outcome_of_context
from perdure.engine.commands import Blocked, Call, Checkpoint, Raised, Returned, Spawn, Transact, called, goes_beyond
from perdure.engine.delivery import Deliveries, ordered_by_time
from perdure.engine.future import DurableFuture
from perdure.engine.loop import DurableLoop
from perdure.engine.port import transactions_of
from perdure.engine.replay import Aborted, Orphaned, Run, Suspended
from perdure.engine.requests import Requests
from perdure.engine.scope import ACTIVE, Scope
from perdure.engine.transacting import Recording, Transacting
from perdure.errors import ControlSignal, NotDurableError, UnrecoverableError
from perdure.model import OperationAction

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.engine.checkpointer import Checkpointer, Ticket
    from perdure.engine.commands import Command, Outcome, Procedure, Rest, WaitAny
    from perdure.engine.ids import Identity
    from perdure.engine.port import AsyncControlPlane
    from perdure.engine.replay import Replay
    from perdure.model import CheckpointAnswer

logger = logging.getLogger("perdure.engine")

_START = OperationAction.START


class AwaitingDriver:
    """
    Runs one invocation of an `async def` workflow on the loop that awaits `drive`.

    All of it happens in that loop's thread; `interrupt` and `nudge` may be called from any.

    Attributes:
        loop: The workflow's own.
        replay: What it replays over.
    """

    def __init__(
        self,
        replay: Replay,
        checkpointer: Checkpointer,
        plane: AsyncControlPlane,
        context_type: Callable[[Scope, AwaitingDriver, Activity], Any],
    ) -> None:
        """
        Args:
            replay: What is recorded.
            checkpointer: Takes what is to be recorded.
            plane: Where it is sent to.
            context_type: Makes the context object of a scope, for the activity whose body it is.
        """
        self.loop = DurableLoop()  # type: ignore[abstract]  # the module refuses what it does not define
        self.replay = replay
        self._admission = Admission(replay.settings.refusal)
        self._checkpointer = checkpointer
        self._plane = plane
        self._context_type = context_type
        self._host = asyncio.get_running_loop()
        self._bodies = Bodies(self._host)
        self._transacting = Transacting(self, plane, checkpointer, self._bodies)
        self._root: Activity
        self._over: asyncio.Future[Outcome | ControlSignal] = self._host.create_future()
        self._verdict: Outcome | ControlSignal | None = None
        self._deliveries = Deliveries(replay.records)
        self._blocked = Blockage()
        self._calls: list[tuple[Activity, Call | Transact]] = []
        self._working = 0
        self._requests = Requests(plane, checkpointer, self._bodies.variables, self._answered)
        self._nudged = False
        self._begun = False
        self._by_time = ordered_by_time(replay.records)
        self._alarm = Alarm(self._host, replay.settings, self._ring)

    # ------------------------------------------------------------------------------------------ for the invocation

    async def drive(self, body: Callable[..., Any], args: tuple[Any, ...]) -> Outcome | ControlSignal:
        """
        Run the workflow until it has ended or can do nothing more.

        Args:
            body: Called with the root context and `args`.
            args: Its further arguments.

        Returns:
            What the body returned or raised, or the signal that stopped it. No request is in flight, and after a
            signal none will be. Bodies of steps that nobody waits for any more have been cancelled; see `live`.
        """
        scope = Scope(self.replay, Run(), replaying=self.replay.replaying)
        self._root = Activity(called(Call(body, args, scope)), scope.run, "", copy_context())
        self._host.call_soon(self._begin)
        try:
            await self._over
        except asyncio.CancelledError as error:
            if self._over.cancelled():  # with the task that awaited it
                self._over = self._host.create_future()
            self._host.call_soon(self.abort, Aborted(error))
            await asyncio.wait({self._over})
            raise
        # They know the driver: all of it would stay until the garbage is collected.
        del self._alarm, self._requests, self._transacting
        return self._over.result()

    def interrupt(self, reason: BaseException) -> None:
        """Begin no further operation; what is being done is finished and recorded. From any thread."""
        self._admission.interrupt(reason)
        self._from_outside(self._hint)

    def nudge(self) -> None:
        """Something outside has changed: ask, if something is blocked while bodies run. From any thread."""
        self._nudged = True
        self._from_outside(self._hint)

    @property
    def live(self) -> int:
        """How many bodies run, also those that nobody waits for any more."""
        return self._bodies.running

    def _from_outside(self, callback: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the host's loop has been closed
            self._host.call_soon_threadsafe(callback, context=self._bodies.variables)

    def _begin(self) -> None:
        self._begun = True
        if self._checkpointer.waiting:  # then nothing is delivered before the answer
            self._send()
        self.turn(self._advance, self._root)

    def _hint(self) -> None:
        # A hint may be faster than the workflow, whose first turn then sees to it.
        if self._begun:
            self.turn()

    def abort(self, signal: ControlSignal) -> None:
        """End the invocation."""
        self._stop(signal)
        self.turn()

    def _stop(self, signal: ControlSignal) -> None:
        self._root.run.stop(signal)
        if self._verdict is None:
            self._verdict = signal

    # --------------------------------------------------------------------------------------------- for contexts

    def check_transactions(self) -> None:
        """Raise TransactionsUnsupportedError if the backend has none."""
        transactions_of(self._plane)

    def start(
        self,
        parent: Activity,
        scope: Scope,
        identity: Identity,
        procedure: Procedure[Any],
        received: Callable[[], object],
        *,
        prompt: bool = False,
    ) -> DurableFuture[Any]:
        """
        Start an operation that the body of `parent` has called.

        Args:
            parent: The activity whose body calls.
            scope: Of its context.
            identity: Which operation.
            procedure: What it does.
            received: Called when its outcome is delivered.
            prompt: It goes on with the answer to its START, whose place in the journal nothing records. So nothing
                else is delivered before.
        """
        future: DurableFuture[Any] = DurableFuture(self.loop, identity.name)
        id, variables = identity.operation_id, copy_context()
        activity = Activity(procedure, scope.run, id, variables, parent=parent, future=future, received=received)
        if prompt:
            self._deliveries.hold_for(activity)
        self._advance(activity)
        return future

    def enter(self, scope: Scope) -> DurableFuture[Any] | None:
        """
        Check that an operation may be called, before it takes its id.

        Returns:
            None if it may; else what code gets that has swallowed a control signal: a future that is never done.

        Raises:
            ControlSignal: Its strand has been stopped; raised once.
            ContextMisuseError: The caller is not the task this context was given to.
        """
        run = scope.run
        signal = run.sticky
        if signal is not None:
            run.raised += 1
            if run.raised == 1:
                raise signal
            return DurableFuture(self.loop)
        scope.check_owner(id(asyncio.current_task(self.loop)) if self.loop.is_running() else None)
        return None

    # --------------------------------------------------------------------------------- commands, inside the loop

    def _advance(self, activity: Activity, answer: Any = None) -> None:
        if activity.dropped or activity.run.sticky is not None:
            return
        command = self._ask(activity, answer)
        while isinstance(command, Spawn) or (isinstance(command, Checkpoint) and not activity.run.frozen):
            if isinstance(command, Spawn):
                self._spawn(activity, command)
            elif not self._offer(activity, command):
                return
            command = self._ask(activity, None)
        self._deliveries.release(activity)
        if command is None or isinstance(command, Checkpoint) or (activity.run.frozen and goes_beyond(command)):
            return
        self._await(activity, command)

    def _ask(self, activity: Activity, answer: Any) -> Command | None:
        """The next command of a procedure; None if it has ended."""
        try:
            return activity.procedure.send(answer)
        except StopIteration as stop:
            self._complete(activity, Returned(stop.value))
        except UnrecoverableError as error:
            self._stop(Aborted(error))
        except ControlSignal as signal:
            self._stop(signal)
        except Exception as error:  # noqa: BLE001 - what the operation raises is its outcome
            self._complete(activity, Raised(error))
        return None

    def _await(self, activity: Activity, command: Call | Transact | Blocked | Rest | WaitAny) -> None:
        if isinstance(command, Call) and command.context is not None:
            self._enter(activity, command, command.context)
        elif isinstance(command, (Call, Transact)):
            self._calls.append((activity, command))
        elif isinstance(command, Blocked):
            self._blocked.add(activity, command.record)
        else:
            activity.waiting = command
            self._report(activity)

    def _offer(self, activity: Activity, command: Checkpoint) -> bool:
        """Offer updates; whether the procedure goes on at once."""
        if not (self._admit(activity) if command.begins_leaf else self._admission.allows(command)):
            return False
        if self.replay.observation is not None:
            self.replay.observation.starting(command.updates)
        for branch in tuple(activity.children):  # the batch ends: what still runs is none of its business any more
            self._orphan(branch, Orphaned("the batch of this branch has ended", branch.operation_id))
        try:
            ticket = self._checkpointer.offer(command.updates, command.durable)
        except ControlSignal as signal:
            self._stop(signal)
            return False
        if ticket is None:
            return True
        ticket.waiter = activity
        for each in command.updates:
            if each.action is _START and each.operation_id != activity.operation_id:
                # It goes on in user code with the answer, not with the end of a record: see `start`.
                self._deliveries.hold_for(activity)
        return False

    def _spawn(self, batch: Activity, command: Spawn) -> None:
        run = Run(batch.run, frozen=command.frozen)
        branch = Activity(command.make(run), run, command.id, batch.variables, parent=batch, branch=command.key)
        if self._admission.interruption is None:
            self._advance(branch)

    def _report(self, batch: Activity, *, delivered: bool = False) -> None:
        """Answer a batch that waits, if a branch has ended; other news is to be delivered first, in its turn."""
        if batch.waiting is None:
            return
        news = batch.has_news(self.replay.records)
        if batch.ended or (news and delivered):
            self._blocked.remove_waiting(batch)
            self._advance(batch, batch.answer())
        elif news:
            self._deliveries.tell(batch)
        else:
            self._blocked.add_waiting(batch, self.replay.records)

    def _enter(self, activity: Activity, call: Call, scope: Scope) -> None:
        """Run the body of a context, in a task of its own."""
        # A run of its own: a body that ends leaves its unfinished operations behind, its caller goes on.
        scope.run = activity.inner = Run(scope.run)
        inside = activity.variables.copy()
        inside.run(ACTIVE.set, scope)
        task = self.loop.create_task(body_of_context(call, self._context_type(scope, self, activity)), context=inside)
        scope.owner = id(task)  # not the task, whose variables name the scope: they would keep each other
        task.add_done_callback(partial(self._leave, activity, scope))

    def _leave(self, activity: Activity, scope: Scope, task: asyncio.Task[Any]) -> None:
        """The body of a context has ended."""
        outcome = outcome_of_context(task)
        scope.owner = Scope  # nobody
        if activity.dropped or scope.run.sticky is not None:
            return  # whatever it returned or raised
        for child in tuple(activity.children):
            if self._orphan(child, Orphaned("the context of this operation has ended", child.operation_id)):
                logger.warning("operation %s was unfinished when its context ended; await it there", child.name)
        for future in activity.failures:
            if not future.observed:
                logger.warning("operation %r failed and nobody looked: %r", future.name, future.exception())
        self._advance(activity, outcome)

    # ------------------------------------------------------------------------------- completions, inside the loop

    def _complete(self, activity: Activity, outcome: Outcome) -> None:
        """A procedure has ended: queue its outcome for delivery."""
        if activity is not self._root:
            self._deliveries.add(activity, outcome)
        elif self._verdict is None and isinstance(outcome, Returned):  # it is no other, see `called`
            self._verdict = outcome.value

    def _deliver(self, activity: Activity, outcome: Outcome | None) -> None:
        if outcome is None:
            self._report(activity, delivered=True)
            return
        activity.leave()
        if activity.received is not None:
            activity.received()
        parent, future = activity.parent, activity.future
        assert parent is not None  # noqa: S101 - the workflow itself is not delivered
        if future is None:
            assert activity.branch is not None  # noqa: S101 - without a future it is a branch
            parent.ended += ((activity.branch, outcome),)
            self._report(parent)
        elif isinstance(outcome, Returned):
            future.settle(outcome.value, None)
        else:
            future.settle(None, outcome.error)
            parent.failures += (future,)

    def _orphan(self, activity: Activity, signal: Orphaned) -> bool:
        """Drop an activity and what is below it; whether it was unfinished."""
        unfinished = activity not in self._deliveries
        activity.leave()
        if activity.working:
            activity.working = False
            self._working -= 1
        if activity.inner is not None:
            activity.inner.stop(signal)
        self._deliveries.release(activity)
        for child in tuple(activity.children):
            self._orphan(child, signal)
        if activity.future is not None:
            activity.future.settle(None, signal)
        return unfinished

    # -------------------------------------------------------------------------------------- turns, in the host loop

    def turn(self, callback: Callable[..., object] | None = None, *args: Any) -> None:
        """Do something inside the workflow's loop, deliver what is due, then see what comes next."""
        if self._over.done():
            return
        self.loop.enter()
        try:
            if callback is not None and self._verdict is None:
                callback(*args)
                self.loop.drain()
            while (due := self._next()) is not None:
                self._deliver(*due)
                self.loop.drain()
        except NotDurableError as spinning:
            self._verdict = self._verdict or Raised(spinning)
        except BaseException as interrupt:  # noqa: BLE001 - KeyboardInterrupt, SystemExit: the host's loop goes on
            self._stop(Aborted(interrupt))
        finally:
            self.loop.leave()
        if self._verdict is None:
            if self._calls:
                self._start_bodies()
            self._rest()
        elif not self._requests.in_flight:
            self._finish(self._verdict)

    def _next(self) -> tuple[Activity, Outcome | None] | None:
        """The completion to deliver now."""
        if self._verdict is not None or self._requests.in_flight or self._admission.interruption is not None:
            return None
        return self._deliveries.next()

    def _admit(self, activity: Activity) -> bool:
        """Whether its next body may begin; asked once for each."""
        activity.admitted = self._admission.keeps() if activity.admitted else self._admission.admits()
        return activity.admitted

    def _start_bodies(self) -> None:
        calls, self._calls = self._calls, []
        for activity, call in calls:
            if activity.dropped or not self._admit(activity):
                continue
            if isinstance(call, Call):
                self._bodies.start(call, activity.variables, partial(self.returned, activity))
            elif not self._transacting.begin(activity, call):
                self._calls.append((activity, call))
                continue
            activity.admitted = False
            activity.working = True
            self._working += 1

    def returned(self, activity: Activity, outcome: Outcome | Aborted) -> None:
        """A body has ended."""
        if self._over.done() or not activity.working:
            return
        if isinstance(outcome, Aborted):
            self.abort(outcome)
        else:
            self.turn(self.resume, activity, outcome)

    def resume(self, activity: Activity, outcome: Outcome) -> None:
        """Let go on what a body was waited for; within a turn."""
        if activity.working:
            activity.working = False
            self._working -= 1
            self._advance(activity, outcome)

    def _rest(self) -> None:
        """Nothing is left to be done inside: send, wait, or suspend."""
        if self._requests.in_flight:
            return
        if self._nudged and self._blocked and self._admission.interruption is None:
            self._nudged = False
            self._checkpointer.poll()
        if self._checkpointer.waiting or self._calls:
            if self._checkpointer.held:
                return  # the end of the transaction comes back here
            # Where ends are ordered by their milliseconds, those of two answers must not share one.
            if self._by_time and (early := self._alarm.same_millisecond()):
                self._host.call_later(early, self.turn)
            else:
                self._send(unwaited=True, at_once=not self._working)
        elif self._working:
            if self._blocked or not self._alarm.armed:
                self._alarm.arm(self._checkpointer.unsent_for(), self._blocked.next_due)
        elif self._admission.interruption is not None:
            self.abort(Aborted(self._admission.interruption))
        else:
            self._suspend()

    def _suspend(self) -> None:
        """Nothing runs: end the invocation, unless a strand can go on after all."""
        records = self.replay.records
        if changed := self._blocked.changed(records):
            self._host.call_soon(self.turn, self._wake, changed)
        elif self._blocked.records:
            self.abort(Suspended(self._blocked.versions(records), self._blocked.next_due))
        else:
            message = (
                "the workflow waits for something that no operation will complete; "
                "await operations, and use a callback for events from outside"
            )
            self._verdict = Raised(NotDurableError(message))
            self.turn()

    def _finish(self, verdict: Outcome | ControlSignal) -> None:
        signal = verdict if isinstance(verdict, ControlSignal) else Orphaned("the workflow has ended", "")
        self._root.run.stop(signal)
        self.loop.abandon(signal)
        if isinstance(verdict, ControlSignal) and self._checkpointer.signal is None:
            self._checkpointer.close(verdict)
        self._alarm.cancel()
        self._bodies.cancel()
        self._transacting.close()
        self._deliveries.clear()
        self._blocked.clear()
        self._root.release()
        self._over.set_result(verdict)

    # ------------------------------------------------------------------------------------------------- requests

    def _send(self, *, unwaited: bool = False, at_once: bool = False) -> None:
        self._nudged = False
        self._requests.send(unwaited=unwaited, at_once=at_once)

    def _answered(self, outcome: CheckpointAnswer | BaseException) -> None:
        self._alarm.answered()
        if isinstance(outcome, BaseException):
            signal = Aborted(outcome)
            self._checkpointer.failed(signal)
            self.abort(signal)
        else:
            self.turn(self._take_in, outcome, self._checkpointer.answered(outcome))

    def _take_in(self, answer: CheckpointAnswer, tickets: list[Ticket]) -> None:
        if self._checkpointer.signal is not None:
            self._stop(self._checkpointer.signal)
            return
        for ticket in tickets:
            if isinstance(ticket.waiter, Activity):
                self._advance(ticket.waiter)
            elif isinstance(ticket.waiter, Recording):
                ticket.waiter.recorded()
        if self.replay.observation is not None:
            self.replay.observation.tell_changes()
        self._by_time = self._by_time or ordered_by_time(answer.operations)
        self._wake([id for each in answer.operations if (id := each.operation_id) in self._blocked])

    def _wake(self, ids: list[str]) -> None:
        """Let go on what was blocked on records that have changed."""
        for id in ids:
            self._alarm.changed()
            for activity in self._blocked.lift(id):
                if activity.waiting is not None:
                    self._report(activity)
                else:
                    self._advance(activity)

    def _ring(self) -> None:
        if self._over.done() or self._requests.in_flight:
            return
        if self._alarm.is_due(self._blocked.next_due):
            self._nudged = True
        elif self._alarm.is_overdue(self._checkpointer.unsent_for()):
            self._send(unwaited=True)
        self.turn()
