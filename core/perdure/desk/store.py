"""The work of a client on a backend that has a store: the service is in this process."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from perdure.codec import instant
from perdure.desk.answer import (
    Begun,
    ExecutionDescription,
    ExecutionReference,
    ExecutionSummary,
    Listing,
    PauseDescription,
    WorkerDescription,
    closed_meanwhile,
    failure,
    not_in_time,
)
from perdure.duration import DAY_SECONDS
from perdure.errors import ExecutionNotFoundError, ValidationError
from perdure.model import ExecutionStatus
from perdure.portal import store_portal
from perdure.service.connection import Connection
from perdure.service.owner_id import OwnerId
from perdure.service.participation import Participation
from perdure.service.request import StartRequest
from perdure.service.target import FunctionIdentifier
from perdure.storage import MICROSECONDS, Query, Status
from perdure.transaction import require_transactions
from perdure.types import DurableExecutionArn

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.desk.wish import ListWish, StartWish
    from perdure.durable import DurableFunction
    from perdure.journal.fold import Execution
    from perdure.model import ErrorObject, Event, Operation
    from perdure.portal import Waiter
    from perdure.service.ending import Endings
    from perdure.service.service import Plan, Start
    from perdure.storage import Backend, Header, Lease, Store


@attrs.frozen
class StoreParticipant:
    """The service within one transaction."""

    participation: Participation

    async def start(self, plan: Plan) -> Begun:
        """As `Participant.start`."""
        return _begun(await self.participation.start(plan))

    async def succeed_callback(self, callback_id: str, result: str | None) -> None:
        """As `Participant.succeed_callback`."""
        await self.participation.succeed_callback(callback_id, result)

    async def fail_callback(self, callback_id: str, error: ErrorObject | None) -> None:
        """As `Participant.fail_callback`."""
        await self.participation.fail_callback(callback_id, error)


@attrs.frozen(eq=False)
class _Wait:
    """Somebody who waits for the result of an execution; told on the store's loop."""

    execution: ExecutionReference
    waiter: Waiter[str | None]
    endings: Endings
    all: set[_Wait]

    def done(self) -> bool:
        """As `Waiter.done`."""
        return self.waiter.done()

    def set_result(self, ended: Execution) -> None:
        """The execution has ended."""
        self.all.discard(self)
        if ended.status is ExecutionStatus.SUCCEEDED:
            self.waiter.set_result(ended.result)
        else:
            self.waiter.set_exception(failure(self.execution, ended.status.value, ended.error))

    def set_exception(self, exception: BaseException) -> None:
        """How it ends cannot be known here."""
        self.all.discard(self)
        self.waiter.set_exception(exception)

    def leave(self) -> None:
        """Wait no more."""
        self.all.discard(self)
        self.endings.forget(self.execution.id, self)


