"""Workflows run in tests: at once, by the names of their operations, and step by step."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
import time
from datetime import timedelta

import attrs
import pytest

from perdure.config import CallbackConfig, StepConfig
from perdure.durable import (
    Duration,
    WaitForCallbackConfig,
    WaitForConditionConfig,
    WaitForConditionDecision,
    durable_execution,
)
from perdure.errors import (
    CallbackClosedError,
    CallbackNotFoundError,
    ExecutionFailedError,
    InvalidStateError,
    ResultTimeoutError,
    ValidationError,
)
from perdure.model import ErrorObject, ExecutionStatus, OperationStatus, OperationType
from perdure.portal import host_portal
from perdure.retries import RetryDecision, RetryStrategyConfig, create_retry_strategy
from perdure.testing import BlockedExecutionError, DurableTestRunner

DAY = Duration.from_days(1)
STEADY = StepConfig(retry_strategy=create_retry_strategy(RetryStrategyConfig(initial_delay=DAY, max_attempts=5)))
ONCE = StepConfig(retry_strategy=lambda *_: RetryDecision.no_retry())


async def order(event, context):
    paid = await context.step(lambda _: {"card": event["card"]}, name="charge")
    await context.wait(Duration.from_days(30), name="cool-off")

    def deliver(step):
        if step.attempt < 3:
            raise ConnectionError("no driver")
        return "delivered"

    return {"paid": paid, "parcel": await context.step(deliver, name="deliver", config=STEADY)}


# ------------------------------------------------------------------------------------------------------------ results


def test_a_month_and_two_retry_delays_take_no_time(workflow):
    """Waits and delays are skipped, and were as long as they say in the run's own time."""
    began = time.monotonic()
    result = DurableTestRunner(workflow(order)).run({"card": "4711"})
    assert time.monotonic() - began < 10
    assert result.status is ExecutionStatus.SUCCEEDED
    assert result.value == {"paid": {"card": "4711"}, "parcel": "delivered"}
    assert result.ended - result.started >= timedelta(days=30)
    wait = result.wait("cool-off")
    assert wait.ended - wait.started == timedelta(days=30)
    assert wait.status is OperationStatus.SUCCEEDED


def test_operations_are_found_by_name(workflow):
    """Status, attempts, payload and value of a step; how many invocations and commits there were."""
    result = DurableTestRunner(workflow(order)).run({"card": "4711"})
    charge, deliver = result.step("charge"), result.operation("deliver")
    assert (charge.attempts, charge.result, charge.type) == (1, {"card": "4711"}, OperationType.STEP)
    assert charge.payload.startswith("{")
    assert (deliver.attempts, deliver.result) == (3, "delivered")
    assert [each.name for each in result.operations] == ["charge", "cool-off", "deliver"]
    assert result.invocations == 4
    assert result.commits == 12
    assert result.history[0].event_type == "ExecutionStarted"
    assert repr(charge) == "<step 'charge' SUCCEEDED>"


def test_a_failure_is_a_result(workflow):
    """A workflow that fails has a status and an error; its value raises."""

    async def fails(_, context):
        def body(_):
            raise ValueError("no")

        await context.step(body, name="try", config=ONCE)

    result = DurableTestRunner(workflow(fails)).run()
    assert result.status is ExecutionStatus.FAILED
    assert result.result is None
    assert result.error.message == "no"
    assert result.step("try").error == ErrorObject("no", "ValueError")
    with pytest.raises(ExecutionFailedError, match=r"execution 'test' of 'fails' ended as FAILED: .*no") as caught:
        _ = result.value
    assert caught.value.error_message == "no"


