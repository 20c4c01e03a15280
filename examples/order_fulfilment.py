"""
An order from payment to delivery: steps with retries, a map over its lines, a wait, and a callback.

The bank loses its first answer although it has booked. The payment is made again under the same idempotency key, so
that the card is charged once. The parcel service confirms by a callback, which may take days: nothing runs meanwhile.
"""

from __future__ import annotations

import queue
import tempfile
from collections import Counter
from pathlib import Path

import attrs

from perdure.adapters.worker import Worker
from perdure.client import Client
from perdure.config import MapConfig, StepConfig, WaitForCallbackConfig
from perdure.durable import DurableContext, Duration, durable_execution
from perdure.retries import RetryPresets
from perdure.types import StepContext, WaitForCallbackContext

# ------------------------------------------------------------------------------------------------------------- values


@attrs.frozen
class Line:
    article: str
    quantity: int
    price: int


@attrs.frozen
class Order:
    number: str
    card: str
    lines: list[Line]


@attrs.frozen
class Receipt:
    payment: str
    reserved: list[str]
    tracking: str


# ----------------------------------------------------------------------------------------- systems outside of Perdure

booked: dict[str, str] = {}
"""What the bank has booked, by idempotency key."""
requests: Counter[str] = Counter()
parcels: queue.Queue[str] = queue.Queue()
"""Where the parcel service finds what it has to confirm."""


def bank(card: str, amount: int, key: str) -> str:
    """Charges a card; the same key again is answered as before, without a second booking."""
    payment = booked.setdefault(key, f"{amount} from card {card}")
    requests[key] += 1
    if requests[key] == 1:
        raise ConnectionError("the line to the bank broke")
    return payment


def warehouse(line: Line) -> str:
    return f"{line.quantity} {line.article}"


# ----------------------------------------------------------------------------------------------------------- workflow


def reserve(context: DurableContext, line: Line, *_: object) -> str:
    """One branch of the map: it has a context of its own, and may do several steps, wait, or map again."""
    return context.step(lambda _: warehouse(line), name="reserve")


def hand_over(callback_id: str, _: WaitForCallbackContext) -> None:
    """Gives the parcel to the service, which confirms with this id."""
    parcels.put(callback_id)


@durable_execution
def fulfil(order: Order, context: DurableContext) -> Receipt:
    total = sum(line.quantity * line.price for line in order.lines)

    def charge(step: StepContext) -> str:
        return bank(order.card, total, step.idempotency_key)

    payment = context.step(charge, name="charge", config=StepConfig(retry_strategy=RetryPresets.critical()))

    by_article = MapConfig[Line](max_concurrency=2, item_namer=lambda line, _: line.article)
    reserved = context.map(order.lines, reserve, name="reserve all", config=by_article)
    reserved.throw_if_error()

    context.wait(Duration.from_seconds(1), name="time to cancel")

    tracking = context.wait_for_callback(
        hand_over, name="parcel", config=WaitForCallbackConfig(timeout=Duration.from_days(3))
    )
    return Receipt(payment, reserved.get_results(), tracking)


# ------------------------------------------------------------------------------------------------------------ program


def main() -> None:
    order = Order("o-17", "4711", [Line("chair", 4, 60), Line("table", 1, 250), Line("lamp", 2, 35)])
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder).as_posix()}/perdure.db"
        with Worker(url, [fulfil]), Client(url) as client:
            handle = client.start(fulfil, order, name=order.number)
            callback_id = parcels.get(timeout=30)
            client.send_callback_success(callback_id, "PX-1")

            print(handle.result(timeout=30))
            for operation in handle.operations():
                if operation.name == "charge":
                    print("charge took", operation.attempt, "attempts, and the bank booked", len(booked), "payment")

            again = client.start(fulfil, order, name=order.number)
            print("started again, the same execution:", again.id == handle.id)


if __name__ == "__main__":
    main()
