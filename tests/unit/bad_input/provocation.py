"""What a user can do wrong, done on purpose: each function here answers with the error that this is told by."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
import warnings
from contextlib import closing
from typing import TYPE_CHECKING, Any

import attrs

from perdure.adapters.worker import Worker
from perdure.backends.sqlite import SqliteStore
from perdure.client import Client, Handle
from perdure.config import ChildConfig, CompletionConfig, MapConfig, StepConfig, WaitForCallbackConfig
from perdure.durable import DurableFunction, Duration, durable_execution
from perdure.errors import ExecutionFailedError, ResultTimeoutError, UnregisteredFunctionWarning
from perdure.retries import RetryPresets
from perdure.serdes import SerDes, SerDesContext
from perdure.storage import open_backend
from perdure.testing.clock import system_clock
from perdure.testing.conformance.stage import Stage
from perdure.testing.memory import MemoryStore
from perdure.waits import WaitForConditionConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIMIT = 1_048_576
LARGEST = 6 * LIMIT
SECOND = Duration.from_seconds(1)
ONCE = StepConfig(retry_strategy=RetryPresets.none())


@attrs.frozen
class Told:
    """An error as a user meets it: the name of its class, and what it says."""

    error: str
    message: str


def told(error: BaseException) -> Told:
    if isinstance(error, ExecutionFailedError):
        return Told((error.error_type or "").rpartition(".")[2], error.error_message or "")
    return Told(type(error).__name__, str(error))


def raised(call: Callable[[], object]) -> Told:
    """The error of a call, which must raise one."""
    try:
        answer = call()
    except Exception as error:  # noqa: BLE001 - whatever a user would be told
        return told(error)
    raise AssertionError(f"nothing was raised, but answered {answer!r}")


def circle() -> dict[str, Any]:
    value: dict[str, Any] = {"order": {"lines": []}}
    value["order"]["lines"].append(value["order"])
    return value


# ---------------------------------------------------------------------------------------------------------- workflows


def failing(workflow: Callable[..., Any], input: Any = None) -> Told:
    """The error with which an execution of a workflow, a function of its context or of event and context, fails."""
    function = workflow
    if not isinstance(workflow, DurableFunction):
        function = durable_execution(workflow, name="flow")
    backend = open_backend("memory://")
    with Worker(backend, [function]), Client(backend) as client:
        return raised(lambda: client.start(function, input).result(timeout=20))


def using(body: Callable[[Any], Any]) -> Callable[[], Told]:
    """The same for a `def` workflow of its context alone, when called."""

    def flow(_: object, context: Any) -> Any:
        return body(context)

    return lambda: failing(flow)


def awaiting(body: Callable[[Any], Any]) -> Callable[[], Told]:
    """The same for an `async def` workflow."""

    async def flow(_: object, context: Any) -> Any:
        return await body(context)

    return lambda: failing(flow)


def foreign_thread() -> Told:
    seen: list[BaseException] = []

    def flow(_: object, context: Any) -> None:
        def step() -> None:
            try:
                context.step(lambda _: 1, name="pay")
            except Exception as error:  # noqa: BLE001
                seen.append(error)

        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
        raise seen[0]

    return failing(flow)


async def foreign_task(context: Any) -> Any:
    async def helper() -> Any:
        return await context.step(lambda _: 1, name="pay")

    return await asyncio.create_task(helper())


async def blocking_wait(_: Any) -> None:
    with Client("memory://") as client:
        started(client, None).result()


async def no_await(context: Any) -> Any:
    return context.step(lambda _: 1, name="pay")


async def spinning(_: Any) -> None:
    while True:  # noqa: ASYNC110
        await asyncio.sleep(0)


def changed_code() -> Told:
    lives = []

    def flow(_: object, context: Any) -> None:
        lives.append(1)
        if len(lives) == 1:
            context.step(lambda _: 1, name="pay")
        context.wait(SECOND, name="cool-off")

    return failing(flow)


def large_summary(context: Any) -> Any:
    config = ChildConfig(summary_generator=lambda _: "s" * (LIMIT + 1))
    return context.run_in_child_context(lambda _: "x" * (LIMIT + 1), name="report", config=config)


async def coroutine_branch(*_: object) -> None:
    """What a `def` workflow cannot have."""


def division(*_: object) -> float:
    """A body that fails."""
    return 1 / 0


def polling(strategy: Callable[..., Any]) -> Callable[[Any], Any]:
    config = WaitForConditionConfig(strategy, "new")
    return lambda context: context.wait_for_condition(lambda *_: "sent", config, "parcel")


# ---------------------------------------------------------------------------------------------------------- callbacks


class LeapingClock:
    def __init__(self) -> None:
        self.leap = 0

    def __call__(self) -> int:
        return system_clock() + self.leap


def completing(*, twice: bool = False, late: bool = False, ended: bool = False, other_store: bool = False) -> Told:
    """Complete a callback as it should not be."""
    opened: list[str] = []
    signal = threading.Event()

    def submit(callback_id: str, _: object) -> None:
        opened.append(callback_id)
        signal.set()

    @durable_execution
    def ask(_: object, context: Any) -> Any:
        config = WaitForCallbackConfig(timeout=Duration.from_seconds(100))
        return context.wait_for_callback(submit, name="approval", config=config)

    clock = LeapingClock()
    store = MemoryStore(clock)
    with Worker(store, [ask]), Client(store) as client, Client("memory://") as stranger:
        handle = client.start(ask)
        assert signal.wait(20)
        if twice:
            client.send_callback_success(opened[0], "yes")
            handle.result(timeout=20)
        if late:
            clock.leap = 200_000_000
        if ended:
            handle.stop()
        return raised(lambda: (stranger if other_store else client).send_callback_success(opened[0], "no"))


# ------------------------------------------------------------------------------------------------ clients and backends


def asking(call: Callable[[Client], object]) -> Callable[[], Told]:
    """A call of a client of an empty store."""

    def provoke() -> Told:
        with Client("memory://") as client:
            return raised(lambda: call(client))

    return provoke


def started(client: Client, input: object) -> Handle[Any]:
    """An execution that nobody runs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnregisteredFunctionWarning)
        return client.start("flow", input, name="o-17")


