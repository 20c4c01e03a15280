"""
Collects what strands want recorded into requests, without doing any I/O itself.

The driver offers updates, takes the next request, sends it, and hands back what came of it. One request is in flight
at a time, the order of offering is kept, and there is no delay timer: what was offered while a request was under way
travels in the next (protocol.md §10.2).
"""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any

import attrs

from perdure.engine.replay import Orphaned, Withdrawn
from perdure.model import OperationAction, OperationType
from perdure.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perdure.engine.observation import Observation
    from perdure.engine.port import CheckpointAnswer, Transaction
    from perdure.engine.replay import Records
    from perdure.errors import ControlSignal
    from perdure.model import OperationUpdate

MAX_UPDATES = 250
MAX_BYTES = 750 * 1024
OVERHEAD = 400
"""Bytes an update takes on the wire besides its payload and error, roughly."""


class Ticket:
    """
    What a strand holds that waits for an answer.

    Attributes:
        settled: Whether the answer is there.
        signal: What it is given instead of an answer, or None.
        waiter: For the driver to remember whom to wake.
    """

    __slots__ = ("settled", "signal", "waiter")

    def __init__(self) -> None:
        self.settled = False
        self.signal: ControlSignal | None = None
        self.waiter: Any = None


@attrs.frozen(eq=False, repr=False)
class Request(Value):
    """One checkpoint to send: `updates` under `token`, and in `transaction` if there is one."""

    token: str
    updates: tuple[OperationUpdate, ...]
    transaction: Transaction | None = None

    @property
    def arguments(self) -> tuple[Any, ...]:
        """For `checkpoint` of a control plane; only those that have transactions take one."""
        if self.transaction is None:
            return self.token, self.updates
        return self.token, self.updates, self.transaction


@attrs.frozen(eq=False, repr=False)
class Attached(Value):
    """An update that is recorded in a transaction, or not at all."""

    update: OperationUpdate
    transaction: Transaction


class Hold:
    """
    The exclusive right of a transaction to the next request, from before it is opened until it is sent or over.

    Attributes:
        ahead: How many items of the queue are older than the transaction and travel with it; None before it is open.
        offered: Whether its update is queued.
    """

    __slots__ = ("ahead", "offered")

    def __init__(self) -> None:
        self.ahead: int | None = None
        self.offered = False


