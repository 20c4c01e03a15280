"""
What an application imports: start executions, wait for results, complete callbacks, look, pause, stop.

`Client` blocks, `AsyncClient` is awaited; both are thin faces of one `Desk`, which lives on the process's store loop.
Which one, the backend says: a store's, or that of a service elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from perdure.desk import desk_of
from perdure.desk.answer import (
    Cursor,
    ExecutionDescription,
    ExecutionSummary,
    Listing,
    PauseDescription,
    WorkerDescription,
    begun,
    value,
)
from perdure.desk.caller import carried_out, refuse_to_block
from perdure.desk.waiting import awaited_result, blocking_result
from perdure.desk.wish import list_wish, start_wish, text
from perdure.portal import store_portal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from types import TracebackType

    from perdure.desk.answer import ExecutionReference
    from perdure.durable import DurableFunction
    from perdure.duration import Duration
    from perdure.model import ErrorObject, Event, Operation
    from perdure.storage import Backend, Store

__all__ = [
    "AsyncClient",
    "AsyncHandle",
    "Client",
    "Cursor",
    "ExecutionDescription",
    "ExecutionSummary",
    "Handle",
    "Listing",
    "PauseDescription",
    "WorkerDescription",
]

I = TypeVar("I")  # noqa: E741 - input
O = TypeVar("O")  # noqa: E741 - output


class Handle(Generic[O]):
    """One execution, seen from an application."""

    def __init__(self, client: Client, execution: ExecutionReference, function: DurableFunction[Any, O] | str) -> None:
        self._client = client
        self._execution = execution
        self._function = function
        self.arn = execution.arn
        self.id = execution.id
        self.name = execution.name
        self.function = execution.function
        self.version = execution.version

    def result(self, timeout: float | None = None) -> O:
        """
        Wait for the end, and return what the workflow returned.

        Args:
            timeout: Seconds, or None for ever.

        Raises:
            ExecutionFailedError: It ended FAILED, TIMED_OUT or STOPPED.
            ResultTimeoutError: It has not ended in time; it goes on.
            InvalidStateError: The client was closed meanwhile, or the caller keeps the loop from running workflows.
        """
        refuse_to_block()
        result = blocking_result(self._client._desk, self._execution, timeout)  # noqa: SLF001
        returned: O = value(result, self._execution, self._function)
        return returned

    def describe(self) -> ExecutionDescription:
        """How it stands."""
        return self._client.describe(self.arn)

    def history(self, *, include_data: bool = True) -> list[Event]:
        """Its events (protocol.md §12)."""
        return self._client.history(self.arn, include_data=include_data)

    def operations(self) -> list[Operation]:
        """Its operations, in start order."""
        return self._client.operations(self.arn)

    def stop(self, error: ErrorObject | None = None) -> datetime:
        """End it as STOPPED; returns when it ended."""
        return self._client.stop(self.arn, error)

    def pause(self, reason: str | None = None, timeout_paused: bool = True) -> None:
        """Begin no invocation of it until it is resumed; see `Client.pause`."""
        self._client.pause(self.arn, reason, timeout_paused)

    def resume(self, reason: str | None = None) -> None:
        """Let it go on; see `Client.resume`."""
        self._client.resume(self.arn, reason)

    def delete(self) -> datetime:
        """Remove it, once it has ended, with all its data; see `Client.delete`."""
        return self._client.delete(self.arn)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.arn!r})"


class AsyncHandle(Generic[O]):
    """As `Handle`, awaited."""

    def __init__(
        self, client: AsyncClient, execution: ExecutionReference, function: DurableFunction[Any, O] | str
    ) -> None:
        self._client = client
        self._execution = execution
        self._function = function
        self.arn = execution.arn
        self.id = execution.id
        self.name = execution.name
        self.function = execution.function
        self.version = execution.version

    async def result(self, timeout: float | None = None) -> O:
        """As `Handle.result`."""
        result = await awaited_result(self._client._desk, self._execution, timeout)  # noqa: SLF001
        returned: O = value(result, self._execution, self._function)
        return returned

    async def describe(self) -> ExecutionDescription:
        """As `Handle.describe`."""
        return await self._client.describe(self.arn)

    async def history(self, *, include_data: bool = True) -> list[Event]:
        """As `Handle.history`."""
        return await self._client.history(self.arn, include_data=include_data)

    async def operations(self) -> list[Operation]:
        """As `Handle.operations`."""
        return await self._client.operations(self.arn)

    async def stop(self, error: ErrorObject | None = None) -> datetime:
        """As `Handle.stop`."""
        return await self._client.stop(self.arn, error)

    async def pause(self, reason: str | None = None, timeout_paused: bool = True) -> None:
        """As `Handle.pause`."""
        await self._client.pause(self.arn, reason, timeout_paused)

    async def resume(self, reason: str | None = None) -> None:
        """As `Handle.resume`."""
        await self._client.resume(self.arn, reason)

    async def delete(self) -> datetime:
        """As `Handle.delete`."""
        return await self._client.delete(self.arn)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.arn!r})"


class Client:
    """
    The blocking client of a backend.

    Args:
        backend: A URL, or what `open_backend` returned, or a store. Connects at once; `close` it, or use it in `with`.

    Methods that take an execution accept its ARN, its id, or a name that only one function has an execution of; on AWS
    its ARN, or a name of the function that the URL names.
    """

    def __init__(self, backend: str | Backend | Store) -> None:
        self._desk = desk_of(backend)
        self._call(self._desk.open())

    @staticmethod
    def _call(work: Any) -> Any:
        return store_portal().call(work)

    def close(self) -> None:
        """Let go of the backend."""
        self._call(self._desk.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @overload
    def start(
        self,
        function: DurableFunction[I, O],
        input: I = ...,
        *,
        name: str | None = ...,
        version: str | None = ...,
        execution_timeout: Duration | None = ...,
        retention_days: int | None = ...,
        connection: Any = ...,
    ) -> Handle[O]: ...
    @overload
    def start(
        self,
        function: str,
        input: Any = ...,
        *,
        name: str | None = ...,
        version: str | None = ...,
        execution_timeout: Duration | None = ...,
        retention_days: int | None = ...,
        connection: Any = ...,
    ) -> Handle[Any]: ...
    def start(
        self,
        function: DurableFunction[Any, Any] | str,
        input: Any = None,
        *,
        name: str | None = None,
        version: str | None = None,
        execution_timeout: Duration | None = None,
        retention_days: int | None = None,
        connection: Any = None,
    ) -> Handle[Any]:
        """
        Begin an execution; with a name that is taken by one of the same input, find that one (protocol.md §13).

        Args:
            function: A durable function, or the name of one that workers have registered (`name:version`). On AWS the
                function that the URL names is meant, or the one of this name.
            input: JSON values, or what the function's annotation says.
            name: Unique per function, 1–64 of `A-Z a-z 0-9 _ -`; generated when None.
            version: Instead of the function's own.
            execution_timeout: Instead of the function's own; on AWS its configuration says that, and this is refused.
            retention_days: Kept for so long after the end, instead of the function's own; on AWS as above.
            connection: One of the backend's own database that is in a transaction (`psycopg.Connection`,
                `sqlite3.Connection`): the execution begins exactly if the caller commits that, and the handle is good
                from then on.

        Raises:
            ExecutionAlreadyStartedError: The name is taken by an execution with another input.
            SerDesError: The input has no JSON form.
            ValidationError: An argument is outside what the protocol allows.
            TransactionMisuseError: The connection is in no transaction, or to another database.
            TransactionsUnsupportedError: The backend keeps no tables of applications.
            FunctionNotFoundError: AWS has no such function.
        """
        wish = start_wish(function, input, name, version, execution_timeout, retention_days)
        if connection is None:
            return Handle(self, begun(self._call(self._desk.start(wish))), function)
        participant, plan = self._desk.participant(connection, in_thread=True), self._call(self._desk.plan(wish))
        return Handle(self, begun(carried_out(participant.start(plan))), function)

    def handle(self, arn_or_name: str, function: DurableFunction[Any, O] | str | None = None) -> Handle[O]:
        """
        The handle of an execution that exists.

        Raises:
            ExecutionNotFoundError: There is none.
            ValidationError: Several functions have one of this name.
        """
        execution: ExecutionReference = self._call(self._desk.resolve(arn_or_name, function))
        return Handle(self, execution, function or execution.function)

    def describe(self, arn_or_name: str) -> ExecutionDescription:
        """How an execution stands. Raises ExecutionNotFoundError."""
        description: ExecutionDescription = self._call(self._desk.describe(arn_or_name))
        return description

    def history(self, arn_or_name: str, *, include_data: bool = True) -> list[Event]:
        """The events of an execution (protocol.md §12). Raises ExecutionNotFoundError."""
        events: list[Event] = self._call(self._desk.history(arn_or_name, include_data))
        return events

    def operations(self, arn_or_name: str) -> list[Operation]:
        """The operations of an execution, in start order. Raises ExecutionNotFoundError."""
        operations: list[Operation] = self._call(self._desk.operations(arn_or_name))
        return operations

    def stop(self, arn_or_name: str, error: ErrorObject | None = None) -> datetime:
        """End an execution as STOPPED; returns when it ended, also if that was earlier. Children go on."""
        ended: datetime = self._call(self._desk.stop(arn_or_name, error))
        return ended

    def pause(self, arn_or_name: str, reason: str | None = None, timeout_paused: bool = True) -> None:
        """
        Begin no invocation of an execution until it is resumed; one that runs ends with its next checkpoint.

        Until then the status is PAUSING, after that PAUSED. Timers and callbacks go on meanwhile. On own stores steps
        that run at that checkpoint are finished and recorded first, a workflow that calls no further operation may end
        all the same, and the end of a wait is recorded when it is resumed.

        Args:
            arn_or_name: The execution.
            reason: Up to 1024 characters, recorded in the history.
            timeout_paused: The execution timeout is extended by the time for which it is paused.

        Raises:
            ExecutionConflictError: It has ended, or is paused already.
            ExecutionNotFoundError: There is none.
        """
        self._call(self._desk.pause(arn_or_name, reason, timeout_paused))

    def resume(self, arn_or_name: str, reason: str | None = None) -> None:
        """
        Let an execution go on that was paused, or quarantined after too many crashes in a row; they are forgotten.

        Raises:
            ExecutionConflictError: It is neither.
            ExecutionNotFoundError: There is none.
        """
        self._call(self._desk.resume(arn_or_name, reason))

    def delete(self, arn_or_name: str) -> datetime:
        """
        Remove an execution that has ended, with all its data; returns when that was asked for.

        Its status is DELETING until it is gone, and its name is free then. Children that it has invoked stay.

        Raises:
            ExecutionConflictError: It has not ended.
            ExecutionNotFoundError: There is none.
        """
        asked: datetime = self._call(self._desk.delete(arn_or_name))
        return asked

    def send_callback_success(
        self, callback_id: str, result: str | bytes | None = None, *, connection: Any = None
    ) -> None:
        """
        Complete a callback; `result` is handed to the workflow as it is.

        Args:
            callback_id: What the workflow was given.
            result: Text, or bytes in UTF-8.
            connection: As for `start`: it is completed exactly if the caller commits. If something else completes it
                until then, that counts.

        Raises:
            CallbackNotFoundError: No callback has this id.
            CallbackClosedError: It was completed already, timed out, or its execution has ended.
        """
        if connection is None:
            self._call(self._desk.send_success(callback_id, text(result)))
        else:
            carried_out(self._desk.participant(connection, in_thread=True).succeed_callback(callback_id, text(result)))

    def send_callback_failure(
        self, callback_id: str, error: ErrorObject | None = None, *, connection: Any = None
    ) -> None:
        """Fail a callback; as `send_callback_success`."""
        if connection is None:
            self._call(self._desk.send_failure(callback_id, error))
        else:
            carried_out(self._desk.participant(connection, in_thread=True).fail_callback(callback_id, error))

    def send_callback_heartbeat(self, callback_id: str) -> None:
        """Tell that a callback's work goes on; raises as `send_callback_success`."""
        self._call(self._desk.send_heartbeat(callback_id))

    def workers(self) -> list[WorkerDescription]:
        """The workers that live, the eldest first, and the executions each of them runs."""
        workers: list[WorkerDescription] = self._call(self._desk.workers())
        return workers

    def purge(self) -> int:
        """Remove executions past their retention; returns how many."""
        purged: int = self._call(self._desk.purge())
        return purged

    def list(
        self,
        function: DurableFunction[Any, Any] | str | None = None,
        *,
        statuses: Iterable[str] = (),
        name: str | None = None,
        limit: int = 100,
        oldest_first: bool = False,
        cursor: Cursor | None = None,
    ) -> Listing:
        """A page of executions, newest first unless asked otherwise."""
        wish = list_wish(function, statuses, name, limit, oldest_first, cursor)
        listing: Listing = self._call(self._desk.list(wish))
        return listing


