"""What a worker's log says of user code that goes wrong, and that such code keeps nobody else from running."""

from __future__ import annotations

import contextlib
import json
import logging
import threading

import pytest

from perdure.adapters.worker import Worker
from perdure.client import Client
from perdure.config import StepConfig
from perdure.durable import Duration, RetryPresets, durable_execution
from perdure.errors import ExecutionFailedError
from perdure.retries import RetryStrategyConfig, create_retry_strategy
from perdure.service.crash_policy import CrashPolicy
from perdure.storage import MICROSECONDS
from perdure.testing.memory import MemoryStore
from perdure.waits import WaitForConditionConfig, WaitForConditionDecision
from tests.e2e.processes import wait_until
from tests.scenarios.stage import SkippingClock

ONCE = StepConfig(retry_strategy=RetryPresets.none())


def breaks(*_):
    raise ZeroDivisionError("who could have known")


async def breaks_async(*_):
    raise ZeroDivisionError("who could have known")


def unserializable(*_):
    return threading.Lock()


@durable_execution
def step_breaks(event, context):
    context.step(breaks, name="the one", config=ONCE)


@durable_execution
async def step_breaks_async(event, context):
    await context.step(breaks_async, name="the one", config=ONCE)


@durable_execution
def step_is_unserializable(event, context):
    context.step(unserializable, name="the one", config=ONCE)


@durable_execution
def check_breaks(event, context):
    config = WaitForConditionConfig(lambda *_: WaitForConditionDecision.stop_polling(), initial_state=0)
    context.wait_for_condition(breaks, config, name="the one")


def failure(caplog, function, times=1):
    """The log of a failed execution of this function, and its id; the line on the step has a stack trace."""
    store = MemoryStore()
    with caplog.at_level(logging.WARNING), Worker(store, [function]), Client(store) as client:
        handle = client.start(function)
        with pytest.raises(ExecutionFailedError):
            handle.result(timeout=10)
    records = [record for record in caplog.records if record.name == "perdure.engine"]
    assert all(record.exc_info and record.exc_info[1] is not None for record in records)
    assert all("object at 0x" not in record.getMessage() for record in records[:times])
    return handle.id, [record.getMessage() for record in records]


@pytest.mark.parametrize("function", [step_breaks, step_breaks_async, check_breaks], ids=lambda function: function.name)
def test_a_step_that_breaks_is_told_of(caplog, function):
    """Which execution, which step, which attempt, and why."""
    id, (line, _) = failure(caplog, function)
    assert line.startswith(f"execution {id}: attempt 1 of step 'the one' failed: ZeroDivisionError(")


def test_a_step_whose_result_cannot_be_kept_is_told_of(caplog):
    """Nothing was raised by its code, so that nothing else would tell where it was."""
    id, (line, _) = failure(caplog, step_is_unserializable)
    assert line.startswith(f"execution {id}: attempt 1 of step 'the one' failed: SerDesError(")
    assert "lock" in line


def test_a_step_without_a_name_is_told_of_by_its_place(caplog):
    """And each attempt by its number."""

    twice = RetryStrategyConfig(max_attempts=2, initial_delay=Duration.from_seconds(1))

    @durable_execution
    def flow(event, context):
        context.step(lambda _: 1)
        context.step(breaks, config=StepConfig(retry_strategy=create_retry_strategy(twice)))

    id, lines = failure(caplog, flow, times=2)
    assert f"execution {id}: attempt 1 of step at position 2 failed" in lines[0]
    assert f"execution {id}: attempt 2 of step at position 2 failed" in lines[1]


def test_an_unserializable_result_of_an_execution_is_told_of(caplog):
    """The execution fails of it; the log has its id and what it returned."""

    @durable_execution
    def flow(event, context):
        return threading.Lock()

    id, (line,) = failure(caplog, flow, times=0)
    assert f"/{id}' fails: SerDesError(" in line


def test_changed_code_is_told_of(caplog):
    """That a journal does not fit the code any more is what somebody must look into."""
    clock = SkippingClock()
    store = MemoryStore(clock)

    @durable_execution(name="flow")
    def before(event, context):
        context.step(lambda _: 1, name="old")
        context.wait(Duration.from_hours(1))

    @durable_execution(name="flow")
    def after(event, context):
        context.wait(Duration.from_hours(1), name="new")

    with Client(store) as client:
        with Worker(store, [before]):
            handle = client.start(before)
            wait_until(lambda: handle.describe().due, "it sleeps")
        clock.skip(3600 * MICROSECONDS)
        with caplog.at_level(logging.WARNING), Worker(store, [after]), pytest.raises(ExecutionFailedError):
            handle.result(timeout=10)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "perdure.engine"]
    assert f"/{handle.id}' fails: NonDeterministicExecutionError(" in line


def test_a_thread_that_was_given_up_keeps_no_slot(caplog):
    """Code that cannot be ended costs its thread, and not the worker's only slot too."""

    @durable_execution
    def swallows(event, context):
        while True:
            with contextlib.suppress(BaseException):
                context.wait(Duration.from_hours(1))

    @durable_execution
    def sound(event, context):
        return context.step(lambda _: json.dumps(event))

    store = MemoryStore()
    with Client(store) as client:
        client._desk.connection.service.crash_policy = CrashPolicy(limit=1)
        with Worker(store, [swallows, sound], concurrency=1):
            poisonous = client.start(swallows)
            wait_until(lambda: poisonous.describe().quarantined, "it was given up", 10)
            assert client.start(sound, 7).result(timeout=10) == "7"