def test_operations_within_contexts(workflow):
    """Operations of one name in several contexts are looked up in their own."""

    async def fans_out(event, context):
        async def item(inner, number, *_):
            return await inner.step(lambda _: number * 2, name="double")

        doubled = await context.map(event, item, name="all")
        return doubled.get_results()

    result = DurableTestRunner(workflow(fans_out)).run([1, 2, 3])
    assert result.value == [2, 4, 6]
    batch = result.context("all")
    assert batch.result.get_results() == [2, 4, 6]
    assert [each.step("double").result for each in batch.children] == [2, 4, 6]
    assert len(result.named("double")) == 3
    with pytest.raises(ValidationError, match=r"3 steps are named 'double'; look each up in its own context"):
        result.step("double")


def test_a_wrong_name_is_told_the_right_ones(workflow):
    """What is looked up in vain is answered with what there is."""
    result = DurableTestRunner(workflow(order)).run({"card": 1})
    with pytest.raises(ValidationError, match="no step is named 'chrage'; there are: 'charge', 'deliver'"):
        result.step("chrage")
    with pytest.raises(ValidationError, match="no callback is named 'charge'; there are: none with a name"):
        result.callback("charge")


def test_a_condition_is_a_step(workflow):
    """A `wait_for_condition` is found as a step, its attempts being checks."""

    async def waits(_, context):
        def strategy(state, _):
            return WaitForConditionDecision(should_continue=state < 4, delay=DAY)

        config = WaitForConditionConfig(wait_strategy=strategy, initial_state=0)
        return await context.wait_for_condition(lambda state, _: state + 1, config, name="until four")

    result = DurableTestRunner(workflow(waits)).run()
    assert result.value == 4
    assert result.step("until four").attempts == 4


def test_input_and_value_are_typed(workflow):
    """Values are structured as the annotations of the workflow say."""

    @attrs.frozen
    class Card:
        number: str

    async def swap(event: Card, _) -> Card:
        return Card(event.number[::-1])

    swap.__annotations__ = {"event": Card, "return": Card}
    assert DurableTestRunner(workflow(swap)).run(Card("123")).value == Card("321")


def test_what_is_not_decorated_runs_too():
    """A plain function of event and context is a workflow, also a lambda."""
    assert DurableTestRunner(lambda event, context: context.step(lambda _: event, name="echo")).run(5).value == 5


def test_a_handler_must_be_callable():
    """Anything else is refused."""
    with pytest.raises(ValidationError, match=r"a handler is a function of \(event, context\), not 5"):
        DurableTestRunner(5)


def test_runs_are_alike(workflow):
    """Two runs have the same ARN, operations and instants."""
    runner = DurableTestRunner(workflow(order))
    one, other = runner.run({"card": 1}), runner.run({"card": 1})
    assert one.arn == other.arn
    assert [(each.id, each.name) for each in one.operations] == [(each.id, each.name) for each in other.operations]
    assert (one.started, one.wait("cool-off").ended) == (other.started, other.wait("cool-off").ended)


def test_the_runner_serves_as_a_context_manager(workflow):
    """It may be used in `with`, as AWS's."""
    with DurableTestRunner(workflow(order)) as runner:
        assert runner.run({"card": 1}, timeout=30).status is ExecutionStatus.SUCCEEDED


# ---------------------------------------------------------------------------------------------------------- callbacks


async def approval(_, context):
    config = WaitForCallbackConfig(timeout=Duration.from_days(3), heartbeat_timeout=DAY)
    return await context.wait_for_callback(lambda *_: None, name="approval", config=config)


def test_callbacks_are_completed_by_the_runner(workflow):
    """`on_callback` completes what the workflow waits for, by a function or with a text."""
    runner = DurableTestRunner(workflow(approval))
    result = runner.on_callback("approval", lambda callback: callback.succeed("yes")).run()
    assert result.value == "yes"
    assert result.callback("approval").result == "yes"
    assert result.callback("approval").callback_id
    assert result.context("approval").result == "yes"
    assert DurableTestRunner(workflow(approval)).on_callback(None, "any").run().value == "any"


