"""
Where engine and service are joined: one claimed execution's function runs against its journal.

The service works on the store's loop; `def` workflows run in a thread, `async def` ones on the host loop.
"""

from __future__ import annotations

import asyncio
import logging
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

import attrs

from perdure.codec import instant
from perdure.duration import DAY_SECONDS
from perdure.engine.hosting import concluded, linger
from perdure.engine.invocation import Invocation
from perdure.engine.settings import Settings
from perdure.errors import InvalidParameterValueError, StaleTokenError, StoreError
from perdure.model import ErrorObject, InvocationOutput, InvocationStatus
from perdure.portal import Called, Promise, Reply, host_portal, store_portal
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
        return await store_portal().ask(self.ownership.checkpoint(token, updates, transaction))

    def post(
        self,
        token: str,
        updates: Sequence[OperationUpdate],
        transaction: Transaction | None,
        answered: Callable[[CheckpointAnswer | BaseException], object],
    ) -> None:
        """As `Post`."""
        ownership, portal = self.ownership, store_portal()
        write = ownership.prepare(token, updates) if transaction is None else None
        if write is None:
            work = ownership.checkpoint(token, updates, transaction)
            portal.begin(work, Called(answered), copy_context())
            return

        def told(outcome: CommitAnswer | BaseException) -> None:
            try:
                answer = outcome if isinstance(outcome, BaseException) else ownership.receive(write, outcome)
            except Exception as error:  # noqa: BLE001 - the driver is told
                answer = error
            if answer is None:
                portal.begin(ownership.catch_up(), Called(answered), copy_context())
            else:
                answered(answer)

        def posted(outcome: CommitAnswer | BaseException) -> None:
            if isinstance(outcome, StoreError) and outcome.retryable:
                portal.post_with_others(ownership.resend, write, Called(told))
            else:
                told(outcome)

        # Those of one loop gather best before they are sent; a thread has to be woken by itself anyway.
        if not ownership.post(write, Called(posted), if_few=True):
            portal.post_with_others(ownership.send, write, Called(told))

    async def state(self, token: str, marker: str) -> StatePage:  # noqa: ARG002 - as `AsyncControlPlane.state`
        """Never needed: the first page holds everything."""
        raise InvalidParameterValueError(f"Invalid marker {marker!r}")


@attrs.frozen
class _Conclusion:
    """
    What has become of a workflow's code.

    Attributes:
        output: To be recorded.
        write: Sent for that already, if it was.
        answer: The store's; None: nobody knows what became of the write.
    """

    output: InvocationOutput
    write: Write | None = None
    answer: CommitAnswer | None = None


@attrs.frozen
class _Listener:
    """What the end of a workflow's code is told to, in its own thread: where that can have the end written, it does."""

    ownership: Ownership
    if_few: bool
    told: Promise[_Conclusion | BaseException] = attrs.field(factory=Promise)

    def done(self) -> bool:
        """As `Waiter.done`."""
        return self.told.done()

    def set_result(self, outcome: InvocationOutput | BaseException) -> None:
        """As `Waiter.set_result`."""
        if isinstance(outcome, BaseException):
            self.told.set_result(outcome)
            return
        try:
            write = self.ownership.conclude(outcome)
            is_sent = write is not None and self._post(outcome, write)
        except Exception as error:  # noqa: BLE001 - whoever records the end is told
            self.told.set_exception(error)
        else:
            if not is_sent:
                self.told.set_result(_Conclusion(outcome))

    def set_exception(self, exception: BaseException) -> None:
        """As `Waiter.set_exception`."""
        self.told.set_exception(exception)

    def _post(self, output: InvocationOutput, write: Write) -> bool:
        return self.ownership.post(write, _Answered(output, write, self.told), if_few=self.if_few)


@attrs.frozen
class _Answered:
    """What the answer to the write of an output is told to."""

    output: InvocationOutput
    write: Write
    told: Promise[_Conclusion | BaseException]

    def done(self) -> bool:
        """As `Waiter.done`."""
        return self.told.done()

    def set_result(self, answer: CommitAnswer) -> None:
        """As `Waiter.set_result`."""
        self.told.set_result(_Conclusion(self.output, self.write, answer))

    def set_exception(self, exception: BaseException) -> None:
        """As `Waiter.set_exception`."""
        if isinstance(exception, StoreError) and exception.retryable:
            self.told.set_result(_Conclusion(self.output, self.write))
        else:
            self.told.set_exception(exception)


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
            self._invocation.interrupt(Drained("the execution is paused"))

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

    async def _invoke(self, given: InvocationInput) -> _Conclusion | BaseException:
        if self._interrupted is not None:
            return self._interrupted
        invocation = self._invocation = Invocation(self._function, given, settings=self._settings)
        listener = _Listener(self.ownership, self._function.is_async)
        cancel: Callable[[], None] | None = None
        try:
            if self._function.is_async:
                work = concluded(invocation, AwaitingPlane(self.ownership))
                # What whoever started it had in its context variables would not be there on replay.
                cancel = host_portal().begin(work, listener, Context())
            else:
                invocation.submit(BlockingPlane(self.ownership), listener)
            return await listener.told
        except asyncio.CancelledError:
            if cancel is not None:
                cancel()
            raise
        except BaseException as error:  # noqa: BLE001 - an exit of user code must not end this loop
            return error

    async def _record(self, outcome: _Conclusion | BaseException) -> None:
        match outcome:
            case _Conclusion():
                await self._finish(outcome)
            case Drained():
                await self.ownership.drain()
            case StaleTokenError() | StoreError():
                raise outcome
            case _:
                logger.warning("invocation of execution %s ended uncleanly: %r", self.ownership.id, outcome)
                await self.ownership.crash(ErrorObject.from_exception(outcome))

    async def _finish(self, conclusion: _Conclusion) -> None:
        try:
            if conclusion.write is not None:
                await self.ownership.concluded(conclusion.write, conclusion.answer)
            else:
                await self.ownership.finish(conclusion.output)
        except InvalidParameterValueError as error:
            # The store cannot keep this result: the execution fails of it, it does not repeat it for ever.
            failed = InvocationOutput(status=InvocationStatus.FAILED, error=ErrorObject.from_exception(error))
            await self.ownership.finish(failed)
        status = conclusion.output.status.value
        logger.info("execution %s of %s: %s", self.ownership.id, self._function.name, status)


def registration(function: DurableFunction[Any, Any], version: FunctionVersion) -> Function:
    """What a worker that runs `function` under this name and version tells its store."""
    timeout = function.timeout_seconds
    return Function(
        name=version.name,
        version=version.version,
        timeout=None if timeout is None else timeout * MICROSECONDS,
        retention=function.retention_days * DAY_SECONDS * MICROSECONDS,
    )
