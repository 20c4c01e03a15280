"""An operation at work, as the async driver keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.engine.commands import Rest

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from perdure.engine.commands import Outcome, Procedure, WaitAny
    from perdure.engine.future import DurableFuture
    from perdure.engine.replay import Records, Run
    from perdure.model import Operation


class Activity:
    """
    An operation that has been started and has not been delivered yet.

    Attributes:
        procedure: What it does.
        run: The strand it belongs to.
        operation_id: Whose record tells when it ended.
        variables: Context variables as they were when it was started; its bodies get copies.
        parent: Whose body called it, or whose branch it is; None for the workflow itself.
        future: What its caller holds; None for a branch and for the workflow.
        received: Called when its outcome is delivered.
        branch: Its key in the batch; None for what is no branch.
        children: What has been started below it and not been delivered.
        failures: Futures of children that were delivered an error.
        ended: Outcomes of branches that the batch has not asked for yet.
        waiting: What the batch waits for, if it does.
        blocked: The record it is blocked on, if it is.
        inner: The run of the body of its context, if that has begun.
        working: Whether a body of it runs outside of the loop.
        admitted: Its next body has been allowed to begin, and that it does may be recorded.
        dropped: Nothing of it matters any more.
    """

    __slots__ = (
        "admitted",
        "blocked",
        "branch",
        "children",
        "dropped",
        "ended",
        "failures",
        "future",
        "inner",
        "operation_id",
        "parent",
        "procedure",
        "received",
        "run",
        "variables",
        "waiting",
        "working",
    )

    def __init__(
        self,
        procedure: Procedure[Any],
        run: Run,
        operation_id: str,
        variables: Context,
        *,
        parent: Activity | None = None,
        future: DurableFuture[Any] | None = None,
        received: Callable[[], object] | None = None,
        branch: int | None = None,
    ) -> None:
        self.procedure = procedure
        self.run = run
        self.operation_id = operation_id
        self.variables = variables
        self.parent = parent
        self.future = future
        self.received = received
        self.branch = branch
        self.children: dict[Activity, None] = {}
        self.failures: tuple[DurableFuture[Any], ...] = ()
        self.ended: tuple[tuple[int, Outcome], ...] = ()
        self.waiting: Rest | WaitAny | None = None
        self.blocked: Operation | None = None
        self.inner: Run | None = None
        self.admitted = self.dropped = self.working = False
        if parent is not None:
            parent.children[self] = None

    @property
    def name(self) -> str:
        """For messages."""
        named = self.future.name if self.future is not None else None
        return repr(named) if named else f"with id {self.operation_id[:12]}…"

    def has_news(self, records: Records) -> bool:
        """Whether what it waits for, besides branches, has come to pass."""
        wanted = self.waiting
        return wanted is not None and (isinstance(wanted, Rest) or records.any_terminal(wanted.ids))

    def answer(self) -> list[tuple[int, Outcome]]:
        """What the batch is answered now; it waits no more."""
        self.waiting = None
        ended, self.ended = list(self.ended), ()
        return ended

    def leave(self) -> None:
        """It has been delivered, or dropped."""
        self.dropped = True
        if self.parent is not None:
            self.parent.children.pop(self, None)

    def release(self) -> None:
        """The invocation is over: it and what is below it would keep each other until the garbage is collected."""
        for child in self.children:
            child.release()
        self.children.clear()
