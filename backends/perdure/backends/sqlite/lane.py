"""Threads that do the store's blocking work in order, and hand the answers back to the event loops that wait."""

from __future__ import annotations

import asyncio
import os
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from enum import Enum
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from perdure.backends.sqlite.fault import inherited, translate
from perdure.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

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
class Job(ABC, Generic[Result]):
    """One verb on its way."""

    work: Callable[[Any], Result]
    answer: Result | None = attrs.field(default=None, init=False)
    error: BaseException | None = attrs.field(default=None, init=False)

    @abstractmethod
    def report(self, post: Post) -> None:
        """Tell the caller, by post if that is to happen on a loop; in the lane's thread."""


@attrs.define(eq=False)
class Asked(Job[Result]):
    """A verb that a task awaits."""

    loop: asyncio.AbstractEventLoop
    waiter: asyncio.Future[Result]

    def report(self, post: Post) -> None:
        """As inherited."""
        post.add(self.loop, self._settle)

    def _settle(self) -> None:
        if self.waiter.done():
            return
        if self.error is not None:
            self.waiter.set_exception(self.error)
        else:
            self.waiter.set_result(self.answer)  # type: ignore[arg-type]


def _may_work_here() -> bool:
    """Whether the calling thread holds up no loop by working, and no signal can interrupt it anywhere in between."""
    here = threading.current_thread()
    return asyncio._get_running_loop() is None and here is not threading.main_thread()  # noqa: SLF001 - there may be none


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
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name=f"perdure-sqlite-{name}", daemon=True)
        self._ended: Asked[None] | None = None
        self._at_work = threading.Lock()
        self._is_idle = False
        self._is_connected = self._is_inherited = False
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
        """Finish what is queued, and end the thread; in a forked child there is none."""
        self.closing = True
        if self._is_inherited:
            return
        self._ended = self._job(lambda _: None)
        self._queue.put(_Order.END)
        await self._ended.waiter
        self._thread.join()

    def submit(self, work: Callable[[Any], Result]) -> asyncio.Future[Result]:
        """Queue a verb."""
        job = self._job(work)
        self.enqueue(job)
        return job.waiter

    def enqueue(self, job: Job[Any]) -> None:
        """The same for a job of the caller's, from any thread."""
        if self._is_inherited:
            raise inherited(self.location.path)
        if self.closing:
            raise self._closed()
        self._queue.put(job)
        if self._is_over:  # it was closed at this very moment, by another thread
            self._refuse_rest()

    def perform(self, job: Job[Any]) -> None:
        """
        The same for a thread that does nothing else until the answer: where the lane idles, it works in its place.

        So nobody has to be woken, neither for the work nor for its answer. What others queue meanwhile is the lane's.
        """
        is_done = False
        if self._is_idle and _may_work_here() and self._at_work.acquire(blocking=False):
            try:
                # Looked at only now: once it is closed, and in a forked child, there is none.
                if self._is_connected:
                    is_done = True
                    self._execute([job])
            finally:
                self._at_work.release()
        if not is_done:
            self.enqueue(job)

    def _closed(self) -> StoreError:
        return StoreError(f"the SQLite store {str(self.location.path)!r} is closed; open it again")

    def _refuse_rest(self) -> None:
        """Answer what was queued behind the end."""
        post = Post()
        with suppress(Empty):
            while True:
                if isinstance(job := self._queue.get_nowait(), Job):
                    job.error = self._closed()
                    job.report(post)
        post.send()

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
    def _job(work: Callable[[Any], Result]) -> Asked[Result]:
        loop = asyncio.get_running_loop()
        return Asked(work, loop, loop.create_future())

    def _run(self) -> None:
        _roster.add(self)
        try:
            if self._connect():
                self._work()
        finally:
            _roster.remove(self)

    def _connect(self) -> bool:
        opening = self._queue.get()
        assert isinstance(opening, Job)  # noqa: S101 - `open` put it there
        try:
            with self._at_work:
                self.connect()
                self._is_connected = True
        except Exception as error:  # noqa: BLE001 - the opener raises it
            opening.error = translate(error, self.location.path)
        self._settle([opening])
        return self._is_connected

    def _work(self) -> None:
        try:
            while (item := self._wait()) is not _Order.END:
                with self._at_work:
                    if isinstance(item, Job):
                        self._execute([item, *self._queued()])
                    self.idle()
                    self.post.send()
        finally:
            with self._at_work:
                self._is_connected = False
                self.disconnect()
            self._is_over = True
            self._refuse_rest()
            self._settle([self._ended] if self._ended else [])

    def _execute(self, jobs: list[Job[Any]]) -> None:
        try:
            self.execute(jobs)
        except Exception as error:  # noqa: BLE001 - every caller must learn of it
            for job in jobs:
                job.error = translate(error, self.location.path)
        self._settle(jobs)

    def _wait(self) -> Job[Any] | _Order:
        self._is_idle = True
        try:
            return self._queue.get(timeout=self.pause())
        except Empty:
            return _Order.LOOK
        finally:
            self._is_idle = False

    def _queued(self) -> Iterator[Job[Any]]:
        """What waits behind a job that was taken."""
        with suppress(Empty):
            for _ in range(GROUP - 1):
                item = self._queue.get_nowait()
                if isinstance(item, Job):
                    yield item
                elif item is _Order.END:
                    self._queue.put(item)
                    return

    def _settle(self, jobs: Sequence[Job[Any]]) -> None:
        for job in jobs:
            job.report(self.post)
        self.post.send()

    # -------------------------------------------------------------------------------------------------------- fork

    def rest(self) -> None:
        """Wait until the thread does nothing with the database, and keep it from going on."""
        self._at_work.acquire()

    def go_on(self) -> None:
        """Undo `rest`."""
        self._at_work.release()

    def let_go(self) -> None:
        """
        Close what a forked child has inherited, after `rest`.

        SQLite knows from memory which locks its process holds. A child with its parent's memory takes these for its
        own: what it writes through whatever connection to the file is lost once the parent removes the log.
        """
        self._is_inherited = True
        if self._is_connected:
            self._is_connected = False
            self.disconnect()
        self._at_work.release()


class _Roster:
    """The lanes of this process whose threads run."""

    def __init__(self) -> None:
        self._lanes: set[Lane] = set()
        self._lock = threading.Lock()

    def add(self, lane: Lane) -> None:
        with self._lock:
            self._lanes.add(lane)

    def remove(self, lane: Lane) -> None:
        with self._lock:
            self._lanes.remove(lane)

    def before_fork(self) -> None:
        self._lock.acquire()
        for lane in self._lanes:
            lane.rest()

    def in_parent(self) -> None:
        for lane in self._lanes:
            lane.go_on()
        self._lock.release()

    def in_child(self) -> None:
        while self._lanes:
            self._lanes.pop().let_go()
        self._lock.release()


_roster = _Roster()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_roster.before_fork, after_in_parent=_roster.in_parent, after_in_child=_roster.in_child)
