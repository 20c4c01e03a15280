"""
A trip that somebody must approve. If it comes to nothing, whatever was booked is cancelled, in reverse order: a saga.

It comes to nothing in three ways here: the approval is denied, nobody answers in time, or there is no room left. Each
of them is an exception at the place where the workflow waits. Compensations are steps like any others: after a crash
in the midst of them, the execution goes on with those that are left.
"""

from __future__ import annotations

import queue
import tempfile
from pathlib import Path
from typing import Any

from perdure.adapters.worker import Worker
from perdure.client import Client, Handle
from perdure.config import StepConfig, WaitForCallbackConfig
from perdure.durable import DurableContext, Duration, durable_execution, durable_step
from perdure.errors import CallbackExternalError, CallbackTimeoutError, DurableOperationError
from perdure.model import ErrorObject
from perdure.retries import RetryPresets, RetryStrategyConfig, create_retry_strategy
from perdure.types import StepContext, WaitForCallbackContext

# ----------------------------------------------------------------------------------------- systems outside of Perdure

bookings: dict[str, str] = {}
"""What is booked, by the reference that the traveller's side has chosen."""
desk: queue.Queue[str] = queue.Queue()
"""Where the manager finds what is to be decided."""


class NoRoomError(Exception):
    """It is sold out; to ask again does not help."""


@durable_step
def book(_: StepContext, what: str, reference: str, place: str) -> str:
    if (what, place) == ("hotel", "Nowhere"):
        raise NoRoomError(f"no {what} in {place}")
    bookings[reference] = f"{what} in {place}"
    return bookings[reference]


@durable_step
def cancel(_: StepContext, what: str, reference: str) -> str:
    """The same whether this reference is booked or not, so that it may be tried again."""
    bookings.pop(reference, None)
    return what


# ----------------------------------------------------------------------------------------------------------- workflow

BOOKING = StepConfig(retry_strategy=create_retry_strategy(RetryStrategyConfig(retryable_error_types=[ConnectionError])))
"""Only what may pass is tried again."""
CANCELLING = StepConfig(retry_strategy=RetryPresets.critical())


def ask_manager(callback_id: str, _: WaitForCallbackContext) -> None:
    desk.put(callback_id)


@durable_execution
def travel(event: dict[str, Any], context: DurableContext) -> dict[str, Any]:
    patience = WaitForCallbackConfig(timeout=Duration.from_seconds(event["patience"]))
    begun: list[tuple[str, str]] = []
    try:
        for what in ("train", "hotel"):
            # A reference of our own, noted before: what may have been booked can be cancelled whatever the answer was.
            # uuid4() of the context is the same on replay, uuid.uuid4() would not be.
            reference = str(context.uuid4())
            begun.append((what, reference))
            context.step(book(what, reference, event["place"]), name=f"book {what}", config=BOOKING)
        approver = context.wait_for_callback(ask_manager, name="approval", config=patience)
    except DurableOperationError as error:
        return {"status": "cancelled", "reason": reason(error), "undone": compensate(begun, context)}
    return {"status": "booked", "approved by": approver}


def compensate(begun: list[tuple[str, str]], context: DurableContext) -> list[str]:
    return [
        context.step(cancel(what, reference), name=f"cancel {what}", config=CANCELLING)
        for what, reference in reversed(begun)
    ]


def reason(error: DurableOperationError) -> str:
    match error:
        case CallbackExternalError():
            return f"denied: {error.message}"
        case CallbackTimeoutError():
            return "nobody answered in time"
        case _:
            return f"failed: {error.message}"


# ------------------------------------------------------------------------------------------------------------ program


def told(handle: Handle[dict[str, Any]]) -> str:
    return f"{handle.name}: {handle.result(timeout=30)}"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder).as_posix()}/perdure.db"
        with Worker(url, [travel]), Client(url) as client:
            approved = client.start(travel, {"place": "Rome", "patience": 60}, name="approved")
            client.send_callback_success(desk.get(timeout=30), "Ada")
            print(told(approved))

            denied = client.start(travel, {"place": "Capri", "patience": 60}, name="denied")
            client.send_callback_failure(desk.get(timeout=30), ErrorObject("too expensive", "Denied"))
            print(told(denied))

            print(told(client.start(travel, {"place": "Bergen", "patience": 1}, name="unanswered")))
            print(told(client.start(travel, {"place": "Nowhere", "patience": 60}, name="sold-out")))
    print("booked in the end:", sorted(bookings.values()))


if __name__ == "__main__":
    main()
