"""Executions as a whole: input and result, names, ends, versions, determinism (features 1, 24, 25)."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass

import attrs
import pytest

from perdure.client import AsyncClient
from perdure.config import Duration
from perdure.errors import (
    ExecutionAlreadyStartedError,
    ExecutionFailedError,
    ExecutionNotFoundError,
    ResultTimeoutError,
    UnregisteredFunctionWarning,
    ValidationError,
)
from perdure.model import ErrorObject, ExecutionStatus
from tests.scenarios.stage import lines


async def echo(event, context):
    return event


async def waiting(event, context):
    callback = await context.create_callback(name="go")
    return await callback.result()


INPUTS = [None, True, 1, -2.5, "ä\n\u2028😀", [], [1, [2]], {}, {"a": {"b": [None]}}]


@pytest.mark.parametrize("value", INPUTS, ids=[str(n) for n in range(len(INPUTS))])
def test_input_and_result_are_json(stage, value):
    """What JSON has goes in and comes out unchanged."""
    outcome = stage.run(echo, value)
    assert outcome.result == ({} if value is None else value) or outcome.result is value
    assert outcome.events[0].event_type == "ExecutionStarted"
    assert outcome.events[0].name == outcome.handle.name


@attrs.frozen
class Item:
    sku: str
    count: int = 1


@attrs.frozen
class Order:
    customer: str
    items: list[Item]


@attrs.frozen
class Receipt:
    order: Order
    total: int


@dataclass(frozen=True)
class Point:
    x: int
    y: int


async def buy(order: Order, context) -> Receipt:
    assert isinstance(order, Order)
    assert isinstance(order.items[0], Item)
    counts = [await context.step(lambda _, item=item: item.count) for item in order.items]
    return Receipt(order, sum(counts))


async def mirror(point: Point, context) -> Point:
    return Point(point.y, point.x)


def test_typed_input_and_result(stage):
    """A workflow annotated with attrs classes or dataclasses gets and gives them."""
    order = Order("ann", [Item("a", 2), Item("b")])
    assert stage.run(buy, order).result == Receipt(order, 3)
    stage.halt()
    assert stage.run(mirror, Point(1, 2)).result == Point(2, 1)


def test_an_input_that_does_not_fit(stage):
    """It fails the execution and names the fields, however deep."""
    outcome = stage.run(buy, {"customer": "ann", "items": [{"sku": "a", "count": "many"}, {}]})
    assert outcome.status == "FAILED"
    assert outcome.error.error_message == (
        f"the input of execution {outcome.handle.name!r} does not fit Order: "
        "invalid value for type, expected int @ value.items[0].count; required field missing @ value.items[1].sku; "
        "give what fits, or new fields a default"
    )


def test_an_error_of_the_workflow(stage):
    """It fails the execution under its own type; nothing is retried."""

    async def workflow(event, context):
        stage.ran("workflow")
        raise ValueError("no way")

    outcome = stage.run(workflow)
    assert stage.runs == {"workflow": 1}
    assert outcome.history == lines(
        """
        ExecutionStarted
        InvocationCompleted
        ExecutionFailed ! ValueError: no way
        """
    )
    description = outcome.handle.describe()
    assert description.status is ExecutionStatus.FAILED
    assert description.error == ErrorObject("no way", "ValueError")


def test_an_invocation_that_dies(stage):
    """An exit of the workflow's own code is no failure of the execution: it is invoked again."""

    async def workflow(event, context):
        await context.step(stage.body("step"), name="step")
        if stage.ran("workflow") == 1:
            raise SystemExit(3)
        return "done"

    outcome = stage.run(workflow)
    assert outcome.result == "done"
    assert stage.runs == {"step": 1, "workflow": 2}
    assert outcome.history == lines(
        """
        ExecutionStarted
        StepStarted step
        StepSucceeded step #1 = null
        InvocationCompleted ! SystemExit: 3
        InvocationCompleted
        ExecutionSucceeded = "done"
        """
    )


def test_the_colour_of_a_stage(stage, colour):
    """One source really runs as `def` and as `async def`, each on its own driver."""
    kinds = []

    async def workflow(event, context):
        kinds.append(type(getattr(context, "context", context)).__name__)
        return await context.step(lambda _: threading.current_thread() is main, name="step")

    main = threading.current_thread()
    function = stage.durable(workflow)
    assert function.is_async == (colour == "async")
    assert stage.run(function).result is False
    assert kinds == ["AsyncDurableContext" if colour == "async" else "DurableContext"]


