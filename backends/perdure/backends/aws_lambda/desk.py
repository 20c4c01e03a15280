"""The work of a client on AWS Lambda, where the service is AWS's."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

import attrs

from perdure.backends.aws_lambda import answer
from perdure.backends.aws_lambda.api import LambdaApi
from perdure.backends.aws_lambda.fold import operations
from perdure.backends.aws_lambda.function import LATEST, LambdaFunction
from perdure.desk.answer import Begun, Listing, closed_meanwhile, failure, not_in_time
from perdure.errors import (
    CallbackNotFoundError,
    ExecutionNotFoundError,
    InvalidStateError,
    StoreError,
    TransactionsUnsupportedError,
    ValidationError,
)
from perdure.model import ENDED_STATUSES, ErrorObject, ExecutionStatus
from perdure.nonce import nonce
from perdure.service.patience import patiently
from perdure.service.request import check_error, check_name, check_reason, check_result

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from perdure.backends.aws_lambda.location import Location
    from perdure.desk.answer import ExecutionDescription, ExecutionReference, ExecutionSummary, WorkerDescription
    from perdure.desk.wish import ListWish, StartWish
    from perdure.durable import DurableFunction
    from perdure.model import Event, Operation

INPUT_LIMIT = 1_048_576
"""UTF-8 bytes of the input of an execution that is started asynchronously."""
LONGEST_CALLBACK_ID = 1024
PAGE = 1000
FIRST_LOOK, LONGEST_LOOK, SLACKENING = 0.1, 5.0, 1.5
"""Seconds between looks at an execution that somebody waits for, and by what they grow: nothing tells of its end."""
PATIENCE = 60.0
"""Seconds for which somebody who waits is not told that AWS does not answer."""


class LambdaDesk:
    """
    A `Desk` on AWS Lambda.

    Args:
        location: The function that is meant where none is named, and how the service is reached.
    """

    def __init__(self, location: Location) -> None:
        self._function = location.function
        self._api = LambdaApi(location)
        self._closed = asyncio.Event()

    async def open(self) -> None:
        """As `Desk.open`."""
        self._closed.clear()
        await self._api.open()

    async def close(self) -> None:
        """As `Desk.close`."""
        self._closed.set()
        await self._api.close()

    # ----------------------------------------------------------------------------------------------------- starting

    def participant(self, connection: Any, *, in_thread: bool) -> NoReturn:
        """As `Desk.participant`: refused."""
        del connection, in_thread
        raise TransactionsUnsupportedError(
            "connection= needs a backend in the database of the connection, and lambda:// keeps executions at AWS; "
            "leave it out, or start from an outbox after the commit, with a name that makes starting twice harmless"
        )

    async def plan(self, wish: StartWish) -> NoReturn:
        """As `Desk.plan`: refused."""
        self.participant(wish, in_thread=False)

    async def start(self, wish: StartWish) -> Begun:
        """As `Desk.start`: an asynchronous Invoke under a name, so that sending it again starts nothing more."""
        _check_start(wish)
        function = self._meant(wish.function)
        if wish.version is not None:
            function = LambdaFunction.parse(f"{function.unqualified}:{wish.version}")
        function = attrs.evolve(function, qualifier=function.qualifier or LATEST)
        name = wish.name or nonce()
        answered = await self._api.ask(
            "Invoke",
            str(function),
            FunctionName=function.unqualified,
            Qualifier=function.qualifier,
            InvocationType="Event",
            DurableExecutionName=name,
            Payload=wish.input.encode("utf-8", "surrogatepass"),
        )
        arn: str | None = answered.get("DurableExecutionArn")
        if arn is None:
            raise ValidationError(
                f"{str(function)!r} was invoked, but not as a durable execution; deploy it with a DurableConfig"
            )
        return Begun(answer.reference(arn) or await self._referred(arn))

    def _meant(self, function: DurableFunction[Any, Any] | str | None) -> LambdaFunction:
        """
        The deployed function that a caller means.

        A text names it. A durable function says nothing of where it is deployed, so the URL does; if that names none,
        it is taken to be deployed under its own name.
        """
        deployed = self._function
        if isinstance(function, str):
            named = LambdaFunction.parse(function)
            is_deployed = deployed is not None and named.name == deployed.name and not named.place
            return deployed if is_deployed and deployed and named.qualifier is None else named
        if deployed is not None:
            return deployed
        if function is None:
            raise ValidationError(
                "AWS finds executions by ARN, or by the function that they run; use lambda://function, or name the "
                "function too"
            )
        return LambdaFunction.parse(function.name)

    # ------------------------------------------------------------------------------------------------------ looking

    async def resolve(
        self, arn_or_name: str, function: DurableFunction[Any, Any] | str | None = None
    ) -> ExecutionReference:
        """As `Desk.resolve`."""
        if _is_arn(arn_or_name):
            return await self._referred(arn_or_name)
        return await self._named(arn_or_name, function)

    async def _named(self, name: str, function: DurableFunction[Any, Any] | str | None = None) -> ExecutionReference:
        meant = self._meant(function)
        try:
            check_name(name)
        except ValidationError:
            found = []
        else:
            found = [one async for one in self._executions(meant, DurableExecutionName=name)]
        if not found:
            raise ExecutionNotFoundError(
                f"no execution of {meant.name!r} has the ARN or name {name!r}; its retention may be over"
            )
        return max(found, key=lambda one: one.started)

    async def _arn(self, arn_or_name: str) -> str:
        return arn_or_name if _is_arn(arn_or_name) else (await self._named(arn_or_name)).arn

    async def _referred(self, arn: str) -> ExecutionReference:
        return answer.described(await self._looked_up(arn, include_data=False))

    async def _looked_up(self, arn: str, *, include_data: bool) -> dict[str, Any]:
        members: dict[str, Any] = {"DurableExecutionArn": arn}
        if self._api.has("GetDurableExecution", "IncludeExecutionData"):
            members["IncludeExecutionData"] = include_data
        return await self._api.ask("GetDurableExecution", arn, **members)

    async def describe(self, arn_or_name: str) -> ExecutionDescription:
        """As `Desk.describe`."""
        return answer.description(await self._looked_up(await self._arn(arn_or_name), include_data=True))

    async def history(self, arn_or_name: str, include_data: bool) -> list[Event]:
        """As `Desk.history`: all pages."""
        arn = await self._arn(arn_or_name)
        events: list[Event] = []
        async for page in self._pages(
            "GetDurableExecutionHistory",
            arn,
            DurableExecutionArn=arn,
            IncludeExecutionData=include_data,
            MaxItems=PAGE,
        ):
            events += map(answer.event, page["Events"])
        return events

    async def operations(self, arn_or_name: str) -> list[Operation]:
        """As `Desk.operations`, as far as the history tells them."""
        return operations(await self.history(arn_or_name, include_data=True))

    async def _executions(self, function: LambdaFunction, **members: Any) -> AsyncIterator[ExecutionSummary]:
        name = function.unqualified
        async for page in self._pages("ListDurableExecutionsByFunction", name, FunctionName=name, **members):
            for found in page.get("DurableExecutions") or ():
                yield answer.summary(found)

    async def _pages(self, operation: str, subject: str, **members: Any) -> AsyncIterator[dict[str, Any]]:
        marker: str | None = None
        while True:
            page = await self._api.ask(operation, subject, Marker=marker, **members)
            yield page
            marker = page.get("NextMarker") or None
            if marker is None:
                return

    # ------------------------------------------------------------------------------------------------------ waiting

    async def result(self, execution: ExecutionReference, timeout: float | None) -> str | None:
        """As `Desk.result`: looks again and again, ever less often."""
        try:
            found = await self._ended(execution, timeout)
        except (asyncio.CancelledError, StoreError, InvalidStateError):
            if self._closed.is_set():
                raise closed_meanwhile(execution) from None
            raise
        if answer.status(found) is not ExecutionStatus.SUCCEEDED:
            error = found.get("Error")
            raise failure(execution, found["Status"], None if error is None else ErrorObject.from_dict(error))
        if found.get("Result") is None and found.get("ExecutionDataIncluded") is False:
            raise StoreError(f"AWS does not hand out the result of execution {execution.arn!r}; look at its history")
        result: str | None = found.get("Result")
        return result

    async def _ended(self, execution: ExecutionReference, timeout: float | None) -> dict[str, Any]:
        # Once in any case.
        found = await self._looked_up(execution.arn, include_data=False)
        if answer.status(found) not in ENDED_STATUSES:
            try:
                async with asyncio.timeout(timeout) as limit:
                    found = await self._watched(execution)
            except TimeoutError:
                if not limit.expired():
                    raise
                raise not_in_time(execution, timeout) from None
        if found.get("ExecutionDataIncluded") or found.get("Result") or found.get("Error"):
            return found
        return await patiently(lambda: self._looked_up(execution.arn, include_data=True), PATIENCE)

    async def _watched(self, execution: ExecutionReference) -> dict[str, Any]:
        pause = FIRST_LOOK
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(0.8, 1.2)):  # noqa: S311 - spreads callers
                    await self._closed.wait()
            found = await patiently(lambda: self._looked_up(execution.arn, include_data=False), PATIENCE)
            if answer.status(found) in ENDED_STATUSES:
                return found
            pause = min(pause * SLACKENING, LONGEST_LOOK)

    # --------------------------------------------------------------------------------------------------- signalling

    async def stop(self, arn_or_name: str, error: ErrorObject | None) -> datetime:
        """As `Desk.stop`."""
        check_error(error)
        arn = await self._arn(arn_or_name)
        given = None if error is None else error.to_dict()
        answered = await self._api.ask("StopDurableExecution", arn, DurableExecutionArn=arn, Error=given)
        return answer.instant(answered["StopTimestamp"])

    async def pause(self, arn_or_name: str, reason: str | None, timeout_paused: bool) -> None:
        """As `Desk.pause`."""
        check_reason(reason)
        arn = await self._arn(arn_or_name)
        await self._api.ask(
            "PauseDurableExecution",
            arn,
            DurableExecutionArn=arn,
            Reason=reason,
            ExecutionTimeoutPaused=timeout_paused,
        )

    async def resume(self, arn_or_name: str, reason: str | None) -> None:
        """As `Desk.resume`."""
        check_reason(reason)
        arn = await self._arn(arn_or_name)
        await self._api.ask("ResumeDurableExecution", arn, DurableExecutionArn=arn, Reason=reason)

    async def delete(self, arn_or_name: str) -> datetime:
        """As `Desk.delete`."""
        arn = await self._arn(arn_or_name)
        answered = await self._api.ask("DeleteDurableExecution", arn, DurableExecutionArn=arn)
        return answer.instant(answered["DeletionRequestTimestamp"])

    async def send_success(self, callback_id: str, result: str | None) -> None:
        """As `Desk.send_success`."""
        check_result(result)
        _check_callback_id(callback_id)
        given = result.encode("utf-8", "surrogatepass") if result else None
        await self._api.ask("SendDurableExecutionCallbackSuccess", CallbackId=callback_id, Result=given)

    async def send_failure(self, callback_id: str, error: ErrorObject | None) -> None:
        """As `Desk.send_failure`."""
        check_error(error)
        _check_callback_id(callback_id)
        given = None if error is None else error.to_dict()
        await self._api.ask("SendDurableExecutionCallbackFailure", CallbackId=callback_id, Error=given)

    async def send_heartbeat(self, callback_id: str) -> None:
        """As `Desk.send_heartbeat`."""
        _check_callback_id(callback_id)
        await self._api.ask("SendDurableExecutionCallbackHeartbeat", CallbackId=callback_id)

    async def purge(self) -> int:
        """As `Desk.purge`: refused."""
        raise ValidationError("AWS removes executions by itself when their retention is over; delete one, or wait")

    async def workers(self) -> list[WorkerDescription]:
        """As `Desk.workers`: refused."""
        raise ValidationError("executions on AWS Lambda run without workers; list the executions instead")

    async def list(self, wish: ListWish) -> Listing:
        """As `Desk.list`."""
        check_name(wish.name)
        if wish.cursor is not None and not isinstance(wish.cursor, str):
            raise ValidationError(f"the cursor {wish.cursor!r} is not one of AWS; pass a list's own next_cursor on")
        function, marker = self._meant(wish.function), wish.cursor
        found: list[ExecutionSummary] = []
        while len(found) < wish.limit:
            page = await self._api.ask(
                "ListDurableExecutionsByFunction",
                function.unqualified,
                FunctionName=function.unqualified,
                Qualifier=_version_of(wish),
                DurableExecutionName=wish.name,
                Statuses=sorted(status.value for status in wish.statuses) or None,
                ReverseOrder=wish.oldest_first or None,
                Marker=marker,
                MaxItems=wish.limit - len(found),
            )
            found += map(answer.summary, page.get("DurableExecutions") or ())
            marker = page.get("NextMarker") or None
            if marker is None:
                break
        return Listing(found, marker)


def _check_start(wish: StartWish) -> None:
    for value, argument, setting in (
        (wish.execution_timeout, "execution_timeout", "ExecutionTimeout"),
        (wish.retention_days, "retention_days", "RetentionPeriodInDays"),
    ):
        if value is not None:
            raise ValidationError(
                f"{argument} is not taken by a start on AWS Lambda, where it belongs to the function; set {setting} in "
                "its DurableConfig, and deploy it"
            )
    check_name(wish.name)
    size = len(wish.input.encode("utf-8", "surrogatepass"))
    if size > INPUT_LIMIT:
        raise ValidationError(
            f"the input has {size} bytes, and AWS takes at most {INPUT_LIMIT} of an execution that is started "
            "asynchronously; store it elsewhere and pass a reference"
        )


def _check_callback_id(callback_id: str) -> None:
    # What boto3 or a proxy would refuse in other words.
    if not 1 <= len(callback_id) <= LONGEST_CALLBACK_ID:
        raise CallbackNotFoundError("this is not a callback id; pass on what the workflow was given, unchanged")


def _version_of(wish: ListWish) -> str | None:
    return LambdaFunction.parse(wish.function).qualifier if isinstance(wish.function, str) else None


def _is_arn(text: str) -> bool:
    # No name has a slash or a colon; ARNs of emulators may have no more than a slash.
    return "/" in text or ":" in text