def waiting_too_shortly() -> Told:
    with Client("memory://") as client:
        handle = started(client, None)
        error = raised(lambda: handle.result(timeout=0.01))
        assert error.error == ResultTimeoutError.__name__
        return error


def taken_name(client: Client) -> None:
    started(client, {"amount": 1})
    started(client, {"amount": 2})


def ended_execution(client: Client) -> None:
    handle = started(client, None)
    handle.stop()
    handle.pause()


def unregistered(client: Client) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client.start("nobody")


def url(text: str) -> Callable[[], Told]:
    """Open a backend by its URL."""

    def provoke() -> Told:
        def open_and_close() -> None:
            Client(text).close()

        return raised(open_and_close)

    return provoke


def file(folder: Path, prepare: Callable[[Path], object]) -> Told:
    """Open a file of SQLite that something was done to."""
    path = folder / "perdure.db"
    prepare(path)
    return url(f"sqlite:///{path}")()


def newer(path: Path) -> None:
    Client(f"sqlite:///{path}").close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 999")


def another_application(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE customer (id)")


_AS_NOBODY = """
import os, sys
from perdure.client import Client
from perdure.storage import open_backend
backend = open_backend("sqlite:///" + sys.argv[1])  # before the installation cannot be read any more
if os.geteuid() == 0:
    os.setgroups([])
    os.setuid(65534)
try:
    Client(backend)
except Exception as error:
    print(type(error).__name__, error)
"""


def read_only(folder: Path) -> Told:
    """Open a file without write permission, as somebody whom permissions concern."""
    path = folder / "perdure.db"
    Client(f"sqlite:///{path}").close()
    folder.chmod(0o777)
    path.chmod(0o444)
    done = subprocess.run([sys.executable, "-c", _AS_NOBODY, str(path)], capture_output=True, text=True, check=True)
    return Told(*done.stdout.strip().split(" ", 1))


def writing(folder: Path, hinder: Callable[[sqlite3.Connection], object]) -> Told:
    """Write to a file after something was done to the connection that writes."""

    async def play() -> Told:
        async with Stage(lambda: SqliteStore(folder / "perdure.db", clock=system_clock), lambda _: None) as stage:
            holding = await stage.held()
            hinder(stage.store._opened.writer._connection)
            try:
                await holding.send(holding.next(b"x" * 100_000))
            except Exception as error:  # noqa: BLE001
                return told(error)
            raise AssertionError("it was written")

    return asyncio.run(play())


def no_room(connection: sqlite3.Connection) -> None:
    """As on a disk that is full: the file may not grow."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")


def no_writing(connection: sqlite3.Connection) -> None:
    """As on a file system that has been mounted anew, for reading only."""
    connection.execute("PRAGMA query_only = 1")


def command(folder: Path, *arguments: str) -> Told:
    """A command line; its exit code stands for the class of an error."""
    done = subprocess.run(
        [sys.executable, "-m", "perdure.adapters.cli", *arguments],
        cwd=folder,
        env={**os.environ, "PERDURE_BACKEND": "sqlite:///perdure.db"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stdout, done.stdout
    return Told(f"exit code {done.returncode}", done.stderr.strip())


@attrs.frozen
class Order:
    """A typed input."""

    card: str
    amount: int


def takes_an_order(event: Order, _: object) -> int:
    return event.amount


class Unwilling(SerDes[Any]):
    """A serializer that cannot."""

    def __init__(self, *, reads: bool) -> None:
        self._reads = reads

    def serialize(self, value: Any, _: SerDesContext) -> str:
        if not self._reads:
            raise LookupError("no key")
        return str(value)

    def deserialize(self, data: str, _: SerDesContext) -> Any:
        raise LookupError("no key")


def unwilling(*, reads: bool) -> Callable[[], Told]:
    """A step with a serializer of its own that raises."""
    config = StepConfig(serdes=Unwilling(reads=reads))
    return using(lambda context: context.step(lambda _: 1, name="pay", config=config))


def large_answer() -> Told:
    """Invoke a function whose result an operation cannot hold."""

    @durable_execution
    def report(*_: object) -> str:
        return "x" * LIMIT

    @durable_execution
    def flow(_: object, context: Any) -> Any:
        return context.invoke("report", None, name="call")

    backend = open_backend("memory://")
    with Worker(backend, [flow, report]), Client(backend) as client:
        return raised(lambda: client.start(flow).result(timeout=20))


def too_many_needed(context: Any) -> Any:
    config = MapConfig(completion_config=CompletionConfig(min_successful=3))
    return context.map([1, 2], lambda *_: 1, name="offers", config=config)
