"""Three ways of putting load on a system: one after the other, in a closed loop, all at once without waiting."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from benchmarks.system import System

LAUNCHERS = 32


class Ended(NamedTuple):
    """
    A workflow that ended.

    Attributes:
        seconds: From its start until its result was here.
        value: What it returned.
        at: When its result was here.
        handle: As the system gave it.
    """

    seconds: float
    value: Any
    at: float
    handle: Any


class Load(Protocol):
    """Puts load on a system; every workflow has a key of its own."""

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method of the system, whether it is a coroutine function or not."""

    def sequence(self, kind: str, event: dict[str, Any], number: int) -> list[Ended]:
        """One after the other."""

    def loop(self, kind: str, event: dict[str, Any], number: int, clients: int) -> list[Ended]:
        """As many clients at once, each starting its next when the last one ended."""

    def span(self, kind: str, event: dict[str, Any], seconds: float, clients: int) -> list[Ended]:
        """As `loop`, until so many seconds have passed."""

    def launch(self, kind: str, event: dict[str, Any], number: int) -> list[Any]:
        """Start them without waiting for their ends; returns the handles."""

    def idle(self, seconds: float) -> None:
        """Do nothing, but let the system work."""


def load_on(system: System) -> Load:
    """What fits the system's colour."""
    return AwaitingLoad(system) if system.is_async else BlockingLoad(system)


class _Keys:
    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._numbers = count(1)

    def __call__(self) -> str:
        return f"{self._tag}-{os.getpid()}-{next(self._numbers)}"


class BlockingLoad:
    """Load from threads."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._key = _Keys(system.place.tag)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """As `Load.call`."""
        return function(*arguments)

    def sequence(self, kind: str, event: dict[str, Any], number: int) -> list[Ended]:
        """As `Load.sequence`."""
        return [self._one(kind, event) for _ in range(number)]

    def loop(self, kind: str, event: dict[str, Any], number: int, clients: int) -> list[Ended]:
        """As `Load.loop`."""
        with ThreadPoolExecutor(clients) as pool:
            return list(pool.map(lambda _: self._one(kind, event), range(number)))

    def span(self, kind: str, event: dict[str, Any], seconds: float, clients: int) -> list[Ended]:
        """As `Load.span`."""
        until = time.perf_counter() + seconds
        ended: list[Ended] = []
        errors: list[BaseException] = []

        def client() -> None:
            try:
                while time.perf_counter() < until and not errors:
                    ended.append(self._one(kind, event))
            except BaseException as error:  # noqa: BLE001 - raised below
                errors.append(error)

        threads = [threading.Thread(target=client) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return ended

    def launch(self, kind: str, event: dict[str, Any], number: int) -> list[Any]:
        """As `Load.launch`."""
        left = iter(range(number))
        handles: list[Any] = []

        def client() -> None:
            for _ in left:
                handles.append(self._system.start(kind, event, self._key()))  # noqa: PERF401 - of all clients

        with ThreadPoolExecutor(LAUNCHERS) as pool:
            for done in [pool.submit(client) for _ in range(min(number, LAUNCHERS))]:
                done.result()
        return handles

    def idle(self, seconds: float) -> None:
        """As `Load.idle`."""
        time.sleep(seconds)

    def _one(self, kind: str, event: dict[str, Any]) -> Ended:
        begun = time.perf_counter()
        handle = self._system.start(kind, event, self._key())
        value = self._system.result(handle)
        return Ended(time.perf_counter() - begun, value, time.time(), handle)


class AwaitingLoad:
    """Load from tasks of one event loop."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._key = _Keys(system.place.tag)
        self._loop = asyncio.new_event_loop()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """As `Load.call`."""
        answer = function(*arguments)
        return self._run(answer) if inspect.iscoroutine(answer) else answer

    def sequence(self, kind: str, event: dict[str, Any], number: int) -> list[Ended]:
        """As `Load.sequence`."""
        return self.loop(kind, event, number, 1)

    def loop(self, kind: str, event: dict[str, Any], number: int, clients: int) -> list[Ended]:
        """As `Load.loop`."""
        left = iter(range(number))
        ended: list[Ended] = []

        async def client() -> None:
            for _ in left:
                ended.append(await self._one(kind, event))  # noqa: PERF401 - of all clients, as they end

        self._run(_together(client, clients))
        return ended

    def span(self, kind: str, event: dict[str, Any], seconds: float, clients: int) -> list[Ended]:
        """As `Load.span`."""
        until = time.perf_counter() + seconds
        ended: list[Ended] = []

        async def client() -> None:
            while time.perf_counter() < until:
                ended.append(await self._one(kind, event))

        self._run(_together(client, clients))
        return ended

    def launch(self, kind: str, event: dict[str, Any], number: int) -> list[Any]:
        """As `Load.launch`."""
        left = iter(range(number))
        handles: list[Any] = []

        async def client() -> None:
            for _ in left:
                handles.append(await self._system.start(kind, event, self._key()))  # noqa: PERF401 - as above

        self._run(_together(client, LAUNCHERS))
        return handles

    def idle(self, seconds: float) -> None:
        """As `Load.idle`."""
        self._run(asyncio.sleep(seconds))

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(work)

    async def _one(self, kind: str, event: dict[str, Any]) -> Ended:
        begun = time.perf_counter()
        handle = await self._system.start(kind, event, self._key())
        value = await self._system.result(handle)
        return Ended(time.perf_counter() - begun, value, time.time(), handle)


async def _together(client: Callable[[], Coroutine[Any, Any, None]], clients: int) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