class StoreDesk:
    """A `Desk` over a store."""

    def __init__(self, backend: str | Backend | Store, found: Backend | None = None) -> None:
        self.connection = Connection(backend, found)
        self._waiting: set[_Wait] = set()

    async def open(self) -> None:
        """As `Desk.open`."""
        await self.connection.open()

    async def close(self) -> None:
        """As `Desk.close`."""
        self._dismiss()
        await self.connection.close()
        # Who came until it was closed.
        self._dismiss()

    def _dismiss(self) -> None:
        for wait in self._waiting.copy():
            if not wait.done():
                wait.set_exception(closed_meanwhile(wait.execution))
            wait.leave()

    def participant(self, connection: Any, *, in_thread: bool) -> StoreParticipant:
        """As `Desk.participant`."""
        within = require_transactions(self.connection.store, "connection=", "leave it out").within(connection)
        if in_thread and not within.is_blocking:
            raise ValidationError(f"Client takes blocking connections only, not {connection!r}; use AsyncClient")
        return StoreParticipant(Participation(self.connection.service, within))

    async def plan(self, wish: StartWish) -> Plan:
        """As `Desk.plan`."""
        return await self.connection.service.plan(_request(wish))

    async def start(self, wish: StartWish) -> Begun:
        """As `Desk.start`."""
        return _begun(await self.connection.service.start(_request(wish)))

    async def resolve(
        self, arn_or_name: str, function: DurableFunction[Any, Any] | str | None = None
    ) -> ExecutionReference:
        """As `Desk.resolve`, and by id."""
        name = function if function is None or isinstance(function, str) else function.name
        return _reference(await self._find(arn_or_name, name))

    async def _find(self, arn_or_name: str, function: str | None = None) -> Header:
        arn = DurableExecutionArn.from_arn(arn_or_name)
        found = await self.connection.service.find(arn.execution_id if arn else arn_or_name)
        if found is not None:
            return found
        named = [] if arn else await self.connection.service.list(Query(function=function, name=arn_or_name, limit=2))
        if not named:
            raise ExecutionNotFoundError(
                f"no execution has the ARN, id or name {arn_or_name!r}; its retention may be over"
            )
        if len(named) > 1:
            raise ValidationError(f"several functions have an execution named {arn_or_name!r}; name the function too")
        return named[0]

    async def describe(self, arn_or_name: str) -> ExecutionDescription:
        """As `Desk.describe`."""
        header = await self._find(arn_or_name)
        return _description(header, await self.connection.service.load(header.id))

    async def history(self, arn_or_name: str, include_data: bool) -> list[Event]:
        """As `Desk.history`."""
        header = await self._find(arn_or_name)
        return await self.connection.service.history(header.id, include_data=include_data)

    async def operations(self, arn_or_name: str) -> list[Operation]:
        """As `Desk.operations`."""
        header = await self._find(arn_or_name)
        return list((await self.connection.service.load(header.id)).operations.values())

    async def stop(self, arn_or_name: str, error: ErrorObject | None) -> datetime:
        """As `Desk.stop`."""
        header = await self._find(arn_or_name)
        return await self.connection.service.stop(header.id, error)

    async def pause(self, arn_or_name: str, reason: str | None, timeout_paused: bool) -> None:
        """As `Desk.pause`."""
        header = await self._find(arn_or_name)
        await self.connection.service.pause(header.id, reason, timeout_paused=timeout_paused)

    async def resume(self, arn_or_name: str, reason: str | None) -> None:
        """As `Desk.resume`."""
        header = await self._find(arn_or_name)
        await self.connection.service.resume(header.id, reason)

    async def delete(self, arn_or_name: str) -> datetime:
        """As `Desk.delete`."""
        header = await self._find(arn_or_name)
        asked = datetime.now(UTC)
        await self.connection.service.delete(header.id)
        return asked

    async def result(self, execution: ExecutionReference, timeout: float | None) -> str | None:
        """As `Desk.result`."""
        endings = self.connection.service.endings
        result: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        wait = _Wait(execution, result, endings, self._waiting)
        self._waiting.add(wait)
        endings.wait(execution.id, wait, at_once=False)
        try:
            await asyncio.sleep(0)  # from now on it is heard of an end that the look does not see
            if not endings.is_here(execution.id) and (ended := await endings.look(execution.id)) is not None:
                endings.tell(ended)
            async with asyncio.timeout(timeout):
                return await result
        except TimeoutError:
            raise not_in_time(execution, timeout) from None
        finally:
            wait.leave()

    def listen(self, execution: ExecutionReference, waiter: Waiter[str | None]) -> Callable[[], None] | None:
        """As `Teller.listen`: while the execution runs in this process."""
        endings = self.connection.service.endings
        if not endings.is_here(execution.id):
            return None
        wait = _Wait(execution, waiter, endings, self._waiting)
        self._waiting.add(wait)
        if not endings.listen(execution.id, wait):
            self._waiting.discard(wait)
            return None
        leave = partial(store_portal().post, wait.leave)
        if not self.connection.is_open:
            # Closed at this very moment: who waited was told so before this one was among them, perhaps.
            leave()
            raise closed_meanwhile(execution)
        return leave

    async def send_success(self, callback_id: str, result: str | None) -> None:
        """As `Desk.send_success`."""
        await self.connection.service.succeed_callback(callback_id, result)

    async def send_failure(self, callback_id: str, error: ErrorObject | None) -> None:
        """As `Desk.send_failure`."""
        await self.connection.service.fail_callback(callback_id, error)

    async def send_heartbeat(self, callback_id: str) -> None:
        """As `Desk.send_heartbeat`."""
        await self.connection.service.heartbeat_callback(callback_id)

    async def purge(self) -> int:
        """As `Desk.purge`."""
        return await self.connection.service.purge()

    async def workers(self) -> list[WorkerDescription]:
        """As `Desk.workers`."""
        answer = await self.connection.service.leases()
        return [_worker(lease, answer.now) for lease in answer.leases]

    async def list(self, wish: ListWish) -> Listing:
        """As `Desk.list`."""
        query, wanted = _query(wish), wish.statuses or frozenset(ExecutionStatus)
        found: list[ExecutionSummary] = []
        while True:
            headers = await self.connection.service.list(query)
            for header in headers:
                # A store does not tell what is paused or deleted from what runs or has ended.
                if status_of(header) in wanted:
                    found.append(_summary(header))
                    if len(found) == wish.limit:
                        return Listing(found, (header.created, header.id))
            if len(headers) < query.limit:
                return Listing(found, None)
            query = attrs.evolve(query, cursor=(headers[-1].created, headers[-1].id))


