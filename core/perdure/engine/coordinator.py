"""The coordination of one batch's branches on threads; the thread that called parallel or map does it."""

from __future__ import annotations

from collections import deque
from contextvars import copy_context
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from perdure.engine.commands import Raised, Returned, Spawn, WaitAny
from perdure.engine.replay import Orphaned, Run, Suspended

if TYPE_CHECKING:
    from datetime import datetime

    from perdure.engine.blocking import BlockingDriver
    from perdure.engine.checkpointer import Ticket
    from perdure.engine.commands import Outcome, Procedure, Rest

_FIRST_PAUSE = timedelta(seconds=1)
_LONGEST_PAUSE = timedelta(seconds=30)

_LEFT = object()


class _Branch:
    """
    A spawned branch.

    Attributes:
        spawn: The command that spawned it.
        run: Its run at present, or its last one.
        procedure: What is performed in that run.
        ticket: Of the checkpoint with its outcome, at which the run has left its thread.
    """

    __slots__ = ("procedure", "run", "spawn", "ticket")

    def __init__(self, spawn: Spawn) -> None:
        self.spawn = spawn
        self.run: Run | None = None
        self.procedure: Procedure[Any] | None = None
        self.ticket: Ticket | None = None


class Coordinator:
    """
    The branches that one operation has spawned.

    A branch is queued, running, blocked or ended. A blocked one has given its thread back; when its record changes, it
    is queued again and runs from its top. One whose outcome is being recorded has given it back, too: a thread that
    only waits for that would have to be woken for nothing else. All state is guarded by the driver's lock.
    """

    def __init__(self, driver: BlockingDriver, run: Run) -> None:
        """
        Args:
            driver: Whose lock, threads and checkpointer are used.
            run: The strand that the operation runs on.
        """
        self._driver = driver
        self._run = run
        self._variables = copy_context()
        self._queued: dict[int, _Branch] = {}
        self._running: dict[int, _Branch] = {}
        self._left: deque[_Branch] = deque()
        self._blocked: dict[int, tuple[_Branch, Suspended]] = {}
        self._ended: list[tuple[int, Outcome | BaseException]] = []
        self._over = False
        self._pause = _FIRST_PAUSE
        self._quiet_until: datetime | None = None

    # -------------------------------------------------------------------------------------- for the coordinator

    def carry_out(self, command: Spawn | Rest | WaitAny) -> list[tuple[int, Outcome]] | None:
        """
        Spawn a branch, or wait for one; what a strand calls in order needs no rest.

        Raises:
            Suspended: All branches are blocked.
            ControlSignal: This strand, or a branch, has been stopped.
        """
        if isinstance(command, WaitAny):
            return self._wait(command)
        if isinstance(command, Spawn):
            with self._driver.changed:
                self._queue(_Branch(command))
        return None

    def drop(self) -> None:
        """The batch is over: nothing of it starts any more, and what runs is orphaned. The lock is held."""
        self._over = True
        self._queued.clear()
        self._left.clear()
        self._blocked.clear()
        for branch in self._running.values():
            if branch.run is not None:
                branch.run.stop(Orphaned("the batch of this branch has ended", branch.spawn.id))

    def _wait(self, command: WaitAny) -> list[tuple[int, Outcome]]:
        while True:
            with self._driver.changed:
                branch = self._answered()
                while branch is None:
                    ended = self._collect(command)
                    if ended is not None:
                        return ended
                    self._resume()
                    branch = self._claim()
                    if branch is None:
                        self._rest(command)
                        branch = self._answered()
            self._run_branch(branch)

    # ------------------------------------------------------------------------------------------ with the lock held

    def _queue(self, branch: _Branch) -> None:
        self._queued[branch.spawn.key] = branch
        self._driver.threads.branches.submit(lambda: self._serve(branch.spawn.key))

    def _begin(self, key: int) -> _Branch | None:
        branch = self._queued.pop(key, None)
        if branch is not None:
            branch.run = Run(self._run, frozen=branch.spawn.frozen)
            branch.ticket = None
            self._running[key] = branch
        return branch

    def _answered(self) -> _Branch | None:
        """A branch whose outcome has been recorded, or cannot be any more."""
        ticket = self._left[0].ticket if self._left else None
        return self._left.popleft() if ticket is not None and ticket.settled else None

    def _collect(self, command: WaitAny) -> list[tuple[int, Outcome]] | None:
        driver = self._driver
        signal = self._run.sticky or driver.checkpointer.signal
        if signal is not None:
            raise signal
        stopped = next((each for _, each in self._ended if isinstance(each, BaseException)), None)
        if stopped is not None and not (driver.admission.interruption is not None and self._running):
            raise stopped
        if self._ended and stopped is None:
            ended, self._ended = self._ended, []
            return [(key, each) for key, each in ended if not isinstance(each, BaseException)]
        if command.patient and (self._running or self._queued):
            return None
        return [] if driver.replay.records.any_terminal(command.ids) else None

    def _resume(self) -> None:
        """Queue blocked branches whose record has changed."""
        changed = self._driver.replay.records.changed
        for key, (branch, suspended) in list(self._blocked.items()):
            if changed(suspended.blocked):
                del self._blocked[key]
                self._queue(branch)
                self._pause, self._quiet_until = _FIRST_PAUSE, None

    def _claim(self) -> _Branch | None:
        """
        A branch for the coordinator itself, if no thread of the pool will come for it.

        Only then, and only one by one: a policy may end the batch as soon as one branch has, and the coordinator can
        only see to that while it runs none itself.
        """
        if self._running or not self._queued or not self._driver.threads.branches.saturated:
            return None
        return self._begin(next(iter(self._queued)))

    def _rest(self, command: WaitAny) -> None:
        """Do nothing until something may have changed."""
        driver = self._driver
        moments = [each.until for _, each in self._blocked.values() if each.until is not None]
        if command.until is not None:
            moments.append(command.until)
        until = min(moments, default=None)
        if not self._running and not self._queued:
            blocked = {each: driver.replay.records.version(each) for each in command.ids}
            for _, suspended in self._blocked.values():
                blocked.update(suspended.blocked)
            raise Suspended(blocked, until)
        if self._left and driver.send():
            return
        now = driver.replay.settings.now()
        if until is not None and self._quiet_until is not None:
            until = max(until, self._quiet_until)
        asked = driver.nudged and bool(self._blocked or command.ids)
        due = until is not None and until <= now
        if (asked or due) and driver.admission.interruption is None and not driver.checkpointer.in_flight:
            # The service's clock decides; if ours is ahead of it, ask again later.
            self._quiet_until = now + self._pause
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
            driver.wait_for(driver.checkpointer.poll())
        elif until is None or due:
            driver.changed.wait()
        else:
            driver.changed.wait((until - now).total_seconds())

    # --------------------------------------------------------------------------------------- on a branch's thread

    def _serve(self, key: int) -> None:
        """Run a queued branch on the pool's thread, unless somebody else does."""
        with self._driver.changed:
            branch = self._begin(key)
        if branch is not None:
            with self._driver.strand():
                self._run_branch(branch)

    def _run_branch(self, branch: _Branch) -> None:
        key, run = branch.spawn.key, branch.run
        assert run is not None  # noqa: S101 - it has begun
        outcome: Outcome | BaseException
        try:
            value = self._variables.copy().run(self._perform, branch, run)
            if value is _LEFT:
                return
            outcome = Returned(value)
        except Exception as error:  # noqa: BLE001 - the batch's policy decides
            outcome = Raised(error)
        except BaseException as signal:  # noqa: BLE001 - the coordinator raises it
            outcome = signal.with_traceback(None)
        with self._driver.changed:
            del self._running[key]
            if isinstance(outcome, Suspended) and not self._over and self._driver.checkpointer.signal is None:
                self._blocked[key] = branch, outcome
            else:
                self._ended.append((key, outcome))
            self._driver.changed.notify_all()

    def _perform(self, branch: _Branch, run: Run) -> Any:
        if branch.ticket is not None:
            return self._go_on(branch, run, branch.ticket)
        signal = run.sticky
        if signal is not None:
            raise signal
        branch.procedure = branch.spawn.make(run)
        # Observers are told of its end where its body has run.
        leave = partial(self._leave, branch) if self._driver.replay.observation is None else None
        return self._driver.perform(branch.procedure, run, leave)

    def _leave(self, branch: _Branch, ticket: Ticket) -> object:
        """The outcome of a branch is queued; the lock is held."""
        branch.ticket = ticket
        self._left.append(branch)
        if not self._driver.checkpointer.in_flight:
            self._driver.changed.notify_all()  # the coordinator is to send it
        return _LEFT

    def _go_on(self, branch: _Branch, run: Run, ticket: Ticket) -> Any:
        """The outcome of a branch has been recorded, or cannot be."""
        assert branch.procedure is not None  # noqa: S101 - it has left
        if ticket.signal is not None:
            run.stop(ticket.signal)
            raise ticket.signal
        return self._driver.perform(branch.procedure, run)
