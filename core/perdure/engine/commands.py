"""
What operations ask of the driver that runs them, and what they get back.

An operation is a generator of straight-line code around its record. It does no I/O, cleans nothing up around a
`yield` (it may be dropped at any of them), and knows neither threads nor event loops: it yields the commands below
and is sent their answers. So the same code serves `def` and `async def` workflows, and a test feeds it outcomes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar

import attrs

from perdure.model import OperationAction, OperationType
from perdure.value import Value

if TYPE_CHECKING:
    from datetime import datetime

    from perdure.engine.replay import Run
    from perdure.engine.scope import Scope
    from perdure.model import Operation, OperationUpdate

T = TypeVar("T")

UNWATCHED: AbstractContextManager[object] = nullcontext()
"""Around bodies that nobody watches."""


@attrs.frozen(eq=False, repr=False)
class Checkpoint(Value):
    """
    Have `updates` recorded; answered with None.

    Attributes:
        updates: In order.
        durable: Come back only after the service has answered; else at once, and the updates ride with a later one.
    """

    updates: tuple[OperationUpdate, ...]
    durable: bool = True

    @property
    def begins(self) -> bool:
        """Whether an operation, or another attempt at one, begins with this."""
        return self.updates[0].action is OperationAction.START

    @property
    def begins_leaf(self) -> bool:
        """Whether the body of a step, submitter or check begins as soon as this is answered."""
        return self.begins and self.updates[0].operation_type is OperationType.STEP

    @property
    def ends_context(self) -> bool:
        """Whether the outcome of a context is recorded, of whose code nothing is left to be run."""
        last = self.updates[-1]
        return last.operation_type is OperationType.CONTEXT and last.action is not OperationAction.START


@attrs.frozen(eq=False, repr=False)
class Call(Value):
    """
    Run user code; answered with `Returned` or `Raised`.

    Attributes:
        body: The code.
        args: Its arguments, after the context if there is one.
        context: With a scope, `body` is the body of that context (a child, a branch) and gets the driver's context
            object for it as its first argument. Without one it is a leaf (step, submitter, check), in which no
            operation may be called.
        watch: To be entered where the body runs, and left when it has ended.
    """

    body: Callable[..., Any]
    args: tuple[Any, ...] = ()
    context: Scope | None = None
    watch: AbstractContextManager[object] = attrs.field(default=UNWATCHED, eq=False, repr=False)


@attrs.frozen(eq=False, repr=False)
class Transact(Value):
    """
    Run a leaf in a database transaction and have its end recorded in it; answered with `Returned` or `Raised`.

    `Returned`: both are durable. `Raised`: neither is, and nothing is recorded yet.

    Attributes:
        body: The code; a coroutine function is given an asynchronous connection.
        args: Its arguments, before the connection.
        conclude: Makes of the returned value the outcome and, if that is `Returned`, the update that records it.
        watch: As of `Call`.
    """

    body: Callable[..., Any]
    args: tuple[Any, ...]
    conclude: Callable[[Any], tuple[Outcome, OperationUpdate | None]]
    watch: AbstractContextManager[object] = attrs.field(default=UNWATCHED, eq=False, repr=False)


@attrs.frozen(eq=False, repr=False)
class Blocked(Value):
    """
    Nothing can be done before `record` is replaced by another; answered with None once it has been.

    Attributes:
        record: The record as the operation saw it; a thread may have brought another one since.
    """

    record: Operation

    @property
    def id(self) -> str:
        """Whose record it is."""
        return self.record.operation_id

    @property
    def until(self) -> datetime | None:
        """When time alone changes it, or None."""
        return self.record.due


@attrs.frozen(eq=False, repr=False)
class Spawn(Value):
    """
    Start a branch; answered with None.

    Attributes:
        key: Names the branch in the answer of `WaitAny`.
        id: The operation id of the branch; one that is FLAT has no record there.
        make: Called with the branch's own `Run` before every run of the branch: a fresh generator, its fresh context
            inside.
        frozen: Run it over what is recorded, and no further.
    """

    key: int
    id: str
    make: Callable[[Run], Procedure[Any]]
    frozen: bool = False


@attrs.frozen(eq=False, repr=False)
class Rest(Value):
    """
    Come back when the workflow's code can do nothing more by itself, before anything is delivered to it.

    Live, the answer to a START takes that long; on replay there is none to wait for.
    """

    ids: ClassVar[tuple[str, ...]] = ()


@attrs.frozen(eq=False, repr=False)
class WaitAny(Value):
    """
    Wait for spawned branches; answered with `[(key, Returned or Raised), …]`, each branch once.

    The answer is `[]` if a record of `ids` is, or has become, terminal.

    Attributes:
        ids: Operations that end the wait, too.
        until: When time alone changes one of them, or None.
        patient: They end it only when no branch can go on.
    """

    ids: tuple[str, ...] = ()
    until: datetime | None = None
    patient: bool = False


@attrs.frozen(eq=False, repr=False)
class Returned(Value):
    """User code returned."""

    value: Any


@attrs.frozen(eq=False, repr=False)
class Raised(Value):
    """User code raised an ordinary exception; control signals never come this way."""

    error: Exception


Command: TypeAlias = Checkpoint | Call | Transact | Blocked | Spawn | Rest | WaitAny
Outcome: TypeAlias = Returned | Raised
Procedure: TypeAlias = Generator[Command, Any, T]
"""An operation at work: yields commands, and returns or raises what the author's call does."""


def called(command: Call) -> Procedure[Outcome]:
    """A procedure of one call, whose outcome it returns."""
    outcome: Outcome = yield command
    return outcome


def goes_beyond(command: Command) -> bool:
    """Whether a command records something, or runs a body whose end is not recorded."""
    return isinstance(command, (Checkpoint, Transact)) or (isinstance(command, Call) and command.context is None)


def settled(procedure: Procedure[T]) -> Procedure[Outcome]:
    """Run a procedure inside another; what it returns or raises becomes a value."""
    try:
        return Returned((yield from procedure))
    except Exception as error:  # noqa: BLE001 - whatever it raises is its outcome
        return Raised(error)


def stand_in(error: BaseException) -> Exception:
    """An ordinary error for one that is none and ends nothing, such as a CancelledError that nobody asked for."""
    ordinary = RuntimeError(f"{type(error).__name__} was raised{f': {error}' if str(error) else ''}")
    ordinary.__cause__ = error
    return ordinary
