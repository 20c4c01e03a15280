"""A crash between what a transactional step wrote and its recorded result cannot be produced."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perdure.backends.postgres import PostgresStore
from perdure.client import Client
from perdure.errors import ExecutionConflictError, ResultTimeoutError
from perdure.model import OperationStatus
from tests.e2e import ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perdure.client import Handle

PROGRAM = Path(__file__).with_name("ledger.py")
KILLS = int(os.environ.get("PERDURE_TEST_KILLS", "40"))
WORKERS = 3
AT_A_TIME = 30
LIFE = 0.05, 0.6
STEPS = ["a", "b", "c", "d"]


class SqliteLedger:
    insert = "INSERT INTO entry VALUES (?, ?, ?)"

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger.db"
        self.url = f"sqlite:///{self.path}"

    def make_table(self) -> None:
        with closing(sqlite3.connect(self.path, timeout=20)) as connection, connection:
            connection.execute("CREATE TABLE entry (execution, step, text)")

    def rows(self) -> list[Any]:
        with closing(sqlite3.connect(self.path, timeout=20)) as connection:
            return connection.execute("SELECT execution, step, text FROM entry").fetchall()


class PostgresLedger:
    def __init__(self, url: str) -> None:
        self.url = url
        self.location = PostgresStore(url).location
        self.table = f"{self.location.schema}.entry"
        self.insert = f"INSERT INTO {self.table} VALUES (%s, %s, %s)"

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(**self.location.connection(sets_session=False))

    def make_table(self) -> None:
        with self.connect() as connection:
            connection.execute(f"CREATE TABLE {self.table} (execution text, step text, text text)")

    def rows(self) -> list[Any]:
        with self.connect() as connection:
            return connection.execute(f"SELECT execution, step, text FROM {self.table}").fetchall()


@pytest.fixture(params=["sqlite", "postgres"])
def books(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "sqlite":
        yield SqliteLedger(tmp_path)
    else:
        with request.getfixturevalue("postgres_server").schema() as url:
            yield PostgresLedger(url)


class Nursery:
    """Worker processes, one killed after another."""

    def __init__(self, nurse: subprocess.Popen[str]) -> None:
        self._nurse = nurse
        self._workers: dict[int, float] = {}
        self.kills = 0

    def raise_worker(self) -> None:
        assert self._nurse.stdin is not None
        assert self._nurse.stdout is not None
        self._nurse.stdin.write("\n")
        self._nurse.stdin.flush()
        self._workers[int(self._nurse.stdout.readline())] = time.monotonic() + random.uniform(*LIFE)

    def kill_due(self) -> None:
        """Kill whoever's time has come, and raise others instead."""
        for pid, end in list(self._workers.items()):
            if time.monotonic() >= end:
                os.kill(pid, signal.SIGKILL)
                del self._workers[pid]
                self.kills += 1
                self.raise_worker()

    def spare(self) -> None:
        """Nobody is killed any more; all that die now do so at the end."""
        for pid in self._workers:
            self._workers[pid] = float("inf")

    def close(self) -> None:
        for pid in self._workers:
            os.kill(pid, signal.SIGKILL)


@contextmanager
def nursery(books: Any) -> Iterator[Nursery]:
    command = [sys.executable, str(PROGRAM), books.url, books.insert]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as nurse:
        made = Nursery(nurse)
        try:
            for _ in range(WORKERS):
                made.raise_worker()
            yield made
        finally:
            made.close()
            nurse.kill()


@pytest.mark.filterwarnings("ignore::perdure.errors.UnregisteredFunctionWarning")
def test_table_and_journal_are_in_step(books):
    """Workers are killed at random moments: each step that succeeded has its one row, and no other row is there."""
    with Client(books.url) as client:
        books.make_table()
        handles: list[Handle[Any]] = []
        live: list[Handle[Any]] = []
        with nursery(books) as workers:
            deadline = time.monotonic() + 60 + 3 * KILLS
            while workers.kills < KILLS:
                assert time.monotonic() < deadline, f"only {workers.kills} kills"
                workers.kill_due()
                live = [handle for handle in live if not is_over(client, handle)]
                while len(live) < AT_A_TIME:
                    function = (ledger.keep, ledger.keep_async)[len(handles) % 2]
                    live.append(client.start(function, None))
                    handles.append(live[-1])
                time.sleep(0.01)
            workers.spare()
            results = {handle.id: result_of(client, handle) for handle in handles}
    with Client(books.url) as client:
        rows = books.rows()
        recorded = [
            (handle.id, operation.name, operation.step_details.result.strip('"'))
            for handle in handles
            for operation in client.operations(handle.id)
            if operation.name in STEPS and operation.status is OperationStatus.SUCCEEDED
        ]
    print(f"{workers.kills} kills, {len(handles)} executions, {len(rows)} rows")  # noqa: T201
    assert Counter(rows) == Counter(recorded)
    assert sorted(rows) == sorted((id, step, texts[step]) for id, texts in results.items() for step in STEPS)


def is_over(client: Client, handle: Handle[Any]) -> bool:
    """Whether it has ended; one that was struck too often in a row is told to go on."""
    description = handle.describe()
    if description.quarantined:
        with suppress(ExecutionConflictError):
            client.resume(handle.id)
    return description.ended is not None


def result_of(client: Client, handle: Handle[Any]) -> Any:
    deadline = time.monotonic() + 120
    while True:
        try:
            return handle.result(timeout=1)
        except ResultTimeoutError:
            is_over(client, handle)
            assert time.monotonic() < deadline, handle.describe()
