"""`lambda://` against AWS's emulator: what an application does with executions at AWS, by the client of own stores."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from perdure.backends.aws_lambda.location import Location
from perdure.client import AsyncClient, Client
from perdure.durable import Duration
from perdure.errors import (
    CallbackNotFoundError,
    ExecutionAlreadyStartedError,
    ExecutionFailedError,
    ExecutionNotFoundError,
    FunctionNotFoundError,
    InvalidStateError,
    ResultTimeoutError,
    TransactionsUnsupportedError,
    ValidationError,
)
from perdure.model import ErrorObject, ExecutionStatus, OperationStatus
from perdure.nonce import nonce
from tests.official.names import REGION
from tests.unit.aws_lambda.conftest import PATIENCE, open_callback, until
from tests.unit.aws_lambda.flows import Order, Receipt, buy, buy_async


@pytest.fixture
def asked(client):
    """Calls of the API that were made, by operation."""
    calls = []
    events = client._desk._api._client.meta.events
    events.register(
        "provide-client-params.lambda", lambda params, model, **_: calls.append((model.name, params)), "asked"
    )
    yield calls
    events.unregister("provide-client-params.lambda", unique_id="asked")


# ------------------------------------------------------------------------------------------------------------ starting


@pytest.mark.parametrize("function", [buy, buy_async], ids=["def", "async"])
def test_a_function_is_started_and_its_result_awaited(client, function):
    """Typed input and result, as with a store; the handle knows what it is of."""
    handle = client.start(function, Order("pen", 3), name=f"order-{nonce()}")
    assert handle.result(timeout=PATIENCE) == Receipt(Order("pen", 3), 21)
    assert (handle.function, handle.version) == (function.name, "$LATEST")
    assert handle.arn.endswith(handle.id)
    described = handle.describe()
    assert described.status is ExecutionStatus.SUCCEEDED
    assert described.name == handle.name
    assert described.input == '{"article": "pen", "count": 3}'
    assert described.started.tzinfo is UTC
    assert described.started <= described.ended <= datetime.now(UTC) + timedelta(seconds=1)


def test_the_url_names_the_function(cloud):
    """A durable function contributes its types; a text names the function itself."""
    with Client(f"lambda://buy_async:$LATEST?region={REGION}&endpoint_url={cloud.url}") as client:
        handle = client.start(buy, Order("pen"))
        assert handle.function == "buy_async"
        assert handle.result(timeout=PATIENCE) == Receipt(Order("pen"), 7)
        assert client.start("buy_async", {"article": "pen"}).result(timeout=PATIENCE)["total"] == 7
        with pytest.raises(ExecutionFailedError, match="ValueError: because"):
            client.start("fail", {"why": "because"}).result(timeout=PATIENCE)


@pytest.mark.parametrize(
    ("place", "function", "version", "expected"),
    [
        ("lambda://", "checkout", None, ("checkout", "$LATEST")),
        ("lambda://", "checkout:7", None, ("checkout", "7")),
        ("lambda://", "checkout:7", "live", ("checkout", "live")),
        ("lambda://", buy, None, ("buy", "$LATEST")),
        ("lambda://", buy, "3", ("buy", "3")),
        ("lambda://checkout:live", buy, None, ("checkout", "live")),
        ("lambda://checkout:live", "checkout", None, ("checkout", "live")),
        ("lambda://checkout:live", "checkout:8", None, ("checkout", "8")),
        ("lambda://checkout:live", "other", None, ("other", "$LATEST")),
        ("lambda://checkout:live", buy, "9", ("checkout", "9")),
        ("lambda://123456789012:function:checkout", "checkout", None, ("123456789012:function:checkout", "$LATEST")),
    ],
)
def test_which_function_is_invoked(monkeypatch, client, asked, place, function, version, expected):
    """Always with a qualifier: the one that was named last, else that of the URL, else $LATEST."""
    monkeypatch.setattr(client._desk, "_function", Location.parse(place).function)
    # The emulator knows some of them only.
    with suppress(FunctionNotFoundError):
        client.start(function, {}, version=version)
    (params,) = [params for name, params in asked if name == "Invoke"]
    assert (params["FunctionName"], params["Qualifier"]) == expected
    assert params["InvocationType"] == "Event"


def test_a_name_starts_once(client):
    """The same input finds the execution, another one is refused; a start without a name has one too."""
    name = f"order-{nonce()}"
    first = client.start(buy_async, Order("pen"), name=name)
    assert client.start(buy_async, Order("pen"), name=name).arn == first.arn
    with pytest.raises(ExecutionAlreadyStartedError, match="another input"):
        client.start(buy_async, Order("ink"), name=name)
    assert client.start(buy_async, Order("pen")).name != client.start(buy_async, Order("pen")).name


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"execution_timeout": Duration(60)}, ValidationError, "set ExecutionTimeout in its DurableConfig"),
        ({"retention_days": 3}, ValidationError, "set RetentionPeriodInDays in its DurableConfig"),
        ({"connection": sqlite3}, TransactionsUnsupportedError, "leave it out"),
        ({"name": "no name!"}, ValidationError, "an execution name is"),
        ({"input": "x" * 1_048_577}, ValidationError, "1048579 bytes, and AWS takes at most 1048576"),
    ],
)
def test_starts_that_cannot_be(client, asked, options, error, message):
    """Each is told with its remedy, and nothing is asked of AWS."""
    with pytest.raises(error, match=message):
        client.start("buy", **{"input": {}, **options})
    assert asked == []


def test_what_is_no_function(client):
    """Neither an unknown one, nor one that is not durable, nor what cannot be a name."""
    with pytest.raises(FunctionNotFoundError, match="'nowhere:\\$LATEST'"):
        client.start("nowhere")
    with pytest.raises(ValidationError, match="not as a durable execution"):
        client.start("plain")
    with pytest.raises(ValidationError, match="names no function of AWS Lambda"):
        client.start("a b")


# ------------------------------------------------------------------------------------------------------------- results


def test_a_failure(client):
    """As on a store: with the recorded error."""
    handle = client.start("fail", {"why": "because"})
    with pytest.raises(ExecutionFailedError, match="ended as FAILED: ValueError: because") as failed:
        handle.result(timeout=PATIENCE)
    assert (failed.value.status, failed.value.error_type) == ("FAILED", "ValueError")
    assert handle.describe().error == ErrorObject("because", "ValueError")


def test_a_large_result(client):
    """Larger than what a handler may return."""
    assert client.start("large", {"size": 6_200_000}).result(timeout=PATIENCE) == "x" * 6_200_000


def test_a_wait_that_is_too_short(client):
    """The execution goes on; a timeout of zero looks once."""
    handle = client.start("ask")
    for timeout in (0, 0.2):
        with pytest.raises(ResultTimeoutError, match="it goes on"):
            handle.result(timeout=timeout)
    client.send_callback_success(open_callback(handle), "yes")
    assert handle.result(timeout=PATIENCE) == "yes"
    assert handle.result(timeout=0) == "yes"


def test_waiting_asks_ever_less_often(client, asked):
    """Nothing tells of an end; the pauses grow."""
    handle = client.start("ask")
    with pytest.raises(ResultTimeoutError):
        handle.result(timeout=2.0)
    looks = [params for name, params in asked if name == "GetDurableExecution"]
    assert 2 <= len(looks) <= 10
    assert not any(params["IncludeExecutionData"] for params in looks)


def test_closing_ends_every_wait(url):
    """Who waits without a limit is told."""
    told, looked = [], threading.Event()
    client = Client(url)
    handle = client.start("ask")
    events = client._desk._api._client.meta.events
    events.register("provide-client-params.lambda.GetDurableExecution", lambda **_: looked.set())

    def wait():
        with pytest.raises(InvalidStateError, match="closed while it waited"):
            handle.result()
        told.append(True)

    thread = threading.Thread(target=wait)
    thread.start()
    assert looked.wait(PATIENCE)
    client.close()
    thread.join(10)
    assert told


# ----------------------------------------------------------------------------------------------------------- callbacks


def test_callbacks(client):
    """Success, failure and heartbeat; an id that is none is not found."""
    good, bad = client.start("ask"), client.start("ask")
    client.send_callback_heartbeat(open_callback(good))
    client.send_callback_success(open_callback(good), b'"fine"')
    assert good.result(timeout=PATIENCE) == '"fine"'
    client.send_callback_failure(open_callback(bad), ErrorObject("no way", "Refusal"))
    with pytest.raises(ExecutionFailedError, match="no way"):
        bad.result(timeout=PATIENCE)
    for send in (client.send_callback_success, client.send_callback_failure, client.send_callback_heartbeat):
        with pytest.raises(CallbackNotFoundError):
            send("bm9uZQ==")
    with pytest.raises(ValidationError, match="text or bytes"):
        client.send_callback_success("bm9uZQ==", {})
    with pytest.raises(TransactionsUnsupportedError):
        client.send_callback_success("bm9uZQ==", connection=sqlite3)


# ------------------------------------------------------------------------------------------------------------- looking


def test_stop(client):
    """It ends as STOPPED, and is stopped once; its name finds it."""
    name = f"stop-{nonce()}"
    handle = client.start("ask", name=name)
    open_callback(handle)
    ended = handle.stop(ErrorObject("enough"))
    assert ended.tzinfo is UTC
    assert handle.describe().status is ExecutionStatus.STOPPED
    with pytest.raises(ExecutionFailedError, match="STOPPED"):
        handle.result(timeout=PATIENCE)
    assert client.handle(name, "ask").arn == handle.arn
    assert client.handle(handle.arn).name == name


def test_executions_are_found_by_arn_and_by_name(client, url, cloud):
    """A name needs its function, from the URL or the caller; nothing else is found."""
    name = f"named-{nonce()}"
    handle = client.start("ask", name=name)
    with Client(f"lambda://ask?region={REGION}&endpoint_url={cloud.url}") as of_ask:
        assert of_ask.describe(name).arn == handle.arn
        assert of_ask.handle(name).arn == handle.arn
        assert of_ask.handle(name, "ask:$LATEST").id == handle.id
        for unknown in ("nobody", "no/body", "a:b"):
            for look in (of_ask.handle, of_ask.describe, of_ask.history, of_ask.operations, of_ask.stop):
                with pytest.raises(ExecutionNotFoundError, match="retention"):
                    look(unknown)
        assert of_ask.list(name=name).items[0].id == handle.id
    with pytest.raises(ValidationError, match="name the function too"):
        client.handle(name)


def test_lists_have_pages(client, asked):
    """By function, name and status; a cursor continues."""
    names = {f"page-{number}-{nonce()}" for number in range(5)}
    for name in names:
        client.start("large", {"size": 1}, name=name)
    found, cursor = [], None
    while True:
        page = client.list("large", limit=2, cursor=cursor)
        assert len(page.items) <= 2
        found += [item.name for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert names <= set(found)
    assert len(found) == len(set(found))
    asked.clear()
    client.list("large:$LATEST", statuses=["PAUSED", "FAILED"], name="n", oldest_first=True, limit=7)
    assert asked == [
        (
            "ListDurableExecutionsByFunction",
            {
                "FunctionName": "large",
                "Qualifier": "$LATEST",
                "DurableExecutionName": "n",
                "Statuses": ["FAILED", "PAUSED"],
                "ReverseOrder": True,
                "MaxItems": 7,
            },
        )
    ]
    with pytest.raises(ValidationError, match="next_cursor"):
        client.list("large", cursor=(1, "x"))
    with pytest.raises(ValidationError, match="name the function too"):
        client.list()


def test_what_aws_does_by_itself(client):
    """There are no workers, and nothing is purged by hand."""
    with pytest.raises(ValidationError, match="without workers"):
        client.workers()
    with pytest.raises(ValidationError, match="by itself"):
        client.purge()


def test_history_and_operations(client):
    """What happened, and where each operation stands as far as that tells."""
    handle = client.start("medley")
    until(lambda: any(one.name == "open" for one in handle.operations()))
    operations = {one.name: one for one in handle.operations()}
    assert [name for name in operations if name != handle.name] == [
        *("flaky", "poll", "child", "inner", "refused", "nap", "open"),
    ]
    succeeded = OperationStatus.SUCCEEDED
    assert (operations["flaky"].status, operations["flaky"].attempt, operations["flaky"].result) == (
        succeeded,
        2,
        '"at last"',
    )
    assert (operations["poll"].status, operations["poll"].attempt) == (succeeded, 2)
    assert operations["inner"].parent_id == operations["child"].operation_id
    assert (operations["child"].status, operations["child"].result) == (succeeded, '"inner"')
    assert (operations["refused"].status, operations["refused"].error.type) == (OperationStatus.FAILED, "ValueError")
    assert operations["nap"].status is succeeded
    assert operations["open"].status is OperationStatus.STARTED
    client.send_callback_success(operations["open"].callback_details.callback_id, "last")
    assert handle.result(timeout=PATIENCE)[-1] == "last"
    events = handle.history()
    assert [event.event_id for event in events] == list(range(1, len(events) + 1))
    bare = handle.history(include_data=False)
    assert [event.event_type for event in bare] == [event.event_type for event in events]
    assert bare[0].details["Input"] == {"Truncated": True}


def test_a_long_history_comes_whole(client, asked):
    """3,000 operations: all pages, in order, without a gap."""
    count = 1500
    handle = client.start("many", {"count": count})
    assert handle.result(timeout=300) == sum(range(count))
    asked.clear()
    events = handle.history()
    assert [event.event_id for event in events] == list(range(1, len(events) + 1))
    assert len([call for call in asked if call[0] == "GetDurableExecutionHistory"]) == -(-len(events) // 1000)
    operations = handle.operations()
    assert len(operations) == 2 * count + 2
    assert all(one.status is OperationStatus.SUCCEEDED for one in operations)


def test_an_awaited_client(url):
    """AsyncClient has the same, from an event loop of the application's own, which it does not block."""

    async def application():
        async with AsyncClient(url) as client:
            handles = await asyncio.gather(*[client.start(buy_async, Order("pen", n)) for n in range(5)])
            results = await asyncio.gather(*[handle.result(timeout=PATIENCE) for handle in handles])
            kinds = [event.event_type for event in await handles[0].history()]
            with pytest.raises(TransactionsUnsupportedError):
                await client.start(buy_async, Order("pen"), connection=sqlite3)
            return [receipt.total for receipt in results], kinds[0], (await handles[0].describe()).status

    totals, first, status = asyncio.run(application())
    assert totals == [0, 7, 14, 21, 28]
    assert (first, status) == ("ExecutionStarted", ExecutionStatus.SUCCEEDED)