def test_an_awaited_client(stage, make_store):
    """AsyncClient does what Client does, from an event loop of the application's own."""
    function = stage.durable(waiting)
    stage.work()

    async def application():
        async with AsyncClient(stage.store) as client:
            handle = await client.start(function, {"a": 1}, name="awaited")
            callback_id = await asyncio.to_thread(stage.callback_id, handle_of(handle), "go")
            await client.send_callback_success(callback_id, "went")
            result = await handle.result(timeout=10)
            description = await handle.describe()
            (summary,) = (await client.list(function)).items
            return result, description.status, summary.name, len(await handle.history())

    def handle_of(handle):
        return stage.client.handle(handle.arn)

    result, status, name, events = asyncio.run(application())
    assert (result, status, name) == ("went", ExecutionStatus.SUCCEEDED, "awaited")
    assert events == len(stage.client.history("awaited"))


# --------------------------------------------------------------------------------------------------------------- ends


def test_execution_timeout(stage):
    """It counts from the start over all suspensions, and ends the execution as TIMED_OUT."""
    function = stage.durable(waiting, execution_timeout=Duration.from_minutes(5))
    handle = stage.start(function)
    stage.suspended(handle, "go").skip(301)
    outcome = stage.end(handle)
    assert outcome.status == "TIMED_OUT"
    assert outcome.history.splitlines()[-1].startswith("ExecutionTimedOut")
    assert outcome.events[0].details["ExecutionTimeout"] == 300


def test_execution_timeout_of_one_start(stage):
    """A start may have a timeout of its own."""
    handle = stage.start(waiting, execution_timeout=Duration(10))
    stage.suspended(handle, "go").skip(11)
    with pytest.raises(ExecutionFailedError, match="TIMED_OUT"):
        handle.result(timeout=10)


def test_stop(stage):
    """A suspended execution ends as STOPPED with the error given; stopping it again is no error."""
    handle = stage.start(waiting)
    stage.suspended(handle, "go")
    when = handle.stop(ErrorObject("not needed", "Operator"))
    outcome = stage.end(handle)
    assert outcome.status == "STOPPED"
    assert (outcome.error.error_type, outcome.error.error_message) == ("Operator", "not needed")
    assert outcome.history == lines(
        """
        ExecutionStarted
        CallbackStarted go
        InvocationCompleted
        ExecutionStopped ! Operator: not needed
        """
    )
    assert handle.stop() == when


def test_stopping_a_running_execution(stage):
    """What runs goes on to its next operation, which is not recorded."""
    begun, go = threading.Event(), threading.Event()

    def body(_):
        begun.set()
        assert go.wait(10)

    async def workflow(event, context):
        await context.step(body, name="long")
        await context.step(stage.body("next"), name="next")

    handle = stage.start(workflow)
    assert begun.wait(10)
    handle.stop()
    go.set()
    outcome = stage.end(handle)
    assert outcome.status == "STOPPED"
    stage.halt()
    assert stage.runs == {}
    assert "StepSucceeded" not in [event.event_type for event in handle.history()]


def test_waiting_for_a_result_has_its_own_timeout(stage):
    """A caller who waits no longer does not disturb the execution."""
    handle = stage.start(waiting)
    with pytest.raises(ResultTimeoutError):
        handle.result(timeout=0.05)
    stage.client.send_callback_success(stage.callback_id(handle, "go"), "gone")
    assert stage.end(handle).result == "gone"


# ---------------------------------------------------------------------------------------------------------------- names


def test_starting_is_idempotent_by_name(stage):
    """The same name and input find the same execution, running or ended; another input is refused."""
    handle = stage.start(waiting, {"a": 1, "b": 2}, name="order-17")
    function = stage._functions[0]
    assert stage.client.start(function, {"b": 2, "a": 1}, name="order-17").id == handle.id
    with pytest.raises(ExecutionAlreadyStartedError, match="order-17"):
        stage.client.start(function, {"a": 2}, name="order-17")
    stage.client.send_callback_success(stage.callback_id(handle, "go"), "done")
    assert stage.end(handle).result == "done"
    again = stage.client.start(function, {"a": 1, "b": 2}, name="order-17")
    assert again.id == handle.id
    assert again.result(timeout=5) == "done"
    assert stage.client.start(function, {"a": 1, "b": 2}).id != handle.id
    assert stage.client.start(function, {"a": 1, "b": 2}, name="order-18").id != handle.id