class AsyncClient:
    """
    As `Client`, awaited, from any event loop. Use it in `async with`, or `open` and `close` it.

    Args:
        backend: A URL, or what `open_backend` returned, or a store.
    """

    def __init__(self, backend: str | Backend | Store) -> None:
        self._desk = desk_of(backend)

    @staticmethod
    async def _ask(work: Any) -> Any:
        return await store_portal().ask(work)

    async def open(self) -> None:
        """Connect."""
        await self._ask(self._desk.open())

    async def close(self) -> None:
        """Let go of the backend."""
        await self._ask(self._desk.close())

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @overload
    async def start(
        self,
        function: DurableFunction[I, O],
        input: I = ...,
        *,
        name: str | None = ...,
        version: str | None = ...,
        execution_timeout: Duration | None = ...,
        retention_days: int | None = ...,
        connection: Any = ...,
    ) -> AsyncHandle[O]: ...
    @overload
    async def start(
        self,
        function: str,
        input: Any = ...,
        *,
        name: str | None = ...,
        version: str | None = ...,
        execution_timeout: Duration | None = ...,
        retention_days: int | None = ...,
        connection: Any = ...,
    ) -> AsyncHandle[Any]: ...
    async def start(
        self,
        function: DurableFunction[Any, Any] | str,
        input: Any = None,
        *,
        name: str | None = None,
        version: str | None = None,
        execution_timeout: Duration | None = None,
        retention_days: int | None = None,
        connection: Any = None,
    ) -> AsyncHandle[Any]:
        """As `Client.start`; `connection` may also be a `psycopg.AsyncConnection`."""
        wish = start_wish(function, input, name, version, execution_timeout, retention_days)
        if connection is None:
            return AsyncHandle(self, begun(await self._ask(self._desk.start(wish))), function)
        participant, plan = self._desk.participant(connection, in_thread=False), await self._ask(self._desk.plan(wish))
        return AsyncHandle(self, begun(await participant.start(plan)), function)

    async def handle(self, arn_or_name: str, function: DurableFunction[Any, O] | str | None = None) -> AsyncHandle[O]:
        """As `Client.handle`."""
        execution: ExecutionReference = await self._ask(self._desk.resolve(arn_or_name, function))
        return AsyncHandle(self, execution, function or execution.function)

    async def describe(self, arn_or_name: str) -> ExecutionDescription:
        """As `Client.describe`."""
        description: ExecutionDescription = await self._ask(self._desk.describe(arn_or_name))
        return description

    async def history(self, arn_or_name: str, *, include_data: bool = True) -> list[Event]:
        """As `Client.history`."""
        events: list[Event] = await self._ask(self._desk.history(arn_or_name, include_data))
        return events

    async def operations(self, arn_or_name: str) -> list[Operation]:
        """As `Client.operations`."""
        operations: list[Operation] = await self._ask(self._desk.operations(arn_or_name))
        return operations

    async def stop(self, arn_or_name: str, error: ErrorObject | None = None) -> datetime:
        """As `Client.stop`."""
        ended: datetime = await self._ask(self._desk.stop(arn_or_name, error))
        return ended

    async def pause(self, arn_or_name: str, reason: str | None = None, timeout_paused: bool = True) -> None:
        """As `Client.pause`."""
        await self._ask(self._desk.pause(arn_or_name, reason, timeout_paused))

    async def resume(self, arn_or_name: str, reason: str | None = None) -> None:
        """As `Client.resume`."""
        await self._ask(self._desk.resume(arn_or_name, reason))

    async def delete(self, arn_or_name: str) -> datetime:
        """As `Client.delete`."""
        asked: datetime = await self._ask(self._desk.delete(arn_or_name))
        return asked

    async def send_callback_success(
        self, callback_id: str, result: str | bytes | None = None, *, connection: Any = None
    ) -> None:
        """As `Client.send_callback_success`."""
        if connection is None:
            await self._ask(self._desk.send_success(callback_id, text(result)))
        else:
            await self._desk.participant(connection, in_thread=False).succeed_callback(callback_id, text(result))

    async def send_callback_failure(
        self, callback_id: str, error: ErrorObject | None = None, *, connection: Any = None
    ) -> None:
        """As `Client.send_callback_failure`."""
        if connection is None:
            await self._ask(self._desk.send_failure(callback_id, error))
        else:
            await self._desk.participant(connection, in_thread=False).fail_callback(callback_id, error)

    async def send_callback_heartbeat(self, callback_id: str) -> None:
        """As `Client.send_callback_heartbeat`."""
        await self._ask(self._desk.send_heartbeat(callback_id))

    async def workers(self) -> list[WorkerDescription]:
        """As `Client.workers`."""
        workers: list[WorkerDescription] = await self._ask(self._desk.workers())
        return workers

    async def purge(self) -> int:
        """As `Client.purge`."""
        purged: int = await self._ask(self._desk.purge())
        return purged

    async def list(
        self,
        function: DurableFunction[Any, Any] | str | None = None,
        *,
        statuses: Iterable[str] = (),
        name: str | None = None,
        limit: int = 100,
        oldest_first: bool = False,
        cursor: Cursor | None = None,
    ) -> Listing:
        """As `Client.list`."""
        wish = list_wish(function, statuses, name, limit, oldest_first, cursor)
        listing: Listing = await self._ask(self._desk.list(wish))
        return listing
