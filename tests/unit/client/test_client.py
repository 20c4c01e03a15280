"""The client: what it waits for and for how long, what it accepts, and what it says otherwise."""

from __future__ import annotations

import asyncio
import signal
import threading
import time

import pytest

from perdure.adapters.worker import Worker
from perdure.client import AsyncClient, Client
from perdure.durable import Duration, durable_execution
from perdure.errors import (
    BackendUrlError,
    CallbackNotFoundError,
    ExecutionNotFoundError,
    InvalidParameterValueError,
    InvalidStateError,
    ResultTimeoutError,
    SerDesError,
    StoreUnavailableError,
    ValidationError,
)
from perdure.portal import host_portal, store_portal
from perdure.storage import Backend
from perdure.testing.memory import MemoryStore

pytestmark = pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")


@pytest.fixture(params=["memory", "sqlite"])
def backend(request, tmp_path):
    if request.param == "memory":
        return Backend(url="memory://", store=MemoryStore())
    return f"sqlite:///{tmp_path / 'client.db'}"


@durable_execution
def one(event, context):
    return context.step(lambda _: 1)


@durable_execution
def waits(event, context):
    context.wait(Duration.from_hours(1))


def test_a_timeout_of_zero_looks_once(backend):
    """An ended execution's result is there; another one's is not, and nobody waits for it."""
    with Worker(backend, [one, waits]), Client(backend) as client:
        handle = client.start(one)
        assert handle.result(timeout=10) == 1
        assert handle.result(timeout=0) == 1
        sleeping = client.start(waits)
        for timeout in (0, -1):
            with pytest.raises(ResultTimeoutError, match="it goes on"):
                sleeping.result(timeout=timeout)


def test_many_may_wait_for_the_same_end(backend):
    """From threads, and from a loop."""
    results = []

    async def awaited():
        async with AsyncClient(backend) as client:
            handle = await client.handle("shared")
            results.extend(await asyncio.gather(*(handle.result(timeout=20) for _ in range(5))))

    with Client(backend) as client:
        handle = client.start(one, name="shared")
        waiting = [threading.Thread(target=lambda: results.append(handle.result(timeout=20))) for _ in range(5)]
        waiting.append(threading.Thread(target=lambda: asyncio.run(awaited())))
        for thread in waiting:
            thread.start()
        with Worker(backend, [one]):
            for thread in waiting:
                thread.join()
    assert results == [1] * 10


def test_closing_ends_every_wait(backend):
    """Who waits without a limit is told, not left waiting for ever."""
    told = []

    def wait():
        with pytest.raises(InvalidStateError, match="closed while it waited"):
            handle.result()
        told.append(True)

    with Client(backend) as keeper, Client(backend) as client:
        handle = client.start(waits)
        thread = threading.Thread(target=wait)
        thread.start()
        while not client._desk._waiting:
            time.sleep(0.001)
        client.close()
        thread.join(10)
        assert told
        assert keeper.describe(handle.id).status.value == "RUNNING"
        with pytest.raises(InvalidStateError, match="open a new client"):
            handle.describe()


def test_an_interrupted_wait_leaves_nothing_running():
    """Ctrl-C in `result`: the coroutine that waited is gone."""
    began = threading.Event()

    async def forever():
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            over.set()

    over = threading.Event()

    class BrokenOffError(Exception):
        pass

    def break_off(*_):
        raise BrokenOffError

    def interrupt():
        assert began.wait(5)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    previous = signal.signal(signal.SIGUSR1, break_off)
    try:
        threading.Thread(target=interrupt).start()
        with pytest.raises(BrokenOffError):
            store_portal().call(forever())
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert over.wait(5)


def test_a_thread_that_would_wait_for_itself_says_so():
    """On the store's loop a blocking client would wait for ever."""

    async def nested():
        Client("memory://")

    with pytest.raises(RuntimeError, match="wait for itself"):
        store_portal().call(nested())


def test_a_blocking_client_is_refused_where_workflows_are_awaited(backend):
    """In an async body of this process: the remedy is named, and the worker goes on."""

    async def ask():
        with Client(backend) as client:
            handle = client.start(one)
            with pytest.raises(InvalidStateError, match="use AsyncClient"):
                handle.result()
            return handle.id

    with Worker(backend, [one]), Client(backend) as client:
        assert client.handle(host_portal().call(ask())).result(timeout=10) == 1


def test_a_blocking_client_works_inside_a_running_loop(backend):
    """It blocks that loop, and nothing else: no deadlock."""

    async def application():
        with Client(backend) as client:
            return client.start(one).result(timeout=20)

    with Worker(backend, [one]):
        assert asyncio.run(application()) == 1


