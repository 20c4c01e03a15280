"""What clients ask of a backend, whether it has a store or the service is elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from datetime import datetime

    from perdure.desk.answer import Begun, ExecutionDescription, ExecutionReference, Listing, WorkerDescription
    from perdure.desk.wish import ListWish, StartWish
    from perdure.durable import DurableFunction
    from perdure.model import ErrorObject, Event, Operation


class Participant(Protocol):
    """What a client does within the transaction of an application's own connection; not on the store's loop."""

    async def start(self, plan: Any) -> Begun:
        """Begin an execution as planned, or find the one of that name."""
        ...

    async def succeed_callback(self, callback_id: str, result: str | None) -> None:
        """Complete a callback."""
        ...

    async def fail_callback(self, callback_id: str, error: ErrorObject | None) -> None:
        """Fail a callback."""
        ...


class Desk(Protocol):
    """
    The work of one client, as coroutines that run on the process's store loop and do not block it.

    They raise what `Client` promises. An `arn_or_name` may be an id too where the backend finds executions by id.
    """

    async def open(self) -> None:
        """Connect. Raises `StoreError`."""
        ...

    async def close(self) -> None:
        """Let go of the backend; whoever waits for a result is told."""
        ...

    def participant(self, connection: Any, *, in_thread: bool) -> Participant:
        """
        Whoever works within the transaction of an application's connection; not on the store's loop.

        Args:
            connection: The connection.
            in_thread: It is for a caller without an event loop.

        Raises:
            TransactionsUnsupportedError: The backend keeps no tables of applications.
            ValidationError: It is no connection of this backend's driver, or one that has to be awaited.
            TransactionMisuseError: It is in no transaction, or connected to another database.
        """
        ...

    async def plan(self, wish: StartWish) -> Any:
        """What a participant needs for a start."""
        ...

    async def start(self, wish: StartWish) -> Begun:
        """Begin an execution, or find the one of that name."""
        ...

    async def resolve(
        self, arn_or_name: str, function: DurableFunction[Any, Any] | str | None = None
    ) -> ExecutionReference:
        """The execution of this ARN or name."""
        ...

    async def describe(self, arn_or_name: str) -> ExecutionDescription:
        """How an execution stands."""
        ...

    async def history(self, arn_or_name: str, include_data: bool) -> list[Event]:
        """The events of an execution."""
        ...

    async def operations(self, arn_or_name: str) -> list[Operation]:
        """The operations of an execution, in start order."""
        ...

    async def result(self, execution: ExecutionReference, timeout: float | None) -> str | None:
        """The result of an execution that has succeeded, once it has; JSON text."""
        ...

    async def stop(self, arn_or_name: str, error: ErrorObject | None) -> datetime:
        """End an execution as STOPPED; answers when it ended."""
        ...

    async def pause(self, arn_or_name: str, reason: str | None, timeout_paused: bool) -> None:
        """Begin no invocation of an execution until it is resumed."""
        ...

    async def resume(self, arn_or_name: str, reason: str | None) -> None:
        """Let a paused execution go on, or one that was quarantined."""
        ...

    async def delete(self, arn_or_name: str) -> datetime:
        """Remove an ended execution with all its data; answers when that was asked for."""
        ...

    async def send_success(self, callback_id: str, result: str | None) -> None:
        """Complete a callback."""
        ...

    async def send_failure(self, callback_id: str, error: ErrorObject | None) -> None:
        """Fail a callback."""
        ...

    async def send_heartbeat(self, callback_id: str) -> None:
        """Restart a callback's heartbeat timer."""
        ...

    async def purge(self) -> int:
        """Remove executions past their retention."""
        ...

    async def workers(self) -> list[WorkerDescription]:
        """Who is there."""
        ...

    async def list(self, wish: ListWish) -> Listing:
        """A page of executions."""
        ...
