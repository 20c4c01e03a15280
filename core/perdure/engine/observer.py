"""
The seam for whoever wants to watch an invocation: plugins, tracing.

All of it is called synchronously, outside of any lock, and what it raises is logged and goes no further (but for
KeyboardInterrupt and SystemExit). In a `def` workflow the caller is the thread that runs the operation; in an
`async def` workflow it is the thread of the host's loop, for everything but `def` bodies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from perdure.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from perdure.engine.ids import Identity
    from perdure.engine.replay import Records
    from perdure.model import ErrorObject, InvocationOutput, Operation, OperationUpdate


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Opening(Value):
    """
    An invocation that begins.

    Attributes:
        arn: Of the execution.
        request_id: Of the invocation, on AWS Lambda.
        is_first: Nothing has been recorded before.
        started: When the execution began.
        event: The input as the workflow is given it; not to be changed.
        records: What is recorded; goes on to tell that throughout the invocation.
        updated: Ids of operations that have changed while no invocation ran, as far as the service tells.
    """

    arn: str
    request_id: str | None
    is_first: bool
    started: datetime | None
    event: Any = attrs.field(repr=False)
    records: Records = attrs.field(repr=False)
    updated: tuple[str, ...] = ()


@attrs.frozen(eq=False, repr=False)
class Body(Value):
    """
    A function of the author's, below the workflow itself, that runs.

    Attributes:
        identity: Of its operation.
        attempt: From 1; None for a context that an earlier invocation began.
        again: It runs over what is recorded, for a result that was too large to record.
        started: When it began.
        at_most_once: Of a step that repeats no attempt which may have been begun.
    """

    identity: Identity
    attempt: int | None
    again: bool
    started: datetime
    at_most_once: bool = False


class Observer:
    """Watches one invocation; does nothing unless told otherwise."""

    def invocation_started(self, opening: Opening) -> None:
        """Before the workflow's code; context variables that are set here are seen by all of it."""

    def operation_started(self, update: OperationUpdate, record: Operation | None) -> None:
        """A START is about to be queued; `record` is there if it is not the first."""

    def operation_resumed(self, record: Operation) -> None:
        """Replay has come to an operation that was under way; once in an invocation."""

    def operation_ended(self, record: Operation) -> None:
        """Before the workflow's code gets its outcome; once, in the first invocation that is told of the end."""

    def context_ended(self, identity: Identity, error: ErrorObject | None, *, again: bool) -> None:
        """A context ended whose end is not recorded: it is virtual, or run `again` for a large result."""

    def body_started(self, body: Body) -> None:
        """In the thread or task, and with the context variables, that it runs with; so is `body_ended`."""

    def body_ended(self, body: Body, error: BaseException | None) -> None:
        """Before its outcome is recorded. With an error that is no `Exception` the body has not come to its end."""

    def operations_changed(self, changed: Mapping[str, Operation]) -> None:
        """Answers to checkpoints have told of these; several may be told of together."""

    def trace_id(self, identity: Identity, function_name: str) -> str | None:
        """The X-Amzn-Trace-Id to invoke another function with."""

    def invocation_ended(self, outcome: InvocationOutput | BaseException) -> None:
        """After everything else; an exception: it ended uncleanly, and the service invokes again."""


Observe: TypeAlias = "Callable[[Opening], Iterable[Observer]]"
"""Makes the observers of an invocation."""