class Checkpointer:
    """
    The queue between the strands of one invocation and its service. Not thread-safe: the driver holds its lock.

    Attributes:
        signal: Why nothing is accepted any more, or None.
        in_flight: Whether a request is under way.
        waiting: How many tickets wait for a request that has not been taken yet.
        observation: Is told of answers, if there is one.
    """

    def __init__(self, token: str, records: Records, clock: Callable[[], float]) -> None:
        """
        Args:
            token: Of the invocation input.
            records: Updated by every answer.
            clock: Monotonic seconds; dates the updates nobody waits for.
        """
        self.signal: ControlSignal | None = None
        self.waiting = 0
        self.observation: Observation | None = None
        self._token: str | None = token
        self._records = records
        self._clock = clock
        self._queue: deque[OperationUpdate | Ticket | Attached] = deque()
        self._holds: deque[Hold] = deque()
        self._attached = 0
        self._taken: list[Ticket] | None = None
        self._unsent_since: float | None = None
        self._ended: set[str] = set()
        self._parents: dict[str, str | None] = {}

    @property
    def in_flight(self) -> bool:
        """Whether a request is under way."""
        return self._taken is not None

    def offer(self, updates: Sequence[OperationUpdate], durable: bool = True) -> Ticket | None:
        """
        Queue updates; with `durable` also a ticket that is settled once they are recorded.

        Raises:
            Orphaned: A context above one of them has ended; none is queued.
            ControlSignal: Nothing is accepted any more.
        """
        if self.signal is not None:
            raise self.signal
        for update in updates:
            if update.parent_id is not None and self.has_ended(update.parent_id):
                raise Orphaned("the context of this operation has ended", update.operation_id)
            if update.operation_type is OperationType.CONTEXT:
                self._parents[update.operation_id] = update.parent_id
        for update in updates:
            if update.operation_type is OperationType.CONTEXT and update.action is not OperationAction.START:
                self._ended.add(update.operation_id)
        self._queue.extend(updates)
        if not durable:
            if self._unsent_since is None:
                self._unsent_since = self._clock()
            return None
        ticket = Ticket()
        self._queue.append(ticket)
        self.waiting += 1
        return ticket

    def poll(self) -> Ticket:
        """Queue a ticket alone: an empty checkpoint, or a ride on the next request, brings what has changed."""
        ticket = self.offer(())
        assert ticket is not None  # noqa: S101 - durable by default
        return ticket

    def close(self, signal: ControlSignal) -> list[Ticket]:
        """Accept nothing any more. What is queued is dropped, and who waits for it is given `signal`: all tickets."""
        return self._break(self.signal or signal)

    def next_ticket(self) -> Ticket | None:
        """The first ticket with a waiter whose request has not been taken yet."""
        if not self.waiting:
            return None
        return next((each for each in self._queue if isinstance(each, Ticket) and each.waiter is not None), None)

    def has_ended(self, context_id: str) -> bool:
        """Whether this context, or one above it, has ended, so that nothing in it may be recorded."""
        context: str | None = context_id
        while context is not None:
            if context in self._ended:
                return True
            record = self._records.get(context)
            if record is not None:
                if record.is_terminal:
                    return True
                context = record.parent_id
            else:
                context = self._parents.get(context)
        return False

    def unsent_for(self) -> float:
        """Seconds for which the oldest update without a waiter has been queued; 0 if there is none."""
        since = self._unsent_since
        return 0.0 if since is None or self._holds else self._clock() - since

    def take(self, *, unwaited: bool = False) -> Request | None:
        """
        The next request to send; None while one is in flight or nobody waits for one.

        Args:
            unwaited: Also if nobody waits, for updates that have been queued too long.
        """
        if self._taken is not None or self._token is None or not self._queue:
            return None
        if self._attached or self._holds:
            return self._take_attached(unwaited)
        if not self.waiting and not unwaited:
            return None
        updates: list[OperationUpdate] = []
        tickets: list[Ticket] = []
        size = 0
        queue: deque[OperationUpdate | Ticket] = self._queue  # type: ignore[assignment]  # nothing is attached
        while queue:
            head = queue[0]
            if isinstance(head, Ticket):
                tickets.append(head)
            else:
                size += wire_size(head)
                if updates and (len(updates) == MAX_UPDATES or size > MAX_BYTES):
                    break
                updates.append(head)
            queue.popleft()
        return self._request(updates, tickets)

    def _take_attached(self, unwaited: bool) -> Request | None:
        """As `take` where there are transactions: at most one of them in a request."""
        hold = self._holds[0] if self._holds else None
        if self.held or not (self.waiting or unwaited):
            return None
        forced = 0
        if hold is not None and hold.offered:
            self._holds.popleft()
            forced = (hold.ahead or 0) + 2
        updates: list[OperationUpdate] = []
        tickets: list[Ticket] = []
        transaction: Transaction | None = None
        size, queue = 0, self._queue
        while queue:
            head = queue[0]
            if isinstance(head, Ticket):
                tickets.append(head)
            else:
                update: OperationUpdate = head.update if isinstance(head, Attached) else head
                size += wire_size(update)
                is_full = forced <= 0 and bool(updates) and (len(updates) == MAX_UPDATES or size > MAX_BYTES)
                if is_full or (isinstance(head, Attached) and transaction is not None):
                    break
                if isinstance(head, Attached):
                    transaction = head.transaction
                    self._attached -= 1
                updates.append(update)
            queue.popleft()
            forced -= 1
        return self._request(updates, tickets, transaction)

    def _request(
        self, updates: list[OperationUpdate], tickets: list[Ticket], transaction: Transaction | None = None
    ) -> Request:
        assert self._token is not None  # noqa: S101 - whoever takes has looked
        self.waiting -= len(tickets)
        self._taken = tickets
        self._unsent_since = self._clock() if self._queue else None
        return Request(self._token, tuple(updates), transaction)

    # ------------------------------------------------------------------------------------------------ transactions

    @property
    def held(self) -> bool:
        """Whether nothing can be sent before an exclusive transaction has been offered or is over."""
        return bool(self._holds) and not self._holds[0].offered and (self._holds[0].ahead is not None or self._fits)

    @property
    def _fits(self) -> bool:
        """Whether what is queued can travel with a transaction's own update."""
        queued = [each for each in self._queue if not isinstance(each, Ticket)]
        if len(queued) >= MAX_UPDATES:
            return False
        return sum(wire_size(each.update if isinstance(each, Attached) else each) for each in queued) <= MAX_BYTES

    def hold(self) -> Hold:
        """Ask that nothing be sent while an exclusive transaction is open; `grant` tells since when that is so."""
        hold = Hold()
        self._holds.append(hold)
        return hold

    def grant(self, hold: Hold) -> bool:
        """
        Whether the transaction of `hold` may be opened now.

        If it may, nothing but a request that commits it is sent from now on, until its hold is released. If not, it is
        another's turn, a request is in flight, or more is queued than can travel with it, which has to be sent first.
        """
        if self._taken is not None or not self._holds or self._holds[0] is not hold or not self._fits:
            return False
        hold.ahead = len(self._queue)
        return True

    def release(self, hold: Hold) -> bool:
        """The transaction of `hold` is over, in whatever way; returns whether that lets others go on."""
        if hold not in self._holds:
            return False
        self._holds.remove(hold)
        return True

    def attach(self, update: OperationUpdate, transaction: Transaction, hold: Hold | None) -> Ticket:
        """
        Queue an update that is recorded by committing a transaction, or not at all.

        With a hold it takes its place before everything that was queued since that was granted: what could only be
        recorded with this transaction still closed must not come before it.

        Raises:
            Orphaned: A context above it has ended.
            ControlSignal: Nothing is accepted any more.
        """
        if self.signal is not None:
            raise self.signal
        if update.parent_id is not None and self.has_ended(update.parent_id):
            raise Orphaned("the context of this operation has ended", update.operation_id)
        ticket = Ticket()
        place = len(self._queue)
        if hold is not None and hold.ahead is not None:
            place, hold.offered = hold.ahead, True
        self._queue.insert(place, ticket)
        self._queue.insert(place, Attached(update, transaction))
        self._attached += 1
        self.waiting += 1
        return ticket

    def detach(self, ticket: Ticket) -> None:
        """Record what was attached under this ticket no more, if it has not been taken."""
        if ticket in self._queue:
            place = self._queue.index(ticket)
            del self._queue[place]
            del self._queue[place - 1]
            self._attached -= 1
            self.waiting -= 1

    # ------------------------------------------------------------------------------------------------------ answers

    def answered(self, answer: CheckpointAnswer) -> list[Ticket]:
        """
        The request in flight was accepted; all pages of its answer are in `answer.operations`.

        Returns:
            The tickets that are settled by it.
        """
        if self.observation is not None:
            self.observation.answered(answer.operations)
        self._records.update(answer.operations)
        self._token = answer.token
        if answer.token is None:
            return self._break(Withdrawn())
        settled, self._taken = self._taken or [], None
        for ticket in settled:
            ticket.settled = True
        return settled

    def failed(self, signal: ControlSignal) -> list[Ticket]:
        """
        The request in flight was not accepted, or nobody knows: every waiter is given `signal`, now and later.

        Returns:
            All tickets there are.
        """
        return self._break(signal)

    def _break(self, signal: ControlSignal) -> list[Ticket]:
        self.signal = signal
        tickets = [*(self._taken or []), *(each for each in self._queue if isinstance(each, Ticket))]
        self._taken = None
        self._queue.clear()
        self._holds.clear()
        self._attached = 0
        self._unsent_since = None
        self.waiting = 0
        for ticket in tickets:
            ticket.settled = True
            ticket.signal = signal
        return tickets


def wire_size(update: OperationUpdate) -> int:
    """Roughly the bytes an update takes in a request."""
    size = OVERHEAD
    if update.payload is not None:
        size += _json_length(update.payload)
    if update.error is not None:
        error = update.error
        parts = (error.message, error.type, error.data, *(error.stack_trace or ()))
        size += sum(_json_length(part) for part in parts if part)
    return size


def _json_length(text: str) -> int:
    """Bytes of `text` within JSON that is ASCII, as boto3 sends it."""
    if text.isascii():
        return len(text) + text.count('"') + text.count("\\")
    return len(json.dumps(text))
