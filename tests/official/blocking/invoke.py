"""Suite `invoke` as `def` workflows, and the functions they invoke."""

from __future__ import annotations

import json

from perdure.config import Duration, InvokeConfig
from perdure.durable import InvokeError, durable_execution
from perdure.serdes import SerDes
from tests.official.names import ECHO, ECHO_TENANT, FAILS

# ------------------------------------------------------------------------------------------------------------- targets

# They wait, so that the invocation of whoever asked is over before: the suite wants it recorded in this order.


@durable_execution
def echo(event, context):
    """Return the input, after a while."""
    context.wait(Duration.from_seconds(1))
    return event


@durable_execution
def echo_for_tenant(event, context):
    """The same for tenants."""
    context.wait(Duration.from_seconds(1))
    return event


@durable_execution
def fails(_, context):
    """Fail, after a while."""
    context.wait(Duration.from_seconds(1))
    raise RuntimeError("this function always fails")


TARGETS = {"TargetEcho": echo, "TargetEchoTenant": echo_for_tenant, "TargetFails": fails}


# ------------------------------------------------------------------------------------------------------------ payloads


@durable_execution
def invoke_basic(event, context):
    """The input goes there and comes back."""
    return context.invoke(ECHO, event)


@durable_execution
def invoke_with_name(event, context):
    """An invocation named by the input."""
    return context.invoke(ECHO, event["payload"], name=event["name"])


@durable_execution
def complex_payload(event, context):
    """An object with objects and lists in it goes there and comes back."""
    return context.invoke(ECHO, event)


@durable_execution
def null_payload(_, context):
    """Nothing goes there and comes back."""
    return context.invoke(ECHO, None)


@durable_execution
def large_payload(_, context):
    """As much as fits into an asynchronous invocation of AWS Lambda goes there and comes back."""
    return len(context.invoke(ECHO, "x" * 250_000))


@durable_execution
def invoke_for_tenant(event, context):
    """An invocation on behalf of a tenant."""
    return context.invoke(ECHO_TENANT, event["payload"], config=InvokeConfig(tenant_id=event["tenantId"]))


class UpperCase(SerDes):
    """JSON in capitals, in both directions."""

    def serialize(self, value, _):
        return json.dumps(value).upper()

    def deserialize(self, data, _):
        return data.upper()


@durable_execution
def payload_serdes(event, context):
    """The payload is what a serdes made of it."""
    return context.invoke(ECHO, event, config=InvokeConfig(serdes_payload=UpperCase()))


@durable_execution
def result_serdes(event, context):
    """The result is what a serdes made of it."""
    return context.invoke(ECHO, event, config=InvokeConfig(serdes_result=UpperCase()))


# -------------------------------------------------------------------------------------------------------------- errors


@durable_execution
def target_fails(_, context):
    """The function fails, and the execution with it."""
    return context.invoke(FAILS, None)


@durable_execution
def error_caught(_, context):
    """A failure of the function is replaced by another result."""
    try:
        return context.invoke(FAILS, None)
    except InvokeError:
        return "fallback"


# ---------------------------------------------------------------------------------------------- beside other operations


@durable_execution
def replayed_result(_, context):
    """The result outlasts a wait."""
    result = context.invoke(ECHO, "cached")
    context.wait(Duration.from_seconds(1))
    return result


@durable_execution
def replayed_error(_, context):
    """A failure that was caught is caught again after a wait."""
    try:
        context.invoke(FAILS, None)
    except InvokeError as error:
        message = str(error)
    context.wait(Duration.from_seconds(1))
    return message


@durable_execution
def step_then_invoke(_, context):
    """A step makes the payload."""
    payload = context.step(lambda _: "prepared")
    return context.invoke(ECHO, payload)


@durable_execution
def invoke_then_step(_, context):
    """A step continues the result."""
    result = context.invoke(ECHO, "raw")
    return context.step(lambda _: f"processed {result}")


@durable_execution
def invoke_in_child(_, context):
    """An invocation in a child context."""
    return context.run_in_child_context(lambda child: child.invoke(ECHO, "from a child"))


@durable_execution
def sequential_invokes(_, context):
    """One invocation after the other."""
    first = context.invoke(ECHO, "first")
    second = context.invoke(ECHO, "second")
    return [first, second]


REQUIREMENTS = {
    "5-1": invoke_basic,
    "5-2": invoke_with_name,
    "5-3": complex_payload,
    "5-4": null_payload,
    "5-5": target_fails,
    "5-6": error_caught,
    "5-7": large_payload,
    "5-8": invoke_for_tenant,
    "5-9": replayed_result,
    "5-10": replayed_error,
    "5-11": step_then_invoke,
    "5-12": invoke_then_step,
    "5-13": invoke_in_child,
    "5-14": sequential_invokes,
    "5-15": payload_serdes,
    "5-16": result_serdes,
}
