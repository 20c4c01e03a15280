"""What a client does, as coroutines on the process's store loop; and the values it answers with."""

from __future__ import annotations

import asyncio
import warnings
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from perdure.codec import instant
from perdure.errors import (
    ExecutionFailedError,
    ExecutionNotFoundError,
    InvalidStateError,
    ResultTimeoutError,
    UnregisteredFunctionWarning,
    ValidationError,
)
from perdure.model import ErrorObject, ExecutionStatus
from perdure.portal import host_portal
from perdure.service.connection import Connection
from perdure.service.owner_id import OwnerId
from perdure.service.participation import Participation
from perdure.service.request import StartRequest
from perdure.service.target import FunctionIdentifier
from perdure.storage import MICROSECONDS, Header, Query, Status
from perdure.transaction import require_transactions
from perdure.types import DurableExecutionArn
from perdure.values import dump, load

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable
    from datetime import datetime

    from perdure.durable import DurableFunction
    from perdure.duration import Duration
    from perdure.journal.fold import Execution
    from perdure.model import Event, Operation
    from perdure.service.service import Plan, Start
    from perdure.storage import Backend, Lease, Store

_T = TypeVar("_T")

DAY = 86_400
LONGEST_PAGE = 1000


@attrs.frozen(kw_only=True)
class ExecutionSummary:
    """
    One execution in a list; instants are aware datetimes.

    Attributes:
        quarantined: Too many of its invocations in a row died; it waits to be resumed.
        due: When it will be looked at next, or None; in the past: no worker runs its function in its version.
    """

    arn: str
    id: str
    name: str
    function: str
    version: str
    status: ExecutionStatus
    started: datetime
    ended: datetime | None
    quarantined: bool
    due: datetime | None


@attrs.frozen(kw_only=True)
class ExecutionDescription(ExecutionSummary):
    """
    One execution, as GetDurableExecution shows it.

    Attributes:
        input, result: JSON text; result only when SUCCEEDED.
        error: When it ended otherwise.
        execution_timeout: Seconds, or None; `deadline`: when that falls.
        retention_days: After its end.
        crashes: Invocations in a row that did not end cleanly.
        owner: The worker that runs it, or None.
    """

    input: str
    result: str | None
    error: ErrorObject | None
    execution_timeout: int | None
    deadline: datetime | None
    retention_days: int
    crashes: int
    owner: str | None


@attrs.frozen(kw_only=True)
class WorkerDescription:
    """
    A worker whose lease lives, with what it holds; instants are aware datetimes.

    Attributes:
        owner: Its id, new with every start.
        host, pid: Where its process runs; None if its id does not tell.
        since: When it came; `renewed`: when it last gave a sign; `until`: how long it is believed alive without one.
        age: How long ago it last gave a sign, by the store's clock.
        held: Ids of the executions it owns.
    """

    owner: str
    host: str | None
    pid: int | None
    since: datetime
    renewed: datetime
    until: datetime
    age: timedelta
    held: tuple[str, ...]


@attrs.frozen
class Listing:
    """A page of executions; `next_cursor` continues it, None ends it."""

    items: list[ExecutionSummary]
    next_cursor: tuple[int, str] | None


