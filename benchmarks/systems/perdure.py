"""
Perdure on one of its stores.

The variant is the store, with `-async` for `async def` workflows and an awaited client, and with `-apart` for a worker
in a process of its own, beside the client's.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Any

from benchmarks import flows
from benchmarks.meter import expect
from benchmarks.system import CONCURRENCY, PATIENCE, SAME, SHORT_LEASE, System
from benchmarks.watch import Watch
from benchmarks.workman import Workman
from perdure.adapters.worker import Worker
from perdure.client import AsyncClient, Client
from perdure.journal.entry import FORMAT
from perdure.model import OperationType
from perdure.portal import store_portal
from perdure.storage import MICROSECONDS, Claimed, FunctionVersion, open_backend

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.system import Place
    from perdure.durable import DurableFunction

FUNCTIONS = {function.name: function for function in flows.FLOWS}
LEASE = 600 * MICROSECONDS
NO_PROCESS = "the store is gone with its process"


class _Perdure(System):
    """What both colours share: store, worker process, claims."""

    packages = ("perdure", "psycopg", "redis")
    thin = "import perdure.durable"

    def __init__(self, variant: str, place: Place) -> None:
        super().__init__(variant, place)
        self.cold = (
            "import perdure.durable, perdure.client, perdure.adapters.worker, perdure.storage\n"
            f"perdure.storage.open_backend({place.url!r})"
        )
        self._workman: Workman | None = None
        self._watch: Watch | None = None
        self._worker: Any = None
        self._client: Any = None

    @property
    def skips(self) -> Mapping[str, str]:
        """As `System.skips`."""
        if self._is_apart:
            return dict.fromkeys(("w3", "w4", "w5", "w7", "w9", "w10", "w11"), "the same as without -apart")
        skips = {"w7": SAME} if self.is_async else {}
        if self.variant.startswith("memory"):
            skips |= dict.fromkeys(("w4", "w9", "w10", "w11"), NO_PROCESS)
        elif not self.variant.startswith(("postgres", "sqlite")):
            skips["w11"] = "the store has no snapshots"
        return skips

    @property
    def notes(self) -> Mapping[str, str]:
        """As `System.notes`."""
        return {
            "w4": f"a lease of {SHORT_LEASE:g} s; known_dead_ms counts from the moment the dead worker's work is freed",
            "w5": "context.map, each branch with a context of its own",
            "w7": "import_ms: durable, client, worker and the store; thin_ms: perdure.durable alone",
        }

    @property
    def _is_apart(self) -> bool:
        return self.variant.endswith("-apart")

    def function(self, kind: str) -> DurableFunction[Any, Any]:
        """What a kind of workflow is in this colour."""
        return FUNCTIONS[f"{kind}_async" if self.is_async else kind]

    def workers(self) -> list[int]:
        """As `System.workers`."""
        return [] if self._workman is None else [self._workman.pid]

    def steps(self) -> int:
        """As `System.steps`."""
        return super().steps() if self._workman is None else self._workman.report().steps

    def known_dead(self) -> float | None:
        """As `System.known_dead`."""
        return None if self._watch is None else self._watch.known_dead

    def claims(self, count: int) -> list[float]:
        """As `System.claims`: of another owner."""
        return [] if self.variant.startswith("memory") else store_portal().call(_claims(self.place.url, count))

    def _hire(self) -> Any:
        """Make the worker; returns what a client opens."""
        if not self.has_worker:
            return self.place.url
        if self._is_apart:
            self._workman = Workman(self.place.url, CONCURRENCY)
            return self.place.url
        backend = open_backend(self.place.url)
        if self.lease is None:
            self._worker = Worker(backend, flows.FLOWS, concurrency=CONCURRENCY)
            return backend
        assert backend.store is not None  # noqa: S101 - for the type checker
        self._watch = Watch(backend.store)
        self._worker = Worker(self._watch, flows.FLOWS, concurrency=CONCURRENCY, lease=self.lease)
        return self._watch

    def _dismiss(self) -> None:
        if self._workman is not None:
            self._workman.stop()


class Blocking(_Perdure):
    """`def` workflows and the blocking client."""

    def begin(self) -> None:
        """As `System.begin`."""
        opened = self._hire()
        self._client = Client(opened)
        if self._worker is not None:
            self._worker.start()

    def end(self) -> None:
        """As `System.end`."""
        if self._worker is not None:
            self._worker.stop()
        self._dismiss()
        self._client.close()

    def start(self, kind: str, event: dict[str, Any], key: str) -> Any:
        """As `System.start`."""
        return self._client.start(self.function(kind), event, name=key)

    def result(self, handle: Any) -> Any:
        """As `System.result`."""
        return handle.result(timeout=PATIENCE)

    def recover(self, key: str) -> Any:
        """As `System.recover`."""
        return self._client.handle(key, self.function("hold")).result(timeout=PATIENCE)

    def recorded(self, handle: Any) -> int:
        """As `System.recorded`."""
        return _steps(handle.operations())


class Awaiting(_Perdure):
    """`async def` workflows and the awaited client."""

    is_async = True

    async def begin(self) -> None:
        """As `System.begin`."""
        opened = await asyncio.to_thread(self._hire)
        self._client = AsyncClient(opened)
        await self._client.open()
        if self._worker is not None:
            await self._worker.__aenter__()

    async def end(self) -> None:
        """As `System.end`."""
        if self._worker is not None:
            await self._worker.__aexit__(None, None, None)
        await asyncio.to_thread(self._dismiss)
        await self._client.close()

    async def start(self, kind: str, event: dict[str, Any], key: str) -> Any:
        """As `System.start`."""
        return await self._client.start(self.function(kind), event, name=key)

    async def result(self, handle: Any) -> Any:
        """As `System.result`."""
        return await handle.result(timeout=PATIENCE)

    async def recover(self, key: str) -> Any:
        """As `System.recover`."""
        handle = await self._client.handle(key, self.function("hold"))
        return await handle.result(timeout=PATIENCE)

    async def recorded(self, handle: Any) -> int:
        """As `System.recorded`."""
        return _steps(await handle.operations())


def system(variant: str, place: Place) -> System:
    """The system of a variant."""
    return (Awaiting if "-async" in variant else Blocking)(variant, place)


def _steps(operations: list[Any]) -> int:
    return sum(operation.operation_type is OperationType.STEP for operation in operations)


async def _claims(url: str, count: int) -> list[float]:
    store = open_backend(url).store
    assert store is not None  # noqa: S101 - for the type checker
    await store.open()
    try:
        owner, versions = secrets.token_hex(8), tuple(FunctionVersion(name, "$LATEST") for name in FUNCTIONS)
        await store.register(owner, [], LEASE)
        spans = []
        for number in range(count):
            begun = time.perf_counter()
            answer = await store.claim(
                owner, number + 1, secrets.token_hex(16), versions, CONCURRENCY, FORMAT, number % store.shards
            )
            spans.append(time.perf_counter() - begun)
            expect(isinstance(answer, Claimed) and not answer.headers, True, "nothing due")
        return spans
    finally:
        await store.close()