def test_names_belong_to_their_function(stage):
    """Two functions may have executions of the same name; which one is meant must then be said."""
    one, other = stage.durable(echo, name="one"), stage.durable(echo, name="other")
    stage.work()
    handles = [stage.client.start(function, 1, name="same") for function in (one, other)]
    assert [handle.result(timeout=10) for handle in handles] == [1, 1]
    assert len({handle.id for handle in handles}) == 2
    with pytest.raises(ValidationError, match="same"):
        stage.client.handle("same")
    assert stage.client.handle("same", other).id == handles[1].id
    with pytest.raises(ExecutionNotFoundError):
        stage.client.handle("nobody")


def test_a_handle_can_be_found_again(stage):
    """By ARN, id or name, also by another client."""
    outcome = stage.run(echo, "x", name="find-me")
    handle = outcome.handle
    for text in (handle.arn, handle.id, "find-me"):
        found = stage.client.handle(text)
        assert (found.arn, found.name, found.result(timeout=5)) == (handle.arn, "find-me", "x")
    assert handle.arn == (
        f"arn:perdure:lambda:local:000000000000:function:echo:$LATEST/durable-execution/find-me/{handle.id}"
    )


def test_what_a_description_tells(stage):
    """Input, result, status and times of an execution; lists show it too."""
    outcome = stage.run(echo, {"a": 1}, retention_days=3)
    description = outcome.handle.describe()
    assert (description.input, description.result) == ('{"a": 1}', '{"a": 1}')
    assert (description.function, description.version) == ("echo", "$LATEST")
    assert description.status is ExecutionStatus.SUCCEEDED
    assert description.started <= description.ended
    assert description.retention_days == 3
    (summary,) = stage.client.list("echo", statuses=["SUCCEEDED"]).items
    assert summary.arn == outcome.handle.arn
    assert stage.client.list("echo", statuses=["RUNNING"]).items == []


# ------------------------------------------------------------------------------------------------- the same on replay


def test_deterministic_helpers(stage):
    """execution_id, now, uuid4 and random are the same in every invocation, in contexts of any kind."""
    seen = []

    async def workflow(event, context):
        def drawn(some_context):
            return [
                str(some_context.execution_id),
                some_context.now().isoformat(),
                str(some_context.uuid4()),
                str(some_context.uuid4()),
                some_context.random().random(),
            ]

        values = drawn(context)

        async def child(child_context):
            found = drawn(child_context)
            await child_context.step(lambda _: None)
            return [found, drawn(child_context)]

        values.append(await context.run_in_child_context(child))
        await context.wait(Duration(60))
        values.append(drawn(context))
        await context.wait(Duration(60))
        values.append(drawn(context))
        seen.append(values)
        await context.wait(Duration(60))
        return values

    outcome = stage.run(workflow)
    assert seen == [outcome.result] * 2
    first, child, second, third = outcome.result[:5], outcome.result[5], outcome.result[6], outcome.result[7]
    assert first[0] == outcome.handle.id
    assert len({first[2], first[3], child[0][2], second[2], third[2]}) == 5
    assert first[1] < second[1] < third[1]


def test_ids_depend_on_the_code_alone(stage):
    """Operations have the same ids in every execution, whichever branch is first, and those of AWS's SDK."""
    order = []

    async def workflow(event, context):
        gates = {name: threading.Event() for name in event}
        gates[event[0]].set()

        def body(name):
            def run(_):
                assert gates[name].wait(10)
                order.append(name)
                following = event.index(name) + 1
                if following < len(event):
                    gates[event[following]].set()

            return run

        def branch(name):
            async def run(branch_context):
                await branch_context.step(body(name), name=f"first {name}")
                await branch_context.step(lambda _: None, name=f"second {name}")

            return run

        await context.step(lambda _: None, name="before")
        await context.parallel([branch(name) for name in "abc"], name="batch")
        await context.step(lambda _: None, name="after")

    function = stage.durable(workflow)
    found = []
    for turns in ("abc", "cba", "bac"):
        handle = stage.start(function, list(turns))
        assert stage.end(handle).status == "SUCCEEDED"
        found.append({operation.name: operation.operation_id for operation in handle.operations()[1:]})
    assert order == list("abccbabac")
    assert found[0] == found[1] == found[2]
    assert found[0]["before"] == "1ced8f5be2db23a6513eba4d819c73806424748a7bc6fa0d792cc1c7d1775a97"


