"""
One claimed execution, as its owner drives it: begin an invocation, checkpoint, end it.

Everything an owner writes passes through here: it is validated against the fold, sent as one entry with what the owner
had seen, and folded once it is durable.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs

from perdure.codec import instant
from perdure.errors import InvalidParameterValueError, StaleTokenError
from perdure.journal.entry import FORMAT, NOTHING_PENDING, Ended, Entry, InvocationEnd, encode
from perdure.journal.transitions import validate
from perdure.model import (
    CheckpointAnswer,
    ErrorObject,
    ExecutionStatus,
    InvocationInput,
    InvocationOutput,
    InvocationStatus,
    OperationUpdate,
)
from perdure.nonce import tag
from perdure.service import reading
from perdure.service.carrier import Errands
from perdure.service.provision import Provision, starts_invoke
from perdure.service.verdict import verdict
from perdure.storage import (
    MICROSECONDS,
    Answer,
    Commit,
    Draft,
    End,
    Keep,
    OpenAwait,
    OpenInvocation,
    Rejected,
    Row,
    Status,
    Suspend,
)
from perdure.transaction import require_transactions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from perdure.journal.fold import Execution
    from perdure.portal import Waiter
    from perdure.service.service import Service
    from perdure.storage import CommitAnswer, Header
    from perdure.transaction import Transaction, TransactionalStore

logger = logging.getLogger(__name__)

POLL_AHEAD = 100_000
"""A poll that comes this little (µs) before the next timer waits for it: clocks differ, another poll costs more."""

AFTER_DOUBT = MICROSECONDS
"""How long (µs) an execution is left alone after a commit whose outcome is unknown; what broke it may go on."""

RELINQUISHMENTS = 3

FEW = 4
"""Up to so many executions of a process are worth a transaction of their own where they could share one."""

IDLE_LIMIT = 3
PROCESS_DIED = ErrorObject("the process that ran this invocation died, or lost its lease", "Runtime.ExitError")


def _nothing() -> None:
    pass


@attrs.frozen
class Write:
    """An entry, or None, and the commit that is to make it durable."""

    entry: Entry | None
    commit: Commit


class Ownership:
    """
    The owner's side of one claimed execution; used by one task at a time.

    Every method raises `StaleTokenError` once somebody else owns the execution, and `StoreError` when the store does
    not answer: in both cases the caller abandons the execution, whose journal tells the next owner everything. After
    a `StoreError` nothing more can be written: what was being written may have happened, and the store would take
    another write of the same number for its repetition.

    Attributes:
        is_ending: The end of the execution is being written, or was.
        has_let_go: The execution is nobody's since the last write, and went on at that moment.
    """

    def __init__(self, service: Service, header: Header, execution: Execution | None = None) -> None:
        self._service = service
        self._header = header
        self._invocation = header.invocation
        self._seq = header.seq
        self._crashes = header.crashes
        self._turn = 0
        self._untold: set[str] = set()
        self._fold = execution
        self._errands: Errands | None = None
        self._in_doubt = False
        self._asked = 0
        self._halt: Callable[[], object] = _nothing
        self.is_ending = self.has_let_go = False

    @property
    def is_in_doubt(self) -> bool:
        """Whether nobody here knows if the last write has happened, so that there can be no other."""
        return self._in_doubt

    @property
    def id(self) -> str:
        """The execution's id."""
        return self._header.id

    @property
    def header(self) -> Header:
        """The header as it was claimed."""
        return self._header

    @property
    def execution(self) -> Execution:
        """The fold of everything this owner has seen; after `begin`."""
        if self._fold is None:
            raise RuntimeError(f"execution {self.id!r} was not begun")
        return self._fold

    def now(self) -> int:
        """The store's time (µs), as far as this process knows it."""
        return self._service.clock.now()

    def has_missed(self, length: int) -> bool:
        """Whether a journal of this length holds rows that were not folded here."""
        return self._fold is not None and self._fold.length < length

    @property
    def token(self) -> str:
        """The checkpoint token that is good for the next checkpoint."""
        return f"{self._header.token}/{self._turn}"

    # ----------------------------------------------------------------------------------------------- invocations

    @contextmanager
    def running(self) -> Iterator[None]:
        """While this process runs the execution."""
        try:
            with self._service.endings.running(self):
                yield
        finally:
            self._halt = _nothing  # it knows who runs this, who knows this: they would keep each other

    def leave(self) -> None:
        """It is no longer this process's, as the store says: who waits for its end looks for it there."""
        self._service.endings.leave(self)

    async def begin(self, halt: Callable[[], object] = _nothing) -> InvocationInput | None:
        """
        Make durable what happened before this invocation, and give its input.

        Args:
            halt: Called within every checkpoint that finds the execution paused: the invocation is to finish and record
                what runs, and to begin nothing more.

        Returns:
            None if there is nothing to invoke for: the execution was let go again.
        """
        self._halt = halt
        if self._fold is None:
            self._fold = await self._service.folds.load(self._header)
        if not await self._record_what_was():
            return None
        execution = self.execution
        if execution.outcome is not None:
            # The invocation that recorded the outcome did not live to end the execution.
            await self._end(self._invocation_end(), Ended(status=execution.outcome.status))
            return None
        if execution.paused or not execution.has_news:
            await self._commit(None, Suspend(wake_at=execution.next_due()))
            return None
        self._untold.clear()
        return InvocationInput(
            durable_execution_arn=self._service.arn(
                execution.function, execution.version, execution.name, execution.id
            ),
            checkpoint_token=self.token,
            operations=tuple(execution.needed_operations()),
            updated_operation_ids=execution.updated,
        )

    async def _record_what_was(self) -> bool:
        """Write the crash of an invocation somebody left open, and timers that are due; False if that lets go."""
        left_open = self._header.invocation
        # Waits complete at resume.
        fired = () if self.execution.paused else self.execution.due(self._service.clock.now())
        if left_open is None or left_open.id == self._header.token:
            if fired:
                await self._commit(Entry(fired=fired))
            return True
        crashed = InvocationEnd(
            request_id=left_open.id,
            start_timestamp=instant(left_open.at),
            error=PROCESS_DIED,
            cut_short=True,
        )
        return await self._record_crash(Entry(crashed=crashed, fired=fired))

    async def _record_crash(self, entry: Entry) -> bool:
        then = self._service.crash_policy.then(self._crashes + 1)
        await self._commit(entry, then, reopen=True)
        return isinstance(then, Keep)

    async def finish(self, output: InvocationOutput) -> None:
        """
        Record how the invocation ended, and with it the execution unless the output is PENDING.

        An output that protocol.md §4.2 does not allow fails the execution. PENDING with nothing outstanding does so
        only as the third in a row; before, it counts as a crash.
        """
        write = self.conclude(output)
        if write is not None:
            self._begin_write()
            await self.concluded(write, None)
        elif output.status is not InvocationStatus.PENDING:
            await self._end(self._invocation_end(), verdict(self.execution, output))
        elif self.execution.idle + 1 < IDLE_LIMIT:
            await self.crash(NOTHING_PENDING)
        else:
            await self._end(self._invocation_end(), Ended(status=ExecutionStatus.FAILED, error=NOTHING_PENDING))

    def conclude(self, output: InvocationOutput) -> Write | None:
        """
        What `finish` is to write, where that is all there is to it; else None, and `finish` does it.

        As `prepare`, for `post`; what became of it is told to `concluded`.
        """
        execution, end = self.execution, self._invocation_end()
        if output.status is InvocationStatus.PENDING:
            if not (execution.outstanding or execution.paused or self._untold):
                return None
            return self._draft(Entry(invocation=end), Suspend(wake_at=execution.next_due()))
        if self._header.parent is not None:
            return None
        self.is_ending = True
        ended = verdict(execution, output)
        return self._draft(Entry(invocation=end, ended=ended), End(Status(ended.status.value)))

    async def concluded(self, write: Write, answer: CommitAnswer | None) -> None:
        """The rest of `finish`, with the answer to what `conclude` gave; None: it has to be sent, or sent again."""
        if answer is None:
            answer = await self._service.committer.commit(write.commit)
        else:
            self._service.agenda.learn(write.commit, answer)
        self._end_write(write, answer)
        if isinstance(write.commit.then, Suspend):
            self._service.folds.keep(self.execution)
        self._tell_end()

    async def crash(self, error: ErrorObject) -> None:
        """Record that the invocation ended uncleanly in this process."""
        then = self._service.crash_policy.then(self._crashes + 1)
        if isinstance(then, Keep):
            then = Suspend(wake_after=0, clean=False)
        end = attrs.evolve(self._invocation_end(), error=error, cut_short=True)
        await self._commit(Entry(crashed=end), then, reopen=True)

    async def drain(self) -> None:
        """End the invocation because its process stops, or its execution is paused; another one goes on."""
        end = attrs.evolve(self._invocation_end(), cut_short=True)
        await self._commit(Entry(invocation=end), Suspend(wake_after=0, clean=False))

    async def release(self, pause: int = 0) -> None:
        """Let go without having begun; somebody may go on after so many microseconds."""
        await self._commit(None, Suspend(wake_after=pause, clean=False))

    async def relinquish(self) -> None:
        """
        Let go after a write of which nobody knows whether it happened; the next owner will see.

        It is no crash of the execution. Does nothing if no write is in doubt, or the execution has another owner.
        """
        for _ in range(RELINQUISHMENTS if self._in_doubt else 0):
            header = await self._service.store.describe(self.id)
            if header is None or header.owner is None or header.token != self._header.token:
                return
            # If the write in doubt becomes durable only now, this one has its number, and is taken for it.
            await Ownership(self._service, header).release(AFTER_DOUBT)

    def _invocation_end(self) -> InvocationEnd:
        invocation = self._invocation
        if invocation is None:
            raise RuntimeError(f"execution {self.id!r} has no open invocation")
        return InvocationEnd(request_id=invocation.id, start_timestamp=instant(invocation.at))

    async def _end(self, end: InvocationEnd, ended: Ended) -> None:
        has_parent = self._header.parent is not None
        self.is_ending = True
        await self._commit(Entry(invocation=end, ended=ended), End(Status(ended.status.value)), effects=has_parent)
        self._tell_end()

    def _tell_end(self) -> None:
        if self.execution.ended is not None:
            self._service.endings.tell(self.execution)

    # ------------------------------------------------------------------------------------------------ checkpoints

    @property
    def transactions(self) -> TransactionalStore:
        """
        Where transactions are opened that `checkpoint` can commit.

        Raises:
            TransactionsUnsupportedError: The store has none.
        """
        return require_transactions(self._service.store, "context.transaction", "context.step with its idempotency_key")

    async def checkpoint(
        self, token: str, updates: Sequence[OperationUpdate], transaction: Transaction | None = None
    ) -> CheckpointAnswer:
        """
        Record updates in one atomic step (protocol.md §6.1).

        Args:
            token: As `token` was.
            updates: In order.
            transaction: Committed by this, with what an application has written in it. A `StoreError` then means that
                it was not, or that nobody knows: nothing is sent again, but see `relinquish`.

        Raises:
            StaleTokenError: The token is not the last one issued, or the execution has another owner or has ended.
            InvalidParameterValueError: An update is illegal; nothing was recorded and the token stays valid.
        """
        self._check(token, updates)
        if updates:
            await self._record(updates, transaction)
        else:
            await self._poll()
        return self._answer()

    def prepare(self, token: str, updates: Sequence[OperationUpdate]) -> Write | None:
        """
        What a checkpoint is to write, where that is all there is to it; else None, and `checkpoint` does it.

        This, `post` and `receive` may be called by the thread that runs the workflow, to which the execution's fold
        belongs meanwhile; only `send` and `resend` need the store's loop. Raises as `checkpoint`.
        """
        if not updates or any(starts_invoke(update) for update in updates):
            return None
        self._check(token, updates)
        provision = Provision(self.id)
        for update in updates:
            provision.add(update)
        return self._draft(self._entry(updates, provision), opens=tuple(provision.opens))

    def send(self, write: Write, waiter: Waiter[CommitAnswer]) -> None:
        """Have what was prepared written; `waiter` is given the store's answer."""
        try:
            self._begin_write()
        except StaleTokenError as error:
            waiter.set_exception(error)
        else:
            self.resend(write, waiter)

    def resend(self, write: Write, waiter: Waiter[CommitAnswer]) -> None:
        """The same again, as the outcome of the first time is not known."""
        self._service.committer.submit(write.commit, waiter)

    def post(self, write: Write, waiter: Waiter[CommitAnswer], *, if_few: bool = False) -> bool:
        """
        As `send`, by the calling thread; False where that is not possible, or `if_few` and they are many.

        A retryable `StoreError` is not dealt with yet: the caller has to `resend`.
        """
        committer = self._service.committer
        if write.commit.opens or not committer.takes_posts:
            return False
        if if_few and self._service.endings.running_here > FEW:
            return False
        self._begin_write()
        committer.post(write.commit, waiter)
        return True

    def receive(self, write: Write, answer: CommitAnswer) -> CheckpointAnswer | None:
        """The checkpoint's answer; None if others have written meanwhile, and `catch_up` is to read that first."""
        return self._answer() if self._end_write(write, answer) else None

    async def catch_up(self) -> CheckpointAnswer:
        """As `receive`, after reading what others have written."""
        self._untold |= await reading.catch_up(self._service.store, self.execution)
        return self._answer()

    def _check(self, token: str, updates: Sequence[OperationUpdate]) -> None:
        if token != self.token:
            raise StaleTokenError
        validate(self.execution, updates)

    def _answer(self) -> CheckpointAnswer:
        self._turn += 1
        execution = self.execution
        if execution.paused:
            self._halt()
        told = tuple(execution.operations[id] for id in sorted(self._untold, key=execution.start_order))
        self._untold.clear()
        return CheckpointAnswer(None if execution.outcome is not None else self.token, told)

    async def _record(self, updates: Sequence[OperationUpdate], transaction: Transaction | None) -> None:
        provision = Provision(self.id)
        for update in updates:
            if starts_invoke(update):
                await provision.add_invoke(self._service, update)
            else:
                provision.add(update)
        await self._commit(
            self._entry(updates, provision),
            opens=tuple(provision.opens),
            effects=provision.starts_children,
            transaction=transaction,
        )

    def _entry(self, updates: Sequence[OperationUpdate], provision: Provision) -> Entry:
        fired = self.execution.due(self._service.clock.now())
        return Entry(updates=tuple(updates), callbacks=provision.callbacks, targets=provision.targets, fired=fired)

    async def _poll(self) -> None:
        """Fire what has become due, and read what came from outside."""
        execution, clock = self.execution, self._service.clock
        due = execution.next_due()
        if due is not None and 0 < due - clock.now() <= POLL_AHEAD:
            await asyncio.sleep((due - clock.now()) / MICROSECONDS)
        if fired := execution.due(clock.now()):
            await self._commit(Entry(fired=fired))
        else:
            self._untold |= await reading.catch_up(self._service.store, execution)

    # ---------------------------------------------------------------------------------------------------- writing

    async def _commit(
        self,
        entry: Entry | None,
        then: Keep | Suspend | End = Keep(),  # noqa: B008 - immutable
        *,
        opens: tuple[OpenAwait, ...] = (),
        effects: bool = False,
        reopen: bool = False,
        transaction: Transaction | None = None,
    ) -> None:
        write = self._draft(entry, then, opens=opens, effects=effects, reopen=reopen)
        self._begin_write()
        if transaction is None:
            answer = await self._service.committer.commit(write.commit)
        else:
            answer = await transaction.commit(write.commit)
            self._service.agenda.learn(write.commit, answer)
        if not self._end_write(write, answer) and (isinstance(then, Keep) or effects):
            self._untold |= await reading.catch_up(self._service.store, self.execution)
        if effects:
            self._errands = self._errands or Errands.of(self._header, self.execution)
            self._errands.look()
            self._service.carrier.carry_soon(self._errands)

    def _draft(
        self,
        entry: Entry | None,
        then: Keep | Suspend | End = Keep(),  # noqa: B008 - immutable
        *,
        opens: tuple[OpenAwait, ...] = (),
        effects: bool = False,
        reopen: bool = False,
    ) -> Write:
        header = self._header
        seen, tip = (self._fold.length, self._fold.tip) if self._fold else (header.length, header.tip)
        commit = Commit(
            id=header.id,
            token=header.token or "",
            seq=self._seq + 1,
            seen=seen,
            tip=tip,
            draft=None if entry is None else Draft(encode(entry), tag(), FORMAT),
            then=then,
            opens=opens,
            effects=effects,
            reopen=reopen,
        )
        return Write(entry, commit)

    def _begin_write(self) -> None:
        if self._in_doubt:
            raise StaleTokenError
        self._in_doubt = True
        self._asked = time.monotonic_ns()

    def _end_write(self, write: Write, answer: CommitAnswer) -> bool:
        """Fold what is durable now; False if the journal has rows besides that were not seen."""
        self._in_doubt = False
        if isinstance(answer, Rejected):
            raise InvalidParameterValueError(answer.error)
        if isinstance(answer, Answer):
            raise StaleTokenError
        entry, commit = write.entry, write.commit
        self._seq = commit.seq
        self.has_let_go = isinstance(commit.then, Suspend)
        self._service.clock.read(answer.now, self._asked)
        if entry is None or commit.draft is None or self._fold is None:
            return True
        if commit.reopen:
            self._reopen(commit, answer.at)
        if answer.length != commit.seen + 1:
            return False
        draft = commit.draft
        row = Row(index=answer.length, at=answer.at, tag=draft.tag, seen=commit.seen, body=draft.body)
        self._untold |= self._fold.apply(row, entry)
        return True

    def _reopen(self, commit: Commit, at: int) -> None:
        self._crashes += 1
        is_fatal = isinstance(commit.then, Suspend) and commit.then.quarantine
        fate = "; it is left alone until it is resumed" if is_fatal else ""
        logger.warning("execution %s: crash %s in a row is recorded%s", self.id, self._crashes, fate)
        self._invocation = OpenInvocation(commit.token, at)
