"""
The driver for `def` workflows: commands of operations are carried out on the thread that called the operation.

The workflow's thread coordinates its batches; branches run on a pool. A branch that is blocked gives its thread back
and is run again, from its top over what is recorded, when its record has changed. The first thread that waits for an
answer sends for all.
"""

from __future__ import annotations

import threading
from contextvars import copy_context
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar

from perdure.engine.batches import Batch, Branch
from perdure.engine.commands import Blocked, Call, Checkpoint, Raised, Returned, Spawn, WaitAny
from perdure.engine.replay import Aborted, Run, Suspended
from perdure.engine.scope import ACTIVE, Leaf, Scope
from perdure.engine.threads import FLUSH_AGE, park
from perdure.errors import ControlSignal, InvocationError, UnrecoverableError
from perdure.model import CheckpointAnswer

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.engine.checkpointer import Checkpointer, Ticket
    from perdure.engine.commands import Outcome, Procedure
    from perdure.engine.port import ControlPlane
    from perdure.engine.replay import Replay
    from perdure.engine.threads import Threads

T = TypeVar("T")

SWALLOWED = 1000
"""So many times user code may swallow a control signal before its thread is given up."""


class BlockingDriver:
    """
    Runs one `def` workflow for one invocation.

    Attributes:
        live: How many threads are in user code, or waiting on behalf of it.
    """

    def __init__(
        self,
        replay: Replay,
        checkpointer: Checkpointer,
        plane: ControlPlane,
        threads: Threads,
        context_type: Callable[[Scope], Any],
    ) -> None:
        """
        Args:
            replay: What is recorded.
            checkpointer: Takes what is to be recorded.
            plane: Where it is sent to.
            threads: Where branches run.
            context_type: Makes the context object of a scope.
        """
        self._replay = replay
        self._checkpointer = checkpointer
        self._plane = plane
        self._threads = threads
        self._context_type = context_type
        self._changed = threading.Condition(threading.Lock())
        self._interruption: BaseException | None = None
        self._nudged = False
        self._crashed: Callable[[BaseException], object] = lambda _: None
        self.live = 0

    # ---------------------------------------------------------------------------------------------- the workflow

    def drive(self, body: Callable[..., Any], args: tuple[Any, ...], crashed: Callable[[BaseException], object]) -> Outcome | ControlSignal:
        """
        Run the workflow until it has ended or can do nothing more; the calling thread is its strand.

        Args:
            body: Called with the root context and `args`.
            args: Its further arguments.
            crashed: Called if a thread is given up, be it this one.

        Returns:
            What the body returned or raised, or the signal that stopped it. Nothing is sent afterwards but by `record`.
        """
        self._crashed = crashed
        with self._strand():
            while True:
                outcome = self._run(body, args)
                with self._changed:
                    self._quiesce()
                    if isinstance(outcome, Suspended) and self._replay.records.changed(outcome.blocked):
                        # An answer between the look at the record and now told of it; the service will not wake us.
                        continue
                    if isinstance(outcome, ControlSignal):
                        self._checkpointer.close(outcome)
                    return outcome

    def _run(self, body: Callable[..., Any], args: tuple[Any, ...]) -> Outcome | ControlSignal:
        run = Run()
        scope = Scope(self._replay, run, replaying=self._replay.replaying)
        try:
            return self._call(Call(body, args, scope), run)
        except ControlSignal as signal:
            return run.sticky or signal
        except BaseException as error:  # noqa: BLE001 - an interrupt or exit of user code
            return Aborted(error)
