"""Event loops in threads of their own, and the bridges to them and from them."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from concurrent.futures import Future

_T = TypeVar("_T")
_T_contra = TypeVar("_T_contra", contravariant=True)


class Mailbox:
    """
    Calls for one loop, from any thread; those that come while it is awake, or being woken, cost no wake-up more.

    All are called in order, in a context of variables of their own. They must not raise.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = ref(loop)
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._is_rung = False
        self._ringers: set[asyncio.AbstractEventLoop] = set()
        self._variables = Context()

    def is_of(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether that is the loop."""
        return self._loop() is loop

    def put(self, call: Callable[..., object], *args: Any) -> None:
        """Have something called there soon; a loop that was closed meanwhile calls nothing."""
        self._calls.append((call, args))
        self._ring()

    def put_with_others(self, call: Callable[..., object], *args: Any) -> None:
        """
        The same, from a callback of a loop that goes on: with all that its other callbacks of this round put.

        Waking another thread hands the interpreter to it, and it would sleep again before the next one has been put.
        """
        here = asyncio._get_running_loop()  # noqa: SLF001 - of a thread that may have none
        if here is None:
            self.put(call, *args)
            return
        self._calls.append((call, args))
        if not self._is_rung and here not in self._ringers:
            self._ringers.add(here)
            here.call_soon(self._ring_for, here)

    def _ring_for(self, here: asyncio.AbstractEventLoop) -> None:
        self._ringers.discard(here)
        if self._calls:
            self._ring()

    def _ring(self) -> None:
        if not self._is_rung:
            try:
                self._is_rung = True
                loop = self._loop()
                if loop is not None:
                    loop.call_soon_threadsafe(self._empty, context=self._variables)
            except RuntimeError:  # closed: whoever waits there is gone
                return
            except BaseException:  # a signal's, perhaps before it rang: else nobody would ring again
                self._is_rung = False
                raise

    def _empty(self) -> None:
        # First of all: what is put from here on rings again, and what was put before is among the calls.
        self._is_rung = False
        try:
            for _ in range(len(self._calls)):
                call, args = self._calls.popleft()
                call(*args)
        finally:
            if self._calls:  # one has raised all the same
                self._ring()


class _Own(threading.local):
    """What a thread remembers."""

    mailbox: Mailbox | None = None


_own = _Own()


def mailbox() -> Mailbox:
    """The mailbox of the running loop."""
    loop, found = asyncio.get_running_loop(), _own.mailbox
    if found is None or not found.is_of(loop):
        found = _own.mailbox = Mailbox(loop)
    return found


class Waiter(Protocol[_T_contra]):
    """Whoever waits for one answer: a future, or what stands for one in another thread."""

    def done(self) -> bool:
        """Whether it was answered, or waits no more."""

    def set_result(self, result: _T_contra, /) -> None:
        """Answer it."""

    def set_exception(self, exception: BaseException, /) -> None:
        """Answer it with an error."""


class Reply(Generic[_T]):
    """The answer that a thread waits for; given once, by another thread."""

    __slots__ = ("_error", "_lock", "_value")

    def __init__(self) -> None:
        self._value: _T
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._lock.acquire()

    def done(self) -> bool:
        """Whether it was given."""
        return not self._lock.locked()

    def set_result(self, result: _T) -> None:
        """Let the waiting thread go on with this value."""
        self._value = result
        self._lock.release()

    def set_exception(self, exception: BaseException) -> None:
        """Let it go on with this error."""
        self._error = exception
        self._lock.release()

    def wait(self, timeout: float | None = None) -> _T:
        """
        What was given; raises the error that was.

        Args:
            timeout: Seconds, or None for ever.

        Raises:
            TimeoutError: Nothing was given in time.
        """
        longest = -1 if timeout is None else min(max(timeout, 0), threading.TIMEOUT_MAX)
        if not self._lock.acquire(timeout=longest):
            raise TimeoutError
        if self._error is not None:
            try:
                raise self._error
            finally:
                # The traceback holds this frame.
                self._error = None
        return self._value


class Promise(Generic[_T]):
    """The answer that a task waits for; given once, by a thread that is not its loop's. Made on that loop."""

    __slots__ = ("_future", "_home")

    def __init__(self) -> None:
        self._home = mailbox()
        self._future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()

    def __await__(self) -> Generator[Any, None, _T]:
        return self._future.__await__()

    def done(self) -> bool:
        """Whether it was given, or nobody waits for it any more."""
        return self._future.done()

    def set_result(self, result: _T) -> None:
        """Let the waiting task go on with this value."""
        self._home.put_with_others(self._settle, result, None)

    def set_exception(self, exception: BaseException) -> None:
        """Let it go on with this error."""
        self._home.put_with_others(self._settle, None, exception)

    def _settle(self, value: _T, error: BaseException | None) -> None:
        if self._future.done():
            return
        if error is None:
            self._future.set_result(value)
        elif isinstance(error, asyncio.CancelledError):
            self._future.cancel()
        else:
            self._future.set_exception(error)


class Called(Generic[_T]):
    """A function that is called with the answer, or the error, on the loop that this was made on; in no task."""

    __slots__ = ("_call", "_home")

    def __init__(self, call: Callable[[_T | BaseException], object]) -> None:
        self._home = mailbox()
        self._call = call

    def done(self) -> bool:
        """Never: nobody gives up."""
        return False

    def set_result(self, result: _T) -> None:
        """Call it with this value."""
        self._home.put_with_others(self._call, result)

    def set_exception(self, exception: BaseException) -> None:
        """Call it with this error."""
        self._home.put_with_others(self._call, exception)


class Portal:
    """
    An event loop that runs in a daemon thread of its own, started when first used.

    A process has two: `store_portal()` does store I/O, commits and lease renewals, and user code never runs there;
    `host_portal()` runs the asynchronous step bodies and workflows of users.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._mailbox: Mailbox | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The running loop."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                ready = threading.Event()
                self._loop.call_soon(ready.set)
                self._thread = threading.Thread(target=self._loop.run_forever, name=self._name, daemon=True)
                self._thread.start()
                ready.wait()
            return self._loop

    @property
    def is_here(self) -> bool:
        """Whether the calling thread is the loop's own."""
        return threading.current_thread() is self._thread

    def post(self, call: Callable[..., object], *args: Any) -> None:
        """Have something called there soon, from any thread; it must not raise."""
        self._box.put(call, *args)

    def post_with_others(self, call: Callable[..., object], *args: Any) -> None:
        """The same from a callback of another loop, which goes on: see `Mailbox.put_with_others`."""
        self._box.put_with_others(call, *args)

    @property
    def _box(self) -> Mailbox:
        if self._mailbox is None:
            # A second one, made by a thread that comes at the same time, does no harm.
            self._mailbox = Mailbox(self.loop)
        return self._mailbox

    def submit(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Start a coroutine there, from any thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """
        Run a coroutine there and wait for it; it is cancelled if the wait is interrupted.

        Raises:
            RuntimeError: The calling thread is the loop's own, which would wait for itself.
        """
        if self.is_here:
            work.close()
            raise RuntimeError(f"thread {self._name!r} would wait for itself for ever; await the coroutine instead")
        reply: Reply[_T] = Reply()
        errand = _Errand(work, copy_context(), reply)
        try:
            self.post(errand.begin)
            return reply.wait()
        except BaseException:
            self.post(errand.cancel)
            raise

    async def ask(self, work: Coroutine[Any, Any, _T], *, variables: Context | None = None) -> _T:
        """
        Run a coroutine there and await it, from whatever loop; it is cancelled if the wait is.

        Args:
            work: The coroutine.
            variables: What it sees of context variables; the caller's, unless given.
        """
        if self.is_here:
            return await work
        promise: Promise[_T] = Promise()
        cancel = self.begin(work, promise, copy_context() if variables is None else variables)
        try:
            return await promise
        except BaseException:
            cancel()
            raise

    def begin(self, work: Coroutine[Any, Any, _T], waiter: Waiter[_T], variables: Context) -> Callable[[], None]:
        """
        Run a coroutine there, from another loop.

        Args:
            work: The coroutine.
            waiter: Told there how it ended.
            variables: What it sees of context variables.

        Returns:
            What cancels it.
        """
        errand = _Errand(work, variables, waiter)
        self.post_with_others(errand.begin)
        return partial(self.post, errand.cancel)


class _Errand(Generic[_T]):
    """A coroutine that another thread has had begun; all methods are called on the loop that runs it."""

    __slots__ = ("_task", "_variables", "_waiter", "_work")

    def __init__(self, work: Coroutine[Any, Any, _T], variables: Context, waiter: Waiter[_T]) -> None:
        self._work = work
        self._variables = variables
        self._waiter = waiter
        self._task: asyncio.Task[_T] | None = None

    def begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work, context=self._variables)
        self._task.add_done_callback(self._end)

    def cancel(self) -> None:
        if self._task is None:  # whoever was to begin it was interrupted
            self._work.close()
        else:
            self._task.cancel()

    def _end(self, task: asyncio.Task[_T]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            self._waiter.set_result(task.result())
        else:
            self._waiter.set_exception(error)


_PORTALS: dict[str, Portal] = {}
_LOCK = threading.Lock()


def _portal(name: str) -> Portal:
    portal = _PORTALS.get(name)
    if portal is not None:
        return portal
    with _LOCK:
        return _PORTALS.setdefault(name, Portal(name))


def store_portal() -> Portal:
    """The process's portal for store I/O."""
    return _portal("perdure-store")


def host_portal() -> Portal:
    """The process's portal for asynchronous user code."""
    return _portal("perdure-host")


def _forget() -> None:
    global _LOCK  # noqa: PLW0603 - a thread of the parent process may have held it
    # The threads of a parent process do not exist in its forked child.
    _LOCK = threading.Lock()
    _PORTALS.clear()


try:
    from os import register_at_fork
except ImportError:  # pragma: no cover - no fork, nothing to forget
    pass
else:
    register_at_fork(after_in_child=_forget)