# -------------------------------------------------------------------------------------------------- what is asked for


def _request(wish: StartWish) -> StartRequest:
    function = wish.function
    identifier = function if isinstance(function, str) else f"{function.name}:{function.version}"
    if wish.version is not None:
        identifier = f"{FunctionIdentifier.parse(identifier).name}:{wish.version}"
    timeout = wish.execution_timeout.to_seconds() if wish.execution_timeout else None
    retention = wish.retention_days
    if not isinstance(function, str):
        timeout = timeout if timeout is not None else function.timeout_seconds
        retention = retention if retention is not None else function.retention_days
    return StartRequest(
        function=identifier, input=wish.input, name=wish.name, execution_timeout=timeout, retention_days=retention
    )


_ENDS = tuple(status for status in Status if status.is_end)
_KEPT_AS = {
    **{ExecutionStatus(status.value): (status,) for status in Status},
    ExecutionStatus.PAUSING: (Status.RUNNING,),
    ExecutionStatus.PAUSED: (Status.RUNNING,),
    ExecutionStatus.DELETING: _ENDS,
}
"""What stores keep as the status of those that are shown with one."""


def _query(wish: ListWish) -> Query:
    if isinstance(wish.cursor, str):
        raise ValidationError(
            f"the cursor {wish.cursor!r} is not one of this backend; pass a list's own next_cursor on"
        )
    function, version = wish.function, None
    if isinstance(function, str):
        identifier = FunctionIdentifier.parse(function)
        function, version = identifier.name, identifier.qualifier
    return Query(
        function=function if function is None or isinstance(function, str) else function.name,
        version=version,
        name=wish.name,
        statuses=tuple(sorted({kept for status in wish.statuses for kept in _KEPT_AS[status]})),
        limit=wish.limit,
        oldest_first=wish.oldest_first,
        cursor=wish.cursor,
    )


# -------------------------------------------------------------------------------------------------- what is answered


def _begun(start: Start) -> Begun:
    return Begun(_reference(start.header), is_registered=start.is_registered)


def _reference(header: Header) -> ExecutionReference:
    return ExecutionReference(**_reference_fields(header))


def _reference_fields(header: Header) -> dict[str, Any]:
    return {
        "arn": str(DurableExecutionArn(header.function, header.version, header.name, header.id)),
        "id": header.id,
        "name": header.name,
        "function": header.function,
        "version": header.version,
    }


def _summary(header: Header) -> ExecutionSummary:
    return ExecutionSummary(**_summary_fields(header))


def _summary_fields(header: Header) -> dict[str, Any]:
    return {
        **_reference_fields(header),
        "status": status_of(header),
        "started": instant(header.created),
        "ended": _instant(header.ended),
        "quarantined": header.quarantined and header.ended is None,
        "due": None if header.quarantined or header.paused else _instant(header.wake),
    }


def status_of(header: Header) -> ExecutionStatus:
    """The status that is shown, which tells of pauses and deletion too."""
    if header.deleting:
        return ExecutionStatus.DELETING
    if header.paused:
        return ExecutionStatus.PAUSING if header.owner else ExecutionStatus.PAUSED
    return ExecutionStatus(header.status.value)


def _description(header: Header, execution: Execution) -> ExecutionDescription:
    return ExecutionDescription(
        **_summary_fields(header),
        input=execution.input,
        result=execution.result,
        error=execution.error,
        execution_timeout=None if header.timeout is None else header.timeout // MICROSECONDS,
        deadline=_instant(header.deadline),
        retention_days=header.retention // (DAY_SECONDS * MICROSECONDS),
        pause=_pause(execution) if header.paused else None,
        crashes=header.crashes,
        owner=header.owner,
    )


def _pause(execution: Execution) -> PauseDescription | None:
    paused, at = execution.paused, execution.paused_at
    if paused is None or at is None:
        return None
    return PauseDescription(requested=at, reason=paused.reason, timeout_paused=paused.execution_timeout_paused)


def _worker(lease: Lease, now: int) -> WorkerDescription:
    owner = OwnerId.parse(lease.owner)
    return WorkerDescription(
        owner=owner.text,
        host=owner.host,
        pid=owner.pid,
        since=instant(lease.since),
        renewed=instant(lease.renewed),
        until=instant(lease.until),
        age=timedelta(microseconds=max(0, now - lease.renewed)),
        held=lease.held,
    )


def _instant(at: int | None) -> datetime | None:
    return None if at is None else instant(at)