class Desk:
    """The client's work, as coroutines on the store's loop."""

    def __init__(self, backend: str | Backend | Store) -> None:
        self.connection = Connection(backend)
        self._waiting: set[asyncio.Future[Execution]] = set()

    async def close(self) -> None:
        """Let go of the backend; whoever waits for a result is told."""
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            future.cancel()
        await self.connection.close()

    def participation(self, connection: Any, *, in_thread: bool) -> Participation:
        """
        The service within the transaction of an application's connection; not on the store's loop.

        Args:
            connection: The connection.
            in_thread: It is for a caller without an event loop.

        Raises:
            TransactionsUnsupportedError: The backend keeps no tables of applications.
            ValidationError: It is no connection of this backend's driver, or one that has to be awaited.
            TransactionMisuseError: It is in no transaction, or connected to another database.
        """
        within = require_transactions(self.connection.store, "connection=", "leave it out").within(connection)
        if in_thread and not within.is_blocking:
            raise ValidationError(f"Client takes blocking connections only, not {connection!r}; use AsyncClient")
        return Participation(self.connection.service, within)

    async def plan(self, request: StartRequest) -> Plan:
        """What starting an execution is to create."""
        return await self.connection.service.plan(request)

    async def start(self, request: StartRequest) -> Start:
        """Begin an execution, or find the one of that name."""
        return await self.connection.service.start(request)

    async def resolve(self, arn_or_name: str, function: str | None = None) -> Header:
        """The execution of this ARN, id or name."""
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
        """How an execution stands."""
        header = await self.resolve(arn_or_name)
        return _description(header, await self.connection.service.load(header.id))

    async def history(self, arn_or_name: str, include_data: bool) -> list[Event]:
        """The events of an execution."""
        header = await self.resolve(arn_or_name)
        return await self.connection.service.history(header.id, include_data=include_data)

    async def operations(self, arn_or_name: str) -> list[Operation]:
        """The operations of an execution."""
        header = await self.resolve(arn_or_name)
        return list((await self.connection.service.load(header.id)).operations.values())

    async def stop(self, arn_or_name: str, error: ErrorObject | None) -> datetime:
        """End an execution as STOPPED."""
        header = await self.resolve(arn_or_name)
        return await self.connection.service.stop(header.id, error)

    async def resume(self, arn_or_name: str, reason: str | None) -> None:
        """Let a quarantined or paused execution go on."""
        header = await self.resolve(arn_or_name)
        await self.connection.service.resume(header.id, reason)

    async def result(self, id: str, timeout: float | None) -> Execution:
        """The fold of an execution that has succeeded, once it has."""
        endings = self.connection.service.endings
        ended = None if endings.is_here(id) else await endings.look(id)
        execution = ended or await self._ended(endings.wait(id), id, timeout)
        if execution.status is not ExecutionStatus.SUCCEEDED:
            raise _failure(execution)
        return execution

    async def _ended(self, waiting: asyncio.Future[Execution], id: str, timeout: float | None) -> Execution:
        self._waiting.add(waiting)
        try:
            async with asyncio.timeout(timeout):
                return await waiting
        except TimeoutError:
            raise ResultTimeoutError(f"execution {id!r} has not ended within {timeout} s; it goes on") from None
        except asyncio.CancelledError:
            if waiting in self._waiting:
                raise
            message = f"the client was closed while it waited for execution {id!r}, which goes on"
            raise InvalidStateError(message) from None
        finally:
            self._waiting.discard(waiting)

    async def send_success(self, callback_id: str, result: str | None) -> None:
        """Complete a callback."""
        await self.connection.service.succeed_callback(callback_id, result)

    async def send_failure(self, callback_id: str, error: ErrorObject | None) -> None:
        """Fail a callback."""
        await self.connection.service.fail_callback(callback_id, error)

    async def send_heartbeat(self, callback_id: str) -> None:
        """Restart a callback's heartbeat timer."""
        await self.connection.service.heartbeat_callback(callback_id)

    async def purge(self) -> int:
        """Remove executions past their retention."""
        return await self.connection.service.purge()

    async def workers(self) -> list[WorkerDescription]:
        """Who is there."""
        answer = await self.connection.service.leases()
        return [_worker(lease, answer.now) for lease in answer.leases]

    async def list(self, query: Query) -> Listing:
        """A page of executions."""
        headers = await self.connection.service.list(query)
        last = headers[-1] if len(headers) == query.limit else None
        return Listing([_summary(header) for header in headers], (last.created, last.id) if last else None)


def request(
    function: DurableFunction[Any, Any] | str,
    input: Any,
    name: str | None,
    version: str | None,
    execution_timeout: Duration | None,
    retention_days: int | None,
) -> StartRequest:
    """What a client's start asks for."""
    identifier = function if isinstance(function, str) else f"{function.name}:{function.version}"
    if version is not None:
        identifier = f"{FunctionIdentifier.parse(identifier).name}:{version}"
    timeout = execution_timeout.to_seconds() if execution_timeout else None
    if not isinstance(function, str):
        timeout = timeout if timeout is not None else function.timeout_seconds
        retention_days = retention_days if retention_days is not None else function.retention_days
    return StartRequest(
        function=identifier,
        input=dump(input, "the input"),
        name=name,
        execution_timeout=timeout,
        retention_days=retention_days,
    )


def begun(start: Start) -> Header:
    """The header of what was started; warns, in the caller's thread, if no worker can run it yet."""
    if not start.is_registered:
        function = f"{start.header.function}:{start.header.version}"
        warnings.warn(
            f"no worker has registered {function!r} yet; the execution stays due until one does",
            UnregisteredFunctionWarning,
            stacklevel=3,
        )
    return start.header


