"""One process and many invocations: at once, one after another, twice the same; and how they end it."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import boto3
import pytest

from perdure.adapters.lambda_handler import client
from perdure.durable import durable_execution
from perdure.engine.observer import Observer
from perdure.errors import CheckpointError
from tests.official.web import Reply
from tests.unit.lambda_handler.service import ENVIRONMENT, STALE, LambdaContext, Service


def test_invocations_run_at_once(colour, service, reach):
    """Eight executions wait for each other in their steps; each has a service of its own to tell them apart."""
    meeting = threading.Barrier(8)

    def body(_):
        meeting.wait(20)
        return 1

    @durable_execution
    def blocking(event, context):
        return [event, context.step(body), context.step(body)]

    @durable_execution
    async def awaiting(event, context):
        return [event, await context.step(body), await context.step(body)]

    function = {"blocking": blocking, "awaiting": awaiting}[colour]

    def one(number):
        with Service(number) as own:
            handler = durable_execution(function.func, boto3_client=boto3.client("lambda", endpoint_url=own.url))
            output = handler(own.event(), LambdaContext())
            handler.boto3_client.close()
            return output["Result"]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(8))) == [f"[{number}, 1, 1]" for number in range(8)]


def test_threads_share_one_client(service):
    """It is made once, however many need it first."""
    with ThreadPoolExecutor(8) as pool:
        clients = set(pool.map(lambda _: client.shared_client(), range(32)))
    assert len(clients) == 1


def test_a_duplicate_is_fenced(colour, service):
    """The same input runs twice at once: one records what it does, the other raises and records nothing."""
    meeting = threading.Barrier(2)
    ran = []

    def body(_):
        meeting.wait(20)
        ran.append(1)
        return len(ran)

    @durable_execution
    def blocking(event, context):
        return context.step(body)

    @durable_execution
    async def awaiting(event, context):
        return await context.step(body)

    function = {"blocking": blocking, "awaiting": awaiting}[colour]
    event = service.event()
    outcomes = []

    def invoke():
        try:
            outcomes.append(function(event, LambdaContext()))
        except CheckpointError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=invoke) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (answered,) = [each for each in outcomes if isinstance(each, dict)]
    (raised,) = [each for each in outcomes if isinstance(each, CheckpointError)]
    assert STALE in str(raised)
    assert raised.is_retryable()
    (step,) = [each for each in service.operations.values() if each["Type"] == "STEP"]
    assert answered["Result"] == step["StepDetails"]["Result"]
    assert step["StepDetails"]["Attempt"] == 1


def test_a_warm_process_serves_many(colour, service):
    """Invocation after invocation, with one client, and as many threads as before."""

    @durable_execution
    def blocking(event, context):
        return context.step(lambda _: 1)

    @durable_execution
    async def awaiting(event, context):
        return await context.step(lambda _: 1)

    function = {"blocking": blocking, "awaiting": awaiting}[colour]

    def once():
        for id in list(service.operations)[1:]:
            del service.operations[id]
        assert function(service.event(), LambdaContext())["Result"] == "1"

    once()
    made, threads = client.shared_client(), threading.active_count()
    for _ in range(50):
        once()
    assert client.shared_client() is made
    # The service of this test has one for each connection, and a pool another one if the first is not back in time.
    assert threading.active_count() < threads + 10


def test_what_belongs_to_a_loop_lives_on(service):
    """A step's connection pool, lock or client is good in the next invocation of the process."""
    kept = {}

    @durable_execution
    async def function(event, context):
        async def body(_):
            loop = asyncio.get_running_loop()
            lock = kept.setdefault("lock", asyncio.Lock())
            async with lock:
                await asyncio.sleep(0)
            return kept.setdefault("loop", loop) is loop

        return [await context.step(body) for _ in range(2)]

    for _ in range(3):
        service.operations = {id: each for id, each in service.operations.items() if each["Type"] == "EXECUTION"}
        assert function(service.event(), LambdaContext())["Result"] == "[true, true]"


@pytest.mark.parametrize("exit", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("place", ["workflow", "step"])
def test_an_exit_of_user_code_leaves_the_handler(exit, place, colour, service):
    """As it does in any function: Lambda sees the process end; later invocations of a process that goes on work."""
    exits = [exit("over")]

    def leave():
        if exits:
            raise exits.pop()
        return 1

    @durable_execution
    def blocking(event, context):
        if place == "workflow":
            return leave()
        return context.step(lambda _: leave())

    @durable_execution
    async def awaiting(event, context):
        async def body(_):
            return leave()

        if place == "workflow":
            return leave()
        return await context.step(body)

    function = {"blocking": blocking, "awaiting": awaiting}[colour]
    with pytest.raises(exit, match="over"):
        function(service.event(), LambdaContext())
    assert service.outcome is None
    assert function(service.event(), LambdaContext()) == {"Status": "SUCCEEDED", "Result": "1"}


SPAN: ContextVar[str] = ContextVar("span", default="none")


@pytest.mark.parametrize("observed", [True, False])
def test_observers_see_the_context_of_the_caller(observed, colour, service):
    """Tracing that begins around the handler goes on within; without observers the workflow sees nothing of it."""
    seen = []

    @durable_execution
    def blocking(event, context):
        return SPAN.get()

    @durable_execution
    async def awaiting(event, context):
        return SPAN.get()

    class Watching(Observer):
        def invocation_started(self, opening):
            seen.append(SPAN.get())

    function = {"blocking": blocking, "awaiting": awaiting}[colour]
    if observed:
        function.observe = (lambda opening: [Watching()],)
    token = SPAN.set("outer")
    try:
        output = function(service.event(), LambdaContext())
    finally:
        SPAN.reset(token)
    assert seen == ["outer"] * observed
    assert output["Result"] == ('"outer"' if observed else '"none"')


def in_child(function, event, output):
    """What a forked process does."""
    output.put(function(event, LambdaContext()))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_a_client_of_its_own(colour, service):
    """As on Lambda's managed instances, where processes are forked once the handler is loaded, or was even used."""

    @durable_execution
    def blocking(event, context):
        return context.step(lambda _: 1)

    @durable_execution
    async def awaiting(event, context):
        return await context.step(lambda _: 1)

    function = {"blocking": blocking, "awaiting": awaiting}[colour]
    assert function(service.event(), LambdaContext())["Result"] == "1"
    service.operations = {id: each for id, each in service.operations.items() if each["Type"] == "EXECUTION"}
    processes = multiprocessing.get_context("fork")
    output = processes.SimpleQueue()
    child = processes.Process(target=in_child, args=(function, service.event(), output))
    child.start()
    child.join(30)
    assert output.get()["Result"] == "1"
    assert child.exitcode == 0


def test_the_environment_is_told_to_nobody(service, caplog):
    """Neither tokens nor credentials are in what is logged."""

    @durable_execution
    def function(event, context):
        return context.step(lambda _: 1)

    service.misdeeds.extend([Reply.error(500, "ServiceException", "internal")] * 2)
    event = service.event()
    with caplog.at_level("INFO"), pytest.raises(CheckpointError):
        function(event, LambdaContext())
    assert caplog.records
    for secret in (event["CheckpointToken"], ENVIRONMENT["AWS_SECRET_ACCESS_KEY"]):
        assert secret not in caplog.text
