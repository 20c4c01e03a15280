"""The worker in this process, on real stores: slots, draining, crashes, starts of its own."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

import pytest

from perdure.adapters.worker import Worker
from perdure.client import AsyncClient, Client
from perdure.durable import Duration, RetryPresets, StepConfig, durable_execution
from perdure.errors import (
    ExecutionConflictError,
    ExecutionFailedError,
    InvalidStateError,
    ResultTimeoutError,
    ValidationError,
)
from perdure.service.crash_policy import CrashPolicy
from perdure.storage import Backend
from perdure.testing.memory import MemoryStore
from tests.e2e.processes import wait_until

runs: Counter[str] = Counter()
gate = threading.Event()
entered = threading.Semaphore(0)


@pytest.fixture(autouse=True)
def _fresh():
    runs.clear()
    gate.clear()
    while entered.acquire(blocking=False):
        pass
    yield
    gate.set()


@pytest.fixture(params=["memory", "sqlite"])
def backend(request, tmp_path):
    if request.param == "memory":
        return Backend(url="memory://", store=MemoryStore())
    return f"sqlite:///{tmp_path / 'worker.db'}"


def held(_):
    runs["held"] += 1
    entered.release()
    assert gate.wait(20)
    return "held"


@durable_execution
def waits_inside(event, context):
    first = context.step(held)
    runs["between"] += 1
    return first, context.step(lambda _: "next")


@durable_execution
async def waits_inside_async(event, context):
    first = await context.step(held)
    runs["between"] += 1
    return first, await context.step(lambda _: "next")


@durable_execution
def exits(event, context):
    def body(_):
        runs["exits"] += 1
        if runs["exits"] <= event["times"]:
            raise SystemExit(3)
        return "ok"

    return context.step(body)


@durable_execution
async def exits_async(event, context):
    async def body(_):
        runs["exits"] += 1
        if runs["exits"] <= event["times"]:
            raise SystemExit(3)
        return "ok"

    return await context.step(body)


@durable_execution
def one(event, context):
    return context.step(lambda _: runs.update(["one"]) or 1)


@durable_execution(name="one", version="2")
def one_of_version_two(event, context):
    return 2


@durable_execution
async def two_branches(event, context):
    """One branch waits for a callback, the other one is in a body for as long as the test likes."""

    async def called_back(child):
        callback = await child.create_callback(name="told")
        event_ids.append(callback.callback_id)
        entered.release()
        answer = await callback.result()
        gate.set()
        return answer

    async def busy(child):
        return await child.step(held)

    return (await context.parallel([called_back, busy])).get_results()


@durable_execution
def two_branches_blocking(event, context):
    def called_back(child):
        callback = child.create_callback(name="told")
        event_ids.append(callback.callback_id)
        entered.release()
        answer = callback.result()
        gate.set()
        return answer

    return context.parallel([called_back, lambda child: child.step(held)]).get_results()


event_ids: list[str] = []


def is_told_to_end(worker):
    """Whether a worker that stops has come so far that whatever it runs begins nothing more."""
    return all(run._interrupted for run in worker._shift._runs.values())


@pytest.mark.parametrize("function", [waits_inside, waits_inside_async], ids=lambda function: function.name)
def test_draining_records_the_running_body_and_hands_the_rest_on(backend, function):
    """Stop waits for the body, its result is recorded, the next worker goes on behind it; no crash is counted."""
    with Client(backend) as client:
        worker = Worker(backend, [function])
        worker.start()
        handle = client.start(function)
        assert entered.acquire(timeout=10)
        stopping = threading.Thread(target=worker.stop)
        stopping.start()
        wait_until(lambda: is_told_to_end(worker), "what runs is to end")
        with pytest.raises(ResultTimeoutError):
            handle.result(timeout=0.05)
        gate.set()
        stopping.join()
        description = handle.describe()
        assert (description.status.value, description.crashes, description.owner) == ("RUNNING", 0, None)
        with Worker(backend, [function]):
            assert list(handle.result(timeout=10)) == ["held", "next"]
    assert runs["held"] == 1


def test_what_does_not_end_in_time_is_left_to_the_next_owner(backend):
    """After `drain_timeout` the worker lets go; the next one runs the step again, as at-least-once says."""
    with Client(backend) as client:
        worker = Worker(backend, [waits_inside], lease=1.0, drain_timeout=0.1)
        worker.start()
        handle = client.start(waits_inside)
        assert entered.acquire(timeout=10)
        worker.stop()
        with Worker(backend, [waits_inside]):
            assert entered.acquire(timeout=20)
            gate.set()
            assert list(handle.result(timeout=20)) == ["held", "next"]
    assert runs["held"] == 2


@pytest.mark.parametrize("function", [exits, exits_async], ids=lambda function: function.name)
def test_a_body_that_exits_is_a_crash_and_runs_again(backend, function):
    """SystemExit ends the invocation uncleanly, never the worker; the history tells."""
    with Worker(backend, [function, one]), Client(backend) as client:
        handle = client.start(function, {"times": 1})
        assert handle.result(timeout=10) == "ok"
        errors = [
            e.details["Error"]
            for e in handle.history()
            if e.event_type == "InvocationCompleted" and "Error" in e.details
        ]
        assert [error["Payload"]["ErrorType"] for error in errors] == ["SystemExit"]
        assert client.start(one).result(timeout=10) == 1
    assert runs["exits"] == 2


def test_a_poisoned_execution_is_left_alone_until_it_is_resumed(backend, monkeypatch):
    """Quarantined and visible after the last crash; resume forgets the crashes, another is refused."""
    monkeypatch.setattr("perdure.service.service.CrashPolicy", lambda: CrashPolicy(limit=2, first_pause=0.01))
    with Worker(backend, [exits]), Client(backend) as client:
        handle = client.start(exits, {"times": 2})
        wait_until(lambda: handle.describe().quarantined, "it is quarantined")
        assert (handle.describe().due, runs["exits"]) == (None, 2)
        client.resume(handle.arn, "mended")
        assert handle.result(timeout=10) == "ok"
        with pytest.raises(ExecutionConflictError, match="nothing to resume"):
            client.resume(handle.arn)
        assert "ExecutionResumed" in [event.event_type for event in handle.history()]


def test_slots_bound_what_runs_at_once(backend):
    """With two slots the third execution waits."""
    with Worker(backend, [waits_inside], concurrency=2), Client(backend) as client:
        handles = [client.start(waits_inside) for _ in range(4)]
        assert entered.acquire(timeout=10)
        assert entered.acquire(timeout=10)
        assert not entered.acquire(timeout=0.3)
        gate.set()
        assert [handle.result(timeout=10)[0] for handle in handles] == ["held"] * 4
    assert runs["held"] == 4


@pytest.mark.usefixtures("unhurried")
def test_a_start_beside_its_worker_costs_the_fewest_commits():
    """Created and owned in one step: no claim, no read; one commit for the step, one for both ends."""
    calls: Counter[str] = Counter()

    class Counting(MemoryStore):
        async def commit(self, batch):
            calls["commit"] += len(batch)
            return await super().commit(batch)

        async def entries(self, id, after, max_bytes):
            calls["entries"] += 1
            return await super().entries(id, after, max_bytes)

        async def describe(self, id):
            calls["describe"] += 1
            return await super().describe(id)

    store = Counting()
    with Worker(store, [one]), Client(store) as client:
        assert client.start(one).result(timeout=10) == 1
        # On a busy machine it has ended before its starter comes to wait, who then looks once.
        assert calls in ({"commit": 2}, {"commit": 2, "describe": 1, "entries": 1})


def test_versions_are_kept_apart(backend):
    """An execution keeps its version; an unqualified start takes the version registered last."""
    with Worker(backend, [one, one_of_version_two]), Client(backend) as client:
        assert client.start(one).result(timeout=10) == 1
        assert client.start(one_of_version_two).result(timeout=10) == 2
        assert client.start("one:2").result(timeout=10) == 2
        assert client.start("one:$LATEST").result(timeout=10) == 1


@pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")
def test_an_unknown_function_waits_for_its_worker(backend):
    """Due and visible, left alone by workers of other functions."""
    with Worker(backend, [exits]), Client(backend) as client:
        handle = client.start("one")
        with pytest.raises(ResultTimeoutError):
            handle.result(timeout=0.2)
        assert handle.describe().due is not None
        with Worker(backend, [one]):
            assert handle.result(timeout=10) == 1


@pytest.mark.parametrize("function", [two_branches, two_branches_blocking], ids=lambda function: function.name)
def test_a_callback_is_heard_while_another_branch_runs(backend, function):
    """The owner is told at once, not at its next checkpoint: the busy branch ends only after the callback."""
    event_ids.clear()
    with Worker(backend, [function]), Client(backend) as client:
        handle = client.start(function)
        assert entered.acquire(timeout=10)
        assert entered.acquire(timeout=10)
        client.send_callback_success(event_ids[0], "told")
        assert handle.result(timeout=10) == ["told", "held"]
    assert runs["held"] == 1


def test_an_async_client_on_a_loop_of_its_own(backend):
    """Starts and results are awaited wherever the application runs."""

    async def scene():
        async with AsyncClient(backend) as client:
            handles = [await client.start(one) for _ in range(10)]
            return await asyncio.gather(*(handle.result(timeout=10) for handle in handles))

    with Worker(backend, [one]):
        assert asyncio.run(scene()) == [1] * 10
    assert runs["one"] == 10


def test_a_worker_can_start_again(backend):
    """Stop and start; a closed client says so."""
    worker = Worker(backend, [one])
    client = Client(backend)
    for _ in range(2):
        worker.start()
        assert client.start(one).result(timeout=10) == 1
        worker.stop()
    client.close()
    with pytest.raises(InvalidStateError, match="closed"):
        client.list()


def test_functions_must_be_told_apart():
    """No function, or two of one name and version."""
    with pytest.raises(ValidationError, match="at least one function"):
        Worker("memory://", [])

    @durable_execution(name="one")
    def other(event, context):
        return None

    with pytest.raises(ValidationError, match="two functions are called 'one'"):
        Worker("memory://", [one, other])


@durable_execution
def fails(event, context):
    config = StepConfig(retry_strategy=RetryPresets.none())

    def body(_):
        raise LookupError("nothing here")

    return context.step(body, name="look", config=config)


def test_a_failed_execution_raises_what_was_recorded(backend):
    """Status, type and text of the error reach the caller."""
    with Worker(backend, [fails]), Client(backend) as client, pytest.raises(ExecutionFailedError) as raised:
        client.start(fails).result(timeout=10)
    assert (raised.value.status, raised.value.error_message) == ("FAILED", "nothing here")
    assert raised.value.error_type.endswith("StepError")


@durable_execution(execution_timeout=Duration.from_seconds(1))
def too_long(event, context):
    context.wait(Duration.from_hours(1))


def test_an_execution_timeout_needs_no_owner(backend):
    """TIMED_OUT by whoever does the upkeep."""
    with Worker(backend, [too_long]), Client(backend) as client, pytest.raises(ExecutionFailedError) as raised:
        client.start(too_long).result(timeout=10)
    assert raised.value.status == "TIMED_OUT"