def test_callbacks_can_fail(workflow):
    """With an exception, a text or an error object."""
    for error, message in ((ValueError("late"), "late"), ("late", "late"), (ErrorObject("late", "Late"), "late")):
        runner = DurableTestRunner(workflow(approval))
        runner.on_callback("approval", lambda callback, error=error: callback.fail(error))
        result = runner.run()
        assert result.status is ExecutionStatus.FAILED
        assert result.error.message == message


def test_a_callback_times_out_at_once(workflow):
    """Its timeouts are skipped like waits; heartbeats and answers come when planned."""
    nobody = DurableTestRunner(workflow(approval)).run()
    assert nobody.callback("approval").status is OperationStatus.TIMED_OUT
    assert nobody.ended - nobody.started == timedelta(days=1)

    late = DurableTestRunner(workflow(approval)).on_callback("approval", "late", after=Duration.from_days(2)).run()
    assert late.callback("approval").error.message == "Callback timed out on heartbeat"

    kept = DurableTestRunner(workflow(approval))
    kept.on_callback("approval", lambda callback: callback.heartbeat(), after=Duration.from_hours(23))
    kept.on_callback("approval", "in time", after=Duration.from_hours(40))
    assert kept.run().value == "in time"


def test_a_callback_that_nobody_completes_is_named(workflow):
    """Without a timeout there is no end; the error names the callback and what to do."""

    async def forever(_, context):
        return await context.wait_for_callback(lambda *_: None, name="approval")

    with pytest.raises(BlockedExecutionError, match=r"waits for callback 'approval', which nobody completes .*on_call"):
        DurableTestRunner(workflow(forever)).run()


def test_a_submitter_may_complete_its_callback(workflow):
    """What the other system answers at once is taken."""

    async def quick(_, context):
        return await context.wait_for_callback(lambda *_: run.callbacks[0].succeed("quick"), name="approval")

    run = DurableTestRunner(workflow(quick)).start()
    assert run.result().value == "quick"


def test_callbacks_are_completed_in_between(workflow):
    """A run goes step by step: up to where it is blocked, on by a callback, to the end."""

    async def two(_, context):
        first = await context.create_callback(name="first", config=CallbackConfig(timeout=DAY))
        await context.wait(Duration.from_hours(1), name="pause")
        got = await first.result()
        return got, await context.wait_for_callback(lambda *_: None, name="second")

    run = DurableTestRunner(workflow(two)).start()
    assert [each.name for each in run.until_blocked().callbacks] == ["first"]
    run.callback("first").succeed("1")
    assert run.state.status is ExecutionStatus.RUNNING
    assert run.state.wait("pause").status is OperationStatus.STARTED
    with pytest.raises(CallbackNotFoundError, match="no callback named 'second' is open; open are: none"):
        run.callback("second")
    second = run.until_callback("second")
    second.succeed(b"2")
    with pytest.raises(CallbackClosedError):
        second.succeed("3")
    result = run.result()
    assert result.value == ["1", "2"]
    with pytest.raises(CallbackNotFoundError, match="and the execution has ended as SUCCEEDED"):
        run.until_callback("first")


def test_time_is_advanced_by_the_test(workflow):
    """What falls due meanwhile happens, and nothing else."""
    run = DurableTestRunner(workflow(order)).start({"card": 1})
    run.advance(Duration.from_days(29))
    assert run.state.wait("cool-off").status is OperationStatus.STARTED
    run.advance(DAY)
    assert run.state.step("deliver").attempts == 1
    with pytest.raises(ValidationError, match="execution 'test' has not ended"):
        _ = run.state.value
    assert not run.has_ended
    assert run.advance(Duration.from_days(30)).has_ended
    assert run.state.value["parcel"] == "delivered"


