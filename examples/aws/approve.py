"""
Approve an order, on AWS or elsewhere: `python examples/aws/approve.py o-17 yes`.

Completes the callback that the order waits for. `--backend` or PERDURE_BACKEND names where the order runs; with
`sqlite:///perdure.db` the same script approves what a worker of one's own runs.
"""

from __future__ import annotations

import argparse
import os
import sys

from perdure.client import Client
from perdure.errors import DurableExecutionsError
from perdure.model import OperationStatus


def approve(client: Client, order: str, answer: str) -> str:
    """Complete the open callback of an order; its id."""
    for operation in client.operations(order):
        details = operation.callback_details
        if details is not None and details.callback_id and operation.status is OperationStatus.STARTED:
            client.send_callback_success(details.callback_id, answer)
            return details.callback_id
    sys.exit(f"order {order!r} waits for no approval")


def main() -> None:
    parser = argparse.ArgumentParser(description="Approve an order.")
    parser.add_argument("order", help="name or ARN of the execution")
    parser.add_argument("answer", nargs="?", default="yes")
    parser.add_argument("--backend", default=os.environ.get("PERDURE_BACKEND", "lambda://order:live"))
    arguments = parser.parse_args()
    try:
        with Client(arguments.backend) as client:
            print("approved", approve(client, arguments.order, arguments.answer))
    except DurableExecutionsError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