def carried_out(work: Coroutine[Any, Any, _T]) -> _T:
    """Carry out what never waits, in the calling thread."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    work.close()
    raise RuntimeError("a blocking connection has been waited for")


def refuse_to_block() -> None:
    """
    Refuse to wait where waiting stops what is waited for.

    Raises:
        InvalidStateError: The caller runs on the loop of asynchronous workflows and step bodies.
    """
    if host_portal().is_here:
        raise InvalidStateError(
            "waiting for a result here would stop every async def workflow of this process; use AsyncClient, and await"
        )


def _instant(at: int | None) -> datetime | None:
    return None if at is None else instant(at)


def arn(header: Header) -> str:
    """The ARN of an execution."""
    return str(DurableExecutionArn(header.function, header.version, header.name, header.id))


def _status(header: Header) -> ExecutionStatus:
    if header.deleting:
        return ExecutionStatus.DELETING
    if header.paused:
        return ExecutionStatus.PAUSING if header.owner else ExecutionStatus.PAUSED
    return ExecutionStatus(header.status.value)


def _summary(header: Header) -> ExecutionSummary:
    return ExecutionSummary(**_summary_fields(header))


def _summary_fields(header: Header) -> dict[str, Any]:
    return {
        "arn": arn(header),
        "id": header.id,
        "name": header.name,
        "function": header.function,
        "version": header.version,
        "status": _status(header),
        "started": _instant(header.created),
        "ended": _instant(header.ended),
        "quarantined": header.quarantined and header.ended is None,
        "due": None if header.quarantined or header.paused else _instant(header.wake),
    }


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


def _description(header: Header, execution: Execution) -> ExecutionDescription:
    return ExecutionDescription(
        **_summary_fields(header),
        input=execution.input,
        result=execution.result,
        error=execution.error,
        execution_timeout=None if header.timeout is None else header.timeout // MICROSECONDS,
        deadline=_instant(header.deadline),
        retention_days=header.retention // (DAY * MICROSECONDS),
        crashes=header.crashes,
        owner=header.owner,
    )


def _failure(execution: Execution) -> ExecutionFailedError:
    error = execution.error or ErrorObject()
    status = execution.status.value
    told = f": {error.type}: {error.message}" if error.type else f": {error.message}" if error.message else ""
    return ExecutionFailedError(
        f"execution {execution.name!r} of {execution.function!r} ended as {status}{told}",
        status,
        error.type,
        error.message,
        error.data,
        error.stack_trace,
    )


def value(execution: Execution, function: DurableFunction[Any, Any] | str) -> Any:
    """What the workflow returned, structured as its annotation says."""
    annotation = None if isinstance(function, str) else function.output_type
    return load(execution.result, annotation, f"the result of execution {execution.name!r}")


def query(
    function: DurableFunction[Any, Any] | str | None,
    statuses: Iterable[str],
    name: str | None,
    limit: int,
    oldest_first: bool,
    cursor: tuple[int, str] | None,
) -> Query:
    """
    Which executions a client's list is of.

    Raises:
        ValidationError: No execution can have such a status, or the limit is out of range.
    """
    wanted = tuple(statuses)
    known = [status.value for status in Status]
    if unknown := [status for status in wanted if status not in known]:
        raise ValidationError(f"executions are listed by the statuses {', '.join(known)}, not {unknown[0]!r}")
    if not 1 <= limit <= LONGEST_PAGE:
        raise ValidationError(f"a page holds 1 to {LONGEST_PAGE} executions, not {limit!r}")
    version = None
    if isinstance(function, str):
        identifier = FunctionIdentifier.parse(function)
        function, version = identifier.name, identifier.qualifier
    return Query(
        function=function if function is None or isinstance(function, str) else function.name,
        version=version,
        name=name,
        statuses=tuple(map(Status, wanted)),
        limit=limit,
        oldest_first=oldest_first,
        cursor=cursor,
    )


def text(result: str | bytes | None) -> str | None:
    """
    A callback's result as it is recorded.

    Raises:
        ValidationError: It is no text.
    """
    try:
        given = result.decode() if isinstance(result, bytes) else result
    except UnicodeDecodeError as error:
        raise ValidationError(f"a callback's result is text in UTF-8, and this is not: {error}; encode it") from None
    if given is not None and not isinstance(given, str):
        raise ValidationError(f"a callback's result is text or bytes, not {given!r}; write it as JSON, say")
    return given