def test_a_body_takes_the_time_it_says(workflow):
    """A step that advances the time of its run is overtaken by what falls due: here the timeout of the execution."""

    async def slow(_, context):
        await context.step(lambda _: run.advance(DAY) and None, name="slow")
        await context.step(lambda _: None, name="never")

    run = DurableTestRunner(workflow(slow)).start(execution_timeout=Duration.from_hours(1))
    result = run.result()
    assert result.status is ExecutionStatus.TIMED_OUT
    assert result.named("never") == []


def test_in_a_body_nothing_can_be_run(workflow):
    """A step cannot run its own run."""

    async def nested(_, context):
        return await context.step(lambda _: run.until_blocked() and None, name="nested", config=ONCE)

    run = DurableTestRunner(workflow(nested)).start()
    assert "step" in run.result().error.message


# ------------------------------------------------------------------------------------------------------ other signals


def test_an_execution_timeout_is_skipped_to(workflow):
    """The function's own timeout ends a workflow that waits longer."""

    async def waits(_, context):
        await context.wait_for_callback(lambda *_: None, name="approval")

    result = DurableTestRunner(workflow(waits, execution_timeout=DAY)).run()
    assert result.status is ExecutionStatus.TIMED_OUT
    assert result.ended - result.started == timedelta(days=1)


def test_a_run_is_stopped_paused_and_resumed(workflow):
    """As an application would, between two of its steps."""
    run = DurableTestRunner(workflow(order)).start({"card": 1}).until_blocked()
    run.pause()
    with pytest.raises(BlockedExecutionError, match=r"execution 'test' is paused; call resume\(\) of its run"):
        run.result()
    assert run.state.status is ExecutionStatus.PAUSED
    with pytest.raises(ValidationError, match="has not ended"):
        _ = run.state.value
    run.resume()
    assert run.state.status is ExecutionStatus.RUNNING
    run.stop(ErrorObject("enough"))
    result = run.result()
    assert (result.status, result.error.message) == (ExecutionStatus.STOPPED, "enough")


def test_a_run_is_paused_by_the_body_of_a_step(workflow):
    """The step is finished and recorded, nothing behind it begins, and no time that passes changes that."""
    ran, runs = [], []

    def first(_):
        ran.append("first")
        runs[0].pause()
        return runs[0].state.status.value

    async def pausing(_, context):
        status = await context.step(first, name="first")
        return [status, await context.step(lambda _: ran.append("second"), name="second")]

    runs.append(DurableTestRunner(workflow(pausing)).start())
    with pytest.raises(BlockedExecutionError, match="is paused"):
        runs[0].result()
    runs[0].advance(Duration.from_hours(1))
    assert (runs[0].state.status, ran) == (ExecutionStatus.PAUSED, ["first"])
    runs[0].resume()
    assert runs[0].result().value == ["PAUSING", None]
    assert ran == ["first", "second"]


def test_an_execution_that_is_given_up_says_why(workflow):
    """Five invocations that crash in a row are too many; the error tells what the last one died of."""
    healthy = []

    async def crashes(_, context):
        await context.step(lambda _: healthy or sys.exit(3), name="exits")
        return "healthy"

    run = DurableTestRunner(workflow(crashes)).start()
    with pytest.raises(BlockedExecutionError, match=r"left alone after 5 invocations in a row .* SystemExit: 3"):
        run.result()
    healthy.append(True)
    run.resume()
    assert run.result().value == "healthy"


def out_of_time(function):
    """A run whose time is over while a body runs, and what is said then; as short as this machine comes to the body."""
    for limit in (0.2, 2.0, 20.0):
        run = DurableTestRunner(function, timeout=limit).start()
        with pytest.raises(ResultTimeoutError) as raised:
            run.result()
        if "has not come to an end after 0 commits" not in str(raised.value):
            break
    return run, str(raised.value)


def test_a_body_that_hangs_is_named(workflow):
    """After the time limit the step that runs is named; nothing of it is recorded."""
    gate = threading.Event()

    async def hangs(_, context):
        await context.step(lambda _: gate.wait(), name="hangs")

    try:
        run, message = out_of_time(workflow(hangs))
    finally:
        gate.set()
    assert "step 'hangs' has not returned in time; bodies of steps run in" in message
    assert run.state.commits == 0


