"""Threads that do the store's blocking work in order, and hand the answers back to the event loops that wait."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from enum import Enum
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from perdure.backends.sqlite.fault import translate
from perdure.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from perdure.backends.sqlite.location import Location

GROUP = 512
"""How many verbs one group holds at most."""

Result = TypeVar("Result")


class Post:
    """What loops are to be told, one wake-up per loop."""

    def __init__(self) -> None:
        self._letters: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = {}

    def add(self, loop: asyncio.AbstractEventLoop, letter: Callable[[], None]) -> None:
        """Have `letter` called on that loop."""
        self._letters.setdefault(loop, []).append(letter)

    def send(self) -> None:
        """Deliver everything; a loop that was closed meanwhile gets nothing."""
        letters, self._letters = self._letters, {}
        for loop, calls in letters.items():
            try:
                loop.call_soon_threadsafe(_call_all, calls)
            except RuntimeError:
                continue


def _call_all(calls: Iterable[Callable[[], None]]) -> None:
    for call in calls:
        call()


@attrs.define(eq=False)
class Job(Generic[Result]):
    """One verb on its way."""

    work: Callable[[Any], Result]
    loop: asyncio.AbstractEventLoop
    waiter: asyncio.Future[Result]
    answer: Result | None = None
    error: BaseException | None = None

    def settle(self) -> None:
        """Tell the caller; on its own loop."""
        if self.waiter.done():
            return
        if self.error is not None:
            self.waiter.set_exception(self.error)
        else:
            self.waiter.set_result(self.answer)  # type: ignore[arg-type]


class _Order(Enum):
    """What a lane's thread is told besides jobs."""

    LOOK = "look up from waiting"
    END = "end"


class Lane(ABC):
    """One thread with a queue; what is queued while it works makes up the next group."""

    def __init__(self, name: str, location: Location) -> None:
        self.location = location
        self.post = Post()
        self._queue: SimpleQueue[Job[Any] | _Order] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"perdure-sqlite-{name}", daemon=True)
        self._ended: Job[None] | None = None
        self.closing = False

    async def open(self) -> None:
        """Start, and wait until the thread is connected."""
        opened = self._job(lambda _: None)
        self._queue.put(opened)
        self._thread.start()
        try:
            await opened.waiter
        except BaseException:
            self._queue.put(_Order.END)
            raise

    async def close(self) -> None:
        """Finish what is queued, and end the thread."""
        self.closing = True
        self._ended = self._job(lambda _: None)
        self._queue.put(_Order.END)
        await self._ended.waiter
        self._thread.join()

    def submit(self, work: Callable[[Any], Result]) -> asyncio.Future[Result]:
        """Queue a verb."""
        if self.closing:
            raise StoreError(f"the SQLite store {str(self.location.path)!r} is closed; open it again")
        job = self._job(work)
        self._queue.put(job)
        return job.waiter

    def nudge(self) -> None:
        """Have an idle thread ask again how long to `pause`."""
        self._queue.put(_Order.LOOK)

    @abstractmethod
    def connect(self) -> None:
        """Make the connection; in the thread."""

    @abstractmethod
    def disconnect(self) -> None:
        """Undo `connect`."""

    @abstractmethod
    def execute(self, jobs: list[Job[Any]]) -> None:
        """Do a group: give every job its answer or error."""

    def pause(self) -> float | None:
        """Seconds after which an idle thread does `idle`, or None for never."""
        return None

    def idle(self) -> None:  # noqa: B027 - most lanes have nothing to do then
        """What is done after a pause, and between groups once it is over."""

    @staticmethod
    def _job(work: Callable[[Any], Result]) -> Job[Result]:
        loop = asyncio.get_running_loop()
        return Job(work, loop, loop.create_future())

    def _run(self) -> None:
        opening = self._queue.get()
        assert isinstance(opening, Job)  # noqa: S101 - `open` put it there
        try:
            self.connect()
        except Exception as error:  # noqa: BLE001 - the opener raises it
            opening.error = translate(error, self.location.path)
        self._settle([opening])
        if opening.error is not None:
            return
        try:
            while (jobs := self._gather()) is not None:
                if jobs:
                    self._execute(jobs)
                self.idle()
                self.post.send()
        finally:
            self.disconnect()
            self._settle([self._ended] if self._ended else [])

    def _execute(self, jobs: list[Job[Any]]) -> None:
        try:
            self.execute(jobs)
        except Exception as error:  # noqa: BLE001 - every caller must learn of it
            for job in jobs:
                job.error = translate(error, self.location.path)
        self._settle(jobs)

    def _gather(self) -> list[Job[Any]] | None:
        jobs: list[Job[Any]] = []
        try:
            item = self._queue.get(timeout=self.pause())
            while isinstance(item, Job):
                jobs.append(item)
                if len(jobs) >= GROUP:
                    return jobs
                item = self._queue.get_nowait()
        except Empty:
            return jobs
        if item is _Order.END:
            if not jobs:
                return None
            self._queue.put(item)
        return jobs

    def _settle(self, jobs: list[Job[Any]]) -> None:
        for job in jobs:
            self.post.add(job.loop, job.settle)
        self.post.send()
