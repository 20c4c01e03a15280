"""The handler against AWS's own emulator, in this process: what goes right, and what a lost reply does not spoil."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config

from perdure.config import StepConfig
from perdure.durable import Duration, durable_execution
from perdure.engine.settings import RESULT_INLINE_LIMIT
from perdure.retries import RetryStrategyConfig, create_retry_strategy
from tests.official.emulator import Emulator
from tests.official.faults import Fault, Faults, reply_lost
from tests.official.front import Front
from tests.official.function import Function
from tests.official.names import REGION
from tests.official.runtime_api import Outcome
from tests.unit.lambda_handler.service import LambdaContext

if TYPE_CHECKING:
    from collections.abc import Iterator

RAN: list[tuple[str, str]] = []
ONCE_MORE = StepConfig(
    retry_strategy=create_retry_strategy(
        RetryStrategyConfig(max_attempts=3, initial_delay=Duration.from_seconds(1), backoff_rate=1)
    )
)


def body(event, name):
    """What every step does: say that it ran."""
    RAN.append((event["id"], name))
    return name


@durable_execution
def blocking(event, context):
    first = context.step(lambda _: body(event, "first"), name="first")
    context.wait(Duration.from_seconds(1), name="nap")
    both = context.parallel([lambda inner, n=n: inner.step(lambda _: body(event, n)) for n in ("left", "right")])
    fails = [name for id, name in RAN if (id, name) == (event["id"], "failing")]

    def failing(_):
        body(event, "failing")
        if not fails:
            raise ValueError("not yet")

    context.step(failing, name="failing", config=ONCE_MORE)
    return [first, *both.get_results(), "x" * event.get("large", 0)]


@durable_execution
async def awaiting(event, context):
    first = await context.step(lambda _: body(event, "first"), name="first")
    await context.wait(Duration.from_seconds(1), name="nap")

    async def branch(inner, name):
        return await inner.step(lambda _: body(event, name))

    both = await context.parallel([lambda inner, n=n: branch(inner, n) for n in ("left", "right")])
    fails = [name for id, name in RAN if (id, name) == (event["id"], "failing")]

    async def failing(_):
        body(event, "failing")
        if not fails:
            raise ValueError("not yet")

    await context.step(failing, name="failing", config=ONCE_MORE)
    return [first, *both.get_results(), "x" * event.get("large", 0)]


HANDLERS = {"blocking": blocking, "awaiting": awaiting}


class InProcess:
    """Runs handlers in threads of this process."""

    def __init__(self) -> None:
        self.functions = {name: Function(name, f"{__name__}.{name}") for name in HANDLERS}

    def run(self, function: Function, event: bytes, **_: Any) -> Outcome:
        began, id = time.time(), str(uuid4())
        try:
            payload = json.dumps(HANDLERS[function.name](json.loads(event), LambdaContext())).encode()
        except Exception as error:  # noqa: BLE001 - as awslambdaric tells of it
            payload = json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)}).encode()
            return Outcome(payload, id, began, time.time(), failed=True)
        return Outcome(payload, id, began, time.time(), failed=False)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """The emulator, with the handlers behind it."""
    host = InProcess()
    endpoint = Front(host)  # type: ignore[arg-type]  # it needs of its host what this has
    emulator = Emulator(host.functions.values(), endpoint.url, tmp_path_factory.mktemp("emulator"))
    endpoint.control_plane = emulator.url
    yield endpoint
    emulator.close()
    endpoint.close()


@pytest.fixture
def invoke(front: Front, reach: Any) -> Iterator[Any]:
    """Runs an execution to its end: its result, or its error."""
    reach(front.url)
    config = Config(read_timeout=120, retries={"total_max_attempts": 1})
    client = boto3.client("lambda", endpoint_url=front.url, region_name=REGION, config=config)

    def call(name: str, **event: object) -> tuple[str, Any]:
        answer = client.invoke(FunctionName=name, Qualifier="$LATEST", Payload=json.dumps(event))
        return answer["DurableExecutionArn"], json.loads(answer["Payload"].read())

    yield call
    client.close()


def names_run(id):
    """The steps that ran, in any order."""
    return sorted(name for each, name in RAN if each == id)


EACH_ONCE = ["failing", "failing", "first", "left", "right"]


def test_an_execution_runs_to_its_end(colour, front, invoke):
    """Over a wait and a retry: three invocations, and every step runs as often as it must."""
    arn, result = invoke(colour, id=str(colour))
    assert result == ["first", "left", "right", ""]
    assert names_run(str(colour)) == EACH_ONCE
    assert [json.loads(each.payload)["Status"] for each in front.trails[arn].outcomes] == [
        "PENDING",
        "PENDING",
        "SUCCEEDED",
    ]


def test_replies_that_are_lost_change_nothing(colour, front, invoke):
    """The reply of every accepted checkpoint is lost once: the emulator answers again, nothing is done twice."""
    faults = [Fault("CheckpointDurableExecution", reply_lost, after=number) for number in range(0, 40, 2)]
    front.around = Faults(*faults)
    try:
        arn, result = invoke(colour, id=f"lost-{colour}")
    finally:
        front.around = lambda call, forward: forward(call)
    assert result == ["first", "left", "right", ""]
    assert names_run(f"lost-{colour}") == EACH_ONCE
    assert all(not each.failed for each in front.trails[arn].outcomes)
    sent = [each.client_token for each in front.trails[arn].checkpoints]
    assert len(sent) == 2 * len(set(sent))


def test_a_large_result_arrives(colour, invoke):
    """Larger than an invocation's output may be."""
    _, result = invoke(colour, id=f"large-{colour}", large=RESULT_INLINE_LIMIT)
    assert len(result[-1]) == RESULT_INLINE_LIMIT


def test_executions_run_at_once(colour, invoke):
    """Ten of them in one process, whose loop, threads and client they share."""
    ids = [f"at-once-{colour}-{number}" for number in range(10)]
    with ThreadPoolExecutor(10) as pool:
        results = list(pool.map(lambda each: invoke(colour, id=each)[1], ids))
    assert results == [["first", "left", "right", ""]] * 10
    assert [names_run(id) for id in ids] == [EACH_ONCE] * 10


def test_an_event_twice_at_once(colour, front, invoke):
    """A duplicate of every invocation: of two that do the same one is fenced, and the execution has one course."""

    def doubled(call, forward):
        if call.operation != "RunHandler":
            return forward(call)
        replies: list[Any] = []
        twin = threading.Thread(target=lambda: replies.append(forward(call)))
        twin.start()
        replies.append(forward(call))
        twin.join()
        answered = [reply for reply in replies if "X-Amz-Function-Error" not in reply.headers]
        # The service hears of one of them.
        return (answered or replies)[0]

    front.around = doubled
    try:
        arn, result = invoke(colour, id=f"twice-{colour}")
    finally:
        front.around = lambda call, forward: forward(call)
    assert result == ["first", "left", "right", ""]
    assert len(front.trails[arn].outcomes) >= 6
    updates = front.trails[arn].updates()
    assert all(len([each for each in group if each["Action"] == "SUCCEED"]) <= 1 for group in updates.values())