def test_a_coroutine_that_hangs_is_named(workflow):
    """So is a body that is cancelled when the time is over."""

    async def hangs(_):
        await asyncio.Event().wait()

    async def waits(_, context):
        await context.step(hangs, name="hangs")

    _, message = out_of_time(workflow(waits))
    assert "step 'hangs' has not returned in time" in message


def test_a_workflow_that_blocks_by_itself_is_told_what_to_do(workflow):
    """No body runs, and nothing is recorded any more."""
    gate = threading.Event()

    async def blocks(_, context):
        gate.wait()

    try:
        with pytest.raises(ResultTimeoutError, match="if its code blocks between operations, do that in a step"):
            DurableTestRunner(workflow(blocks), timeout=0.2).run()
    finally:
        gate.set()


def test_nothing_goes_on_behind_an_interrupted_test(workflow):
    """Ctrl-C, or a time limit of pytest's, ends the run too."""
    is_under_way = threading.Event()

    async def endless(_, context):
        while True:
            await context.step(lambda _: is_under_way.set(), name="turn")

    def interrupt():
        is_under_way.wait()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    run = DurableTestRunner(workflow(endless)).start()
    interrupting = threading.Thread(target=interrupt)
    # A job in the background of a shell is born deaf to it.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            run.result()
        interrupting.join()
    finally:
        signal.signal(signal.SIGINT, inherited)
    _, commits = run.state, run.state.commits
    assert [run.state.commits for _ in range(50)] == [commits] * 50


def test_a_run_that_is_given_up_before_it_could_begin_leaves_nothing_behind(recwarn):
    """Here other code holds the loop that `async def` workflows run on."""
    gate = threading.Event()

    async def never_begun(event, context):
        await context.wait(DAY)

    host_portal().post(gate.wait)
    try:
        with pytest.raises(ResultTimeoutError):
            DurableTestRunner(never_begun, timeout=0.2).run()
    finally:
        gate.set()
    host_portal().call(asyncio.sleep(0))
    gc.collect()
    assert [str(each.message) for each in recwarn if "never awaited" in str(each.message)] == []


def test_a_workflow_without_end_is_told_so(workflow):
    """The time limit strikes also where nothing ever waits in real time."""

    async def endless(_, context):
        while True:
            await context.wait(DAY)

    with pytest.raises(ResultTimeoutError, match=r"has not come to an end after \d+ commits and \d+ s of its own time"):
        DurableTestRunner(workflow(endless), timeout=0.3).run()


def test_a_change_of_code_is_tried_on_a_run(workflow):
    """After a deploy the recorded operations are replayed over the new code: it fits, or the error names both."""

    async def fits(event, context):
        await context.step(lambda _: "another body", name="charge")
        await context.wait(Duration.from_days(1), name="cool-off")
        return await context.step(lambda _: "sent", name="send")

    async def differs(event, context):
        await context.step(lambda _: "paid", name="pay")

    def begun():
        return DurableTestRunner(workflow(order)).start({"card": 1}).until_blocked()

    result = begun().redeploy(workflow(fits)).result()
    assert result.value == "sent"
    assert result.step("charge").result == {"card": 1}
    assert result.wait("cool-off").ended - result.started == timedelta(days=30)
    failed = begun().redeploy(workflow(differs)).result()
    assert "replayed step 'pay' at position 1, where its journal has step 'charge'" in failed.error.message


# ---------------------------------------------------------------------------------------------------------- functions


async def ships(event, context):
    return await context.invoke("ship", event, name="shipping")


