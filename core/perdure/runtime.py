"""
Where engine and service are joined: one claimed execution's function runs against its journal.

The service works on the store's loop; `def` workflows run in a thread, `async def` ones on the host loop.
"""

from __future__ import annotations

import asyncio
import logging
from contextvars import Context
from typing import TYPE_CHECKING, Any

import attrs

from perdure.codec import instant
from perdure.engine.hosting import concluded, linger
from perdure.engine.invocation import Invocation
from perdure.engine.settings import Settings
from perdure.errors import InvalidParameterValueError, StaleTokenError, StoreError
from perdure.model import ErrorObject, InvocationOutput, InvocationStatus
from perdure.portal import Promise, Reply, host_portal, store_portal
from perdure.service.carrier import DAY_SECONDS
from perdure.storage import MICROSECONDS, Function

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perdure.durable import DurableFunction
    from perdure.model import CheckpointAnswer, InvocationInput, OperationUpdate, StatePage
    from perdure.service.ownership import Ownership, Write
    from perdure.storage import CommitAnswer, FunctionVersion
    from perdure.transaction import Transaction, TransactionalStore

logger = logging.getLogger(__name__)

LONGEST_PAUSE = 0.1
"""Seconds between two looks whether the last thread has left a workflow's code."""


class Drained(Exception):  # noqa: N818 - not an error: the reason why an invocation ended early
    """The process stops, or the execution is paused; another invocation goes on."""


@attrs.frozen
class BlockingPlane:
    """The service for a workflow in a thread."""

    ownership: Ownership

    @property
    def transactions(self) -> TransactionalStore:
        """As `Transactions`."""
        return self.ownership.transactions

    def checkpoint(
        self, token: str, updates: Sequence[OperationUpdate], transaction: Transaction | None = None
    ) -> CheckpointAnswer:
        """As `ControlPlane.checkpoint`, and within a transaction."""
        ownership, portal = self.ownership, store_portal()
        if transaction is not None:
            return portal.call(ownership.checkpoint(token, updates, transaction))
        write = ownership.prepare(token, updates)
        if write is None:
            return portal.call(ownership.checkpoint(token, updates))
        answer = ownership.receive(write, self._commit(write))
        return portal.call(ownership.catch_up()) if answer is None else answer

    def _commit(self, write: Write) -> CommitAnswer:
        ownership, send = self.ownership, self.ownership.send
        reply: Reply[CommitAnswer] = Reply()
        if ownership.post(write, reply):
            try:
                return reply.wait()
            except StoreError as error:
                if not error.retryable:
                    raise
            reply, send = Reply(), ownership.resend
        store_portal().post(send, write, reply)
        return reply.wait()

    def state(self, token: str, marker: str) -> StatePage:  # noqa: ARG002 - as `ControlPlane.state`
        """Never needed: the first page holds everything."""
        raise InvalidParameterValueError(f"Invalid marker {marker!r}")


@attrs.frozen
class AwaitingPlane:
    """The service for a workflow on the host loop."""

    ownership: Ownership

    @property
    def transactions(self) -> TransactionalStore:
        """As `Transactions`."""
        return self.ownership.transactions

    async def checkpoint(
        self, token: str, updates: Sequence[OperationUpdate], transaction: Transaction | None = None
    ) -> CheckpointAnswer:
        """As `AsyncControlPlane.checkpoint`, and within a transaction."""
        ownership, portal = self.ownership, store_portal()
        if transaction is not None:
            return await portal.ask(ownership.checkpoint(token, updates, transaction))
        write = ownership.prepare(token, updates)
        if write is None:
            return await portal.ask(ownership.checkpoint(token, updates))
        answer = ownership.receive(write, await self._commit(write))
        return await portal.ask(ownership.catch_up()) if answer is None else answer

    async def _commit(self, write: Write) -> CommitAnswer:
        ownership, send = self.ownership, self.ownership.send
        promise: Promise[CommitAnswer] = Promise()
        # Those of one loop gather best before they are sent; a thread has to be woken by itself anyway.
        if ownership.post(write, promise, if_few=True):
            try:
                return await promise
            except StoreError as error:
                if not error.retryable:
                    raise
            promise, send = Promise(), ownership.resend
        store_portal().post_with_others(send, write, promise)
        return await promise

    async def state(self, token: str, marker: str) -> StatePage:  # noqa: ARG002 - as `AsyncControlPlane.state`
        """Never needed: the first page holds everything."""
        raise InvalidParameterValueError(f"Invalid marker {marker!r}")


class _Conclusion:
    """
    What the end of a workflow's code is told to, in its own thread: where that can have the end written, it does.

    Attributes:
        told: The output; or, if `write` was sent because of an `output`, the answer to that.
        answer: The same once it is there; None: nobody knows what became of the write.
    """

    output: InvocationOutput
    write: Write | None = None
    answer: CommitAnswer | None = None

    def __init__(self, ownership: Ownership, *, if_few: bool) -> None:
        self.told: Promise[Any] = Promise()
        self._ownership = ownership
        self._if_few = if_few

    def done(self) -> bool:
        """As `Waiter.done`."""
        return self.told.done()

    def set_result(self, outcome: InvocationOutput | BaseException) -> None:
        """As `Waiter.set_result`."""
        try:
            if not isinstance(outcome, InvocationOutput) or not self._post(outcome):
                self.told.set_result(outcome)
        except Exception as error:  # noqa: BLE001 - whoever records the end is told
            self.told.set_exception(error)

    def set_exception(self, exception: BaseException) -> None:
        """As `Waiter.set_exception`."""
        self.told.set_exception(exception)

    def _post(self, output: InvocationOutput) -> bool:
        write = self._ownership.conclude(output)
        if write is None:
            return False
        # Before it is posted: the answer may come at once.
        self.output, self.write = output, write
        if self._ownership.post(write, self.told, if_few=self._if_few):
            return True
        self.write = None
        return False


