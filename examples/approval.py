"""
An approval within one process: worker and client share a store in memory, the callback is completed from "outside".

Prints how the execution stood while it waited, and what it returned.
"""

from __future__ import annotations

import queue
from typing import Any

from perdure.adapters.worker import Worker
from perdure.client import Client
from perdure.config import StepConfig, StepSemantics, WaitForCallbackConfig
from perdure.durable import DurableContext, Duration, durable_execution
from perdure.retries import RetryPresets
from perdure.storage import open_backend
from perdure.types import WaitForCallbackContext

mailbox: queue.Queue[str] = queue.Queue()


def ask_manager(callback_id: str, _: WaitForCallbackContext) -> None:
    mailbox.put(callback_id)


def pay(amount: int) -> str:
    return f"paid {amount}"


@durable_execution
def refund(event: dict[str, Any], context: DurableContext) -> dict[str, Any]:
    answer = context.wait_for_callback(
        ask_manager, name="approval", config=WaitForCallbackConfig(timeout=Duration.from_days(7))
    )
    # Better not paid than paid twice: begun only after that is recorded, and not again should the process die in it.
    once = StepConfig(step_semantics=StepSemantics.AT_MOST_ONCE_PER_RETRY, retry_strategy=RetryPresets.none())
    receipt = context.step(lambda _: pay(event["amount"]), name="pay", config=once)
    return {"answer": answer, "receipt": receipt}


def main() -> None:
    backend = open_backend("memory://")
    with Worker(backend, [refund]), Client(backend) as client:
        handle = client.start(refund, {"amount": 120}, name="refund-1")
        callback_id = mailbox.get(timeout=30)
        print("waiting:", handle.describe().status.value)
        client.send_callback_success(callback_id, "approved by Ada")
        print("returned:", handle.result(timeout=30))


if __name__ == "__main__":
    main()