def test_invoked_functions_are_run(workflow):
    """Durable functions, and plain ones that stand for others, by their own names."""

    async def ship(event, context):
        await context.wait(DAY, name="road")
        return f"{event} shipped"

    result = DurableTestRunner(workflow(ships), functions=[workflow(ship)]).run("chair")
    assert result.value == "chair shipped"
    assert result.invoke("shipping").result == "chair shipped"
    assert result.ended - result.started == timedelta(days=1)


def test_plain_functions_stand_for_others(workflow):
    """Of an event, or of an event and a context, blocking or not, by a name of their own or one given."""

    def ship(event):
        return f"{event} shipped"

    async def ship_async(event, _):
        return f"{event} shipped"

    for functions in ([ship], {"ship": ship}, {"ship": ship_async}, {"ship": lambda event, _: ship(event)}):
        assert DurableTestRunner(workflow(ships), functions=functions).run("lamp").value == "lamp shipped"


def test_a_plain_function_that_is_a_workflow_is_told_to_be_decorated(workflow):
    """Handlers may be plain, and functions too; but those stand for others, and have no operations."""

    async def ship(event, context):
        return await context.step(lambda _: event, name="load")

    result = DurableTestRunner(workflow(ships), functions=[ship]).run("lamp")
    assert result.error.message == (
        "a plain function given by functions= has no context, and so no 'step'; "
        "if it is a workflow, decorate it with @durable_execution"
    )


def test_a_function_is_known_under_another_name(workflow):
    """A mapping's key is what it is invoked by, with or without a version."""

    async def live(event, context):
        return await context.invoke("ship:live", event)

    @durable_execution(name="other")
    def other(event, _):
        return [event]

    assert DurableTestRunner(workflow(live), functions={"ship:live": other}).run(1).value == [1]
    assert DurableTestRunner(workflow(live), functions={"ship:live": lambda event: -event}).run(1).value == -1
    assert other.name == "other"


def test_an_invoked_function_may_fail_or_be_missing(workflow):
    """Both are errors of the invoke."""

    def ship(_):
        raise ValueError("no road")

    failed = DurableTestRunner(workflow(ships), functions=[ship]).run()
    assert failed.invoke("shipping").error.message == "no road"
    missing = DurableTestRunner(workflow(ships)).run()
    assert "Function not found: ship" in missing.error.message


def test_callbacks_of_invoked_functions(workflow):
    """They are completed like the workflow's own."""
    ship = workflow(approval, name="ship")
    runner = DurableTestRunner(workflow(ships), functions=[ship]).on_callback("approval", "go")
    assert runner.run().value == "go"


def test_functions_need_names_of_their_own(workflow):
    """What could not be invoked, or is there twice, is refused."""
    with pytest.raises(ValidationError, match=r"has no name that it is invoked by; pass functions=\{'name'"):
        DurableTestRunner(workflow(ships), functions=[lambda event: event])
    with pytest.raises(ValidationError, match="'ship' is to stand for a function, and is 5"):
        DurableTestRunner(workflow(ships), functions={"ship": 5})
    with pytest.raises(ValidationError, match=r"two functions are called 'ships:\$LATEST'"):
        DurableTestRunner(workflow(ships), functions={"ships": lambda event: event})


def test_a_function_may_invoke_itself(workflow):
    """The handler is known to itself, and given once more changes nothing."""

    async def down(event, context):
        return 0 if event == 0 else 1 + await context.invoke("down", event - 1)

    handler = workflow(down)
    assert DurableTestRunner(handler, functions=[handler]).run(3).value == 3


# -------------------------------------------------------------------------------------------------------- event loops


def test_within_a_running_loop(workflow):
    """A test that is a coroutine runs workflows like any other."""

    async def test():
        return DurableTestRunner(workflow(order)).run({"card": 1}).value["parcel"]

    assert asyncio.run(test()) == "delivered"


def test_not_on_the_loop_of_workflows():
    """There it would wait for itself."""

    async def test():
        DurableTestRunner(lambda event, _: event).run()

    with pytest.raises(InvalidStateError):
        host_portal().call(test())