def test_changed_code_is_noticed(stage):
    """Code that asks for another operation than the journal has fails the execution, naming both."""

    def version(name):
        async def changing(event, context):
            await context.step(lambda _: 1, name=name)
            await context.wait(Duration(60), name="pause")
            return "done"

        return stage.durable(changing)

    handle = stage.start(version("old name"))
    stage.suspended(handle, "pause")
    stage.halt()
    stage.work(version("new name"))
    outcome = stage.end(handle)
    assert outcome.status == "FAILED"
    assert outcome.error.error_type.endswith("NonDeterministicExecutionError")
    assert "new name" in outcome.error.error_message
    assert "old name" in outcome.error.error_message


def test_changed_code_of_another_kind_is_noticed(stage):
    """A wait where the journal has a step."""

    def version(kind):
        async def changing(event, context):
            if kind == "step":
                await context.step(lambda _: 1, name="first")
            else:
                await context.wait(Duration(1), name="first")
            await context.wait(Duration(60), name="pause")

        return stage.durable(changing)

    handle = stage.start(version("step"))
    stage.suspended(handle, "pause")
    stage.halt()
    stage.work(version("wait"))
    outcome = stage.end(handle)
    assert outcome.status == "FAILED"
    assert "wait 'first'" in outcome.error.error_message
    assert "step 'first'" in outcome.error.error_message


def test_changed_code_that_swallows_the_error(stage):
    """Non-determinism cannot be caught away."""

    def version(name):
        async def changing(event, context):
            try:
                await context.step(lambda _: 1, name=name)
            except Exception:  # noqa: BLE001 - what is tested
                return "swallowed"
            await context.wait(Duration(60), name="pause")
            return "unchanged"

        return stage.durable(changing)

    handle = stage.start(version("old"))
    stage.suspended(handle, "pause")
    stage.halt()
    stage.work(version("new"))
    assert stage.end(handle).status == "FAILED"


def test_an_execution_keeps_its_version(stage):
    """Workers leave alone what they have no version for; a new version takes only what is started with it."""

    def version(number):
        async def order(event, context):
            callback = await context.create_callback(name=f"go-{number}")
            await callback.result()
            return number

        return stage.durable(order, version=number)

    old, new = version("1"), version("2")
    stage.work(old)
    first = stage.client.start(old)
    callback_id = stage.callback_id(first, "go-1")
    stage.restart(new)
    stage.client.send_callback_success(callback_id)
    second = stage.client.start(new)
    stage.client.send_callback_success(stage.callback_id(second, "go-2"))
    assert stage.end(second).result == "2"
    assert first.describe().status is ExecutionStatus.RUNNING
    stage.restart(old, new)
    assert stage.end(first).result == "1"
    assert (first.version, second.version) == ("1", "2")


def test_a_function_that_nobody_has_registered(stage):
    """Starting it warns; the execution waits until a worker comes that knows it."""
    function = stage.durable(echo)
    with pytest.warns(UnregisteredFunctionWarning, match="echo"):
        handle = stage.client.start(function, 5)
    stage.work()
    assert stage.end(handle).result == 5


def test_a_worker_that_stops_in_the_middle(stage):
    """Draining waits for the running body, records it, and the next worker goes on behind it."""
    begun, go = threading.Event(), threading.Event()

    def body(_):
        begun.set()
        assert go.wait(10)
        stage.ran("long")
        return 1

    async def workflow(event, context):
        first = await context.step(body, name="long")
        return first + await context.step(stage.body("next", 1), name="next")

    handle = stage.start(workflow)
    assert begun.wait(10)
    stopper = threading.Thread(target=stage.halt)
    stopper.start()
    stage.reached(handle, lambda: stage._worker is None)
    go.set()
    stopper.join(10)
    stage.work()
    outcome = stage.end(handle)
    assert outcome.result == 2
    assert stage.runs == {"long": 1, "next": 1}


def test_several_executions_at_once(stage):
    """Executions of one function do not disturb each other."""

    async def workflow(event, context):
        first = await context.step(lambda _: event * 2, name="double")
        await context.wait(Duration(1))
        return first + await context.step(lambda _: 1, name="more")

    first = stage.start(workflow, 0)
    function = stage._functions[0]
    handles = [first, *(stage.client.start(function, n) for n in range(1, 20))]
    assert [stage.end(handle).result for handle in handles] == [n * 2 + 1 for n in range(20)]
