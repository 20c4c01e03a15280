"""Suite `callback` as `def` workflows: callbacks alone, beside other operations, and more than one."""

from __future__ import annotations

import json
from datetime import datetime

from perdure.config import CallbackConfig, Duration
from perdure.durable import CallbackError, durable_execution
from perdure.serdes import SerDes

# --------------------------------------------------------------------------------------------------------------- alone


@durable_execution
def callback_result(name, context):
    """The payload of a callback is the result."""
    return context.create_callback(name=name).result()


@durable_execution
def callback_with_name(_, context):
    """A callback with a fixed name."""
    return context.create_callback(name="approval").result()


@durable_execution
def callback_times_out(name, context):
    """Nobody completes the callback within five seconds."""
    return context.create_callback(name=name, config=CallbackConfig(timeout=Duration.from_seconds(5))).result()


@durable_execution
def heartbeat_times_out(name, context):
    """Nobody sends a heartbeat within five seconds."""
    config = CallbackConfig(heartbeat_timeout=Duration.from_seconds(5))
    return context.create_callback(name=name, config=config).result()


@durable_execution
def heartbeat_received(name, context):
    """A heartbeat, and then the payload."""
    config = CallbackConfig(heartbeat_timeout=Duration.from_seconds(10))
    return context.create_callback(name=name, config=config).result()


@durable_execution
def callback_fails(name, context):
    """A failure reported from outside is not caught."""
    return context.create_callback(name=name).result()


# ---------------------------------------------------------------------------------------------- beside other operations


@durable_execution
def step_before_failure(name, context):
    """A step runs while the callback is open; then that fails."""
    callback = context.create_callback(name=name)
    context.step(lambda _: "submitted")
    return callback.result()


@durable_execution
def step_before_timeout(name, context):
    """A step runs while the callback is open; then that times out."""
    callback = context.create_callback(name=name, config=CallbackConfig(timeout=Duration.from_seconds(5)))
    context.step(lambda _: "submitted")
    return callback.result()


@durable_execution
def success_while_waiting(name, context):
    """The callback succeeds while the workflow waits for time."""
    callback = context.create_callback(name=name)
    context.wait(Duration.from_seconds(5))
    return callback.result()


@durable_execution
def failure_while_waiting(name, context):
    """The callback fails while the workflow waits for time."""
    callback = context.create_callback(name=name)
    context.wait(Duration.from_seconds(5))
    return callback.result()


@durable_execution
def timeout_while_waiting(name, context):
    """The callback times out while the workflow waits for time."""
    callback = context.create_callback(name=name, config=CallbackConfig(timeout=Duration.from_seconds(3)))
    context.wait(Duration.from_seconds(6))
    return callback.result()


@durable_execution
def wait_after_success(name, context):
    """The payload outlasts a wait."""
    result = context.create_callback(name=name).result()
    context.wait(Duration.from_seconds(2))
    return result


@durable_execution
def wait_after_failure(name, context):
    """A failure that was caught is caught again after a wait."""
    callback = context.create_callback(name=name)
    try:
        message = callback.result()
    except CallbackError as error:
        message = str(error)
    context.wait(Duration.from_seconds(2))
    return message


@durable_execution
def wait_after_timeout(name, context):
    """A timeout that was caught is caught again after a wait."""
    callback = context.create_callback(name=name, config=CallbackConfig(timeout=Duration.from_seconds(3)))
    try:
        message = callback.result()
    except CallbackError as error:
        message = str(error)
    context.wait(Duration.from_seconds(2))
    return message


# -------------------------------------------------------------------------------------------------------------- serdes


class MessageSerDes(SerDes):
    """Reads a JSON object and the instant in it."""

    def serialize(self, value, _):
        return json.dumps({**value, "timestamp": value["timestamp"].isoformat()})

    def deserialize(self, data, _):
        message = json.loads(data)
        return {**message, "timestamp": datetime.fromisoformat(message["timestamp"])}


@durable_execution
def object_payload(name, context):
    """The payload is read as an object with an instant, which is returned in seconds."""
    message = context.create_callback(name=name, config=CallbackConfig(serdes=MessageSerDes())).result()
    return {"received": {**message, "timestamp": int(message["timestamp"].timestamp())}}


class NumberSerDes(SerDes):
    """Reads a number."""

    def serialize(self, value, _):
        return str(value)

    def deserialize(self, data, _):
        return int(data)


@durable_execution
def number_payload(name, context):
    """The payload is read as a number."""
    count = context.create_callback(name=name, config=CallbackConfig(serdes=NumberSerDes())).result()
    return {"count": count, "doubled": count * 2}


# ------------------------------------------------------------------------------------------------------- more than one


@durable_execution
def one_after_the_other(names, context):
    """The second callback is created when the first has its payload."""
    first = context.create_callback(name=names[0]).result()
    second = context.create_callback(name=names[1]).result()
    return [first, second]


@durable_execution
def received_in_order(names, context):
    """Two open callbacks, received as they were created."""
    first = context.create_callback(name=names[0])
    second = context.create_callback(name=names[1])
    return [first.result(), second.result()]


@durable_execution
def received_in_reverse(names, context):
    """Two open callbacks, the later one received first."""
    first = context.create_callback(name=names[0])
    second = context.create_callback(name=names[1])
    return [second.result(), first.result()]


REQUIREMENTS = {
    "4-1": callback_result,
    "4-2": callback_with_name,
    "4-3": callback_times_out,
    "4-4": heartbeat_times_out,
    "4-5": heartbeat_received,
    "4-6": callback_fails,
    "4-7": step_before_failure,
    "4-8": step_before_timeout,
    "4-9": success_while_waiting,
    "4-10": failure_while_waiting,
    "4-11": timeout_while_waiting,
    "4-12": wait_after_success,
    "4-13": wait_after_failure,
    "4-14": wait_after_timeout,
    "4-15": object_payload,
    "4-16": number_payload,
    "4-17": one_after_the_other,
    "4-18": received_in_order,
    "4-19": received_in_reverse,
}
