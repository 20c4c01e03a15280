"""The durable side of a context, whatever its colour: its ids, its place in the replay, its clock."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from enum import Enum
from random import Random
from typing import TYPE_CHECKING
from uuid import UUID
from weakref import ref

from perdure.engine.ids import Identity, check_name, operation_id
from perdure.errors import ContextMisuseError
from perdure.logger import Logger, LogInfo
from perdure.model import OperationType

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from perdure.engine.observation import Observation
    from perdure.engine.replay import Replay, Run
    from perdure.types import LoggerInterface


class Leaf(Enum):
    """Marks code in which no operation may be called."""

    INSIDE = "inside a step, a submitter or a check"


ACTIVE: ContextVar[Scope | Leaf | None] = ContextVar("perdure_active", default=None)
"""The scope of the context whose body runs here; `Leaf.INSIDE` in a leaf body."""


class Scope:
    """
    One run of a context's body.

    Attributes:
        replay: What the invocation replays over.
        run: The strand this body runs on.
        prefix: The hashed id that ids in here derive from; None at top level.
        parent_id: The recorded context that operations in here belong to; differs from `prefix` in a virtual context.
        replaying: Whether the code is still before the point that an earlier run had reached (protocol.md §10.10).
        logger: The context's logger, kept here so that children inherit it.
        owner: Who may use the context: the ident of the thread, or the id of the task, that runs its body.
    """

    __slots__ = (
        "__weakref__",
        "_count",
        "_last",
        "_next",
        "_open",
        "_randoms",
        "_resumed",
        "_uuids",
        "logger",
        "owner",
        "parent_id",
        "prefix",
        "replay",
        "replaying",
        "run",
    )

    def __init__(
        self,
        replay: Replay,
        run: Run,
        *,
        prefix: str | None = None,
        parent_id: str | None = None,
        replaying: bool = False,
        last: datetime | None = None,
        logger: Logger | None = None,
    ) -> None:
        self.replay = replay
        self.run = run
        self.prefix = prefix
        self.parent_id = parent_id
        self.replaying = replaying
        info = LogInfo(replay.arn, parent_id)
        inherited = Logger(logging.getLogger(), {}) if logger is None else logger
        self.logger = inherited.with_info(info).with_is_replaying(_replaying(ref(self)))
        self.owner: object = None
        self._count = self._uuids = self._randoms = self._open = 0
        self._next: str | None = None
        self._resumed: set[str] = set()
        self._last = last or replay.started

    def child(self, run: Run, identity: Identity, *, replaying: bool, virtual: bool = False) -> Scope:
        """
        A scope for the body of a context below this one.

        Args:
            run: The strand the body will run on.
            identity: The context's own operation.
            replaying: Whether its record is older than this run of its body.
            virtual: It records nothing of itself: operations in it belong to this scope's context.
        """
        return Scope(
            self.replay,
            run,
            prefix=identity.operation_id,
            parent_id=self.parent_id if virtual else identity.operation_id,
            replaying=replaying,
            last=self._last,
            logger=self.logger,
        )

    # ------------------------------------------------------------------------------------------------ operations

    def check_owner(self, owner: object) -> None:
        """
        Refuse whoever is not the strand this context was given to.

        Args:
            owner: The ident of the thread, or the id of the task, that asks.

        Raises:
            ContextMisuseError: Naming the ways that are durable.
        """
        active = ACTIVE.get()
        if active is self and owner == self.owner:
            return
        if active is Leaf.INSIDE:
            where = "inside a step, submitter or check; call it outside of them"
        elif active is None or active is self:
            where = "by a thread or task it was not given to"
        else:
            where = "in the body of another context; use the context that this body was given"
        message = f"a durable context was used {where}; use run_in_child_context, parallel or map for nested work"
        raise ContextMisuseError(message)

    def draw(self, operation_type: OperationType, sub_type: str, name: str | None) -> Identity:
        """Take the next id for an operation that is called now; moves the replay status."""
        check_name(name)
        self._count += 1
        drawn = self._next or operation_id(self.prefix, self._count)
        self._next = None
        was_replaying = self.replaying
        if was_replaying:
            self._open += 1
            record = self.replay.records.get(drawn)
            if record is None or (operation_type is OperationType.STEP and not record.is_terminal):
                self.replaying = False
            elif not record.is_terminal:
                self._resumed.add(drawn)
        identity = Identity(drawn, operation_type, sub_type, name, self.parent_id, self._count)
        if was_replaying and self.replay.observation is not None:
            self._tell_resumed(self.replay.observation, identity)
        return identity

    def _tell_resumed(self, observation: Observation, identity: Identity) -> None:
        record = self.replay.records.get(identity.operation_id)
        if record is not None and identity.matches(record):
            observation.resumed(record)

    def received(self, identity: Identity) -> None:
        """The author's code is given the outcome of a drawn operation; moves clock and replay status."""
        record = self.replay.records.get(identity.operation_id)
        # A callback is received when it is created: its end would be there on replay, but not on the first run.
        if record is not None:
            created = record.operation_type is OperationType.CALLBACK
            self.observe(record.start_timestamp if created else record.end_timestamp)
        if self.replaying:
            self._open -= 1
            if identity.operation_id in self._resumed:
                self.replaying = False
            elif not self._open:
                self._next = operation_id(self.prefix, self._count + 1)
                self.replaying = self._next in self.replay.records

    def answered(self, identity: Identity) -> None:
        """The author's code is given the result of a callback, after its creation; moves the clock."""
        record = self.replay.records.get(identity.operation_id)
        if record is not None:
            self.observe(record.end_timestamp)

    def observe(self, moment: datetime | None) -> None:
        """Move the context's clock to `moment`, if that is later."""
        if moment is not None and moment > self._last:
            self._last = moment

    def operation_logger(self, identity: Identity, attempt: int) -> LoggerInterface:
        """The logger for a body of an operation."""
        return self.logger.with_info(
            LogInfo(
                execution_arn=self.replay.arn,
                parent_id=self.parent_id,
                operation_id=identity.operation_id,
                name=identity.name,
                attempt=attempt,
            )
        )

    # -------------------------------------------------------------------------------------- deterministic values

    def now(self) -> datetime:
        """When the last operation that this context received ended, in whole milliseconds."""
        return self._last.replace(microsecond=self._last.microsecond // 1000 * 1000)

    def uuid4(self) -> UUID:
        """The next UUID of this context."""
        self._uuids += 1
        return UUID(bytes=self._derived("uuid4", self._uuids), version=4)

    def random(self) -> Random:
        """The next random number generator of this context."""
        self._randoms += 1
        return Random(self._derived("random", self._randoms))  # noqa: S311 - equal on replay, not secret

    def idempotency_key(self, identity: Identity) -> str:
        """The same for every attempt of a step, different for every other step of any execution."""
        return f"{self.replay.execution_id}-{identity.operation_id}"

    def _derived(self, kind: str, count: int) -> bytes:
        import hashlib  # noqa: PLC0415 - as in `operation_id`

        raw = f"{self.replay.execution_id}/{self.prefix or ''}/{kind}/{count}"
        return hashlib.blake2b(raw.encode(), digest_size=16).digest()


def _replaying(scope: ref[Scope]) -> Callable[[], bool]:
    # Not a reference that keeps the scope: all of an invocation would stay until the garbage is collected.
    return lambda: (found := scope()) is not None and found.replaying
