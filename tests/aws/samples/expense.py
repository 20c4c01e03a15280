"""An expense needs an approval, or it is escalated: callbacks and waits in code for AWS's SDK."""

from typing import Any

from aws_durable_execution_sdk_python import (
    CallbackError,
    CallbackExternalError,
    CallbackTimeoutError,
    DurableContext,
    durable_execution,
    durable_wait_for_callback,
)
from aws_durable_execution_sdk_python.config import CallbackConfig, Duration, WaitForCallbackConfig
from aws_durable_execution_sdk_python.lambda_service import ErrorObject
from aws_durable_execution_sdk_python.retries import RetryPresets
from aws_durable_execution_sdk_python.serdes import JsonSerDes
from aws_durable_execution_sdk_python.types import Callback, WaitForCallbackContext


@durable_wait_for_callback
def ask(callback_id: str, context: WaitForCallbackContext, whom: str) -> None:
    context.logger.info("asking %s", whom, extra={"callback": callback_id})


@durable_execution
def handler(event: dict[str, Any], context: DurableContext) -> dict[str, Any]:
    receipt: Callback[Any] = context.create_callback("receipt", CallbackConfig(serdes=JsonSerDes()))
    context.wait(Duration.from_seconds(1), "grace")
    story = []
    for whom in event["chain"]:
        try:
            answer = context.wait_for_callback(
                ask(whom),
                name=f"ask {whom}",
                config=WaitForCallbackConfig(
                    timeout=Duration.from_seconds(event["patience"]), retry_strategy=RetryPresets.none()
                ),
            )
        except CallbackTimeoutError as error:
            story.append([whom, "was silent", isinstance(error, CallbackError)])
        except CallbackExternalError as error:
            story.append([whom, error.message, ErrorObject.from_exception(error).type])
        else:
            story.append([whom, answer])
            break
    return {"story": story, "receipt": receipt.result()}
