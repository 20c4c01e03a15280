"""
No engine: the least that any engine must do on a store, as the yardstick.

One durable record for a workflow's start, for each step and for the end, and nothing else. What is written while a
commit is under way goes into the next one together. The variant is the store.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from benchmarks.system import System
from benchmarks.tally import step
from benchmarks.trail import Trail

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.system import Place

Record = tuple[str, int, str]
"""Workflow, number, what is recorded."""


class Log(ABC):
    """A durable log with group commit: one write at a time, each taking all that came while the last was under way."""

    def __init__(self) -> None:
        self._queue: list[tuple[Record, asyncio.Future[None]]] = []
        self._flushing: asyncio.Task[None] | None = None

    def put(self, record: Record) -> asyncio.Future[None]:
        """Have it written; done when it is durable."""
        future = asyncio.get_running_loop().create_future()
        self._queue.append((record, future))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        return future

    @abstractmethod
    async def open(self) -> None:
        """Connect, and make what is missing."""

    @abstractmethod
    async def write(self, records: Sequence[Record]) -> None:
        """Write them in one transaction."""

    @abstractmethod
    async def read(self, workflow: str) -> dict[int, str]:
        """All records of a workflow."""

    @abstractmethod
    async def close(self) -> None:
        """Let go."""

    async def _flush(self) -> None:
        while self._queue:
            batch, self._queue = self._queue, []
            try:
                await self.write([record for record, _ in batch])
            except Exception as error:  # noqa: BLE001 - for whoever waits
                for _, future in batch:
                    future.set_exception(error)
            else:
                for _, future in batch:
                    future.set_result(None)


class SqliteLog(Log):
    """In WAL mode with synchronous=FULL, written by a thread of its own."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._path = url.partition("?")[0].removeprefix("sqlite:///")
        self._orders: list[tuple[Sequence[Record], asyncio.Future[None]]] = []
        self._wake = threading.Event()

    async def open(self) -> None:
        """As `Log.open`."""
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._write_all, daemon=True).start()

    async def write(self, records: Sequence[Record]) -> None:
        """As `Log.write`."""
        done = self._loop.create_future()
        self._orders.append((records, done))
        self._wake.set()
        await done

    async def read(self, workflow: str) -> dict[int, str]:
        """As `Log.read`."""
        connection = sqlite3.connect(self._path)
        return dict(connection.execute("SELECT number, body FROM log WHERE workflow = ?", [workflow]).fetchall())

    async def close(self) -> None:
        """As `Log.close`."""

    def _write_all(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("PRAGMA synchronous = full")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS log (workflow TEXT, number INTEGER, body TEXT, PRIMARY KEY (workflow, number))"
            " WITHOUT ROWID"
        )
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._orders:
                records, done = self._orders.pop(0)
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany("INSERT INTO log VALUES (?, ?, ?)", records)
                connection.execute("COMMIT")
                self._loop.call_soon_threadsafe(done.set_result, None)


class PostgresLog(Log):
    """One connection, one statement per commit."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    async def open(self) -> None:
        """As `Log.open`."""
        import psycopg  # noqa: PLC0415 - of this store only

        self._connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True, prepare_threshold=0)
        await self._connection.execute(
            "CREATE TABLE IF NOT EXISTS log (workflow text, number int, body text, PRIMARY KEY (workflow, number))"
        )

    async def write(self, records: Sequence[Record]) -> None:
        """As `Log.write`."""
        workflows, numbers, bodies = (list(column) for column in zip(*records, strict=True))
        await self._connection.execute(
            "INSERT INTO log SELECT * FROM unnest(%b::text[], %b::int[], %b::text[])", [workflows, numbers, bodies]
        )

    async def read(self, workflow: str) -> dict[int, str]:
        """As `Log.read`."""
        cursor = await self._connection.execute("SELECT number, body FROM log WHERE workflow = %s", [workflow])
        return {number: body for number, body in await cursor.fetchall()}  # noqa: C416 - for the type checker

    async def close(self) -> None:
        """As `Log.close`."""
        await self._connection.close()


class RedisLog(Log):
    """A list per workflow; a pipeline per write."""

    def __init__(self, url: str, tag: str) -> None:
        super().__init__()
        self._url = url.partition("?")[0]
        self._tag = tag

    async def open(self) -> None:
        """As `Log.open`."""
        import redis.asyncio as redis  # noqa: PLC0415 - of this store only

        self._client: Any = redis.from_url(self._url, decode_responses=True)

    async def write(self, records: Sequence[Record]) -> None:
        """As `Log.write`."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for workflow, _, body in records:
                pipeline.rpush(f"{self._tag}:{workflow}", body)
            await pipeline.execute()

    async def read(self, workflow: str) -> dict[int, str]:
        """As `Log.read`."""
        return dict(enumerate(await self._client.lrange(f"{self._tag}:{workflow}", 0, -1)))

    async def close(self) -> None:
        """As `Log.close`."""
        await self._client.aclose()


class Floor(System):
    """Workflows as plain coroutines over a log."""

    is_async = True

    packages = ("psycopg", "redis")
    cold = "import asyncio, json, sqlite3"

    @property
    def skips(self) -> Mapping[str, str]:
        """As `System.skips`."""
        return {"gather": "W5 is made of records alone already", "w6": "no timers", "w8": "no timers"}

    @property
    def notes(self) -> Mapping[str, str]:
        """As `System.notes`."""
        return {"w4": "the whole history read at once, then a look-up per step", "w5": "as many records at once"}

    async def begin(self) -> None:
        """As `System.begin`."""
        self._log = _log(self.place)
        await self._log.open()

    async def end(self) -> None:
        """As `System.end`."""
        await self._log.close()

    async def start(self, kind: str, event: dict[str, Any], key: str) -> Any:
        """As `System.start`."""
        return key, asyncio.create_task(self._work(kind, event, key, {}))

    async def result(self, handle: Any) -> Any:
        """As `System.result`."""
        return await handle[1]

    async def recorded(self, handle: Any) -> Any:
        """As `System.recorded`: without start and end."""
        return len(await self._log.read(handle[0])) - 2

    async def recover(self, key: str) -> Any:
        """As `System.recover`."""
        known = await self._log.read(key)
        event = {"steps": len(known) - 1, "folder": self.place.folder}
        return await self._work("hold", event, key, known)

    async def _work(self, kind: str, event: dict[str, Any], key: str, known: dict[int, str]) -> int:
        trail = Trail(event["folder"]) if kind == "hold" else None
        if 0 not in known:
            await self._log.put((key, 0, kind))
        if trail:
            trail.enter()

        async def one(number: int, value: int) -> int:
            if number in known:
                return int(known[number])
            value = trail.step(value) if trail else step(value)
            await self._log.put((key, number, str(value)))
            return value

        if kind in ("fan", "gather"):
            steps = event["width"]
            total = sum(await asyncio.gather(*(one(number + 1, 1) for number in range(steps))))
        else:
            steps = event["steps"]
            total = 0
            for number in range(steps):
                total += await one(number + 1, number)
        if trail:
            trail.leave()
        await self._log.put((key, steps + 1, str(total)))
        return total


def _log(place: Place) -> Log:
    if place.url.startswith("sqlite:"):
        return SqliteLog(place.url)
    if place.url.startswith("postgres"):
        return PostgresLog(place.url)
    return RedisLog(place.url, place.tag)


def system(variant: str, place: Place) -> System:
    """The system of a variant."""
    return Floor(variant, place)