def test_a_worker_lives_in_an_applications_loop(backend):
    """Started and drained without blocking that loop, which steps may need."""

    async def application():
        loop = asyncio.get_running_loop()

        async def answer():
            return 42

        @durable_execution
        def asks(event, context):
            return context.step(lambda _: asyncio.run_coroutine_threadsafe(answer(), loop).result(10))

        async with Worker(backend, [asks]), AsyncClient(backend) as client:
            return await (await client.start(asks)).result(timeout=20)

    assert asyncio.run(application()) == 42


def test_a_store_that_is_away_for_a_while_is_waited_for():
    """Looking and waiting survive it, as writing does."""

    class Away(MemoryStore):
        refusals = 0

        async def answer(self, verb, *args, **options):
            if self.refusals:
                self.refusals -= 1
                raise StoreUnavailableError("gone for a while")
            return await verb(*args, **options)

        async def describe(self, id):
            return await self.answer(super().describe, id)

        async def list(self, query):
            return await self.answer(super().list, query)

        async def entries(self, *args):
            return await self.answer(super().entries, *args)

        async def functions(self, name):
            return await self.answer(super().functions, name)

    store = Away()
    with Worker(store, [one]), Client(store) as client:
        store.refusals = 2
        handle = client.start(one, name="n")
        handle.result()
        for look in (handle.result, handle.describe, handle.history, handle.operations, client.list):
            store.refusals = 2
            look()
            assert not store.refusals
        store.refusals = 2
        assert client.handle("n").id == handle.id


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("one", {1, 2}), SerDesError, "use plain values"),
        (("one", object()), SerDesError, "the input cannot be written"),
        (("one", "x" * 6_400_000), ValidationError, "pass a reference"),
        (("", None), InvalidParameterValueError, "Invalid function ARN"),
        (("no such:function:name:at:all", None), InvalidParameterValueError, "Invalid function ARN"),
    ],
)
def test_a_start_that_cannot_be_says_why(arguments, error, message):
    """Nothing is begun."""
    with Client("memory://") as client:
        with pytest.raises(error, match=message):
            client.start(*arguments)
        assert client.list().items == []


def test_a_list_that_cannot_be_says_why():
    """Statuses, limits, and function identifiers as everywhere."""
    with Client("memory://") as client:
        with pytest.raises(ValidationError, match=r"RUNNING, SUCCEEDED.*not 'DONE'"):
            client.list(statuses=["DONE"])
        for limit in (0, -1, 1001):
            with pytest.raises(ValidationError, match="1 to 1000"):
                client.list(limit=limit)
        client.start("one:1", name="a")
        client.start("one:2", name="b")
        assert [item.name for item in client.list("one:2").items] == ["b"]
        assert len(client.list("one").items) == 2
        assert [item.name for item in client.list(statuses=["RUNNING"], limit=1).items] == ["b"]


def test_a_version_replaces_that_of_any_identifier():
    """Name, qualified name, or ARN."""
    arn = "arn:perdure:lambda:local:000000000000:function:one:1"
    with Client("memory://") as client:
        for function in ("one", "one:1", arn, one):
            handle = client.start(function, version="7")
            assert (handle.function, handle.version) == ("one", "7")


def test_what_a_callback_is_completed_with_is_checked():
    """Text that fits; anything else is refused before it is looked for."""
    with Client("memory://") as client:
        for bad in (b"\xff\xfe", {"a": 1}, "x" * 1_048_577):
            with pytest.raises(ValidationError):
                client.send_callback_success("nonsense", bad)
        with pytest.raises(CallbackNotFoundError, match="pass on what the workflow was given"):
            client.send_callback_success("nonsense", b"ok")


def test_an_execution_that_is_gone_is_not_found(backend):
    """Every way to look at it says so."""
    with Client(backend) as client:
        for look in (client.describe, client.history, client.operations, client.stop, client.handle):
            with pytest.raises(ExecutionNotFoundError, match="retention"):
                look("nobody")


@pytest.mark.parametrize("options", [{"concurrency": 0}, {"lease": 0}, {"lease": float("nan")}, {"drain_timeout": -1}])
def test_a_worker_that_cannot_be_says_why(options):
    """Before anything is opened."""
    with pytest.raises(ValidationError, match=f"{next(iter(options))} is at least"):
        Worker("memory://", [one], **options)


def test_wrong_urls_name_the_right_ones(tmp_path):
    """Unknown schemes, places that are not there."""
    for url in ("nonsense", "postgre://x", f"sqlite:///{tmp_path}/no/such/dir.db", f"sqlite:///{tmp_path}"):
        with pytest.raises(BackendUrlError):
            Client(url)