class Run:
    """
    One claimed execution being run; created and awaited on the store's loop.

    Attributes:
        ownership: The owner's side of the execution.
    """

    def __init__(self, ownership: Ownership, function: DurableFunction[Any, Any]) -> None:
        self.ownership = ownership
        self._function = function
        # The engine compares the store's instants with the store's clock, not with this machine's.
        self._settings = Settings(now=lambda: instant(ownership.now()))
        self._invocation: Invocation | None = None
        self._interrupted: Exception | None = None

    def interrupt(self, reason: Exception) -> None:
        """End the invocation at its next operation; `Drained` hands the execution on, anything else abandons it."""
        self._interrupted = self._interrupted or reason
        if isinstance(reason, StaleTokenError):
            self.ownership.leave()
        if self._invocation is not None:
            self._invocation.interrupt(reason)

    def nudge(self) -> None:
        """Something came from outside for this execution."""
        if self._invocation is not None and not self.ownership.is_ending:
            self._invocation.nudge()

    def _pause(self) -> None:
        if self._invocation is not None:
            self._invocation.interrupt(Drained())

    async def complete(self) -> None:
        """Run one invocation to its end, and record how it ended. Never raises."""
        with self.ownership.running():
            await self._complete()

    async def _complete(self) -> None:
        id = self.ownership.id
        try:
            given = await self.ownership.begin(self._pause)
            if given is not None:
                logger.info("execution %s of %s: an invocation begins", id, self._function.name)
                await self._record(await self._invoke(given))
        except StaleTokenError:
            logger.info("execution %s has another owner now, or was ended", id)
        except StoreError as error:
            if error.retryable or self.ownership.is_in_doubt:
                logger.warning("execution %s is left to its next owner: %s", id, error)
            else:
                await self._give_up(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not be tried for ever
            await self._give_up(error)
        if self.ownership.is_in_doubt:
            await self._relinquish()

    async def _relinquish(self) -> None:
        """Whether it was written is not known here, and soon where the execution is claimed next."""
        try:
            await self.ownership.relinquish()
        except Exception as failure:  # noqa: BLE001 - a worker releases later what it does not know of
            logger.info("execution %s could not be let go yet: %r", self.ownership.id, failure)

    async def _give_up(self, error: Exception) -> None:
        """What went wrong here may go wrong everywhere: it counts as a crash, and some of them as poison."""
        id = self.ownership.id
        logger.error("execution %s is left to its next owner", id, exc_info=error)
        try:
            await self.ownership.crash(ErrorObject.from_exception(error))
        except Exception as failure:  # noqa: BLE001 - the first error was told
            logger.info("the crash of execution %s was not recorded: %r", id, failure)

    async def linger(self) -> None:
        """Wait for threads that are still in the workflow's code; they can record nothing any more."""
        if self._invocation is not None:
            await linger(self._invocation, longest_pause=LONGEST_PAUSE)

    async def _invoke(self, given: InvocationInput) -> InvocationOutput | BaseException | _Conclusion:
        if self._interrupted is not None:
            return self._interrupted
        invocation = self._invocation = Invocation(self._function, given, settings=self._settings)
        conclusion = _Conclusion(self.ownership, if_few=self._function.is_async)
        cancel: Callable[[], None] | None = None
        try:
            if self._function.is_async:
                work = concluded(invocation, AwaitingPlane(self.ownership))
                # What whoever started it had in its context variables would not be there on replay.
                cancel = host_portal().begin(work, conclusion, Context())
            else:
                invocation.submit(BlockingPlane(self.ownership), conclusion)
            told = await conclusion.told
        except asyncio.CancelledError:
            if cancel is not None:
                cancel()
            raise
        except BaseException as error:  # noqa: BLE001 - an exit of user code must not end this loop
            if conclusion.write is not None and isinstance(error, StoreError) and error.retryable:
                return conclusion
            return error
        if conclusion.write is not None:
            conclusion.answer = told
            return conclusion
        outcome: InvocationOutput | BaseException = told
        return outcome

    async def _record(self, outcome: InvocationOutput | BaseException | _Conclusion) -> None:
        match outcome:
            case InvocationOutput() | _Conclusion():
                await self._finish(outcome)
            case Drained():
                await self.ownership.drain()
            case StaleTokenError() | StoreError():
                raise outcome
            case _:
                logger.warning("invocation of execution %s ended uncleanly: %r", self.ownership.id, outcome)
                await self.ownership.crash(ErrorObject.from_exception(outcome))

    async def _finish(self, outcome: InvocationOutput | _Conclusion) -> None:
        output = outcome if isinstance(outcome, InvocationOutput) else outcome.output
        try:
            if isinstance(outcome, _Conclusion) and outcome.write is not None:
                await self.ownership.concluded(outcome.write, outcome.answer)
            else:
                await self.ownership.finish(output)
        except InvalidParameterValueError as error:
            # The store cannot keep this result: the execution fails of it, it does not repeat it for ever.
            failed = InvocationOutput(status=InvocationStatus.FAILED, error=ErrorObject.from_exception(error))
            await self.ownership.finish(failed)
        logger.info("execution %s of %s: %s", self.ownership.id, self._function.name, output.status.value)


def registration(function: DurableFunction[Any, Any], version: FunctionVersion) -> Function:
    """What a worker that runs `function` under this name and version tells its store."""
    timeout = function.timeout_seconds
    return Function(
        name=version.name,
        version=version.version,
        timeout=None if timeout is None else timeout * MICROSECONDS,
        retention=function.retention_days * DAY_SECONDS * MICROSECONDS,
    )
